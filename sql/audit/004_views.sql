-- Reads that the application reports (kind 15, action view) stand in the same timeline as changes.
DROP INDEX audit.entry_by_time;
CREATE INDEX entry_by_time ON audit.entry (committed_at, seq) WHERE kind IN (1, 2, 10, 15);
