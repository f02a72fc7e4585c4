package mapping

import (
	"context"
	"slices"
	"strings"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// Shapes. DDL is not in the stream, but a table's description is, before the first change that follows it. When it differs
// from the last one, that is an entry; and a column that came without the mapping naming it is another, a coverage fault.

// shape is a table's description that a transaction brings.
type shape struct {
	ordinal  int // of the row change that it stands before
	rel      *capture.Relation
	old      []string // columns as in the directory; nil: none was seen before
	unmapped []string // columns that came and are not in the mapping
}

const pathIdentity = "identity"

// columnsOf describes a table, a line a column: "name type". Names and types may hold spaces, never a line break that
// matters: a line that differs is a column that differs.
func columnsOf(rel *capture.Relation) []string {
	lines := make([]string, 0, len(rel.Columns)+1)
	for i := range rel.Columns {
		lines = append(lines, rel.Columns[i].Name+"\x1f"+rel.Columns[i].TypeName)
	}
	return append(lines, "\x1f"+string(rel.Identity))
}

const lineBreak = "\x1e"

// compareShape looks whether a description is news. Descriptions come with every new connection too.
func (m *Mapper) compareShape(ctx context.Context, p *plan, ordinal int) error {
	p.compared = true
	if p.t != nil && (p.t.fate == FateOff || p.t.fate == FateExcluded) {
		return nil
	}
	if p.t == nil { // of those that are mapped it is there
		if err := m.dir.want(ctx, map[Key]struct{}{{m.rules.shapes.name, p.rel.FullName}: {}}); err != nil {
			return err
		}
	}
	columns := columnsOf(p.rel)
	text := strings.Join(columns, lineBreak)
	r := m.dir.get(m.rules.shapes, p.rel.FullName)
	s := shape{ordinal: ordinal, rel: p.rel}
	if r.known && !r.gone {
		if r.cur.text(1) == text {
			return nil
		}
		s.old = strings.Split(r.cur.text(1), lineBreak)
		for _, column := range columns {
			name, _, _ := strings.Cut(column, "\x1f")
			was := slices.ContainsFunc(s.old, func(old string) bool { return strings.HasPrefix(old, name+"\x1f") })
			if name != "" && !was && p.t != nil && !p.t.noise[name] && !slices.Contains(p.t.columns, name) {
				s.unmapped = append(s.unmapped, name)
			}
		}
	}
	w := &m.work
	r.begin(w.commit)
	r.known, r.gone, r.cur = true, false, image{{r.key, known}, {text, known}}
	m.dir.mark(r)
	w.shapes = append(w.shapes, s)
	return nil
}

// shapesBefore gives the entries that stand before a row change.
func (m *Mapper) shapesBefore(w *work, c *capture.Change) {
	for w.state.shapes < len(w.shapes) && w.shapes[w.state.shapes].ordinal == c.Ordinal && c.Op != capture.OpMessage {
		s := &w.shapes[w.state.shapes]
		w.state.shapes++
		w.entries = append(w.entries, relationEntry(w, s))
		for _, column := range s.unmapped {
			e := w.entry()
			e.Kind, e.Ordinal, e.Table, e.Action, e.Initiator = ledger.KindGap, int64(s.ordinal), s.rel.FullName, ledger.ActionCoverage, ledger.InitiatorSystem
			e.Summary = "Column " + s.rel.FullName + "." + column + " is not in the mapping"
			e.Remark = "its values are shown as they are; say in the mapping what it is, and reload"
			w.entries = append(w.entries, e)
		}
	}
}

// relationEntry says what a table looks like from here on.
func relationEntry(w *work, s *shape) *ledger.Entry {
	e := w.entry()
	e.Kind, e.Ordinal, e.Table, e.Action, e.Initiator = ledger.KindRelation, int64(s.ordinal), s.rel.FullName, "relation", ledger.InitiatorSystem
	e.Summary = "Shape of " + s.rel.FullName + ", seen for the first time"
	if s.old != nil {
		e.Summary = "Shape of " + s.rel.FullName + " changed: " + strings.Join(shapeChanges(s.old, columnsOf(s.rel)), ", ")
	}
	for i := range s.rel.Columns {
		c := &s.rel.Columns[i]
		e.Fields = append(e.Fields, ledger.Field{Path: "column." + c.Name, Type: "text", State: ledger.FieldValue, Value: c.TypeName})
	}
	e.Fields = append(e.Fields, ledger.Field{Path: pathIdentity, Type: "char", State: ledger.FieldValue, Value: string(s.rel.Identity)})
	return e
}

// shapeChanges puts a difference into words.
func shapeChanges(old, new []string) []string {
	type column struct{ name, typ string }
	cut := func(lines []string) (columns []column) {
		for _, line := range lines {
			name, typ, _ := strings.Cut(line, "\x1f")
			columns = append(columns, column{name, typ})
		}
		return columns
	}
	was, is := cut(old), cut(new)
	find := func(columns []column, name string) (string, bool) {
		i := slices.IndexFunc(columns, func(c column) bool { return c.name == name })
		if i < 0 {
			return "", false
		}
		return columns[i].typ, true
	}
	var words []string
	for _, c := range is {
		typ, ok := find(was, c.name)
		switch {
		case !ok:
			words = append(words, "column "+c.name+" "+c.typ+" came")
		case typ != c.typ && c.name == "":
			words = append(words, "replica identity "+identityName(typ)+" became "+identityName(c.typ))
		case typ != c.typ:
			words = append(words, "column "+c.name+" "+typ+" became "+c.typ)
		}
	}
	for _, c := range was {
		if _, ok := find(is, c.name); !ok {
			words = append(words, "column "+c.name+" went")
		}
	}
	if len(words) == 0 {
		words = append(words, "the columns have another order")
	}
	return words
}

func identityName(letter string) string {
	switch letter {
	case "f":
		return "FULL"
	case "d":
		return "DEFAULT"
	case "n":
		return "NOTHING"
	}
	return "INDEX"
}

// pin loads the few rows that stay in the cache, once.
func (d *directory) pin(ctx context.Context) error {
	if d.pinned {
		return nil
	}
	d.pinned = true
	misses := map[Key]struct{}{}
	for _, t := range d.rules.order {
		misses[Key{d.rules.shapes.name, t.name}] = struct{}{}
		misses[Key{d.rules.truncated.name, t.name}] = struct{}{}
	}
	return d.want(ctx, misses)
}
