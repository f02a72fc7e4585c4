package mapping

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// customDiffers says whether two jsonb objects differ.
func customDiffers(old, new []byte) bool { return !bytes.Equal(old, new) }

// customFields writes a jsonb column of custom fields key by key; false: it is no object, so it is a column like others.
func (x *mapping) customFields(i int) bool {
	var old, new map[string]json.RawMessage
	if v := tupleValue(x.old, nil, i); v.st == known {
		if json.Unmarshal([]byte(v.s), &old) != nil {
			return false
		}
	} else if x.c.Op == capture.OpUpdate && v.st == unknown {
		return false
	}
	if x.c.Op != capture.OpDelete {
		if v := tupleValue(x.c.New, x.old, i); v.st == known {
			if json.Unmarshal([]byte(v.s), &new) != nil {
				return false
			}
		}
	}
	keys := slices.Collect(maps.Keys(old))
	for key := range new {
		if _, ok := old[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	col := &x.p.cols[i]
	for _, key := range keys {
		before, had := old[key]
		now, has := new[key]
		if had && has && bytes.Equal(before, now) {
			continue
		}
		name := col.name + "." + key
		label, sensitive, found := x.definition(key)
		shown := planColumn{name: name, class: col.class}
		if sensitive && shown.class < classMasked {
			shown.class = classMasked
		} else if !found && shown.class == classPlain {
			shown.class = classRestricted // nobody said that everybody may read it
		}
		readable := false
		if x.c.Op != capture.OpInsert {
			readable = x.customField("old."+name, &shown, before, had) || readable
		}
		if x.c.Op != capture.OpDelete {
			readable = x.customField("new."+name, &shown, now, has) || readable
		}
		if label != "" {
			x.add(ledger.Field{Path: "label." + name, Type: "text", State: ledger.FieldValue, Value: label})
		}
		if readable && shown.class == classRestricted {
			x.add(ledger.Field{Path: "class." + name, Type: "text", State: ledger.FieldValue, Value: "restricted"})
		}
	}
	return true
}

// customField writes one value: a text without its quotes.
func (x *mapping) customField(path string, col *planColumn, raw json.RawMessage, there bool) bool {
	v := value{st: null}
	col.typ = "jsonb"
	if there {
		v = value{string(raw), known}
		switch c := raw[0]; {
		case c == '"':
			col.typ = "text"
			if json.Unmarshal(raw, &v.s) != nil {
				v.s = string(raw)
			}
		case c == 't' || c == 'f':
			col.typ = "boolean"
		case c == '-' || c >= '0' && c <= '9':
			col.typ = "numeric"
		case c == 'n':
			v = value{st: null}
		}
	}
	return x.field(path, col, v)
}

// definition looks a custom field up.
func (x *mapping) definition(key string) (label string, sensitive, found bool) {
	d := x.rules.definitions
	if d == nil || x.t.custom.RecordType == "" {
		return "", false, false
	}
	parts := [3]string{x.tenant(&x.is), x.t.custom.RecordType, key}
	r := x.dir.find(x.w, d.t, RowKey(parts[d.key[0]], parts[d.key[1]], parts[d.key[2]]))
	if r == nil || !r.known {
		return "", false, false
	}
	img := r.at(x.w.commit, x.is.side)
	return img.text(d.label), img.text(d.sensitive) == "t", true
}
