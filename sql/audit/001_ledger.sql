-- The audit database of casebook-audit: one append-only log of entries, hash-chained per source database.
-- Run by `casebook-audit setup audit --apply` as a role that is a member of casebook_audit_owner.

CREATE SCHEMA audit;
COMMENT ON SCHEMA audit IS 'casebook-audit: who did what to which record, hash-chained. audit.entry is the log.';

CREATE TABLE audit.chain (
  chain      int PRIMARY KEY CHECK (chain > 0),
  name       text NOT NULL UNIQUE,
  chain_id   uuid NOT NULL UNIQUE,
  origin     text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE  audit.chain IS 'One chain of entries for each source database.';
COMMENT ON COLUMN audit.chain.chain IS 'Number of the chain inside this audit database only; not hashed.';
COMMENT ON COLUMN audit.chain.name IS 'audit.chain of the daemon''s configuration.';
COMMENT ON COLUMN audit.chain.chain_id IS 'The 16 bytes that every leaf of the chain carries.';
COMMENT ON COLUMN audit.chain.origin IS 'Name of the log to the outside; prev of the first leaf is sha256(0x13 || origin). Never reused.';

CREATE TABLE audit.position (
  chain            int PRIMARY KEY REFERENCES audit.chain,
  size             bigint NOT NULL DEFAULT 0,
  head             bytea NOT NULL,
  recorded_us      bigint NOT NULL DEFAULT 0,
  commit_lsn       pg_lsn NOT NULL DEFAULT '0/0',
  end_lsn          pg_lsn NOT NULL DEFAULT '0/0',
  acked_lsn        pg_lsn NOT NULL DEFAULT '0/0',
  committed_at     timestamptz,
  complete_at      timestamptz,
  system_id        text,
  timeline         int,
  slot             text,
  consistent_point pg_lsn,
  seeded_at        timestamptz
);
COMMENT ON TABLE  audit.position IS 'Where each chain stands. Written in the transaction that appends entries, by the one writer of the chain.';
COMMENT ON COLUMN audit.position.size IS 'Number of entries; the next entry gets this seq.';
COMMENT ON COLUMN audit.position.head IS 'leaf_hash of the last entry; for an empty chain sha256(0x13 || origin).';
COMMENT ON COLUMN audit.position.recorded_us IS 'recorded_us of the last entry; never goes back.';
COMMENT ON COLUMN audit.position.commit_lsn IS 'Commit LSN of the last transaction stored: what is not newer is skipped.';
COMMENT ON COLUMN audit.position.end_lsn IS 'End LSN of that transaction: where the stream is asked to start again.';
COMMENT ON COLUMN audit.position.acked_lsn IS 'Highest LSN that the source may have been told to forget; a slot ahead of it means a gap.';
COMMENT ON COLUMN audit.position.committed_at IS 'Commit time of the last transaction stored.';
COMMENT ON COLUMN audit.position.complete_at IS 'The log is complete up to this time of the source''s clock (watermark).';
COMMENT ON COLUMN audit.position.system_id IS 'System identifier of the source cluster.';
COMMENT ON COLUMN audit.position.timeline IS 'Timeline of the source when the position was written.';
COMMENT ON COLUMN audit.position.slot IS 'Replication slot that feeds the chain.';
COMMENT ON COLUMN audit.position.consistent_point IS 'Where the slot was created; the directory was filled from the snapshot of that point.';
COMMENT ON COLUMN audit.position.seeded_at IS 'When the directory had been filled; NULL: not yet, nothing was streamed.';

CREATE TABLE audit.entry (
  -- the leaf
  chain        int NOT NULL,
  seq          bigint NOT NULL CHECK (seq >= 0),
  kind         smallint NOT NULL CHECK (kind BETWEEN 0 AND 255),
  prev         bytea NOT NULL CHECK (octet_length(prev) = 32),
  recorded_us  bigint NOT NULL,
  commitment   bytea NOT NULL CHECK (octet_length(commitment) = 32),
  leaf_hash    bytea NOT NULL CHECK (octet_length(leaf_hash) = 32),
  entry_salt   bytea CHECK (octet_length(entry_salt) = 32),
  -- hashed fields, in this order
  commit_lsn   pg_lsn,
  ordinal      bigint,
  xid          bigint,
  committed_at timestamptz NOT NULL,
  tenant_id    text,
  application  text,
  record_type  text,
  record_id    text,
  record_name  text,
  resource     text,
  sub_resource text,
  table_name   text,
  row_id       text,
  row_name     text,
  action       text,
  summary      text,
  initiator    text,
  user_id      text,
  user_email   text,
  user_name    text,
  db_user      text,
  db_app       text,
  client_addr  text,
  backend_pid  bigint,
  remark       text,
  -- further hashed fields: element i of each array belongs together
  paths        text[] NOT NULL,
  types        text[] NOT NULL,
  states       smallint[] NOT NULL,
  vals         text[] NOT NULL,
  PRIMARY KEY (chain, seq, committed_at)
) PARTITION BY RANGE (committed_at);

-- What /v1/entries asks for: the entries of a record, of a user, or of a time, newest first. Boundaries, gaps and the
-- like stay out of the last.
CREATE INDEX entry_by_record ON audit.entry (record_id, committed_at, seq) WHERE record_id IS NOT NULL;
CREATE INDEX entry_by_user   ON audit.entry (user_id, committed_at, seq) WHERE user_id IS NOT NULL;
CREATE INDEX entry_by_time   ON audit.entry (committed_at, seq) WHERE kind IN (1, 2, 10);

COMMENT ON TABLE  audit.entry IS 'The log: one row an audited act, append-only, hash-chained by seq. Partitioned by month of committed_at.';
COMMENT ON COLUMN audit.entry.chain IS 'audit.chain.chain; not hashed: the leaf carries chain_id.';
COMMENT ON COLUMN audit.entry.seq IS 'Place in the chain, from 0 without holes.';
COMMENT ON COLUMN audit.entry.kind IS '0 genesis, 1 change, 2 truncate, 3 relation, 4 transaction boundary, 5 key event, 6 redaction order, 7 redaction done, 8 prune, 9 anchor receipt, 10 gap or coverage fault, 11 verification, 12 directory, 13 heartbeat, 14 configuration, 15 access.';
COMMENT ON COLUMN audit.entry.prev IS 'leaf_hash of seq - 1; for seq 0 sha256(0x13 || origin).';
COMMENT ON COLUMN audit.entry.recorded_us IS 'When the daemon sealed the entry, microseconds since 1970 UTC; never goes back along seq.';
COMMENT ON COLUMN audit.entry.commitment IS 'Salted commitment to all hashed fields; see the documentation of package ledger.';
COMMENT ON COLUMN audit.entry.leaf_hash IS 'sha256(0x00 || leaf): the RFC 6962 leaf hash and the link of the chain.';
COMMENT ON COLUMN audit.entry.entry_salt IS 'Random; the salt of each field is derived from it. NULL only after a redaction.';
COMMENT ON COLUMN audit.entry.commit_lsn IS 'Commit LSN of the source transaction.';
COMMENT ON COLUMN audit.entry.ordinal IS 'Index of the row change in its transaction, from 0; for a transaction boundary the number of row changes. With commit_lsn the key of a change.';
COMMENT ON COLUMN audit.entry.xid IS 'Transaction id in the source.';
COMMENT ON COLUMN audit.entry.committed_at IS 'Commit time by the source''s clock; for entries that are not from the stream the time of recording. Hashed as microseconds.';
COMMENT ON COLUMN audit.entry.tenant_id IS 'Tenant of the record; a reader sees only its tenants.';
COMMENT ON COLUMN audit.entry.application IS 'Engage, Intake, Providers or People: where the owning record lives. NULL: no record.';
COMMENT ON COLUMN audit.entry.record_type IS 'Case, Report, Provider or Person.';
COMMENT ON COLUMN audit.entry.record_id IS 'Key of the record. Further records that list the entry are fields also.N and rows of audit.entry_also.';
COMMENT ON COLUMN audit.entry.record_name IS 'Name of the record as of the change.';
COMMENT ON COLUMN audit.entry.resource IS 'What changed, in the words of the help page.';
COMMENT ON COLUMN audit.entry.sub_resource IS 'Section of the record under which the change shows.';
COMMENT ON COLUMN audit.entry.table_name IS 'Table of the source, schema.name.';
COMMENT ON COLUMN audit.entry.row_id IS 'Key of the row; several key columns are joined with commas.';
COMMENT ON COLUMN audit.entry.row_name IS 'Name of the row as of the change.';
COMMENT ON COLUMN audit.entry.action IS 'create, update, delete; other kinds have words of their own.';
COMMENT ON COLUMN audit.entry.summary IS 'The act in a sentence.';
COMMENT ON COLUMN audit.entry.initiator IS 'user, application (an integration), system (by a rule), operator (a database role at a prompt), unattributed (nothing is known).';
COMMENT ON COLUMN audit.entry.user_id IS 'Application user, as the session asserted.';
COMMENT ON COLUMN audit.entry.user_email IS 'E-mail of the user as of the change.';
COMMENT ON COLUMN audit.entry.user_name IS 'Name of the user as of the change.';
COMMENT ON COLUMN audit.entry.db_user IS 'session_user, as the server saw.';
COMMENT ON COLUMN audit.entry.db_app IS 'application_name of the session.';
COMMENT ON COLUMN audit.entry.client_addr IS 'Address of the client, as the server saw.';
COMMENT ON COLUMN audit.entry.backend_pid IS 'Process of the session on the source.';
COMMENT ON COLUMN audit.entry.remark IS 'Why an entry has no record, what a gap is, a doubt about the user.';
COMMENT ON COLUMN audit.entry.paths IS 'Further fields: old.COL, new.COL, oldname.COL, newname.COL, label.COL, class.COL, also.N, ctx.KEY. The view audit.change reads easier.';
COMMENT ON COLUMN audit.entry.types IS 'Type of each field in the source.';
COMMENT ON COLUMN audit.entry.states IS 'State of each field: 0 NULL, 1 value, 2 unchanged, 3 not known, 4 masked by the mapping.';
COMMENT ON COLUMN audit.entry.vals IS 'Text of each field as the source wrote it; NULL unless the state is 1.';

CREATE TABLE audit.entry_also (
  chain        int NOT NULL,
  seq          bigint NOT NULL,
  committed_at timestamptz NOT NULL,
  tenant_id    text,
  application  text,
  record_id    text NOT NULL
) PARTITION BY RANGE (committed_at);
CREATE INDEX entry_also_by_record ON audit.entry_also (record_id, committed_at, seq);
COMMENT ON TABLE  audit.entry_also IS 'Further records that list an entry. Derived from its also.N fields; verify recomputes it.';
COMMENT ON COLUMN audit.entry_also.chain IS 'As in audit.entry.';
COMMENT ON COLUMN audit.entry_also.seq IS 'As in audit.entry.';
COMMENT ON COLUMN audit.entry_also.committed_at IS 'As in audit.entry.';
COMMENT ON COLUMN audit.entry_also.tenant_id IS 'Tenant of the further record.';
COMMENT ON COLUMN audit.entry_also.application IS 'Application of the further record.';
COMMENT ON COLUMN audit.entry_also.record_id IS 'Key of the further record.';

CREATE TABLE audit.directory (
  chain      int NOT NULL REFERENCES audit.chain,
  table_name text NOT NULL,
  row_id     text NOT NULL,
  state      jsonb NOT NULL,
  PRIMARY KEY (chain, table_name, row_id)
);
COMMENT ON TABLE  audit.directory IS 'Names, parent links and users of the source''s rows as of the position of the chain. Deleted rows stay.';
COMMENT ON COLUMN audit.directory.chain IS 'Chain that maintains the row.';
COMMENT ON COLUMN audit.directory.table_name IS 'Table of the source, schema.name.';
COMMENT ON COLUMN audit.directory.row_id IS 'Key of the row.';
COMMENT ON COLUMN audit.directory.state IS 'Columns that the mapping needs, now and before the transaction that last changed the row.';

CREATE TABLE audit.record_name (
  chain       int NOT NULL REFERENCES audit.chain,
  tenant_id   text NOT NULL DEFAULT '',
  application text NOT NULL,
  record_type text NOT NULL,
  record_id   text NOT NULL,
  name        text NOT NULL,
  PRIMARY KEY (chain, tenant_id, application, record_id, name)
);
CREATE INDEX record_name_by_name ON audit.record_name (lower(name) text_pattern_ops);
COMMENT ON TABLE  audit.record_name IS 'Every name that a record ever had, so that search finds it. Derived.';
COMMENT ON COLUMN audit.record_name.chain IS 'Chain that saw the name.';
COMMENT ON COLUMN audit.record_name.tenant_id IS 'Tenant of the record; empty: none.';
COMMENT ON COLUMN audit.record_name.application IS 'Application of the record.';
COMMENT ON COLUMN audit.record_name.record_type IS 'Case, Report, Provider or Person.';
COMMENT ON COLUMN audit.record_name.record_id IS 'Key of the record.';
COMMENT ON COLUMN audit.record_name.name IS 'The name.';

CREATE TABLE audit.user_name (
  chain     int NOT NULL REFERENCES audit.chain,
  tenant_id text NOT NULL DEFAULT '',
  user_id   text NOT NULL,
  email     text NOT NULL DEFAULT '',
  name      text NOT NULL DEFAULT '',
  kind      text NOT NULL DEFAULT '',
  PRIMARY KEY (chain, tenant_id, user_id, email, name, kind)
);
CREATE INDEX user_name_by_email ON audit.user_name (lower(email));
COMMENT ON TABLE  audit.user_name IS 'Every address and name that a user ever had, so that search finds them. Derived.';
COMMENT ON COLUMN audit.user_name.chain IS 'Chain that saw the user.';
COMMENT ON COLUMN audit.user_name.tenant_id IS 'Tenant of the user; empty: none.';
COMMENT ON COLUMN audit.user_name.user_id IS 'Key of the user.';
COMMENT ON COLUMN audit.user_name.email IS 'The address.';
COMMENT ON COLUMN audit.user_name.name IS 'The name.';
COMMENT ON COLUMN audit.user_name.kind IS 'Kind of account, as in the source.';

-- Partitions are made ahead of time by the writer, who has no right to make tables.
CREATE FUNCTION audit.ensure_partitions(first_month date, months int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  m    date := date_trunc('month', first_month)::date;
  made int := 0;
  root text;
  part text;
BEGIN
  IF months NOT BETWEEN 1 AND 120 THEN
    RAISE EXCEPTION 'months must be between 1 and 120, not %', months;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('audit.ensure_partitions', 0));
  FOR i IN 1 .. months LOOP
    FOREACH root IN ARRAY ARRAY['entry', 'entry_also'] LOOP
      part := format('%s_%s', root, to_char(m, 'YYYY_MM'));
      IF to_regclass(format('audit.%I', part)) IS NULL THEN
        EXECUTE format('CREATE TABLE audit.%I PARTITION OF audit.%I FOR VALUES FROM (%L) TO (%L)',
          part, root, m::timestamptz, (m + interval '1 month')::timestamptz);
        -- COPY into a table with row-level security is refused, so the writer copies into the partition.
        EXECUTE format('GRANT INSERT ON audit.%I TO casebook_audit_writer', part);
        made := made + 1;
      END IF;
    END LOOP;
    m := (m + interval '1 month')::date;
  END LOOP;
  RETURN made;
END $$;
COMMENT ON FUNCTION audit.ensure_partitions(date, int) IS 'Makes the monthly partitions of audit.entry and audit.entry_also, from the month of the first argument; says how many were missing.';

-- The chain in plain SQL, for a DBA. It shows what a function inside the suspect database can show: for evidence run
-- casebook-audit verify from another machine. What is NULL where it must not be is bad, never unknown.
CREATE FUNCTION audit.verify_chain("from" bigint DEFAULT 0, "to" bigint DEFAULT NULL, chain_name text DEFAULT NULL,
  OUT entries bigint, OUT bad bigint, OUT first_bad bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH c AS (
    SELECT ch.chain, ch.chain_id, ch.origin, p.size, p.head
      FROM audit.chain ch JOIN audit.position p USING (chain)
     WHERE chain_name IS NULL OR ch.name = chain_name
     ORDER BY ch.chain LIMIT 1
  ), e AS (
    SELECT e.*, c.chain_id, c.origin, c.size, c.head,
           lag(e.leaf_hash) OVER w AS before, lag(e.seq) OVER w AS before_seq, lead(e.seq) OVER w IS NULL AS last
      FROM audit.entry e JOIN c USING (chain)
     WHERE e.seq >= greatest("from" - 1, 0) AND ("to" IS NULL OR e.seq <= "to")
    WINDOW w AS (ORDER BY e.seq)
  ), judged AS (
    SELECT seq, coalesce(
             leaf_hash = sha256('\x00414c4501'::bytea || substr(int2send(kind), 2) || uuid_send(chain_id) || int8send(seq)
                                || prev || int8send(recorded_us) || commitment)
             AND octet_length(prev) = 32 AND octet_length(commitment) = 32
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
         CASE WHEN (SELECT lost FROM none) THEN "from" ELSE min(seq) FILTER (WHERE NOT ok) END
    FROM judged
$$;
COMMENT ON FUNCTION audit.verify_chain(bigint, bigint, text) IS 'Recomputes the chain between two sequence numbers: entries looked at, how many are bad, the first bad one. bad = 0: the chain holds and ends where audit.position says.';

CREATE VIEW audit.change AS
  SELECT e.chain, e.seq, e.committed_at, e.user_email, e.application, e.record_name, e.resource, e.summary, f.col,
         (SELECT l.val FROM unnest(e.paths, e.vals) l(path, val) WHERE l.path = 'label.' || f.col) AS label,
         f.old, f.new, f.old_state, f.new_state
    FROM audit.entry e, LATERAL (
      SELECT substr(path, 5) AS col,
             max(val) FILTER (WHERE path LIKE 'old.%') AS old, max(val) FILTER (WHERE path LIKE 'new.%') AS new,
             max(state) FILTER (WHERE path LIKE 'old.%') AS old_state, max(state) FILTER (WHERE path LIKE 'new.%') AS new_state
        FROM unnest(e.paths, e.states, e.vals) u(path, state, val)
       WHERE path LIKE 'old.%' OR path LIKE 'new.%'
       GROUP BY substr(path, 5)) f;
COMMENT ON VIEW audit.change IS 'One row a changed column, for a DBA in psql; states as in audit.entry.states. Not granted to readers: a view does not keep tenants apart.';

-- Tenants. A reader says for whom it reads, and sees nothing that it does not say. "*" is every tenant, and what belongs
-- to none. The writer sees all of it.
DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['entry', 'entry_also', 'record_name', 'user_name'] LOOP
    EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format($p$CREATE POLICY reader ON audit.%I FOR SELECT TO casebook_audit_reader
      USING (current_setting('casebook_audit.tenants', true) = '*'
             OR tenant_id = ANY (string_to_array(current_setting('casebook_audit.tenants', true), ',')))$p$, t);
    EXECUTE format('CREATE POLICY writer_reads ON audit.%I FOR SELECT TO casebook_audit_writer USING (true)', t);
    EXECUTE format('CREATE POLICY writer_appends ON audit.%I FOR INSERT TO casebook_audit_writer WITH CHECK (true)', t);
  END LOOP;
END $$;

REVOKE ALL ON FUNCTION audit.ensure_partitions(date, int) FROM PUBLIC;
REVOKE ALL ON FUNCTION audit.verify_chain(bigint, bigint, text) FROM PUBLIC;
GRANT USAGE ON SCHEMA audit TO casebook_audit_writer, casebook_audit_reader;
GRANT SELECT ON audit.chain, audit.position TO casebook_audit_writer, casebook_audit_reader;
GRANT SELECT, INSERT ON audit.entry, audit.entry_also, audit.record_name, audit.user_name TO casebook_audit_writer;
GRANT UPDATE ON audit.position TO casebook_audit_writer;
GRANT SELECT, INSERT, UPDATE ON audit.directory TO casebook_audit_writer;
GRANT EXECUTE ON FUNCTION audit.ensure_partitions(date, int) TO casebook_audit_writer;
GRANT EXECUTE ON FUNCTION audit.verify_chain(bigint, bigint, text) TO casebook_audit_writer;
GRANT SELECT ON audit.entry, audit.entry_also, audit.record_name, audit.user_name TO casebook_audit_reader;
