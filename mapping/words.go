package mapping

import "casebook.example/audit/capture"

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
