package mapping

import (
	"strings"

	"casebook.example/audit/ledger"
)

// RowKey joins the values of a row's key columns to one text: a single value as it is; several with "," between them,
// each "\" and "," inside a value preceded by "\".
func RowKey(values ...string) string {
	if len(values) == 1 {
		return values[0]
	}
	return string(appendKey(nil, values))
}

// SplitRowKey undoes RowKey of several values.
func SplitRowKey(key string) []string { return splitKeys(key) }

func appendKey(b []byte, values []string) []byte {
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		if !strings.ContainsAny(v, `\,`) {
			b = append(b, v...)
			continue
		}
		for j := 0; j < len(v); j++ {
			if v[j] == '\\' || v[j] == ',' {
				b = append(b, '\\')
			}
			b = append(b, v[j])
		}
	}
	return b
}

// Key names one row of the source.
type Key struct {
	Table string // schema.name
	Row   string // RowKey
}

// StoredRow is a directory row on its way from or to the audit database. State is JSON that only this package reads:
// the columns that mapping needs, as of the last change and as of the transaction before it.
type StoredRow struct {
	Key
	State []byte
}

// RecordName says that a record had this name at some time; search finds the record by it.
type RecordName struct {
	TenantID, Application, RecordType, RecordID, Name string
}

// UserName says that a user had this address and name at some time.
type UserName struct {
	TenantID, UserID, Email, Name, Kind string
}

// Fate says what becomes of a table's changes.
type Fate string

const (
	FateRecord   Fate = "record"   // the row is a record
	FateBelongs  Fate = "belongs"  // the row belongs to a record
	FateLog      Fate = "log"      // administration or configuration: an entry without a record
	FateLabels   Fate = "labels"   // no entry; the directory keeps names for other tables
	FateExcluded Fate = "excluded" // published, no entry; counted
	FateOff      Fate = "off"      // not published
)

// TableFate is what the mapping says of one table.
type TableFate struct {
	Name      string // schema.name
	Fate      Fate
	Reason    string   // why there is no entry, or no record
	Columns   []string // every column that the file names
	Key       []string
	Published bool     // belongs in the publication
	Directory []string // columns that the directory keeps, the key first; empty: no directory rows
}

// SeedTable is a table that the directory is filled from before streaming starts.
type SeedTable struct {
	Schema, Name string
	Columns      []string
	OrderBy      string // the column by whose values the rows must come together; "": any order

	t *table
}

// boundary paths of the entry that closes a transaction.
const (
	pathPrevCommit = "prev_commit_lsn"
	pathChanges    = "changes"
	pathEntries    = "entries"
	pathNoise      = "noise"
	pathExcluded   = "excluded"
)

var _ = ledger.KindTransaction
