package mapping

import (
	"slices"
	"strings"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// who writes the actor, and lets the rules of the table make the change the system's.
func (x *mapping) who(e *ledger.Entry) {
	a := &x.w.actor
	e.Initiator, e.UserID, e.UserEmail, e.UserName = a.initiator, a.userID, a.email, a.name
	x.w.observed(e)
	e.Remark = join(e.Remark, a.remark)
	if !x.isSystem() {
		e.Remark = join(e.Remark, x.doubt())
		return
	}
	if e.UserID != "" && a.initiator != ledger.InitiatorSystem {
		// The session variable speaks of a user who did not do this: kept, but not as who did it.
		x.add(ledger.Field{Path: "ctx." + a.variable, Type: "text", State: ledger.FieldValue, Value: a.value})
		e.UserID, e.UserEmail, e.UserName = "", "", ""
	}
	e.Initiator = ledger.InitiatorSystem
}

// doubt compares what the row says of its author with what the session said. A column that the change left alone says
// nothing.
func (x *mapping) doubt() string {
	if x.w.actor.userID == "" {
		return ""
	}
	columns := [2]string{x.rules.authors.Update}
	if x.c.Op == capture.OpInsert {
		columns[0] = x.rules.authors.Create
	}
	if x.soft == softDeleted {
		if by := x.p.soft[x.softBy].by; by >= 0 {
			columns[1] = x.p.cols[by].name
		}
	}
	for _, column := range columns {
		at := x.p.place(column)
		if at < 0 || x.c.Op == capture.OpDelete || x.c.Op == capture.OpUpdate && !(x.certain(at) && x.differs(at)) {
			continue
		}
		if v := tupleValue(x.c.New, x.old, at); v.st == known && v.s != x.w.actor.userID {
			return "the session says user " + x.w.actor.userID + ", but " + column + " says " + strings.Clone(v.s)
		}
	}
	return ""
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
