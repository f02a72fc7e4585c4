-- Copies the session's user into the WAL as a transactional logical message, which stands before the rows it explains.
-- Message and marker are both undone by ROLLBACK TO, so a context whose message is gone is stamped again. Whoever sets
-- the marker by hand only loses his own attribution.
CREATE OR REPLACE FUNCTION casebook_audit.stamp() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER                          -- EXECUTE on pg_logical_emit_message is taken from PUBLIC
SET search_path = pg_catalog, pg_temp     -- nobody else's functions, types or operators in here
AS $body$
DECLARE
  done text; -- assignments take half the time of PERFORM
BEGIN
  -- to_json does all the quoting; concat_ws leaves out what is NULL.
  done := pg_logical_emit_message(true, 'casebook.audit', convert_to(format(
    '{"v":1,"ctx":{%s},"role":%s,"app":%s,"addr":%s,"pid":%s,"xid":"%s"}',
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
    -- SQL_ASCII would refuse bytes that are no UTF-8, and with them the application's statement.
    CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END));

  -- The same expression as in casebook_audit.unstamped(). %L quotes, so no two contexts look the same.
  done := set_config('casebook_audit.stamp', format('%L,%L,%L,%L,%L,%L,%L,%L,%L',
    session_user, current_setting('application_name'),
    current_setting('audit.user_id', true), current_setting('audit.user_unique_name', true),
    current_setting('app.current_user_id', true), current_setting('request.jwt.claims', true),
    current_setting('hasura.user', true), current_setting('pghistory.context_metadata', true),
    current_setting('logidze.meta', true)), true);
  RETURN NULL;
END
$body$;
REVOKE ALL ON FUNCTION casebook_audit.stamp() FROM PUBLIC;
COMMENT ON FUNCTION casebook_audit.stamp() IS 'casebook-audit: writes who works in this session into the WAL.';
