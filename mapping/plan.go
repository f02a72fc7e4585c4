package mapping

import (
	"bytes"
	"slices"
	"strings"
	"unsafe"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// Types whose text is displayed in another way in words.
const (
	oidBool        = 16
	oidTimestamp   = 1114
	oidTimestamptz = 1184
)

// plan joins a table's rules with the shape that the stream gave the table: everything by index.
type plan struct {
	rel   *capture.Relation
	t     *table // nil: the table is not in the mapping
	cols  []planColumn
	at    map[string]int
	key   []int // places of the key's columns; nil when the stream lacks one
	dir   []int // place of each directory column; -1: the stream lacks it
	soft  []softPlan
	paths []columnPaths

	compared bool // with the shape that the table had before
}

type planColumn struct {
	name   string
	typ    string
	noise  bool
	hidden bool // the tenant, or a key of one column: said elsewhere in the entry
	key    bool
	class  class
	enum   bool
	array  bool
	bool   bool
	time   bool
	custom bool
	ref    *refRule
	tenant bool   // hidden as such
	hashed bool   // a keyed hash stands beside the masked value
	form   string // how its values read: "enum", "money"; "" as the type says
	label  string // "" where it is what everybody would call the column
}

// columnPaths are the field paths of a column, made once.
type columnPaths struct {
	old, new, oldName, newName, label, class, form, oldHash, newHash string
}

type softPlan struct {
	column int
	by     int
	value  string // "": any value means deleted
	unless []int
}

func newPlan(rules *Rules, rel *capture.Relation) *plan {
	p := &plan{rel: rel, t: rules.tables[rel.FullName], at: make(map[string]int, len(rel.Columns))}
	t := p.t
	p.cols = make([]planColumn, len(rel.Columns))
	p.paths = make([]columnPaths, len(rel.Columns))
	for i := range rel.Columns {
		c := &rel.Columns[i]
		p.at[c.Name] = i
		p.cols[i] = planColumn{
			name: c.Name, typ: c.TypeName, array: strings.HasSuffix(c.TypeName, "[]") || strings.HasPrefix(c.TypeName[strings.LastIndexByte(c.TypeName, '.')+1:], "_"), bool: c.TypeOID == oidBool,
			time: c.TypeOID == oidTimestamp || c.TypeOID == oidTimestamptz,
		}
		p.paths[i] = columnPaths{"old." + c.Name, "new." + c.Name, "oldname." + c.Name, "newname." + c.Name, "label." + c.Name, "class." + c.Name, "form." + c.Name, "hash.old." + c.Name, "hash.new." + c.Name}
		if t == nil {
			continue
		}
		col := &p.cols[i]
		col.noise, col.class, col.enum, col.ref, col.label = t.noise[c.Name], t.class[c.Name], t.enums[c.Name], t.refs[c.Name], t.labels[c.Name]
		col.key = slices.Contains(t.key, c.Name)
		col.tenant = c.Name == t.tenant && t.tenantOf == ""
		col.hidden = col.tenant || len(t.key) == 1 && col.key
		col.hashed = t.hashed[c.Name]
		switch {
		case col.class >= classMasked:
		case t.enums[c.Name]:
			col.form = "enum"
		case t.money[c.Name]:
			col.form = "money"
		}
		col.custom = t.custom != nil && t.custom.Column == c.Name
		if col.ref != nil && col.label == "" {
			col.label = col.ref.label
		}
		if col.label == ledger.Label(c.Name) {
			col.label = ""
		}
	}
	if t == nil {
		p.key = p.places([]string{"id"})
		return p
	}
	p.key = p.places(t.key)
	for _, column := range t.dir {
		p.dir = append(p.dir, p.place(column))
	}
	for _, s := range t.soft {
		plan := softPlan{column: p.place(s.Column), by: p.place(s.By), value: s.Value}
		for _, column := range s.UnlessChanged {
			plan.unless = append(plan.unless, p.place(column))
		}
		if plan.column >= 0 {
			if p.cols[plan.column].bool {
				plan.value = serverBool(plan.value)
			}
			p.soft = append(p.soft, plan)
		}
	}
	return p
}

func (p *plan) place(column string) int {
	if i, ok := p.at[column]; ok {
		return i
	}
	return -1
}

func (p *plan) places(columns []string) []int {
	var places []int
	for _, column := range columns {
		i := p.place(column)
		if i < 0 {
			return nil
		}
		places = append(places, i)
	}
	return places
}

// serverBool writes true and false as the server does.
func serverBool(s string) string {
	switch s {
	case "true", "yes":
		return "t"
	case "false", "no":
		return "f"
	}
	return s
}

// peek looks at bytes as a string without a copy. It must not outlive the step of the iteration.
func peek(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// tupleValue gives column i of a tuple, from the other tuple where the server did not send it because it did not change.
func tupleValue(tuple, other []capture.Value, i int) value {
	if i < 0 || i >= len(tuple) {
		return value{}
	}
	v := tuple[i]
	if v.State == capture.Unchanged && i < len(other) {
		v = other[i]
	}
	switch v.State {
	case capture.Text:
		return value{peek(v.Bytes), known}
	case capture.Null:
		return value{st: null}
	}
	return value{}
}

// rowKey is the row's key, "" when the tuple does not hold it. The result may alias the tuple.
func (p *plan) rowKey(tuple, other []capture.Value) string {
	switch len(p.key) {
	case 0:
		return ""
	case 1:
		return tupleValue(tuple, other, p.key[0]).s
	}
	values := make([]string, 0, 4)
	for _, i := range p.key {
		v := tupleValue(tuple, other, i)
		if v.st != known {
			return ""
		}
		values = append(values, v.s)
	}
	return peek(appendKey(make([]byte, 0, 96), values))
}

// image copies what the directory keeps of a tuple.
func (p *plan) image(tuple, other []capture.Value, fallback image) image {
	img := make(image, len(p.dir))
	for j, i := range p.dir {
		img[j] = tupleValue(tuple, other, i)
		if img[j].st == unknown && j < len(fallback) {
			img[j] = fallback[j]
			continue
		}
		img[j].s = strings.Clone(img[j].s)
	}
	return img
}

// sameImage says for sure that an update left the directory's columns as they were.
func (p *plan) sameImage(old, new []capture.Value) bool {
	if old == nil {
		return false
	}
	for _, i := range p.dir {
		if i >= 0 && !sameValue(old[i], new[i]) {
			return false
		}
	}
	return true
}

// sameValue: equal for sure.
func sameValue(old, new capture.Value) bool {
	switch new.State {
	case capture.Unchanged:
		return true
	case capture.Null:
		return old.State == capture.Null
	case capture.Text:
		return old.State == capture.Text && bytes.Equal(old.Bytes, new.Bytes)
	}
	return false
}

// trustedOld gives the old tuple, or nil when it is only the look of one: a partition that is not FULL under a root that is
// sends NULL for all columns but its key.
func (p *plan) trustedOld(c *capture.Change) []capture.Value {
	if c.Old == nil || p.rel.Identity != 'f' || c.OldKey || len(p.cols) < 2 {
		return c.Old
	}
	others, values := 0, 0
	for i := range c.Old {
		if p.cols[i].key || p.t == nil {
			continue
		}
		others++
		if c.Old[i].State != capture.Null {
			return c.Old
		}
		if c.New != nil && c.New[i].State != capture.Null {
			values++
		}
	}
	if others == 0 || c.New != nil && values == 0 {
		return c.Old
	}
	known := make([]capture.Value, len(c.Old))
	for _, i := range p.key {
		known[i] = c.Old[i]
	}
	return known
}
