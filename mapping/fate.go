package mapping

import (
	"slices"
	"strings"
)

// ColumnFate says in words what becomes of a column's values; of a column that the file does not name too.
func (r *Rules) ColumnFate(tableName, column string) string {
	t := r.tables[tableName]
	if t == nil {
		return "masked: the table is not in the mapping"
	}
	switch t.fate {
	case FateOff:
		return "not published"
	case FateExcluded, FateLabels:
		if _, kept := t.dirAt[column]; kept {
			return "no entry; kept for names"
		}
		return "no entry"
	}
	var words []string
	add := func(when bool, word string) {
		if when {
			words = append(words, word)
		}
	}
	switch t.class[column] {
	case classNever:
		return "never stored"
	case classMasked:
		add(true, "masked")
		add(t.hashed[column], "with a keyed hash")
	case classRestricted:
		add(true, "restricted")
	}
	add(t.noise[column], "noise")
	add(slices.Contains(t.key, column), "key")
	add(column == t.tenant, "tenant")
	add(t.custom != nil && t.custom.Column == column, "custom fields, by key")
	for i, rules := range [][]ownerRule{t.owner, t.also} {
		leads := slices.ContainsFunc(rules, func(o ownerRule) bool { return o.links == nil && (o.column == column || o.typ == column) })
		add(leads, [...]string{"owner", "also"}[i])
	}
	for i := range t.soft {
		add(t.soft[i].Column == column || t.soft[i].By == column, "soft delete")
	}
	if ref := t.refs[column]; ref != nil {
		words = append(words, "shown with the name of "+ref.t.name)
	}
	if len(words) == 0 || slices.Contains([]string{"key", "owner", "also", "soft delete"}, words[len(words)-1]) {
		words = append(words, "shown")
	}
	add(t.enums[column], "as words")
	add(t.money[column], "as money")
	return strings.Join(words, ", ")
}

// Told says what the entries of a table tell of its rows.
type Told struct {
	Key     []string
	Columns []string // whose values they hold
	Custom  string   // the one that holds custom fields; "" for none
}

// Told picks from a table's columns those whose values are in entries whenever they change.
func (r *Rules) Told(tableName string, columns []string) Told {
	t := r.tables[tableName]
	told := Told{Key: slices.Clone(t.key)}
	for _, column := range columns {
		mark := slices.ContainsFunc(t.soft, func(s fileSoft) bool { return s.By == column || s.Column == column && s.Value == "" })
		if slices.Contains(t.key, column) || mark || t.noise[column] || t.class[column] >= classMasked || column == t.tenant && t.tenantOf == "" {
			continue
		}
		told.Columns = append(told.Columns, column)
		if t.custom != nil && t.custom.Column == column {
			told.Custom = column
		}
	}
	return told
}
