// Package source holds the SQL that `setup source` runs in the audited database: what copies the session's user into
// the write-ahead log, and what covers tables and partitions that are made later.
package source

import (
	_ "embed"
	"strings"
)

// What setup makes in the audited database, by name.
const (
	Schema       = "casebook_audit"
	Trigger      = "casebook_audit_stamp"
	EventTrigger = "casebook_audit_cover"
	Policy       = "casebook_audit_read"
	Prefix       = "casebook.audit" // of the logical messages
)

// TriggerDef is how pg_get_triggerdef shows the trigger, from FOR EACH on, in every version and with search_path =
// pg_catalog. A trigger that shows anything else was not made by Cover, or by that of another version.
const TriggerDef = `FOR EACH STATEMENT WHEN (casebook_audit.unstamped()) EXECUTE FUNCTION casebook_audit.stamp()`

// TriggerType is pg_trigger.tgtype of it: BEFORE, for each statement, INSERT, DELETE, UPDATE and TRUNCATE.
const TriggerType = 2 | 4 | 8 | 16 | 32

// Stamp creates or replaces casebook_audit.stamp(), the trigger's function.
//
//go:embed stamp.sql
var Stamp string

// Unstamped creates or replaces casebook_audit.unstamped(), the triggers' WHEN clause.
//
//go:embed unstamped.sql
var Unstamped string

// Viewed creates or replaces casebook_audit.viewed(), which the application calls when it shows a record.
//
//go:embed viewed.sql
var Viewed string

// Cover creates or replaces casebook_audit.cover(regclass), which sets one table's identity and trigger.
//
//go:embed cover.sql
var Cover string

// Made creates casebook_audit.made, where setup notes how things were before.
//
//go:embed made.sql
var Made string

//go:embed cover_new.sql
var coverNew string

// CoverNew creates or replaces casebook_audit.cover_new(), the event trigger's function, for one publication.
func CoverNew(publication string) string {
	return strings.ReplaceAll(coverNew, "'PUBLICATION'", quoteLiteral(publication))
}

func quoteLiteral(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// Body is what pg_proc.prosrc holds of a CREATE FUNCTION text of this package.
func Body(create string) string {
	_, rest, _ := strings.Cut(create, "$body$")
	body, _, _ := strings.Cut(rest, "$body$")
	return body
}
