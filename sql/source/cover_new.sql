-- Covers what DDL has just made: partitions of published tables, and tables added to the publication. Tables that have
-- the trigger are left alone, so an operator who switches something off is not fought; `casebook-audit check` tells.
-- Nothing in here may make the application's DDL fail: every error becomes a warning.
CREATE OR REPLACE FUNCTION casebook_audit.cover_new() RETURNS event_trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '5s'
AS $body$
DECLARE
  relation regclass;
BEGIN
  FOR relation IN
    WITH ddl AS MATERIALIZED (
      SELECT d.classid, d.objid FROM pg_event_trigger_ddl_commands() d
    ), root AS MATERIALIZED (
      SELECT pr.prrelid AS oid FROM pg_publication p JOIN pg_publication_rel pr ON pr.prpubid = p.oid
      WHERE p.pubname = 'PUBLICATION'
        AND EXISTS (SELECT FROM ddl WHERE ddl.classid <> 'pg_class'::regclass OR ddl.objid = pr.prrelid
                    OR pr.prrelid IN (SELECT a.relid FROM pg_partition_ancestors(ddl.objid) a))
    )
    SELECT c.oid
    FROM root
    CROSS JOIN LATERAL (SELECT root.oid UNION SELECT t.relid FROM pg_partition_tree(root.oid) t) tree (oid)
    JOIN pg_class c ON c.oid = tree.oid AND c.relkind IN ('r', 'p')
    WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'casebook_audit_stamp')
       OR c.relreplident = 'f' AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v')
  LOOP
    BEGIN
      PERFORM casebook_audit.cover(relation);
    EXCEPTION WHEN OTHERS THEN
      RAISE WARNING 'casebook-audit does not cover %: %', relation, SQLERRM
        USING HINT = 'Run casebook-audit setup source.';
    END;
  END LOOP;
EXCEPTION WHEN OTHERS THEN
  RAISE WARNING 'casebook-audit cannot look for new tables: %', SQLERRM USING HINT = 'Run casebook-audit check.';
END
$body$;
REVOKE ALL ON FUNCTION casebook_audit.cover_new() FROM PUBLIC;
COMMENT ON FUNCTION casebook_audit.cover_new() IS 'casebook-audit: covers partitions and published tables that DDL has just made.';
