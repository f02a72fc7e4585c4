-- Lawful removal. What was hashed can be taken out of an entry while its commitment still holds: the salt of the entry is
-- replaced by the salts of the fields that stay and the digests of those that go. Nobody but the function below can do it,
-- and it does only what an order in the log says that two keys have approved.

ALTER TABLE audit.entry ADD COLUMN salts bytea[], ADD COLUMN digests bytea[];
COMMENT ON COLUMN audit.entry.salts IS 'Only where something was removed and entry_salt is NULL: the salt of each field that stays, NULL for each that went.';
COMMENT ON COLUMN audit.entry.digests IS 'Only where something was removed: the digest of each field that went, NULL for each that stays. Field i of the commitment is element i + 1.';
COMMENT ON COLUMN audit.entry.states IS 'State of each field: 0 NULL, 1 value, 2 unchanged, 3 not known, 4 masked by the mapping, 5 removed under an order (not hashed).';

CREATE TABLE audit.sealed (
  chain     int NOT NULL REFERENCES audit.chain,
  order_seq bigint NOT NULL,
  seq       bigint NOT NULL,
  data      bytea NOT NULL,
  PRIMARY KEY (chain, order_seq, seq)
);
COMMENT ON TABLE  audit.sealed IS 'What orders of the level seal took out of entries, encrypted to the order''s recipient. Nobody here can read it.';
COMMENT ON COLUMN audit.sealed.chain IS 'As in audit.entry.';
COMMENT ON COLUMN audit.sealed.order_seq IS 'Entry that holds the order.';
COMMENT ON COLUMN audit.sealed.seq IS 'Entry that the fields were taken out of.';
COMMENT ON COLUMN audit.sealed.data IS 'age file: JSON of the fields with their salts.';

