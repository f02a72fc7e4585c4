package mapping

import (
	"strings"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// maxHops bounds the way from a row to its record: more is a loop.
const maxHops = 64

// record is where an entry belongs.
type record struct {
	t      *table
	id     string
	name   string
	tenant string
}

// place writes the record, further records and the tenant.
func (x *mapping) place(e *ledger.Entry) {
	if x.t.fate == FateLog {
		e.TenantID = x.tenant(&x.is)
		return
	}
	main, why := x.owner(&x.is)
	x.w.seen = append(x.w.seen[:0], main)
	if main.t != nil {
		e.Application, e.RecordType = main.t.record.Application, main.t.record.Type
		e.RecordID, e.RecordName, e.TenantID = main.id, main.name, main.tenant
	} else if !x.t.optional || why != "" {
		reason := reasonParent
		if why == "" {
			reason, why = reasonNoOwner, "no owner column has a value"
		}
		x.w.unplaced[reason]++
		e.Remark = why
	}
	if e.TenantID == "" {
		e.TenantID = x.tenant(&x.is)
	}
	if x.c.Op == capture.OpUpdate && x.t.record == nil {
		from, _ := x.owner(&x.was) // moved: the entry belongs to both
		x.list(from)
	}
	for i := range x.t.also {
		r, why := x.follow(&x.is, x.t.also[i:i+1], 0)
		x.list(r)
		if why != "" {
			e.Remark = join(e.Remark, why)
		}
		if x.c.Op == capture.OpUpdate {
			r, _ := x.follow(&x.was, x.t.also[i:i+1], 0)
			x.list(r)
		}
	}
}

// list writes a further record, once.
func (x *mapping) list(r record) {
	if r.t == nil {
		return
	}
	for _, s := range x.w.seen {
		if s.t == r.t && s.id == r.id {
			return
		}
	}
	x.also(len(x.w.seen), r)
	x.w.seen = append(x.w.seen, r)
}

// owner gives the record of the changed row in one of its states.
func (x *mapping) owner(v *view) (record, string) {
	if x.t.record == nil {
		return x.follow(v, x.t.owner, 0)
	}
	r := record{t: x.t, tenant: x.tenant(v), name: x.rowName(v)}
	if key := v.get(x.t.key[0]); key.st == known {
		r.id = x.w.memory.keep(key.s)
	}
	return r, ""
}

// follow goes from a row to its record: the first owner that has a value, then that row's owner. Why says what is in the
// way; no record and no reason is a row without any owner.
func (x *mapping) follow(v *view, owners []ownerRule, hops int) (record, string) {
	for i := range owners {
		o := &owners[i]
		id := v.get(o.column)
		if id.st == null {
			continue
		}
		if id.st == unknown {
			return record{}, "the value of " + v.t.name + "." + o.column + " is not known"
		}
		to := o.to
		if o.typ != "" {
			typ := v.get(o.typ)
			if to = o.target(typ.s); to == nil {
				return record{}, "no table is mapped for " + v.t.name + "." + o.typ + " = " + strings.Clone(typ.s)
			}
		}
		r := x.dir.find(x.w, to, id.s)
		if r == nil {
			return record{}, "not loaded yet"
		}
		if !r.known {
			return record{}, "parent " + to.name + " " + r.key + " was never seen"
		}
		img := r.at(x.w.commit, v.side)
		if to.record != nil {
			found := record{t: to, id: r.key, name: x.nameOf(x.w, r, v.side)}
			if at, ok := to.dirAt[to.tenant]; ok {
				found.tenant = img.text(at)
			}
			return found, ""
		}
		if hops == maxHops {
			return record{}, "the owners of " + to.name + " " + r.key + " go round in a circle"
		}
		next := &x.w.hops[hops]
		*next = view{t: to, img: img, side: v.side}
		found, why := x.follow(next, to.owner, hops+1)
		if found.t == nil && why == "" && !to.optional {
			why = to.name + " " + r.key + " has no owner"
		}
		return found, why
	}
	return record{}, ""
}

// tenant gives the row's own tenant.
func (x *mapping) tenant(v *view) string {
	id := v.get(x.t.tenant)
	if id.st != known {
		return ""
	}
	if x.t.tenantOf == "" {
		return x.w.memory.keep(id.s)
	}
	to := x.t.refs[x.t.tenant].t
	r := x.dir.find(x.w, to, id.s)
	if r == nil || !r.known {
		return ""
	}
	return r.at(x.w.commit, v.side).text(to.dirAt[x.t.tenantOf])
}

// rowName is the name of the changed row.
func (x *mapping) rowName(v *view) string {
	if x.t.rowName == nil {
		return ""
	}
	x.w.buf = x.appendName(x.w.buf[:0], x.w, v, 0)
	return x.w.memory.keepBytes(x.w.buf)
}

// nameOf is the name of a directory row.
func (m *Mapper) nameOf(w *work, r *row, s side) string {
	img := r.at(w.commit, s)
	current := s == after || len(img) > 0 && len(r.cur) > 0 && &img[0] == &r.cur[0]
	if r.t.ownName && current && r.named {
		return r.name
	}
	if r.t.rowName == nil {
		return r.key
	}
	name := string(m.appendName(make([]byte, 0, 64), w, &view{t: r.t, img: img, side: s}, 0))
	if r.t.ownName && current {
		r.name, r.named = name, true
	}
	return name
}

// calledOf is what other rows call it.
func (m *Mapper) calledOf(w *work, r *row, s side) string {
	if r.t.called == nil {
		return m.nameOf(w, r, s)
	}
	v := view{t: r.t, img: r.at(w.commit, s), side: s}
	return string(r.t.called.render(make([]byte, 0, 64), false, func(b []byte, a *atom) []byte { return m.appendAtom(b, w, &v, a, 0) }))
}

// refersTo is the table whose row a column names, nil for an ordinary one.
func (t *table) refersTo(v *view, column string) *table {
	if ref := t.refs[column]; ref != nil {
		return ref.t
	}
	if pair := t.pairs[column]; pair != nil {
		if typ := v.get(pair.typ); typ.st == known {
			return pair.tables[typ.s]
		}
	}
	return nil
}

// ownName is the name of a row that needs no other.
func ownName(t *table, img image) string {
	var m Mapper
	return string(m.appendName(nil, nil, &view{t: t, img: img}, 0))
}

const maxNames = 8

func (m *Mapper) appendName(b []byte, w *work, v *view, depth int) []byte {
	if v.t.rowName == nil {
		return b
	}
	return v.t.rowName.render(b, false, func(b []byte, a *atom) []byte { return m.appendAtom(b, w, v, a, depth) })
}

// appendAtom appends what a column shows.
func (m *Mapper) appendAtom(b []byte, w *work, v *view, a *atom, depth int) []byte {
	x := v.get(a.col)
	if x.st != known {
		return b
	}
	to := v.t.refersTo(v, a.col)
	if to == nil || depth == maxNames {
		if !a.first && a.limit == 0 && a.format == 0 {
			return v.display(b, a.col, x.s)
		}
		return a.shape(b, x.s)
	}
	r := m.dir.find(w, to, x.s)
	if r == nil || !r.known {
		return append(b, x.s...)
	}
	img := r.at(w.commit, v.side)
	if a.other != "" {
		return a.shape(b, img.text(to.dirAt[a.other]))
	}
	mark := len(b)
	if to.ownName {
		b = append(b, m.calledOf(w, r, v.side)...)
	} else {
		b = m.appendName(b, w, &view{t: to, img: img, side: v.side}, depth+1)
	}
	if len(b) == mark {
		b = append(b, x.s...)
	}
	if a.first || a.limit > 0 || a.format != 0 {
		shown := string(b[mark:])
		b = a.shape(b[:mark], shown)
	}
	return b
}

// display appends a value as an administrator reads it.
func (v *view) display(b []byte, column, s string) []byte {
	if v.t.enums[column] {
		return append(b, strings.ReplaceAll(s, "_", " ")...)
	}
	if v.p == nil {
		return append(b, s...)
	}
	at, ok := v.p.at[column]
	if !ok {
		return append(b, s...)
	}
	switch col := &v.p.cols[at]; {
	case col.bool && s == "t":
		return append(b, "yes"...)
	case col.bool && s == "f":
		return append(b, "no"...)
	case col.array:
		return appendArray(b, s)
	case col.time:
		return appendTime(b, s)
	}
	return append(b, s...)
}

// appendTime leaves out what a reader does not need: "2026-03-20 15:00:00+00" is "2026-03-20 15:00Z".
func appendTime(b []byte, s string) []byte {
	utc := strings.HasSuffix(s, "+00")
	s = strings.TrimSuffix(s, "+00")
	if len(s) == 19 {
		s = strings.TrimSuffix(s, ":00")
	}
	b = append(b, s...)
	if utc {
		b = append(b, 'Z')
	}
	return b
}

// appendArray shows "{a,b}" as "a, b".
func appendArray(b []byte, s string) []byte {
	if len(s) < 2 || s[0] != '{' || strings.ContainsAny(s[1:len(s)-1], `{}"\`) {
		return append(b, s...)
	}
	return append(b, strings.ReplaceAll(s[1:len(s)-1], ",", ", ")...)
}
