-- Finding records by name. Row-level security lets a reader use an index only with operators that cannot leak, and neither
-- lower() nor LIKE is one: each look-up of a name would read all names. So names are looked up by functions of the owner,
-- which hold readers to casebook_audit.tenants themselves, as the policy does.

CREATE FUNCTION audit.records_named(of_chain int, of_tenants text[], of_application text, of_name text)
RETURNS TABLE (application text, record_type text, record_id text, name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT n.application, n.record_type, n.record_id, n.name
    FROM audit.record_name n
   WHERE n.chain = of_chain AND lower(n.name) = lower(of_name)
     AND (of_application IS NULL OR n.application = of_application)
     AND (of_tenants IS NULL OR n.tenant_id = ANY (of_tenants))
     AND (current_setting('casebook_audit.tenants', true) = '*'
          OR n.tenant_id = ANY (string_to_array(current_setting('casebook_audit.tenants', true), ',')))
$$;
COMMENT ON FUNCTION audit.records_named(int, text[], text, text) IS 'The records that ever had a name, whatever its case. of_tenants: NULL is all that casebook_audit.tenants allows; of_application: NULL is any.';

-- Misspelled names are found by trigrams, where the server has pg_trgm (every managed one does) and the owner may create it.
-- Elsewhere only parts of names are found.
DO $do$
DECLARE
  trgm text;
BEGIN
  IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
    BEGIN
      CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA audit;
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE NOTICE 'pg_trgm may not be created here: misspelled names of records will not be found';
    END;
  END IF;
  SELECT quote_ident(n.nspname) INTO trgm FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace WHERE x.extname = 'pg_trgm';
  IF trgm IS NOT NULL THEN
    EXECUTE format('CREATE INDEX record_name_by_part ON audit.record_name USING gin (lower(name) %s.gin_trgm_ops)', trgm);
  END IF;
  EXECUTE format($f$
    CREATE FUNCTION audit.find_records(of_chain int, of_tenants text[], of_application text, part text, most int)
    RETURNS TABLE (application text, record_type text, record_id text, name text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, %s pg_temp SET plan_cache_mode = force_custom_plan %s AS $$
    DECLARE
      low     text := lower(part);
      escaped text := replace(replace(replace(low, '\', '\\'), '%%', '\%%'), '_', '\_');
      allowed text := current_setting('casebook_audit.tenants', true);
      found_n bigint;
    BEGIN
      RETURN QUERY
      SELECT f.application, f.record_type, f.record_id, f.name FROM (
        (SELECT n.* FROM audit.record_name n
          WHERE n.chain = of_chain AND lower(n.name) LIKE escaped || '%%'
            AND (of_application IS NULL OR n.application = of_application) AND (of_tenants IS NULL OR n.tenant_id = ANY (of_tenants))
            AND (allowed = '*' OR n.tenant_id = ANY (string_to_array(allowed, ',')))
          ORDER BY lower(n.name) USING ~<~ LIMIT 200)
        UNION
        (SELECT n.* FROM audit.record_name n
          WHERE length(low) >= 3 AND n.chain = of_chain AND lower(n.name) LIKE '%%' || escaped || '%%'
            AND (of_application IS NULL OR n.application = of_application) AND (of_tenants IS NULL OR n.tenant_id = ANY (of_tenants))
            AND (allowed = '*' OR n.tenant_id = ANY (string_to_array(allowed, ',')))
          LIMIT 500)) f
      ORDER BY lower(f.name) = low DESC, lower(f.name) LIKE escaped || '%%' DESC, lower(f.name), f.record_id
      LIMIT most;
      GET DIAGNOSTICS found_n = ROW_COUNT;
      %s
    END $$ $f$, trgm || ',', CASE WHEN trgm IS NULL THEN '' ELSE 'SET pg_trgm.word_similarity_threshold = 0.45' END,
    CASE WHEN trgm IS NULL THEN '' ELSE $f$
      IF found_n < 5 AND found_n < most AND length(low) >= 4 THEN -- it may be misspelled
        RETURN QUERY
        SELECT f.application, f.record_type, f.record_id, f.name FROM (
          SELECT n.* FROM audit.record_name n
           WHERE n.chain = of_chain AND low <% lower(n.name) AND lower(n.name) NOT LIKE '%' || escaped || '%'
             AND (of_application IS NULL OR n.application = of_application) AND (of_tenants IS NULL OR n.tenant_id = ANY (of_tenants))
             AND (allowed = '*' OR n.tenant_id = ANY (string_to_array(allowed, ',')))
           LIMIT 500) f
        ORDER BY word_similarity(low, lower(f.name)) DESC, lower(f.name), f.record_id
        LIMIT most - found_n;
      END IF; $f$ END);
END $do$;
COMMENT ON FUNCTION audit.find_records(int, text[], text, text, int) IS 'Names of records for completion: those that begin with a text, then those that hold it; where these are few and there is pg_trgm, those that are like it. A text of less than three characters finds beginnings only.';

REVOKE ALL ON FUNCTION audit.records_named(int, text[], text, text), audit.find_records(int, text[], text, text, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.records_named(int, text[], text, text), audit.find_records(int, text[], text, text, int) TO casebook_audit_reader;
