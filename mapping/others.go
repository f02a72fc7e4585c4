package mapping

import (
	"fmt"
	"strings"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// unmapped is the entry for a table that the mapping does not know: that it changed, and nothing that it holds.
func (m *Mapper) unmapped(w *work, p *plan, c *capture.Change) *ledger.Entry {
	e := w.entry()
	e.Kind, e.Ordinal, e.Table = ledger.KindChange, int64(c.Ordinal), p.rel.FullName
	tuple, path, verb := c.New, "new.", "changed"
	switch c.Op {
	case capture.OpInsert:
		e.Action, verb = ledger.ActionCreate, "added"
	case capture.OpUpdate:
		e.Action = ledger.ActionUpdate
	case capture.OpDelete:
		e.Action, verb, tuple, path = ledger.ActionDelete, "removed", c.Old, "old."
	case capture.OpTruncate:
		e.Kind, e.Action = ledger.KindTruncate, "truncate"
	}
	e.Resource = p.rel.FullName
	e.Summary = "Row of " + p.rel.FullName + " " + verb
	if c.Op == capture.OpTruncate {
		e.Summary = "All rows of " + p.rel.FullName + " removed (TRUNCATE)"
	}
	e.RowID = strings.Clone(p.rowKey(tuple, c.Old))
	e.Remark = "table " + p.rel.FullName + " is not in the mapping"
	for i := range tuple {
		if tuple[i].State == capture.Null || tuple[i].State == capture.Absent {
			continue
		}
		if c.Op == capture.OpUpdate && i < len(c.Old) && sameValue(c.Old[i], tuple[i]) {
			continue
		}
		e.Fields = append(e.Fields, ledger.Field{Path: path + p.cols[i].name, Type: p.cols[i].typ, State: ledger.FieldMasked})
	}
	a := &w.actor
	e.Initiator, e.UserID, e.UserEmail, e.UserName, e.TenantID = a.initiator, a.userID, a.email, a.name, ""
	e.Remark = join(e.Remark, a.remark)
	w.observed(e)
	return e
}

// truncate is one entry for all rows of a table; which records they belonged to is not told.
func (m *Mapper) truncate(w *work, p *plan, c *capture.Change) *ledger.Entry {
	e := w.entry()
	e.Kind, e.Ordinal, e.Action = ledger.KindTruncate, int64(c.Ordinal), "truncate"
	e.Table, e.Resource, e.SubResource = p.t.name, p.t.resource, p.t.section
	what := p.t.resource
	if p.t.section != "" {
		what += " > " + p.t.section
	}
	e.Summary = fmt.Sprintf("All rows of %s removed (TRUNCATE)", what)
	a := &w.actor
	e.Initiator, e.UserID, e.UserEmail, e.UserName = a.initiator, a.userID, a.email, a.name
	e.Remark = join("every record that had such rows lost them; the stream does not say which", a.remark)
	w.observed(e)
	return e
}
