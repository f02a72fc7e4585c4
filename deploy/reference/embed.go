// Package reference is the reference deployment: a Casebook-shaped schema, the rows it starts with, a working day of
// scenarios, and the mapping of that schema. The demo, the tests and the benchmark use it; a real deployment brings its
// own schema and edits the mapping.
package reference

import _ "embed"

// Schema creates all tables in an empty database. It needs the extension citext, nothing else.
//
//go:embed schema.sql
var Schema string

// Seed fills them. It belongs before the replication slot is made: its rows are the directory's snapshot.
//
//go:embed seed.sql
var Seed string

// Scenarios is a working day in sections (`-- @@S01 title`), each meant for a session of its own.
//
//go:embed scenarios.sql
var Scenarios string

// Mapping says what the tables of Schema mean. `casebook-audit mapping check` reads it.
//
//go:embed mapping.yaml
var Mapping string
