package mapping

// (contract; the owner of this package may split this file)

// RowKey joins the values of a row's key columns to one text: a single value as it is; several with "," between them,
// each "\" and "," inside a value preceded by "\".
func RowKey(values ...string) string { panic("contract") }

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
