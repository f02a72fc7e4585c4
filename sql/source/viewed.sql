-- What the application shows leaves no trace in the WAL. So it says so itself: resource is a type of record ('case') or a
-- table ('cases.cases'), id the key of the row, purpose what it was looked at for. The message becomes an entry like a change;
-- it is undone by ROLLBACK like one. Whoever the session says that he is, is said here too.
CREATE OR REPLACE FUNCTION casebook_audit.viewed(resource text, id text, purpose text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql
SECURITY DEFINER                          -- EXECUTE on pg_logical_emit_message is taken from PUBLIC
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
  done text;
BEGIN
  IF resource IS NULL OR id IS NULL OR resource = '' OR id = '' THEN
    RAISE EXCEPTION 'casebook_audit.viewed needs a resource and an id' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  done := pg_logical_emit_message(true, 'casebook.audit.viewed', convert_to(format(
    '{"v":1,"resource":%s,"id":%s,"purpose":%s,"ctx":{%s},"role":%s,"app":%s,"addr":%s,"pid":%s,"xid":"%s"}',
    to_json(resource), to_json(id), coalesce(to_json(purpose)::text, 'null'),
    concat_ws(',',
      '"audit.user_id":'              || to_json(nullif(current_setting('audit.user_id', true), '')),
      '"audit.user_unique_name":'     || to_json(nullif(current_setting('audit.user_unique_name', true), '')),
      '"app.current_user_id":'        || to_json(nullif(current_setting('app.current_user_id', true), '')),
      '"request.jwt.claims":'         || to_json(nullif(current_setting('request.jwt.claims', true), '')),
      '"hasura.user":'                || to_json(nullif(current_setting('hasura.user', true), '')),
      '"pghistory.context_metadata":' || to_json(nullif(current_setting('pghistory.context_metadata', true), '')),
      '"logidze.meta":'               || to_json(nullif(current_setting('logidze.meta', true), ''))),
    to_json(session_user::text), to_json(current_setting('application_name')),
    coalesce(to_json(host(inet_client_addr()))::text, 'null'), pg_backend_pid(), pg_current_xact_id()),
    CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END));
END
$body$;
GRANT USAGE ON SCHEMA casebook_audit TO PUBLIC; -- to find it; the other functions and the table of notes have rights of their own
GRANT EXECUTE ON FUNCTION casebook_audit.viewed(text, text, text) TO PUBLIC;
COMMENT ON FUNCTION casebook_audit.viewed(text, text, text) IS 'casebook-audit: says that this session''s user looked at a row. The application calls it.';
