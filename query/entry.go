package query

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
)

// Entry is one entry of the log as the endpoint gives it.
type Entry struct {
	Seq         uint64    `json:"seq"`
	Kind        string    `json:"kind"`
	CommittedAt string    `json:"committed_at"` // RFC 3339, UTC, microseconds
	RecordedAt  string    `json:"recorded_at"`
	TenantID    string    `json:"tenant_id,omitempty"`
	Record      *Record   `json:"record"` // null: under no record
	Also        []Record  `json:"also"`
	Resource    string    `json:"resource,omitempty"`
	SubResource string    `json:"sub_resource,omitempty"`
	Table       string    `json:"table,omitempty"`
	RowID       string    `json:"row_id,omitempty"`
	RowName     string    `json:"row_name,omitempty"`
	Action      string    `json:"action,omitempty"`
	Summary     string    `json:"summary,omitempty"`
	Actor       Actor     `json:"actor"`
	Changes     []Change  `json:"changes"`
	Fields      []Field   `json:"fields,omitempty"` // what is neither a change nor a further record
	Remark      string    `json:"remark,omitempty"`
	Position    *Position `json:"position,omitempty"` // null: not from the stream
	LeafHash    string    `json:"leaf_hash"`

	place Place
	size  int // bytes of the variable fields, about
}

// Record is a record that lists an entry, by its name as of the change.
type Record struct {
	Application string `json:"application"`
	Type        string `json:"type"`
	ID          string `json:"id"`
	Name        string `json:"name"`
}

// Actor is who did it: what the application asserted, and what the server observed.
type Actor struct {
	Initiator  string `json:"initiator"`
	UserID     string `json:"user_id,omitempty"`
	Email      string `json:"email,omitempty"`
	Name       string `json:"name,omitempty"`
	DBUser     string `json:"db_user,omitempty"`
	DBApp      string `json:"db_app,omitempty"`
	ClientAddr string `json:"client_addr,omitempty"`
	BackendPID int64  `json:"backend_pid,omitempty"`
}

// Change is one changed column.
type Change struct {
	Column     string `json:"column"`
	Label      string `json:"label"`
	Type       string `json:"type"`
	Form       string `json:"form,omitempty"` // "enum", "money": how values read, where the type does not say it
	Old        *Value `json:"old,omitempty"`
	New        *Value `json:"new,omitempty"`
	Restricted bool   `json:"restricted,omitempty"`
}

// Value is what is known of a column before or after. Value is set in the state "value" only.
type Value struct {
	State string  `json:"state"` // null, value, unchanged, unknown, masked, removed
	Value *string `json:"value,omitempty"`
	Name  string  `json:"name,omitempty"` // of the row that it refers to, as of the change
	Hash  string  `json:"hash,omitempty"` // HMAC-SHA-256 of a masked value, hexadecimal, under the deployment's key
}

// Field is a field of the entry that is no change.
type Field struct {
	Path  string `json:"path"`
	Type  string `json:"type"`
	Value Value  `json:"value"`
}

// Position is where the source committed the change.
type Position struct {
	CommitLSN string `json:"commit_lsn"`
	Ordinal   int64  `json:"ordinal"`
	XID       int64  `json:"xid,omitempty"`
}

var kindNames = map[int16]string{
	0: "genesis", 1: "change", 2: "truncate", 3: "relation", 4: "transaction", 5: "key", 6: "redaction_order", 7: "redaction_done", 8: "prune",
	9: "anchor", 10: "gap", 11: "verification", 12: "directory", 13: "heartbeat", 14: "configuration", 15: "access",
}

var stateNames = map[int16]string{0: "null", 1: "value", 2: "unchanged", 3: "unknown", 4: "masked", 5: "removed"}

// timeFormat is RFC 3339 in UTC with microseconds.
const timeFormat = "2006-01-02T15:04:05.000000Z"

func formatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

var columns = []string{
	"seq", "kind", "committed_at", "recorded_us", "tenant_id", "application", "record_type", "record_id", "record_name", "resource", "sub_resource",
	"table_name", "row_id", "row_name", "action", "summary", "initiator", "user_id", "user_email", "user_name", "db_user", "db_app", "client_addr",
	"remark", "backend_pid", "commit_lsn", "ordinal", "xid", "leaf_hash", "paths", "types", "states", "vals",
}

func entryColumns(alias string) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = alias + "." + c
		if c == "commit_lsn" {
			list[i] += "::text AS commit_lsn"
		}
	}
	return strings.Join(list, ", ")
}

