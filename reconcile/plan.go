package reconcile

import (
	"encoding/json"
	"slices"
	"strings"

	"casebook.example/audit/capture"
	"casebook.example/audit/mapping"
)

// plan says how a table is read and compared.
type plan struct {
	name   string
	key    []string
	told   []string // columns whose values are in entries, in the order in which they are read behind the key
	custom string   // the one of them that holds custom fields
	read   capture.TableColumns
}

func newPlan(rules *mapping.Rules, t Table) *plan {
	told := rules.Told(t.Name, t.Columns)
	schema, name, _ := strings.Cut(t.Name, ".")
	p := &plan{name: t.Name, key: told.Key, told: told.Columns, custom: told.Custom}
	p.read = capture.TableColumns{Schema: schema, Table: name, Columns: append(slices.Clone(p.key), p.told...), OrderByKey: p.key}
	return p
}

func (p *plan) rowKey(values []capture.Value) string {
	keys := make([]string, len(p.key))
	for i := range keys {
		keys[i] = string(values[i].Bytes)
	}
	return mapping.RowKey(keys...)
}

// keyBefore is the key that a row had before an update.
func (p *plan) keyBefore(e *entry) string {
	keys := []string{e.row}
	if len(p.key) > 1 {
		keys = mapping.SplitRowKey(e.row)
	}
	if len(keys) != len(p.key) {
		return e.row
	}
	for i, path := range e.paths {
		column, ok := strings.CutPrefix(path, "old.")
		if at := slices.Index(p.key, column); ok && at >= 0 && e.vals[i] != nil {
			keys[at] = *e.vals[i]
		}
	}
	return mapping.RowKey(keys...)
}

// compare gives the columns in which the source's row is not what the log says.
func (p *plan) compare(f *state, values []capture.Value) (differ []string) {
	for i, column := range p.told {
		v := values[len(p.key)+i]
		if column == p.custom {
			differ = append(differ, p.compareCustom(f, v)...)
		}
		want, known := f.known[column]
		if !known {
			continue
		}
		if (want == nil) != (v.State != capture.Text) || want != nil && *want != string(v.Bytes) {
			differ = append(differ, column)
		}
	}
	return differ
}

// compareCustom compares custom fields, key by key.
func (p *plan) compareCustom(f *state, v capture.Value) (differ []string) {
	var fields map[string]json.RawMessage
	if v.State == capture.Text && json.Unmarshal(v.Bytes, &fields) != nil {
		return nil // no object: it stands in entries as a column like others
	}
	for column, want := range f.known {
		key, ok := strings.CutPrefix(column, p.custom+".")
		if !ok {
			continue
		}
		raw, there := fields[key]
		var have *string
		if there && string(raw) != "null" {
			text := string(raw)
			if raw[0] == '"' {
				_ = json.Unmarshal(raw, &text)
			}
			have = &text
		}
		if (want == nil) != (have == nil) || want != nil && *want != *have {
			differ = append(differ, column)
		}
	}
	slices.Sort(differ)
	return differ
}
