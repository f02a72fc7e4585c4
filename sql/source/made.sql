CREATE TABLE casebook_audit.made (
  what   text NOT NULL,  -- role, replication, connect, usage, select, policy, identity, execute
  object text NOT NULL,
  rel    regclass,       -- what is about a table: follows a rename
  before text
);
COMMENT ON TABLE casebook_audit.made IS 'casebook-audit: what setup source changed and how it was before. setup source --remove reads it.';