-- The value of a field of an entry that is not from the stream.
CREATE FUNCTION audit.field_of(paths text[], vals text[], path text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT vals[array_position(paths, path)] $$;
COMMENT ON FUNCTION audit.field_of(text[], text[], text) IS 'Value of the first field with this path.';

-- An order, and how many different keys approve it by what the log says. That the signatures are genuine is for
-- casebook-audit to check: Postgres cannot.
CREATE VIEW audit.removal_order AS
  SELECT o.chain, o.seq, o.leaf_hash, audit.field_of(o.paths, o.vals, 'order.text') AS text,
         count(DISTINCT split_part(audit.field_of(a.paths, a.vals, 'approval.key'), '+', 3)) FILTER (WHERE a.kind = 6) AS approvals,
         coalesce(max(a.seq) FILTER (WHERE a.kind = 6), o.seq) AS last,
         coalesce(bool_or(a.kind = 7), false) AS done
    FROM audit.entry o
    LEFT JOIN audit.entry a ON a.chain = o.chain AND a.seq > o.seq AND (a.kind = 6 AND a.action = 'approve' OR a.kind = 7)
     AND audit.field_of(a.paths, a.vals, 'order.seq') = o.seq::text
     AND audit.field_of(a.paths, a.vals, 'order.leaf') = encode(o.leaf_hash, 'hex')
   WHERE o.kind = 6 AND o.action = 'order'
   GROUP BY o.chain, o.seq, o.leaf_hash, o.paths, o.vals;
COMMENT ON VIEW audit.removal_order IS 'Orders to remove, their approvals as the log tells them, and whether they were carried out. For the owner.';

-- A value that leads to an owner or a tenant stays in the directory: a key says nothing by itself.
CREATE FUNCTION audit.forget(of_chain int, of_table text, of_row text, gone jsonb) RETURNS int
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  was   jsonb;
  rest  jsonb;
  image text;
  pair  record;
BEGIN
  SELECT d.state INTO was FROM audit.directory d WHERE d.chain = of_chain AND d.table_name = of_table AND d.row_id = of_row FOR UPDATE;
  IF was IS NULL THEN
    RETURN 0;
  END IF;
  rest := was;
  FOREACH image IN ARRAY ARRAY['cur', 'prev'] LOOP
    FOR pair IN SELECT g.value ->> 0 AS col, g.value ->> 1 AS val FROM jsonb_array_elements(gone) g LOOP
      IF pair.val !~* '^([0-9]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$' AND pair.val <> of_row AND rest -> image ->> pair.col = pair.val THEN
        rest := rest #- ARRAY[image, pair.col];
      END IF;
    END LOOP;
  END LOOP;
  IF rest = was THEN
    RETURN 0;
  END IF;
  UPDATE audit.directory d SET state = rest WHERE d.chain = of_chain AND d.table_name = of_table AND d.row_id = of_row;
  RETURN 1;
END $$;
COMMENT ON FUNCTION audit.forget(int, text, text, jsonb) IS 'Takes columns out of a row of the directory where they hold these values; pairs of column and value.';

CREATE FUNCTION audit.remove_ordered(of_chain int, order_seq bigint, target bigint, field_digests bytea[], sealed bytea,
  OUT fields int, OUT also int, OUT names int, OUT directory int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  fixed  CONSTANT text[] := ARRAY['commit_lsn', 'ordinal', 'xid', 'committed_at', 'tenant_id', 'application', 'record_type', 'record_id', 'record_name',
    'resource', 'sub_resource', 'table_name', 'row_id', 'row_name', 'action', 'summary', 'initiator', 'user_id', 'user_email', 'user_name', 'db_user',
    'db_app', 'client_addr', 'backend_pid', 'remark'];
  o      audit.removal_order%ROWTYPE;
  e      audit.entry%ROWTYPE;
  wanted int[];
  whole  boolean;
  n      int;
  set_to text;
  held   text;
  v      jsonb;
  gone   jsonb := '[]';
BEGIN
  fields := 0; also := 0; names := 0; directory := 0;
  PERFORM pg_advisory_xact_lock(hashtextextended('audit.remove_ordered', of_chain));
  SELECT * INTO o FROM audit.removal_order r WHERE r.chain = of_chain AND r.seq = order_seq;
  IF o.seq IS NULL OR o.approvals < 2 THEN
    RAISE EXCEPTION 'entry % is no order that two keys have approved', order_seq USING ERRCODE = '42501';
  END IF;
  IF EXISTS (SELECT FROM audit.entry k WHERE k.chain = of_chain AND k.kind = 5)
     AND NOT EXISTS (SELECT FROM audit.checkpoint c WHERE c.chain = of_chain AND c.size > o.last) THEN
    RAISE EXCEPTION 'order % and its approvals are under no signed checkpoint yet', order_seq USING ERRCODE = '55000';
  END IF;
  SELECT * INTO e FROM audit.entry t WHERE t.chain = of_chain AND t.seq = target FOR UPDATE;
  IF e.seq IS NULL OR e.kind NOT IN (1, 12, 15)
     OR position(format(E'\nentry %s %s\n', target, encode(e.leaf_hash, 'hex')) IN o.text) = 0 THEN
    RAISE EXCEPTION 'order % does not name entry %, or another content of it', order_seq, target USING ERRCODE = '42501';
  END IF;
  WITH last AS (
    SELECT DISTINCT ON (h.record_id) h.record_id, h.action FROM audit.entry h
     WHERE h.chain = of_chain AND h.kind = 6 AND h.action IN ('hold', 'release') ORDER BY h.record_id, h.seq DESC)
  SELECT l.record_id INTO held FROM last l WHERE l.action = 'hold' AND (l.record_id = e.record_id OR l.record_id IN (
    SELECT a.record_id FROM audit.entry_also a WHERE a.chain = of_chain AND a.seq = target AND a.committed_at = e.committed_at)) LIMIT 1;
  IF held IS NOT NULL THEN
    RAISE EXCEPTION 'record % is under a legal hold', held USING ERRCODE = '55000';
  END IF;

  -- The caller's digests are those of the commitment, or nothing happens.
  n := 25 + cardinality(e.paths);
  IF cardinality(field_digests) IS DISTINCT FROM n OR EXISTS (SELECT FROM unnest(field_digests) d WHERE octet_length(d) IS DISTINCT FROM 32)
     OR sha256('\x12'::bytea || int4send(n) || (SELECT string_agg(d, ''::bytea ORDER BY i) FROM unnest(field_digests) WITH ORDINALITY u(d, i))) <> e.commitment THEN
    RAISE EXCEPTION 'these are not the digests of entry %', target USING ERRCODE = '22023';
  END IF;
  SELECT array_agg(split_part(line, ' ', 3)::int) INTO wanted FROM regexp_split_to_table(o.text, E'\n') line WHERE line LIKE format('field %s %%', target);
  whole := wanted IS NULL;
  IF whole THEN
    SELECT array_agg(i) INTO wanted FROM generate_series(0, n - 1) i;
  END IF;
  wanted := ARRAY(SELECT i FROM unnest(wanted) i WHERE i BETWEEN 0 AND n - 1 AND i NOT IN (0, 1, 3) AND (e.digests IS NULL OR e.digests[i + 1] IS NULL));
  IF cardinality(wanted) = 0 THEN
    RETURN; -- it was carried out before
  END IF;
  IF (sealed IS NOT NULL) <> (o.text LIKE E'%\nlevel seal\n%') THEN
    RAISE EXCEPTION 'an order of the level seal keeps what it removes aside, and no other does' USING ERRCODE = '22023';
  END IF;
  IF sealed IS NOT NULL THEN
    INSERT INTO audit.sealed (chain, order_seq, seq, data) VALUES (of_chain, remove_ordered.order_seq, target, remove_ordered.sealed);
  END IF;

  SELECT string_agg(format('%I = NULL', fixed[i + 1]), ', ') INTO set_to FROM unnest(wanted) i WHERE i < 25;
  EXECUTE 'UPDATE audit.entry SET ' || coalesce(set_to || ', ', '') || $u$
      entry_salt = NULL,
      salts = ARRAY(SELECT CASE WHEN i = ANY ($4) THEN NULL ELSE coalesce(salts[i + 1], CASE WHEN digests IS NULL THEN sha256('\x10'::bytea || entry_salt || int4send(i)) END) END FROM generate_series(0, $5 - 1) i ORDER BY i),
      digests = ARRAY(SELECT CASE WHEN i = ANY ($4) THEN $6[i + 1] ELSE digests[i + 1] END FROM generate_series(0, $5 - 1) i ORDER BY i),
      paths = ARRAY(SELECT CASE WHEN $7 AND i + 24 = ANY ($4) THEN '' ELSE paths[i] END FROM generate_series(1, cardinality(paths)) i ORDER BY i),
      types = ARRAY(SELECT CASE WHEN $7 AND i + 24 = ANY ($4) THEN '' ELSE types[i] END FROM generate_series(1, cardinality(paths)) i ORDER BY i),
      states = ARRAY(SELECT CASE WHEN i + 24 = ANY ($4) THEN 5::smallint ELSE states[i] END FROM generate_series(1, cardinality(paths)) i ORDER BY i),
      vals = ARRAY(SELECT CASE WHEN i + 24 = ANY ($4) THEN NULL ELSE vals[i] END FROM generate_series(1, cardinality(paths)) i ORDER BY i)
    WHERE chain = $1 AND seq = $2 AND committed_at = $3 $u$
    USING of_chain, target, e.committed_at, wanted, n, field_digests, whole AND o.text LIKE E'%\nlevel entry\n%';
  fields := cardinality(wanted);

  -- Derived rows follow.
  DELETE FROM audit.entry_also a WHERE a.chain = of_chain AND a.seq = target AND a.committed_at = e.committed_at;
  GET DIAGNOSTICS also = ROW_COUNT;
  INSERT INTO audit.entry_also (chain, seq, committed_at, tenant_id, application, record_id)
    SELECT t.chain, t.seq, t.committed_at, coalesce(nullif(u.val::jsonb ->> 'tenant_id', ''), t.tenant_id), nullif(u.val::jsonb ->> 'application', ''), u.val::jsonb ->> 'record_id'
      FROM audit.entry t, unnest(t.paths, t.states, t.vals) u(path, state, val)
     WHERE t.chain = of_chain AND t.seq = target AND t.committed_at = e.committed_at AND u.path LIKE 'also.%' AND u.state = 1;

  WITH lost AS (
    SELECT e.record_id AS id, e.record_name AS name WHERE 8 = ANY (wanted)
    UNION SELECT u.val::jsonb ->> 'record_id', u.val::jsonb ->> 'record_name' FROM unnest(e.paths, e.states, e.vals) WITH ORDINALITY u(path, state, val, i)
     WHERE u.path LIKE 'also.%' AND u.state = 1 AND (u.i + 24)::int = ANY (wanted)
  ), dropped AS (
    DELETE FROM audit.record_name r USING lost
     WHERE r.chain = of_chain AND r.record_id = lost.id AND r.name = lost.name
       AND NOT EXISTS (SELECT FROM audit.entry x WHERE x.chain = of_chain AND x.record_id = lost.id AND x.record_name = lost.name)
       AND NOT EXISTS (SELECT FROM audit.entry_also a JOIN audit.entry x USING (chain, seq, committed_at), unnest(x.paths, x.states, x.vals) u(path, state, val)
             WHERE a.chain = of_chain AND a.record_id = lost.id AND u.path LIKE 'also.%' AND u.state = 1
               AND u.val::jsonb ->> 'record_id' = lost.id AND u.val::jsonb ->> 'record_name' = lost.name)
    RETURNING 1
  ), users AS (
    DELETE FROM audit.user_name r
     WHERE r.chain = of_chain AND r.user_id = e.user_id
       AND (18 = ANY (wanted) AND r.email = e.user_email OR 19 = ANY (wanted) AND r.name = e.user_name)
       AND NOT EXISTS (SELECT FROM audit.entry x WHERE x.chain = of_chain AND x.user_id = e.user_id
             AND (18 = ANY (wanted) AND x.user_email = e.user_email OR 19 = ANY (wanted) AND x.user_name = e.user_name))
    RETURNING 1
  )
  SELECT (SELECT count(*) FROM dropped) + (SELECT count(*) FROM users) INTO names;

  IF e.kind = 1 THEN
    SELECT coalesce(jsonb_agg(jsonb_build_array(substr(u.path, 5), u.val)), '[]') INTO gone
      FROM unnest(e.paths, e.states, e.vals) WITH ORDINALITY u(path, state, val, i)
     WHERE (u.path LIKE 'old.%' OR u.path LIKE 'new.%') AND u.state = 1 AND (u.i + 24)::int = ANY (wanted);
    directory := audit.forget(of_chain, e.table_name, e.row_id, gone);
  ELSIF e.kind = 12 THEN
    FOR v IN SELECT u.val::jsonb FROM unnest(e.paths, e.states, e.vals) WITH ORDINALITY u(path, state, val, i)
              WHERE u.path = 'row' AND u.state = 1 AND (u.i + 24)::int = ANY (wanted) LOOP
      SELECT coalesce(jsonb_agg(jsonb_build_array(c.key, c.value)), '[]') INTO gone FROM (
        SELECT * FROM jsonb_each_text(coalesce(nullif(v #> '{state,cur}', 'null'), '{}')) UNION SELECT * FROM jsonb_each_text(coalesce(nullif(v #> '{state,prev}', 'null'), '{}'))) c
       WHERE c.value IS NOT NULL;
      directory := directory + audit.forget(of_chain, v ->> 'table', v ->> 'row', gone);
    END LOOP;
  END IF;
END $$;
COMMENT ON FUNCTION audit.remove_ordered(int, bigint, bigint, bytea[], bytea) IS 'Takes out of an entry what an approved order names, and out of everything derived from it. casebook-audit redact carry-out calls it.';

-- The chain in plain SQL again, now with removals: an entry that lacks something without an order, two approvals and the
-- record of its removal is bad; so is one that such an order says is gone and that is whole.
DROP FUNCTION audit.verify_chain(bigint, bigint, text);
CREATE FUNCTION audit.verify_chain("from" bigint DEFAULT 0, "to" bigint DEFAULT NULL, chain_name text DEFAULT NULL,
  OUT entries bigint, OUT bad bigint, OUT first_bad bigint, OUT removed bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH c AS (
    SELECT ch.chain, ch.chain_id, ch.origin, p.size, p.head
      FROM audit.chain ch JOIN audit.position p USING (chain)
     WHERE chain_name IS NULL OR ch.name = chain_name
     ORDER BY ch.chain LIMIT 1
  ), about AS (
    SELECT e.seq, e.kind, e.action, e.leaf_hash, f.order_text, f.order_seq, f.order_leaf, f.key
      FROM audit.entry e JOIN c USING (chain),
           LATERAL (SELECT e.vals[array_position(e.paths, 'order.text')] AS order_text, e.vals[array_position(e.paths, 'order.seq')] AS order_seq,
                           e.vals[array_position(e.paths, 'order.leaf')] AS order_leaf, e.vals[array_position(e.paths, 'approval.key')] AS key) f
     WHERE e.kind IN (6, 7)
  ), done AS (
    SELECT o.seq, o.order_text
      FROM about o JOIN about a ON a.order_seq = o.seq::text AND a.order_leaf = encode(o.leaf_hash, 'hex') AND a.seq > o.seq
     WHERE o.kind = 6 AND o.action = 'order'
     GROUP BY o.seq, o.order_text
    HAVING count(DISTINCT split_part(a.key, '+', 3)) FILTER (WHERE a.kind = 6 AND a.action = 'approve') >= 2 AND bool_or(a.kind = 7)
  ), ordered AS (
    SELECT DISTINCT split_part(line, ' ', 2)::bigint AS seq, split_part(line, ' ', 3) AS leaf
      FROM done, regexp_split_to_table(order_text, E'\n') line WHERE line LIKE 'entry %'
  ), e AS (
    SELECT e.*, c.chain_id, c.origin, c.size, c.head, o.leaf AS ordered_leaf,
           lag(e.leaf_hash) OVER w AS before, lag(e.seq) OVER w AS before_seq, lead(e.seq) OVER w IS NULL AS last
      FROM audit.entry e JOIN c USING (chain) LEFT JOIN ordered o ON o.seq = e.seq
     WHERE e.seq >= greatest("from" - 1, 0) AND ("to" IS NULL OR e.seq <= "to")
    WINDOW w AS (ORDER BY e.seq)
  ), judged AS (
    SELECT seq, entry_salt IS NULL AS lacks, coalesce(
             leaf_hash = sha256('\x00414c4501'::bytea || substr(int2send(kind), 2) || uuid_send(chain_id) || int8send(seq)
                                || prev || int8send(recorded_us) || commitment)
             AND octet_length(prev) = 32 AND octet_length(commitment) = 32
             AND CASE WHEN ordered_leaf IS NULL THEN entry_salt IS NOT NULL AND salts IS NULL AND digests IS NULL
                      ELSE ordered_leaf = encode(leaf_hash, 'hex') AND entry_salt IS NULL
                           AND cardinality(salts) = 25 + cardinality(paths) AND cardinality(digests) = 25 + cardinality(paths)
                           AND array_length(array_remove(digests, NULL), 1) > 0 END
             AND CASE WHEN seq = 0 THEN before IS NULL AND prev = sha256('\x13'::bytea || convert_to(origin, 'UTF8'))
                      WHEN seq = greatest("from" - 1, 0) THEN before IS NULL
                      ELSE before_seq = seq - 1 AND prev = before END
             AND CASE WHEN last AND "to" IS NULL THEN seq = size - 1 AND leaf_hash = head ELSE true END, false) AS ok
      FROM e
  ), none AS (
    SELECT "to" IS NULL AND NOT EXISTS (SELECT FROM e) AND (SELECT size FROM c) > "from" AS lost
  )
  SELECT count(*) FILTER (WHERE seq >= "from"),
         count(*) FILTER (WHERE NOT ok) + (SELECT lost::int FROM none),
         CASE WHEN (SELECT lost FROM none) THEN "from" ELSE min(seq) FILTER (WHERE NOT ok) END,
         count(*) FILTER (WHERE ok AND lacks AND seq >= "from")
    FROM judged
$$;
COMMENT ON FUNCTION audit.verify_chain(bigint, bigint, text) IS 'Recomputes the chain between two sequence numbers: entries looked at, how many are bad, the first bad one, and from how many something was removed under an order. bad = 0: the chain holds and ends where audit.position says.';

REVOKE ALL ON FUNCTION audit.verify_chain(bigint, bigint, text), audit.field_of(text[], text[], text), audit.forget(int, text, text, jsonb),
  audit.remove_ordered(int, bigint, bigint, bytea[], bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.verify_chain(bigint, bigint, text) TO casebook_audit_writer;
GRANT USAGE ON SCHEMA audit TO casebook_audit_redactor;
GRANT EXECUTE ON FUNCTION audit.remove_ordered(int, bigint, bigint, bytea[], bytea) TO casebook_audit_redactor;
GRANT SELECT ON audit.sealed TO casebook_audit_redactor;
