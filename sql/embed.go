// Package sql holds the migrations of the audit database, and the SQL that verifies a log without us.
package sql

import (
	"embed"
	"strings"
)

//go:embed verify.sql
var verify string

// Verify is a script for psql that verifies a chain in plain SQL.
func Verify(chain string) string {
	// The quoting of psql's meta-commands: https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-META-COMMANDS.
	quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`).Replace(chain)
	return "\\set chain '" + quoted + "'\n" + verify
}

// Audit are the numbered migrations, forward only, below the folder "audit".
//
//go:embed audit/*.sql
var Audit embed.FS

// SchemaVersion is the version of the audit database that this program writes and reads: the number of its last
// migration.
const SchemaVersion = 6

// VersionTable is where the audit database keeps the number of its last migration.
const VersionTable = "public.casebook_audit_schema"
