package mapping

import (
	"encoding/json"
	"strings"

	"casebook.example/audit/ledger"
)

// ViewedPrefix is that of the messages by which the application says that a user looked at a row
// (casebook_audit.viewed in the source). Whoever streams must ask for transactions that hold nothing else.
const ViewedPrefix = "casebook.audit.viewed"

// viewed is what such a message says, besides what a stamp does.
type viewed struct {
	stamp
	Resource string  `json:"resource"` // a value of record_types, a type of record, or schema.table
	ID       string  `json:"id"`
	Purpose  *string `json:"purpose"`
}

// viewed is the entry for a read that the application reports. It stands in the log where the message stood among the
// row changes.
func (m *Mapper) viewed(w *work, content []byte) *ledger.Entry {
	e := w.entry()
	e.Kind, e.Ordinal, e.Action = ledger.KindAccess, w.rows, ledger.ActionView
	var v viewed
	if json.Unmarshal(content, &v) != nil || v.V != 1 || v.Resource == "" || v.ID == "" {
		e.Initiator, e.Summary = ledger.InitiatorUnattributed, "A view was reported that cannot be read"
		return e
	}
	saved := w.actor
	w.actor = m.actorOf(w, &v.stamp)
	a := &w.actor
	e.Initiator, e.UserID, e.UserEmail, e.UserName, e.Remark = a.initiator, a.userID, a.email, a.name, a.remark
	w.observed(e)
	w.actor = saved

	w.fields, w.seen = w.fields[:0], w.seen[:0]
	text := func(path, value string) {
		w.fields = append(w.fields, ledger.Field{Path: path, Type: "text", State: ledger.FieldValue, Value: value})
	}
	t := m.rules.viewable(v.Resource)
	if t == nil {
		e.Summary = "Viewed: " + v.Resource + " " + v.ID
		e.Remark = join(e.Remark, "no table is mapped for the resource "+v.Resource)
		w.unplaced[reasonNoOwner]++
	} else {
		x := &w.x
		*x = mapping{Mapper: m, w: w, t: t}
		e.Table, e.RowID, e.Resource, e.SubResource = t.name, v.ID, t.resource, t.section
		why := x.followRow(t, v.ID, after, nil)
		if r := m.dir.get(t, v.ID); r != nil && r.known {
			e.RowName = m.nameOf(w, r, after)
		}
		e.Summary = strings.TrimSuffix("Viewed: "+e.RowName, ": ")
		if len(w.seen) > 0 {
			first := w.seen[0]
			e.Application, e.RecordType = first.t.record.Application, first.t.record.Type
			e.RecordID, e.RecordName, e.TenantID = first.id, first.name, first.tenant
			for i, r := range w.seen[1:] {
				if i < maxRecords {
					x.also(i+1, r)
				}
			}
		} else {
			w.unplaced[reasonParent]++
		}
		e.Remark = join(e.Remark, why)
	}
	text("view.resource", v.Resource)
	text("view.id", v.ID)
	if v.Purpose != nil {
		text("view.purpose", *v.Purpose)
	}
	e.Fields = w.memory.keepFields(w.fields)
	return e
}

// viewable finds the table that the application means.
func (r *Rules) viewable(resource string) *table {
	if name, ok := r.types[resource]; ok {
		return r.tables[name]
	}
	for _, t := range r.order {
		if t.target && (t.name == resource || t.record != nil && strings.EqualFold(t.record.Type, resource)) {
			return t
		}
	}
	return nil
}
