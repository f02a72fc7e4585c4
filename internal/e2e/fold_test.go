package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
)

// Two values that a row of the fold may have beside those of the source.
const (
	present = "\x00present" // there is a value that the log does not show
	maybe   = "\x00maybe"   // there may be one: the log says only that it changed
)

// fold is the state that the entries make of the tables.
type fold struct {
	meaning map[string]*tableMeaning
	state   tables
	applied map[string]int // entries by table and action
}

// checkFold plays all entries on the tables as they were before the first one. What comes out must be the tables as
// they are now, row for row. On the way, each old value must be what the entries before it have made of the row.
func checkFold(t *testing.T, meaning map[string]*tableMeaning, before tables, entries []*entry, now tables) {
	t.Helper()
	f := &fold{meaning, before, map[string]int{}}
	for _, e := range entries {
		if e.kind != ledger.KindChange && e.kind != ledger.KindTruncate {
			continue
		}
		if err := f.apply(e); err != nil {
			t.Fatalf("entry %d (%s, %d), %s %s (%s) %q: %v", e.seq, e.commit, e.ordinal, e.action, e.table, e.row, e.summary, err)
		}
		f.applied[e.table+" "+e.action]++
	}
	wrong := 0
	complain := func(format string, args ...any) {
		if wrong++; wrong <= 20 {
			t.Errorf(format, args...)
		}
	}
	for name, rows := range now {
		for _, key := range slices.Sorted(maps.Keys(rows)) {
			have, ok := f.state[name][key]
			if !ok {
				complain("%s %s is in the source, not in the log", name, key)
			} else if difference := have.differs(rows[key]); difference != "" {
				complain("%s %s: %s", name, key, difference)
			}
			delete(f.state[name], key)
		}
		for key := range f.state[name] {
			complain("%s %s is in the log, not in the source", name, key)
		}
	}
	if wrong > 20 {
		t.Errorf("%d rows are wrong", wrong)
	}
	t.Logf("entries of %d kinds: %v", len(f.applied), f.applied)
}

// apply does to the rows of a table what the entry says was done.
func (f *fold) apply(e *entry) error {
	meaning, rows := f.meaning[e.table], f.state[e.table]
	if meaning == nil {
		return fmt.Errorf("the mapping does not audit this table")
	}
	changes, err := e.changes(meaning)
	if err != nil {
		return err
	}
	switch e.action {
	case "truncate":
		clear(rows)
		return nil
	case ledger.ActionCreate:
		if rows[e.row] != nil {
			return fmt.Errorf("the row is there already")
		}
		rows[e.row] = row{}
		return rows[e.row].change(changes)
	}
	key := meaning.oldKey(e.row, changes)
	r := rows[key]
	if r == nil {
		return fmt.Errorf("there is no row %s", key)
	}
	whole := r.whole(changes) // before the change
	if err := r.change(changes); err != nil {
		return err
	}
	switch {
	case e.action == ledger.ActionDelete && whole:
		delete(rows, key)
	case e.action == ledger.ActionDelete && len(meaning.Soft) > 0: // the row stays
		r.soften(meaning, present)
	case e.action == ledger.ActionUpdate && len(changes) == 0: // nothing but the mark of a soft delete went away
		r.soften(meaning, "")
	case e.action == ledger.ActionUpdate:
		if key != e.row {
			if rows[e.row] != nil {
				return fmt.Errorf("there is a row under the new key already")
			}
			delete(rows, key)
			rows[e.row] = r
		}
	default:
		return fmt.Errorf("it does not list all that the row has: %s", r)
	}
	return nil
}

// change is what an entry says of one column.
type change struct {
	old, new       string // "": NULL or not said
	hasOld, hasNew bool
}

// changes reads the old and new values of an entry. An empty text is a value, so it is told from NULL by a letter in
// front: "=" for a value.
func (e *entry) changes(meaning *tableMeaning) (map[string]change, error) {
	all := map[string]change{}
	for i, path := range e.paths {
		which, column, _ := strings.Cut(path, ".")
		if which != "old" && which != "new" {
			continue
		}
		var v string
		switch state := ledger.FieldState(e.states[i]); state {
		case ledger.FieldNull:
		case ledger.FieldValue:
			v = "=" + e.values[i]
			if slices.Contains(meaning.Masked, column) || slices.Contains(meaning.Never, column) {
				return nil, fmt.Errorf("%s shows a value that the mapping withholds", path)
			}
		case ledger.FieldMasked:
			v = present
			if e.action == ledger.ActionUpdate {
				v = maybe
			}
		default:
			return nil, fmt.Errorf("%s has state %d", path, state)
		}
		c := all[column]
		if which == "old" {
			c.old, c.hasOld = v, true
		} else {
			c.new, c.hasNew = v, true
		}
		all[column] = c
	}
	return all, nil
}

// whole says whether the changes list every column that the row has as one that goes: that is a row which is deleted,
// and not only marked so.
func (r row) whole(changes map[string]change) bool {
	for column, v := range r {
		if c := changes[column]; v != maybe && (!c.hasOld || c.hasNew) {
			return false
		}
	}
	return len(changes) > 0
}

// change checks the old values and sets the new ones.
func (r row) change(changes map[string]change) error {
	for column, c := range changes {
		if c.hasOld && !same(r[column], c.old) {
			return fmt.Errorf("old.%s is %.60q, the row has %.60q", column, c.old, r[column])
		}
		if c.hasNew {
			r.set(column, c.new)
		}
	}
	return nil
}

func (r row) set(column, v string) {
	if v == "" {
		delete(r, column)
	} else {
		r[column] = v
	}
}

// soften marks a row as deleted, or takes the mark away. The log says by whom in the entry, not as a value.
func (r row) soften(meaning *tableMeaning, v string) {
	for _, soft := range meaning.Soft {
		if soft.Value == "" {
			r.set(soft.Column, v)
		}
		if soft.By != "" {
			r[soft.By] = maybe
		}
	}
}

// oldKey is the key that the row had before the changes.
func (m *tableMeaning) oldKey(key string, changes map[string]change) string {
	parts := splitKey(key)
	for i, column := range m.Key {
		if c, ok := changes[column]; ok && c.hasOld && c.hasNew && i < len(parts) {
			parts[i] = strings.TrimPrefix(c.old, "=")
		}
	}
	if len(m.Key) == 1 {
		if c, ok := changes[m.Key[0]]; ok && c.hasOld && c.hasNew {
			return strings.TrimPrefix(c.old, "=")
		}
		return key
	}
	return mapping.RowKey(parts...)
}

// splitKey undoes mapping.RowKey for keys of several columns.
func splitKey(key string) []string {
	var parts []string
	var part strings.Builder
	for i := 0; i < len(key); i++ {
		switch {
		case key[i] == '\\' && i+1 < len(key):
			i++
			part.WriteByte(key[i])
		case key[i] == ',':
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(key[i])
		}
	}
	return append(parts, part.String())
}

// same compares two values of which the log may withhold one or both.
func same(a, b string) bool {
	switch {
	case a == maybe || b == maybe:
		return true
	case a == present || b == present:
		return a != "" && b != ""
	}
	return a == b
}

// differs names one column in which the log's row is not the source's, "" when there is none.
func (r row) differs(want row) string {
	for column := range want {
		if !same(r[column], want[column]) {
			return fmt.Sprintf("%s is %.60q in the log, %.60q in the source", column, r[column], want[column])
		}
	}
	for column := range r {
		if !same(r[column], want[column]) {
			return fmt.Sprintf("%s is %.60q in the log, NULL in the source", column, r[column])
		}
	}
	return ""
}