func scanEntry(rows pgx.Rows) (*Entry, error) {
	var e Entry
	var seq, recorded int64
	var kind int16
	var committed time.Time
	var text [20]*string // tenant_id to remark
	var lsn *string
	var pid, ordinal, xid *int64
	var leaf []byte
	var paths, types []string
	var states []int16
	var vals []*string
	dest := []any{&seq, &kind, &committed, &recorded}
	for i := range text {
		dest = append(dest, &text[i])
	}
	dest = append(dest, &pid, &lsn, &ordinal, &xid, &leaf, &paths, &types, &states, &vals)
	if err := rows.Scan(dest...); err != nil {
		return nil, err
	}
	var r Record
	for i, to := range []*string{
		&e.TenantID, &r.Application, &r.Type, &r.ID, &r.Name, &e.Resource, &e.SubResource, &e.Table, &e.RowID, &e.RowName, &e.Action, &e.Summary,
		&e.Actor.Initiator, &e.Actor.UserID, &e.Actor.Email, &e.Actor.Name, &e.Actor.DBUser, &e.Actor.DBApp, &e.Actor.ClientAddr, &e.Remark,
	} {
		if text[i] != nil {
			*to = *text[i]
		}
	}
	e.Seq, e.Kind = uint64(seq), kindNames[kind]
	e.place = Place{committed.UnixMicro(), e.Seq}
	e.CommittedAt, e.RecordedAt = formatTime(committed), formatTime(time.UnixMicro(recorded))
	e.LeafHash = hex.EncodeToString(leaf)
	if r.ID != "" {
		e.Record = &r
	}
	if pid != nil {
		e.Actor.BackendPID = *pid
	}
	if lsn != nil {
		e.Position = &Position{CommitLSN: *lsn}
		if ordinal != nil {
			e.Position.Ordinal = *ordinal
		}
		if xid != nil {
			e.Position.XID = *xid
		}
	}
	for i := range vals {
		if vals[i] != nil {
			e.size += len(*vals[i])
		}
	}
	e.fields(paths, types, states, vals)
	return &e, nil
}

// fields sorts the variable fields of an entry: changes by column, further records, the rest.
func (e *Entry) fields(paths, types []string, states []int16, vals []*string) {
	e.Also, e.Changes = []Record{}, []Change{}
	index := map[string]int{}
	change := func(column string) *Change {
		i, ok := index[column]
		if !ok {
			i = len(e.Changes)
			index[column] = i
			e.Changes = append(e.Changes, Change{Column: column, Label: ledger.Label(column)})
		}
		return &e.Changes[i]
	}
	n := min(len(paths), len(types), len(states), len(vals))
	value := func(i int) Value { return Value{State: stateNames[states[i]], Value: vals[i]} }
	for i := range n {
		if what, column, ok := strings.Cut(paths[i], "."); ok && (what == "old" || what == "new") {
			c, v := change(column), value(i)
			c.Type = types[i]
			if what == "old" {
				c.Old = &v
			} else {
				c.New = &v
			}
		}
	}
	for i := range n {
		text := ""
		if vals[i] != nil {
			text = *vals[i]
		}
		what, column, _ := strings.Cut(paths[i], ".")
		_, known := index[column]
		switch {
		case what == "old" || what == "new":
		case what == "also":
			var r ledger.AlsoRecord
			if json.Unmarshal([]byte(text), &r) == nil {
				e.Also = append(e.Also, Record{r.Application, r.RecordType, r.RecordID, r.RecordName})
			}
		case what == "oldname" && known && change(column).Old != nil:
			change(column).Old.Name = text
		case what == "newname" && known && change(column).New != nil:
			change(column).New.Name = text
		case what == "label" && known:
			change(column).Label = text
		case what == "form" && known:
			change(column).Form = text
		case what == "hash" && e.hash(index, column, text):
		case what == "class" && known:
			change(column).Restricted = text == "restricted"
		default:
			e.Fields = append(e.Fields, Field{paths[i], types[i], value(i)})
		}
	}
}

// hash sets the keyed hash of a value; which is "old.COLUMN" or "new.COLUMN".
func (e *Entry) hash(index map[string]int, which, text string) bool {
	side, column, _ := strings.Cut(which, ".")
	i, ok := index[column]
	if !ok {
		return false
	}
	v := e.Changes[i].New
	if side == "old" {
		v = e.Changes[i].Old
	}
	if v == nil {
		return false
	}
	v.Hash = text
	return true
}
