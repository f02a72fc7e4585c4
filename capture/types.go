package capture

import "github.com/jackc/pglogrepl"

// LSN is a byte position in the source's write-ahead log.
type LSN = pglogrepl.LSN

// State says what pgoutput told us of one column of one tuple. Four states, never a nil: an audit log that confuses
// "set to NULL" with "not sent" records a change that nobody made.
type State uint8

const (
	Absent    State = iota // not in the tuple at all: no old tuple, or a key-only one
	Null                   // SQL NULL
	Unchanged              // an out-of-line (TOAST) value that the update did not touch and the server did not send
	Text                   // the server's text output, verbatim
)

// Value is one column of one tuple. Bytes alias the transaction's buffer: copy what must outlive the iteration step.
type Value struct {
	State State
	Bytes []byte
}

// Column is one column of a Relation as the source described it.
type Column struct {
	Name     string
	TypeOID  uint32
	TypeName string // "uuid", "numeric"; a type that is not built in carries its schema: "app.report_status"
	TypeMod  int32
	Key      bool // part of the replica identity; with FULL that is every column
}

// Relation is the shape of a table at one point of the stream. It never changes once published: a new shape is a new
// *Relation, so a pointer can serve as the key of a cache.
type Relation struct {
	OID      uint32
	Schema   string
	Name     string
	FullName string // schema.name, unquoted
	Identity byte   // 'd' default, 'n' nothing, 'f' full, 'i' index, as in pg_class.relreplident
	Columns  []Column
}

// Op is what a Change does.
type Op uint8

const (
	OpInsert Op = iota + 1
	OpUpdate
	OpDelete
	OpTruncate // one Change for each relation of the TRUNCATE
	OpMessage  // a transactional logical message: the stamp, or another prefix
)

// Change is one step of a transaction. The *Change and everything it points to, except Rel, are valid only until the
// iteration moves on.
type Change struct {
	Op      Op
	Ordinal int // index among the row changes of the transaction, from 0; -1 for a message
	Rel     *Relation
	Old     []Value // len(Rel.Columns), or nil when the server sent no old tuple
	New     []Value // len(Rel.Columns), or nil for deletes and truncates
	OldKey  bool    // the old tuple holds only the replica identity's columns; the others are Absent

	Prefix  string // OpMessage only
	Content []byte // OpMessage only
}

// Event is one thing that the stream delivers, in commit order: a committed transaction, or the news that everything
// up to Idle was looked at and holds nothing more for us.
type Event struct {
	Tx     *Tx
	Idle   LSN   // set when Tx is nil: may be acknowledged once it is stored
	IdleAt int64 // server time of that news, microseconds since 1970
}
