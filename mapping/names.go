package mapping

import "strings"

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
		m.dir.weigh(r)
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
