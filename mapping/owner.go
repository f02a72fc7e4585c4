package mapping

import (
	"strconv"
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
