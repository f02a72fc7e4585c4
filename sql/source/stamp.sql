-- Copies the session's user into the WAL as a transactional logical message, which stands before the rows it explains.
-- The triggers' WHEN clause compares the marker, a transaction-local setting, with the context as it is now: later
-- statements of the same context do not come in here. Message and marker are both undone by ROLLBACK TO, so a context
-- whose message is gone is stamped again. Whoever sets the marker by hand only loses his own attribution.
CREATE OR REPLACE FUNCTION casebook_audit.stamp() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER                          -- EXECUTE on pg_logical_emit_message is taken from PUBLIC
SET search_path = pg_catalog, pg_temp     -- nobody else's functions, types or operators in here
AS $body$
BEGIN
  PERFORM pg_logical_emit_message(true, 'casebook.audit', convert_to(json_build_object(
    'v', 1,
    'ctx', json_strip_nulls(json_build_object(
      'audit.user_id',              nullif(current_setting('audit.user_id', true), ''),
      'audit.user_unique_name',     nullif(current_setting('audit.user_unique_name', true), ''),
      'app.current_user_id',        nullif(current_setting('app.current_user_id', true), ''),
      'request.jwt.claims',         nullif(current_setting('request.jwt.claims', true), ''),
      'hasura.user',                nullif(current_setting('hasura.user', true), ''),
      'pghistory.context_metadata', nullif(current_setting('pghistory.context_metadata', true), ''),
      'logidze.meta',               nullif(current_setting('logidze.meta', true), ''))),
    'role', session_user,
    'app',  current_setting('application_name'),
    'addr', host(inet_client_addr()),
    'pid',  pg_backend_pid(),
    'xid',  pg_current_xact_id()::text)::text, 'UTF8'));

  -- The same expression as in the WHEN clause (casebook_audit.cover). %L quotes, so no two contexts look the same.
  PERFORM set_config('casebook_audit.stamp', format('%L,%L,%L,%L,%L,%L,%L,%L,%L',
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
