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
  chain        int NOT NULL REFERENCES audit.chain,
  seq          bigint NOT NULL,
  kind         smallint NOT NULL,
  prev         bytea NOT NULL,
  recorded_us  bigint NOT NULL,
  commitment   bytea NOT NULL,
  leaf_hash    bytea NOT NULL,
  entry_salt   bytea,
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
  vals         text[] NOT NULL
) PARTITION BY RANGE (committed_at);

CREATE TABLE audit.entry_also (
  chain        int NOT NULL,
  seq          bigint NOT NULL,
  committed_at timestamptz NOT NULL,
  tenant_id    text,
  application  text,
  record_id    text NOT NULL
) PARTITION BY RANGE (committed_at);

CREATE TABLE audit.directory (
  chain      int NOT NULL REFERENCES audit.chain,
  table_name text NOT NULL,
  row_id     text NOT NULL,
  state      jsonb NOT NULL,
  PRIMARY KEY (chain, table_name, row_id)
);

CREATE TABLE audit.record_name (
  chain       int NOT NULL REFERENCES audit.chain,
  tenant_id   text NOT NULL DEFAULT '',
  application text NOT NULL,
  record_type text NOT NULL,
  record_id   text NOT NULL,
  name        text NOT NULL,
  PRIMARY KEY (chain, tenant_id, application, record_id, name)
);

CREATE TABLE audit.user_name (
  chain     int NOT NULL REFERENCES audit.chain,
  tenant_id text NOT NULL DEFAULT '',
  user_id   text NOT NULL,
  email     text NOT NULL DEFAULT '',
  name      text NOT NULL DEFAULT '',
  kind      text NOT NULL DEFAULT '',
  PRIMARY KEY (chain, tenant_id, user_id, email, name, kind)
);
