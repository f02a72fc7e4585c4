-- casebook-audit: the log of chain :'chain' in plain SQL, for psql. Nothing of ours that is stored in the database is called, and
-- every name is the server's own. What is NULL where it must not be is bad, never unknown. What SQL cannot do is to
-- check signatures: compare the root with the third line of a checkpoint that was kept outside (casebook-audit verify does both).
--
--   casebook-audit verify --sql > verify.sql
--   psql -X -v ON_ERROR_STOP=1 -f verify.sql "dbname=audit user=READER"
--
-- Each line of the answer is a check, with the entries that it saw, how many are bad, and the first bad one.
\set QUIET on
\pset pager off
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL search_path = pg_catalog;
SET LOCAL timezone = 'UTC';
SET LOCAL casebook_audit.tenants = '*';

-- Each leaf has the hash that is stored, follows the one before, and the last one is where the position says.
WITH c AS (
  SELECT ch.chain, ch.chain_id, ch.origin, p.size, p.head FROM audit.chain ch JOIN audit.position p ON p.chain = ch.chain WHERE ch.name = :'chain'
), e AS (
  SELECT l.*, c.chain_id, c.origin, row_number() OVER w - 1 AS place, lag(l.leaf_hash) OVER w AS before, lag(l.recorded_us) OVER w AS earlier
    FROM audit.entry l JOIN c ON c.chain = l.chain WINDOW w AS (ORDER BY l.seq)
), judged AS (
  SELECT seq, place,
    (leaf_hash IS NOT DISTINCT FROM sha256('\x00414c4501'::bytea || substr(int2send(kind), 2) || uuid_send(chain_id) || int8send(seq) || prev || int8send(recorded_us) || commitment)) AS leaf,
    (seq IS NOT DISTINCT FROM place AND octet_length(prev) IS NOT DISTINCT FROM 32 AND octet_length(commitment) IS NOT DISTINCT FROM 32
      AND prev IS NOT DISTINCT FROM CASE WHEN place = 0 THEN sha256('\x13'::bytea || convert_to(origin, 'UTF8')) ELSE before END
      AND recorded_us >= coalesce(earlier, recorded_us)) AS link
    FROM e
), bad AS (
  SELECT place AS at FROM judged WHERE (leaf AND link) IS NOT TRUE
  UNION ALL
  SELECT least((SELECT count(*) FROM judged), c.size) FROM c
   WHERE c.size IS DISTINCT FROM (SELECT count(*) FROM judged)
  UNION ALL
  SELECT greatest(c.size - 1, 0) FROM c
   WHERE c.head IS DISTINCT FROM coalesce((SELECT leaf_hash FROM e ORDER BY seq DESC LIMIT 1), sha256('\x13'::bytea || convert_to(c.origin, 'UTF8')))
  UNION ALL
  SELECT 0 WHERE (SELECT count(*) FROM c) <> 1
)
SELECT 'chain' AS "check", (SELECT count(*) FROM judged) AS entries, count(*) AS bad, min(at) AS first_bad FROM bad;

