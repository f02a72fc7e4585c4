-- The Merkle tree over the entries, the checkpoints that were signed over it, and the leaves as everybody may see them.

CREATE TABLE audit.tile (
  chain  int NOT NULL REFERENCES audit.chain,
  level  smallint NOT NULL CHECK (level BETWEEN 0 AND 6),
  index  bigint NOT NULL CHECK (index >= 0),
  hashes bytea NOT NULL CHECK (octet_length(hashes) = 8192),
  root   bytea NOT NULL CHECK (octet_length(root) = 32),
  PRIMARY KEY (chain, level, index)
);
ALTER TABLE audit.tile ALTER hashes SET STORAGE EXTERNAL; -- hashes do not compress
COMMENT ON TABLE  audit.tile IS 'Full tiles of the Merkle tree (RFC 6962) over leaf_hash, after https://c2sp.org/tlog-tiles. Derived; verify recomputes them.';
COMMENT ON COLUMN audit.tile.chain IS 'As in audit.entry.';
COMMENT ON COLUMN audit.tile.level IS 'The hashes are nodes of height 8 * level; 0: leaf hashes.';
COMMENT ON COLUMN audit.tile.index IS 'The first hash is number 256 * index of its level.';
COMMENT ON COLUMN audit.tile.hashes IS '256 hashes of 32 bytes.';
COMMENT ON COLUMN audit.tile.root IS 'Root over the 256 hashes: hash number index of the next level.';

CREATE TABLE audit.checkpoint (
  chain     int NOT NULL REFERENCES audit.chain,
  size      bigint NOT NULL CHECK (size > 0),
  root      bytea NOT NULL CHECK (octet_length(root) = 32),
  note      text NOT NULL,
  signed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (chain, size)
);
COMMENT ON TABLE  audit.checkpoint IS 'Signed tree heads. verify compares them with the recomputed tree. They are evidence only where a copy is kept outside of this database.';
COMMENT ON COLUMN audit.checkpoint.chain IS 'As in audit.entry.';
COMMENT ON COLUMN audit.checkpoint.size IS 'Entries 0 to size - 1 are under the root.';
COMMENT ON COLUMN audit.checkpoint.root IS 'Root of the tree of that size; the note says the same.';
COMMENT ON COLUMN audit.checkpoint.note IS 'Signed note, https://c2sp.org/tlog-checkpoint: origin, size, root, signatures.';
COMMENT ON COLUMN audit.checkpoint.signed_at IS 'When it was stored here, by this server''s clock; not signed.';

-- The 101 bytes of a leaf hold no name, no table, no actor and no tenant: whoever reads the log may read all leaves. The
-- view runs with its owner's rights, past the row-level security of the entries, and shows nothing else of them.
CREATE VIEW audit.leaf AS
  SELECT chain, seq, kind, prev, recorded_us, commitment, leaf_hash FROM audit.entry;
COMMENT ON VIEW audit.leaf IS 'The blind leaves of all entries, of every tenant: what the tree and its proofs are made of.';

-- What is about the log itself and must be found at once: key events, orders of removal, removals.
CREATE INDEX entry_by_kind ON audit.entry (chain, kind, seq) WHERE kind IN (5, 6, 7, 8);

GRANT SELECT, INSERT ON audit.tile, audit.checkpoint TO casebook_audit_writer;
GRANT SELECT ON audit.tile, audit.checkpoint TO casebook_audit_reader;
GRANT SELECT ON audit.leaf TO casebook_audit_writer, casebook_audit_reader;
