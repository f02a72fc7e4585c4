package ledger

// Kind says what an entry is about. The numbers are part of the format.
type Kind uint8

const (
	KindGenesis        Kind = 0 // first entry of a chain
	KindChange         Kind = 1 // one row change with audit meaning
	KindTruncate       Kind = 2 // all rows of a table removed
	KindRelation       Kind = 3 // the shape of a table
	KindTransaction    Kind = 4 // end of a source transaction: commit LSN, previous commit LSN, number of changes
	KindKey            Kind = 5 // signing key event
	KindRedactionOrder Kind = 6
	KindRedactionDone  Kind = 7
	KindPrune          Kind = 8
	KindAnchor         Kind = 9  // receipt of an anchor
	KindGap            Kind = 10 // a stretch of the stream not seen, or a coverage fault
	KindVerification   Kind = 11
	KindDirectory      Kind = 12
	KindHeartbeat      Kind = 13
	KindConfiguration  Kind = 14
	KindAccess         Kind = 15 // a read reported by the application, or a query, export or verification here
)

// FieldState says what is known of a field's value. The numbers are part of the format.
type FieldState uint8

const (
	FieldNull      FieldState = 0 // SQL NULL, or a fixed column that does not apply
	FieldValue     FieldState = 1
	FieldUnchanged FieldState = 2 // the server did not send it because it did not change
	FieldUnknown   FieldState = 3 // not known: no old tuple, a parent never seen
	FieldMasked    FieldState = 4 // withheld by the mapping
)

// Field is one salted, separately disclosable statement of an entry.
//
// Paths of the variable fields of a change:
//
//	also.N         a further record that the entry is listed under; type "record", value AlsoRecord as JSON
//	old.COL        value before, type as in the source ("numeric", "app.task_status"), text as the source wrote it
//	new.COL        value after. A create or delete lists every column with audit meaning that is not NULL.
//	oldname.COL    name of the row that old.COL refers to, as of the change; type "text"
//	newname.COL    likewise for new.COL
//	label.COL      words for the column where they differ from Label(COL); type "text"
//	soft           the column that marks the row as deleted, where a delete left the row in its table; type "text"
//	form.COL       "enum" or "money" where values read otherwise than their type says; type "text"
//	hash.old.COL   HMAC-SHA-256 of a masked value under the deployment's key, hexadecimal: equal values can be proven equal
//	hash.new.COL
//	class.COL      "restricted" where reading the value needs a right to the record; type "text"
//	view.*         resource, id and purpose of a read that the application reported; type "text"
//	ctx.KEY        further context that the application sent
//
// COL of a key inside a jsonb column is COLUMN.KEY ("custom_fields.risk_level"). Value is empty unless State is
// FieldValue.
type Field struct {
	Path  string
	Type  string
	State FieldState
	Value string
}

// AlsoRecord is the value of an also.N field: a further record that lists the entry. encoding/json with the fields in
// this order writes it.
type AlsoRecord struct {
	Application string `json:"application"`
	RecordType  string `json:"record_type"`
	RecordID    string `json:"record_id"`
	RecordName  string `json:"record_name"`
	TenantID    string `json:"tenant_id,omitempty"`
}

// Entry is one audited act before it is sealed into a chain. The fixed columns are hashed in the order of this struct
// from CommitLSN to Remark (FixedFields), then Fields as they stand. An empty string in a fixed column means "does not
// apply or not known" and is hashed and stored as NULL.
type Entry struct {
	Kind Kind

	CommitLSN   LSN    // 0: not from the stream
	Ordinal     int64  // index of the row change in its transaction; the number of row changes for KindTransaction; -1: not from the stream
	XID         uint32 // 0: not from the stream
	CommittedAt int64  // commit time of the source, microseconds since 1970 UTC; time of recording where there is no commit
	TenantID    string
	Application string // Engage, Intake, Providers, People; "" for an entry without a record
	RecordType  string // Case, Report, Provider, Person
	RecordID    string
	RecordName  string // as of the change
	Resource    string // in the help page's words: "Service Enrollment"
	SubResource string // "Service Enrollments"; "" when the change is of the record itself
	Table       string // schema.name in the source
	RowID       string // key of the row; values of a composite key joined as mapping.RowKey says
	RowName     string // as of the change
	Action      string // create, update, delete; for other kinds a word of their own
	Summary     string // "Service Enrollment added"
	Initiator   string // user, application, system, operator, unattributed
	UserID      string
	UserEmail   string // as of the change
	UserName    string // as of the change
	DBUser      string // session_user that the server saw
	DBApp       string // application_name
	ClientAddr  string
	BackendPID  uint32 // 0: not known
	Remark      string // why an entry is unplaced, what a gap is, a doubt about the user

	Fields []Field
}

// attached says whether the entry accompanies a row change of the stream: it has the change's place, and is not one.
func (e *Entry) attached() bool {
	return e.Kind != KindChange && e.Kind != KindTruncate && e.Kind != KindTransaction
}

// The values of Entry.Initiator.
const (
	InitiatorUser         = "user"
	InitiatorApplication  = "application"
	InitiatorSystem       = "system"
	InitiatorOperator     = "operator"
	InitiatorUnattributed = "unattributed"
)

// The values of Entry.Action for row changes. A soft delete is a delete, a restore an update.
const (
	ActionCreate = "create"
	ActionUpdate = "update"
	ActionDelete = "delete"
)

// ActionView is the Entry.Action of a read that the application reports; other actions of KindAccess are reads of the log.
const ActionView = "view"

// The values of Entry.Action for KindGap.
const (
	ActionGap      = "gap"      // a stretch of the stream was not seen
	ActionCoverage = "coverage" // something of the source is not covered
)
