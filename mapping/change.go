package mapping

import (
	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// view is one state of the changed row: its tuple, and where the tuple says nothing, the directory.
type view struct {
	t     *table
	p     *plan // nil: only the directory
	tuple []capture.Value
	other []capture.Value
	img   image
	side  side
}

func (v *view) get(column string) value {
	if v.p != nil {
		if i, ok := v.p.at[column]; ok {
			if x := tupleValue(v.tuple, v.other, i); x.st != unknown {
				return x
			}
		}
	}
	if at, ok := v.t.dirAt[column]; ok {
		return v.img.get(at)
	}
	return value{}
}

// change maps one step of a transaction; nil: no entry. When rows were missing, w.misses names them and the result is
// not to be used.
func (m *Mapper) change(w *work, c *capture.Change) *ledger.Entry {
	if c.Op == capture.OpMessage {
		return m.message(w, c)
	}
	w.rows = int64(c.Ordinal) + 1
	p := m.plan(c.Rel)
	switch {
	case p.t == nil:
		w.count.entries++
		w.unplaced[reasonUnmapped]++
		return m.unmapped(w, p, c)
	case p.t.fate == FateOff || p.t.fate == FateExcluded || p.t.fate == FateLabels:
		w.count.excluded++
		return m.directoryEntry(w, p, c)
	case c.Op == capture.OpTruncate:
		w.count.entries++
		return m.truncate(w, p, c)
	}
	old := p.trustedOld(c)
	x := &w.x
	*x = mapping{Mapper: m, w: w, p: p, t: p.t, c: c, old: old}
	if !x.compare() {
		w.count.noise++
		return nil
	}
	w.count.entries++
	return x.entry()
}

// pathSoft names the column that says that a row counts as deleted.
const pathSoft = "soft"

type softChange uint8

const (
	softNone softChange = iota
	softDeleted
	softRestored
	softOther // the columns of a soft delete changed, but as part of something that the words of another column say
)

// mapping is the work on one row change.
type mapping struct {
	*Mapper
	w       *work
	p       *plan
	t       *table
	c       *capture.Change
	old     []capture.Value // trusted
	changed []bool
	was, is view // before and after; for an insert both are after, for a delete both before
	soft    softChange
	softBy  int // index in p.soft
}

// compare finds out which columns changed with audit meaning, and whether any did.
func (x *mapping) compare() bool {
	n := len(x.p.cols)
	if cap(x.w.changed) < n {
		x.w.changed = make([]bool, n)
	}
	x.changed = x.w.changed[:n]
	some := false
	for i := range x.p.cols {
		col := &x.p.cols[i]
		ok := !col.noise
		switch x.c.Op {
		case capture.OpInsert:
			ok = ok && !col.hidden && x.c.New[i].State != capture.Null
		case capture.OpDelete:
			ok = ok && !col.hidden && i < len(x.old) && x.old[i].State == capture.Text
		default:
			ok = ok && x.differs(i)
			some = some || ok
		}
		x.changed[i] = ok
	}
	return some || x.c.Op != capture.OpUpdate
}

func (x *mapping) differs(i int) bool {
	new := x.c.New[i]
	if i >= len(x.old) || x.old[i].State == capture.Absent {
		// Nothing is known of the old value. A key that is not in the old tuple did not change.
		col := &x.p.cols[i]
		return !col.key && (!col.hidden || x.t.target && col.tenant) && new.State != capture.Unchanged && new.State != capture.Absent
	}
	if sameValue(x.old[i], new) {
		return false
	}
	if x.p.cols[i].custom && x.old[i].State == capture.Text && new.State == capture.Text {
		return customDiffers(x.old[i].Bytes, new.Bytes)
	}
	return true
}

// views prepares both states of the row.
func (x *mapping) views() (rowID string) {
	tuple := x.c.New
	if x.c.Op == capture.OpDelete {
		tuple = x.c.Old
	}
	rowID = x.p.rowKey(tuple, x.old)
	x.is = view{t: x.t, p: x.p, tuple: x.c.New, other: x.old, side: after}
	x.was = view{t: x.t, p: x.p, tuple: x.old, side: before}
	if x.t.target && rowID != "" {
		if r := x.dir.get(x.t, rowID); r != nil && r.known {
			x.is.img, x.was.img = r.cur, r.at(x.w.commit, before)
		}
	}
	switch x.c.Op {
	case capture.OpInsert:
		x.was = x.is
	case capture.OpDelete:
		x.is = x.was
	}
	return rowID
}

func (x *mapping) entry() *ledger.Entry {
	w, t, c := x.w, x.t, x.c
	e := w.entry()
	rowID := x.views()
	e.Kind, e.Ordinal = ledger.KindChange, int64(c.Ordinal)
	e.Table, e.Resource, e.SubResource = t.name, t.resource, t.section
	e.RowID = w.memory.keep(rowID)
	x.softDelete()
	switch {
	case c.Op == capture.OpInsert:
		e.Action = ledger.ActionCreate
	case c.Op == capture.OpDelete || x.soft == softDeleted:
		e.Action = ledger.ActionDelete
	default:
		e.Action = ledger.ActionUpdate
	}
	e.RowName = x.rowName(&x.is)
	w.fields = w.fields[:0]
	x.place(e)
	if x.soft == softDeleted { // the row is still there
		x.add(ledger.Field{Path: pathSoft, Type: "text", State: ledger.FieldValue, Value: x.p.cols[x.p.soft[x.softBy].column].name})
	}
	x.columns(e.TenantID)
	e.Summary = x.summary()
	x.who(e)
	e.Fields = w.memory.keepFields(w.fields)
	return e
}

// softDelete finds a change from not deleted to deleted, or back.
func (x *mapping) softDelete() {
	if x.c.Op != capture.OpUpdate {
		return
	}
	for i := range x.p.soft {
		s := &x.p.soft[i]
		if !x.changed[s.column] {
			continue
		}
		was, is := s.deleted(tupleValue(x.old, nil, s.column)), s.deleted(tupleValue(x.c.New, x.old, s.column))
		if was == is || tupleValue(x.old, nil, s.column).st == unknown {
			continue
		}
		x.soft, x.softBy = softRestored, i
		if is {
			x.soft = softDeleted
		}
		for _, column := range s.unless {
			if column >= 0 && x.changed[column] {
				x.soft = softOther
			}
		}
		return
	}
}

func (s *softPlan) deleted(v value) bool {
	if s.value == "" {
		return v.st == known
	}
	return v.st == known && v.s == s.value
}

// hiddenBySoft: the columns that a soft delete is made of are said by its words.
func (x *mapping) hiddenBySoft(i int) bool {
	if x.soft == softNone {
		return false
	}
	if _, kept := x.t.dirAt[x.p.cols[i].name]; kept {
		return false // the directory must follow from the log
	}
	s := &x.p.soft[x.softBy]
	return i == s.by || i == s.column && s.value == ""
}

// otherTenant: the row's own tenant is said where it is not the entry's, which is that of the record.
func (x *mapping) otherTenant(i int, tenant string) bool {
	if x.c.Op == capture.OpUpdate || !x.p.cols[i].tenant {
		return false
	}
	v := tupleValue(x.c.New, x.old, i)
	if x.c.Op == capture.OpDelete {
		v = tupleValue(x.old, nil, i)
	}
	return v.st != unknown && v.s != tenant
}

// columns writes the changed columns.
func (x *mapping) columns(tenant string) {
	for i := range x.p.cols {
		if !x.changed[i] && !x.otherTenant(i, tenant) || x.hiddenBySoft(i) {
			continue
		}
		col, paths := &x.p.cols[i], &x.p.paths[i]
		if col.custom && x.customFields(i) {
			continue
		}
		shown := false
		if x.c.Op != capture.OpInsert {
			shown = x.field(paths.old, col, tupleValue(x.old, nil, i)) || shown
		}
		if x.c.Op != capture.OpDelete {
			shown = x.field(paths.new, col, tupleValue(x.c.New, x.old, i)) || shown
		}
		if col.class < classMasked {
			if x.c.Op != capture.OpInsert {
				x.refName(paths.oldName, x.t.refersTo(&x.was, col.name), tupleValue(x.old, nil, i), before)
			}
			if x.c.Op != capture.OpDelete {
				x.refName(paths.newName, x.t.refersTo(&x.is, col.name), tupleValue(x.c.New, x.old, i), after)
			}
		}
		if col.hashed {
			x.hashes(i, paths)
		}
		if col.form != "" {
			x.add(ledger.Field{Path: paths.form, Type: "text", State: ledger.FieldValue, Value: col.form})
		}
		if col.label != "" {
			x.add(ledger.Field{Path: paths.label, Type: "text", State: ledger.FieldValue, Value: col.label})
		}
		if shown && col.class == classRestricted {
			x.add(ledger.Field{Path: paths.class, Type: "text", State: ledger.FieldValue, Value: "restricted"})
		}
	}
}

func (x *mapping) add(f ledger.Field) { x.w.fields = append(x.w.fields, f) }

// field writes one value and tells whether it can be read there.
func (x *mapping) field(path string, col *planColumn, v value) bool {
	f := ledger.Field{Path: path, Type: col.typ}
	switch {
	case col.class >= classMasked:
		f.State = ledger.FieldMasked
	case v.st == unknown:
		f.State = ledger.FieldUnknown
	case v.st == null:
		f.State = ledger.FieldNull
	default:
		f.State, f.Value = ledger.FieldValue, x.w.memory.keep(v.s)
	}
	x.add(f)
	return f.State == ledger.FieldValue
}

// refName writes the name of the row that a value refers to, as of the change.
func (x *mapping) refName(path string, to *table, v value, s side) {
	if to == nil || v.st != known {
		return
	}
	f := ledger.Field{Path: path, Type: "text", State: ledger.FieldUnknown}
	if r := x.dir.find(x.w, to, v.s); r != nil && r.known {
		if name := x.calledOf(x.w, r, s); name != "" {
			f.State, f.Value = ledger.FieldValue, name
		}
	}
	x.add(f)
}

func join(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "":
		return a
	}
	return a + "; " + b
}