-- The content of each entry is what its leaf commits to.
WITH c AS (SELECT chain FROM audit.chain WHERE name = :'chain'),
f AS (
  SELECT e.seq, e.commitment, e.entry_salt, e.salts[u.i + 1] AS salt, e.digests[u.i + 1] AS kept, u.i, u.path, u.typ, u.state, u.val, u.fixed,
    CASE WHEN e.salts IS NULL AND e.digests IS NULL THEN octet_length(e.entry_salt) IS NOT DISTINCT FROM 32
         ELSE e.entry_salt IS NULL AND cardinality(e.salts) IS NOT DISTINCT FROM 25 + cardinality(e.paths) AND cardinality(e.digests) IS NOT DISTINCT FROM 25 + cardinality(e.paths) END
      AND cardinality(e.types) IS NOT DISTINCT FROM cardinality(e.paths) AND cardinality(e.states) IS NOT DISTINCT FROM cardinality(e.paths)
      AND cardinality(e.vals) IS NOT DISTINCT FROM cardinality(e.paths) AND '' <> ALL (ARRAY[
        coalesce(e.tenant_id, '-'), coalesce(e.application, '-'), coalesce(e.record_type, '-'), coalesce(e.record_id, '-'), coalesce(e.record_name, '-'),
        coalesce(e.resource, '-'), coalesce(e.sub_resource, '-'), coalesce(e.table_name, '-'), coalesce(e.row_id, '-'), coalesce(e.row_name, '-'),
        coalesce(e.action, '-'), coalesce(e.summary, '-'), coalesce(e.initiator, '-'), coalesce(e.user_id, '-'), coalesce(e.user_email, '-'),
        coalesce(e.user_name, '-'), coalesce(e.db_user, '-'), coalesce(e.db_app, '-'), coalesce(e.client_addr, '-'), coalesce(e.remark, '-')]) AS sound
    FROM audit.entry e JOIN c ON c.chain = e.chain, LATERAL (
      SELECT i - 1 AS i, path, typ, (val IS NOT NULL)::int::smallint AS state, val, true AS fixed
        FROM unnest(
          ARRAY['commit_lsn', 'ordinal', 'xid', 'committed_at', 'tenant_id', 'application', 'record_type', 'record_id', 'record_name', 'resource',
                'sub_resource', 'table_name', 'row_id', 'row_name', 'action', 'summary', 'initiator', 'user_id', 'user_email', 'user_name', 'db_user',
                'db_app', 'client_addr', 'backend_pid', 'remark'],
          ARRAY['pg_lsn', 'int8', 'xid', 'int8', 'text', 'text', 'text', 'text', 'text', 'text', 'text', 'text', 'text', 'text', 'text', 'text', 'text',
                'text', 'text', 'text', 'text', 'text', 'text', 'int8', 'text'],
          ARRAY[e.commit_lsn::text, e.ordinal::text, e.xid::text, (extract(epoch FROM e.committed_at) * 1000000)::numeric(30, 0)::text, e.tenant_id,
                e.application, e.record_type, e.record_id, e.record_name, e.resource, e.sub_resource, e.table_name, e.row_id, e.row_name, e.action,
                e.summary, e.initiator, e.user_id, e.user_email, e.user_name, e.db_user, e.db_app, e.client_addr, e.backend_pid::text, e.remark])
          WITH ORDINALITY x(path, typ, val, i)
      UNION ALL
      SELECT 24 + i, path, typ, state, val, false FROM unnest(e.paths, e.types, e.states, e.vals) WITH ORDINALITY y(path, typ, state, val, i)) u
), d AS (
  SELECT seq, commitment, i, sound AND (fixed OR (path IS NOT NULL AND typ IS NOT NULL AND state BETWEEN 0 AND 255 AND (state = 1) = (val IS NOT NULL)))
      AND (kept IS NULL OR (salt IS NULL AND octet_length(kept) = 32 AND val IS NULL AND (fixed OR state = 5))) AS sound,
    coalesce(kept, sha256('\x11'::bytea || coalesce(salt, sha256('\x10'::bytea || entry_salt || int4send(i::int))) || int4send(i::int)
      || int4send(octet_length(convert_to(path, 'UTF8'))) || convert_to(path, 'UTF8')
      || int4send(octet_length(convert_to(typ, 'UTF8'))) || convert_to(typ, 'UTF8') || substr(int2send(state), 2)
      || int4send(octet_length(convert_to(coalesce(val, ''), 'UTF8'))) || convert_to(coalesce(val, ''), 'UTF8'))) AS digest
    FROM f
), judged AS (
  SELECT seq, bool_and(sound IS TRUE)
      AND commitment IS NOT DISTINCT FROM sha256('\x12'::bytea || int4send(count(*)::int) || string_agg(digest, ''::bytea ORDER BY i)) AS ok
    FROM d GROUP BY seq, commitment
)
SELECT 'commitments' AS "check", count(*) AS entries, count(*) FILTER (WHERE ok IS NOT TRUE) AS bad, min(seq) FILTER (WHERE ok IS NOT TRUE) AS first_bad FROM judged;

