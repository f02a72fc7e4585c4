package mapping

import (
	"strconv"
	"strings"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// maxRecords bounds how many records list one entry; a remark says when it were more.
const maxRecords = 1000

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
	w := x.w
	w.seen = w.seen[:0]
	why := x.owners(&x.is)
	if len(w.seen) > 0 {
		main := w.seen[0]
		e.Application, e.RecordType = main.t.record.Application, main.t.record.Type
		e.RecordID, e.RecordName, e.TenantID = main.id, main.name, main.tenant
	} else {
		if !x.t.optional || why != "" {
			reason := reasonParent
			if why == "" {
				reason, why = reasonNoOwner, "nothing says to which record it belongs"
			}
			w.unplaced[reason]++
		}
		w.seen = append(w.seen, record{}) // further records count from 1
	}
	e.Remark = why
	if e.TenantID == "" {
		e.TenantID = x.tenant(&x.is)
	}
	if x.c.Op == capture.OpUpdate && x.t.record == nil {
		x.owners(&x.was) // moved: the entry belongs to both
	}
	for i := range x.t.also {
		e.Remark = join(e.Remark, x.follow(&x.is, x.t.also[i:i+1], nil))
		if x.c.Op == capture.OpUpdate {
			x.follow(&x.was, x.t.also[i:i+1], nil)
		}
	}
	for i, r := range w.seen[1:] {
		if i == maxRecords {
			e.Remark = join(e.Remark, strconv.Itoa(len(w.seen)-1-maxRecords)+" more records list this")
			break
		}
		x.also(i+1, r)
	}
}

// list notes a record that lists the entry, once.
func (x *mapping) list(r record) {
	for _, s := range x.w.seen {
		if s.t == r.t && s.id == r.id {
			return
		}
	}
	x.w.seen = append(x.w.seen, r)
}

// owners notes the records of the changed row in one of its states.
func (x *mapping) owners(v *view) (why string) {
	if x.t.record == nil {
		return x.follow(v, x.t.owner, nil)
	}
	r := record{t: x.t, tenant: x.tenant(v), name: x.rowName(v)}
	if key := v.get(x.t.key[0]); key.st == known {
		r.id = x.w.memory.keep(key.s)
	}
	x.list(r)
	return ""
}

// trace is the way that was come so far, so that a circle is noticed.
type trace struct {
	row *row
	up  *trace
}

func (t *trace) holds(r *row) bool {
	for ; t != nil; t = t.up {
		if t.row == r {
			return true
		}
	}
	return false
}

// follow goes from a row to its records and notes them: of the owners that are columns, the first that has a value; and
// the rows of each list that name it. Why says what is in the way; no record and no reason is a row without any owner.
func (x *mapping) follow(v *view, owners []ownerRule, up *trace) (why string) {
	chosen := false
	for i := range owners {
		o := &owners[i]
		if o.links != nil {
			why = join(why, x.followLinks(v, o.links, up))
			continue
		}
		if chosen {
			continue
		}
		id := v.get(o.column)
		if id.st == null {
			continue
		}
		chosen = true
		if id.st == unknown {
			why = join(why, "the value of "+v.t.name+"."+o.column+" is not known")
			continue
		}
		to := o.to
		if o.typ != "" {
			typ := v.get(o.typ)
			if to = o.target(typ.s); to == nil {
				why = join(why, "no table is mapped for "+v.t.name+"."+o.typ+" = "+strings.Clone(typ.s))
				continue
			}
		}
		why = join(why, x.followRow(to, id.s, v.side, up))
	}
	return why
}

// followRow notes the records of a row of the directory.
func (x *mapping) followRow(to *table, key string, side side, up *trace) (why string) {
	r := x.dir.find(x.w, to, key)
	if r == nil {
		return "not loaded yet"
	}
	if !r.known {
		return "parent " + to.name + " " + r.key + " was never seen"
	}
	img := r.at(x.w.commit, side)
	if to.record != nil {
		found := record{t: to, id: r.key, name: x.nameOf(x.w, r, side)}
		if at, ok := to.dirAt[to.tenant]; ok {
			found.tenant = img.text(at)
		}
		x.list(found)
		return ""
	}
	if up.holds(r) {
		return "the owners of " + to.name + " " + r.key + " go round in a circle"
	}
	before := len(x.w.seen)
	next := x.w.hop(to, img, side)
	why = x.follow(next, to.owner, &trace{r, up})
	x.w.hops.n--
	if why == "" && !to.optional && len(x.w.seen) == before && !x.leads(next, to.owner) {
		why = to.name + " " + r.key + " has no owner"
	}
	return why
}

// leads says whether a row has an owner at all: it may be one that stands in the list already.
func (x *mapping) leads(v *view, owners []ownerRule) bool {
	for i := range owners {
		if o := &owners[i]; o.links == nil && v.get(o.column).st == known {
			return true
		} else if o.links != nil {
			if l := x.dir.get(o.links, v.get(v.t.key[0]).s); l != nil && l.at(x.w.commit, v.side).text(1) != "" {
				return true
			}
		}
	}
	return false
}

// followLinks notes the records of all rows that name this one.
func (x *mapping) followLinks(v *view, list *table, up *trace) (why string) {
	id := v.get(v.t.key[0])
	if id.st != known {
		return "the key of " + v.t.name + " is not known"
	}
	l := x.dir.find(x.w, list, id.s)
	if l == nil {
		return "not loaded yet"
	}
	for _, key := range splitKeys(l.at(x.w.commit, v.side).text(1)) {
		why = join(why, x.followRow(list.from, key, v.side, up))
	}
	return why
}

// hops are the views of the rows on the way to a record, used again and again.
type hops struct {
	views []*view
	n     int
}

func (w *work) hop(t *table, img image, side side) *view {
	h := &w.hops
	if h.n == len(h.views) {
		h.views = append(h.views, &view{})
	}
	v := h.views[h.n]
	h.n++
	*v = view{t: t, img: img, side: side}
	return v
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
