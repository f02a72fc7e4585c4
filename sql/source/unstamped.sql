-- The WHEN clause of the triggers: whether the session's context differs from the one that this transaction was last
-- stamped with. Later statements of the same context do not enter stamp(). As one call, since Postgres reads a clause's
-- text anew for each statement: spelled out there it takes three times as long. It runs with the caller's search_path,
-- hence all the pg_catalog: a SET clause here would cost a third more.
CREATE OR REPLACE FUNCTION casebook_audit.unstamped() RETURNS boolean
LANGUAGE plpgsql STABLE
AS $body$
BEGIN
  RETURN coalesce(pg_catalog.current_setting('casebook_audit.stamp', true), '') OPERATOR(pg_catalog.<>)
    pg_catalog.format('%L,%L,%L,%L,%L,%L,%L,%L,%L',
      session_user, pg_catalog.current_setting('application_name'),
      pg_catalog.current_setting('audit.user_id', true), pg_catalog.current_setting('audit.user_unique_name', true),
      pg_catalog.current_setting('app.current_user_id', true), pg_catalog.current_setting('request.jwt.claims', true),
      pg_catalog.current_setting('hasura.user', true), pg_catalog.current_setting('pghistory.context_metadata', true),
      pg_catalog.current_setting('logidze.meta', true));
END
$body$;
GRANT EXECUTE ON FUNCTION casebook_audit.unstamped() TO PUBLIC; -- default privileges may say otherwise; it reads settings only
COMMENT ON FUNCTION casebook_audit.unstamped() IS 'casebook-audit: whether this transaction still has to say who works in it.';
