// Package sql holds the migrations of the audit database.
package sql

import "embed"

// Audit are the numbered migrations, forward only, below the folder "audit".
//
//go:embed audit/*.sql
var Audit embed.FS

// SchemaVersion is the version of the audit database that this program writes and reads: the number of its last
// migration.
const SchemaVersion = 4

// VersionTable is where the audit database keeps the number of its last migration.
const VersionTable = "public.casebook_audit_schema"