-- What is missing from entries was ordered, approved by two keys as the log has them, and recorded as removed; what such an
-- order names is missing. Whether the approvals are genuine only casebook-audit verify can say.
WITH c AS (SELECT chain FROM audit.chain WHERE name = :'chain'),
about AS (
  SELECT e.seq, e.kind, e.action, e.leaf_hash, e.vals[array_position(e.paths, 'order.text')] AS order_text, e.vals[array_position(e.paths, 'order.seq')] AS order_seq,
         e.vals[array_position(e.paths, 'order.leaf')] AS order_leaf, e.vals[array_position(e.paths, 'approval.key')] AS key
    FROM audit.entry e JOIN c ON c.chain = e.chain WHERE e.kind IN (6, 7)
), done AS (
  SELECT o.seq, o.order_text
    FROM about o JOIN about a ON a.order_seq = o.seq::text AND a.order_leaf = encode(o.leaf_hash, 'hex') AND a.seq > o.seq
   WHERE o.kind = 6 AND o.action = 'order'
   GROUP BY o.seq, o.order_text
  HAVING count(DISTINCT split_part(a.key, '+', 3)) FILTER (WHERE a.kind = 6 AND a.action = 'approve') >= 2 AND bool_or(a.kind = 7)
), ordered AS (
  SELECT DISTINCT split_part(line, ' ', 2)::bigint AS seq, split_part(line, ' ', 3) AS leaf
    FROM done, regexp_split_to_table(order_text, E'\n') line WHERE line LIKE 'entry %'
), judged AS (
  SELECT e.seq, CASE WHEN o.seq IS NULL THEN e.entry_salt IS NOT NULL ELSE e.entry_salt IS NULL AND o.leaf = encode(e.leaf_hash, 'hex') END AS ok
    FROM audit.entry e JOIN c ON c.chain = e.chain LEFT JOIN ordered o ON o.seq = e.seq
   WHERE e.entry_salt IS NULL OR o.seq IS NOT NULL
)
SELECT 'removals' AS "check", count(*) AS entries, count(*) FILTER (WHERE ok IS NOT TRUE) AS bad, min(seq) FILTER (WHERE ok IS NOT TRUE) AS first_bad FROM judged;

-- The root over the entries under the newest stored checkpoint is the one that it says (RFC 6962).
WITH RECURSIVE c AS (SELECT chain FROM audit.chain WHERE name = :'chain'),
s AS (SELECT k.size, k.root, split_part(k.note, E'\n', 2) AS said_size, split_part(k.note, E'\n', 3) AS said_root FROM audit.checkpoint k JOIN c ON c.chain = k.chain ORDER BY k.size DESC LIMIT 1),
t(lvl, idx, h) AS (
  SELECT 0, l.seq, l.leaf_hash FROM audit.entry l JOIN c ON c.chain = l.chain WHERE l.seq < (SELECT size FROM s)
  UNION ALL
  SELECT lvl + 1, idx / 2, CASE WHEN other IS NULL THEN h ELSE sha256('\x01'::bytea || h || other) END
    FROM (SELECT lvl, idx, h, lead(h) OVER (ORDER BY idx) AS other, max(idx) OVER () AS most FROM t) p
   WHERE idx % 2 = 0 AND most > 0
), root AS (SELECT h FROM t ORDER BY lvl DESC LIMIT 1)
SELECT 'checkpoint' AS "check", coalesce(max(s.size), 0) AS entries,
       count(*) FILTER (WHERE ok IS NOT TRUE) AS bad, min(s.size - 1) FILTER (WHERE ok IS NOT TRUE) AS first_bad, min(encode(root.h, 'base64')) AS root
  FROM s LEFT JOIN root ON true,
       LATERAL (SELECT s.root IS NOT DISTINCT FROM root.h AND said_size IS NOT DISTINCT FROM s.size::text AND said_root IS NOT DISTINCT FROM encode(root.h, 'base64')
                   AND s.size IS NOT DISTINCT FROM (SELECT count(*) FROM audit.entry l JOIN c ON c.chain = l.chain WHERE l.seq < s.size) AS ok) j;
COMMIT;
