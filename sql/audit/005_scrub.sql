-- The daemon verifies the log in slices of it: what is derived from a slice must be found without reading the rest.
-- Rows are stored in the order of seq, so that a BRIN index of a few kilobytes does.
CREATE INDEX entry_also_by_seq ON audit.entry_also USING brin (seq) WITH (autosummarize = on);
