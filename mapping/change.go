package mapping

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

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
		if c.Prefix == stampPrefix {
			w.actor = m.actorOf(w, c.Content)
		}
		return nil
	}
	p := m.plan(c.Rel)
	switch {
	case p.t == nil:
		w.count.entries++
		w.unplaced[reasonUnmapped]++
		return m.unmapped(w, p, c)
	case p.t.fate == FateOff || p.t.fate == FateExcluded || p.t.fate == FateLabels:
		w.count.excluded++
		return nil
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
		return !col.key && !col.hidden && new.State != capture.Unchanged && new.State != capture.Absent
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
	x.columns()
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
	s := &x.p.soft[x.softBy]
	return i == s.by || i == s.column && s.value == ""
}

// columns writes the changed columns.
func (x *mapping) columns() {
	for i := range x.p.cols {
		if !x.changed[i] || x.hiddenBySoft(i) {
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

// summary chooses the words and fills them.
func (x *mapping) summary() string {
	w := &x.t.words
	switch {
	case x.c.Op == capture.OpInsert:
		for i := range w.createWhen {
			if when := &w.createWhen[i]; x.equals(&x.is, when.column, when.value) {
				return x.say(when.say, -1)
			}
		}
		return x.say(w.create, -1)
	case x.c.Op == capture.OpDelete:
		return x.say(w.delete, -1)
	case x.soft == softDeleted:
		return x.say(w.softDelete, -1)
	case x.soft == softRestored:
		return x.say(w.restore, -1)
	}
	for i := range w.updateOf {
		when := &w.updateOf[i]
		at := x.p.place(when.column)
		if at >= 0 && x.changed[at] && x.certain(at) && (when.any || x.equals(&x.is, when.column, when.value)) {
			return x.say(when.say, at)
		}
	}
	return x.say(w.update, -1)
}

// certain: the old value is known, so it did change.
func (x *mapping) certain(i int) bool { return i < len(x.old) && x.old[i].State != capture.Absent }

func (x *mapping) equals(v *view, column, want string) bool {
	got := v.get(column)
	if got.st != known {
		return false
	}
	if at := x.p.place(column); at >= 0 && x.p.cols[at].bool {
		want = serverBool(want)
	}
	return got.s == want
}

// say fills words. of is the column that {old} and {new} stand for.
func (x *mapping) say(t *template, of int) string {
	if len(t.parts) == 1 && t.parts[0].alts == nil {
		return t.text
	}
	x.w.buf = t.render(x.w.buf[:0], true, func(b []byte, a *atom) []byte {
		if a.which == 0 {
			return x.appendAtom(b, x.w, &x.is, a, 0)
		}
		v := &x.is
		if a.which == 'o' {
			v = &x.was
		}
		shown := *a
		shown.col = x.p.cols[of].name
		mark := len(b)
		if b = x.appendAtom(b, x.w, v, &shown, 0); len(b) == mark {
			b = append(b, "(none)"...)
		}
		return b
	})
	return x.w.memory.keepBytes(x.w.buf)
}

// who writes the actor, and lets the rules of the table make the change the system's.
func (x *mapping) who(e *ledger.Entry) {
	a := &x.w.actor
	e.Initiator, e.UserID, e.UserEmail, e.UserName = a.initiator, a.userID, a.email, a.name
	x.w.observed(e)
	e.Remark = join(e.Remark, a.remark)
	if !x.isSystem() {
		return
	}
	if e.UserID != "" && a.initiator != ledger.InitiatorSystem {
		// The session variable speaks of a user who did not do this: kept, but not as who did it.
		x.add(ledger.Field{Path: "ctx." + a.variable, Type: "text", State: ledger.FieldValue, Value: a.value})
		e.UserID, e.UserEmail, e.UserName = "", "", ""
	}
	e.Initiator = ledger.InitiatorSystem
}

// observed writes what the server saw of the session.
func (w *work) observed(e *ledger.Entry) {
	a := &w.actor
	e.DBUser, e.DBApp, e.ClientAddr, e.BackendPID = a.role, a.app, a.addr, a.pid
}

func (x *mapping) isSystem() bool {
	for i := range x.t.system {
		if x.applies(&x.t.system[i]) {
			return true
		}
	}
	return false
}

// opWords are the words of a rule's on.
var opWords = [...]string{capture.OpInsert: "create", capture.OpUpdate: "update", capture.OpDelete: "delete"}

func (x *mapping) applies(s *systemRule) bool {
	if s.NoUser && x.w.actor.initiator != ledger.InitiatorOperator {
		return false
	}
	if len(s.On) > 0 {
		if !slices.Contains(s.On, opWords[x.c.Op]) {
			return false
		}
	}
	if len(s.Only) > 0 {
		if x.c.Op != capture.OpUpdate {
			return false
		}
		for i, changed := range x.changed {
			if changed && !slices.Contains(s.Only, x.p.cols[i].name) {
				return false
			}
		}
	}
	if s.Column == "" {
		return true
	}
	v := &x.is
	if s.via != nil {
		r := x.parent(v, s.via)
		if r == nil {
			return false
		}
		v = &view{t: r.t, img: r.at(x.w.commit, v.side)}
	}
	if s.IsNull {
		return v.get(s.Column).st == null
	}
	return x.equals(v, s.Column, s.Value)
}

// parent is the row of table t that the change's row hangs on directly, or nil.
func (x *mapping) parent(v *view, t *table) *row {
	for i := range x.t.owner {
		o := &x.t.owner[i]
		id := v.get(o.column)
		if id.st != known {
			continue
		}
		to := o.to
		if o.typ != "" {
			to = o.target(v.get(o.typ).s)
		}
		if to != t {
			return nil
		}
		if r := x.dir.find(x.w, to, id.s); r != nil && r.known {
			return r
		}
		return nil
	}
	return nil
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

// alsoPaths saves making the usual ones each time.
var alsoPaths = [...]string{"", "also.1", "also.2", "also.3", "also.4", "also.5", "also.6"}

// also writes a further record that lists the entry.
func (x *mapping) also(n int, r record) {
	b := append(x.w.buf[:0], `{"application":`...)
	b = appendJSON(b, r.t.record.Application)
	b = append(b, `,"record_type":`...)
	b = appendJSON(b, r.t.record.Type)
	b = append(b, `,"record_id":`...)
	b = appendJSON(b, r.id)
	b = append(b, `,"record_name":`...)
	b = appendJSON(b, r.name)
	if r.tenant != "" {
		b = append(b, `,"tenant_id":`...)
		b = appendJSON(b, r.tenant)
	}
	x.w.buf = append(b, '}')
	var path string
	if n < len(alsoPaths) {
		path = alsoPaths[n]
	} else {
		path = "also." + strconv.Itoa(n)
	}
	x.add(ledger.Field{Path: path, Type: "record", State: ledger.FieldValue, Value: x.w.memory.keepBytes(x.w.buf)})
}
