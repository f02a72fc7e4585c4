-- Covers one table or partition: statement trigger, always enabled, and REPLICA IDENTITY FULL. May be run again.
-- ALWAYS: a session with session_replication_role = replica (a DBA who wants no foreign keys checked, a restore) is
-- stamped like any other. A subscription's apply worker fires no statement triggers for rows; its TRUNCATE and initial
-- copy are stamped with the subscription's owner, who in fact did them.
CREATE OR REPLACE FUNCTION casebook_audit.cover(rel regclass) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
  was text;
BEGIN
  -- The trigger first: casebook_audit.cover_new() leaves tables alone that have it, else our ALTER TABLE would wake it
  -- for the same table again.
  EXECUTE format('CREATE OR REPLACE TRIGGER casebook_audit_stamp BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
    'FOR EACH STATEMENT WHEN (casebook_audit.unstamped()) EXECUTE FUNCTION casebook_audit.stamp()', rel);
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER casebook_audit_stamp', rel);

  -- 18 refuses every UPDATE and DELETE of a published table that is FULL and has a virtual generated column.
  IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = cover.rel AND a.attgenerated = 'v') THEN
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = cover.rel AND c.relreplident = 'f') THEN
      EXECUTE format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', rel);
    END IF;
    RAISE WARNING 'casebook-audit: % has a virtual generated column: its old values will not be known', rel;
    RETURN;
  END IF;

  SELECT CASE c.relreplident WHEN 'd' THEN 'DEFAULT' WHEN 'n' THEN 'NOTHING' WHEN 'i' THEN coalesce(
           (SELECT 'USING INDEX ' || quote_ident(i.relname) FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
            WHERE x.indrelid = c.oid AND x.indisreplident), 'DEFAULT') END
    INTO was FROM pg_class c WHERE c.oid = cover.rel AND c.relreplident <> 'f';
  IF was IS NOT NULL THEN
    INSERT INTO casebook_audit.made (what, object, rel, before)
      SELECT 'identity', cover.rel::text, cover.rel, was
      WHERE NOT EXISTS (SELECT FROM casebook_audit.made m WHERE m.what = 'identity' AND m.rel = cover.rel);
    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', rel);
  END IF;
END
$body$;
REVOKE ALL ON FUNCTION casebook_audit.cover(regclass) FROM PUBLIC;
COMMENT ON FUNCTION casebook_audit.cover(regclass) IS 'casebook-audit: sets the stamp trigger and REPLICA IDENTITY FULL on a table.';
