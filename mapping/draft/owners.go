package draft

import (
	"slices"
	"strings"
)

// way is one way from a row towards its record.
type way struct {
	column, table string // a foreign key
	pair          *pair
	from, by      string // back through the rows of another table
	why           string
}

// findOwners gives every table that is left its ways, nearest to a record first, until nothing more leads to one.
func (s *sketch) findOwners() {
	leads := map[*table]bool{}
	for _, t := range s.tables {
		if t.kind == record {
			leads[t] = true
		}
	}
	for changed := true; changed; {
		changed = false
		for _, t := range s.tables {
			if t.kind != belongs || leads[t] {
				continue
			}
			if t.owners = s.ways(t, leads); len(t.owners) > 0 {
				leads[t], changed = true, true
			}
		}
	}
	for _, t := range s.tables { // again, now that all is known: a nearer way may have come
		if t.kind == belongs && leads[t] {
			t.owners = s.ways(t, leads)
		}
	}
	for _, t := range s.tables {
		if t.kind != belongs || leads[t] {
			continue
		}
		for _, in := range t.in { // shared: other rows name it
			if len(in.key.Columns) == 1 && len(t.Key) == 1 && (leads[in.from] && in.from.kind == belongs) {
				t.owners = append(t.owners, way{from: in.from.Name, by: in.key.Columns[0], why: "its own rows lead nowhere, but those of " + in.from.Name + " name them (" + in.key.Name + ")"})
			}
		}
	}
	for _, t := range s.tables {
		if t.kind == belongs && len(t.owners) == 0 {
			t.kind = lookup
			t.why = "guess: no way leads from here to a record"
			if len(t.in) == 0 && len(t.ForeignKeys) == 0 {
				t.why = "guess: nothing refers to it, and it refers to nothing"
			}
		}
	}
	for _, t := range s.tables {
		s.findAlso(t)
		for _, fk := range t.ForeignKeys {
			to := s.byName[fk.Table]
			if len(fk.Columns) == 1 && to != nil && to.kind != off && len(to.Key) == 1 && fk.Columns[0] != s.tenant {
				t.refs = append(t.refs, fk)
			}
		}
	}
}

// ways are the owners of a table: a pair; or the one foreign key that holds its rows; or a choice of several.
func (s *sketch) ways(t *table, leads map[*table]bool) []way {
	for i := range t.pairs {
		p := &t.pairs[i]
		for _, name := range p.tables {
			if leads[s.byName[name]] && s.byName[name] != t {
				return []way{{pair: p, why: p.typ + " says which table, " + p.id + " which row"}}
			}
		}
	}
	var best *ForeignKey
	bestScore := 0
	var choice []*ForeignKey
	for _, fk := range t.ForeignKeys {
		to := s.byName[fk.Table]
		if len(fk.Columns) != 1 || to == nil || to == t || !leads[to] || len(to.Key) != 1 || byColumns.MatchString(strings.ToLower(fk.Columns[0])) {
			continue
		}
		c := t.column(fk.Columns[0])
		score := 1
		if c.NotNull {
			score += 4
		}
		if fk.Cascade {
			score += 4
		}
		if slices.Index(t.Key, c.Name) == 0 {
			score += 2
		}
		if stem := strings.TrimSuffix(singular(to.base()), "_"); stem != "" && strings.HasPrefix(t.base(), stem) {
			score += 5
		}
		if fk.SetToNull || strings.Contains(c.Name, "source") || strings.Contains(c.Name, "primary") {
			score -= 3
		}
		if !c.NotNull {
			choice = append(choice, fk)
		}
		if best == nil || score > bestScore {
			best, bestScore = fk, score
		}
	}
	if best == nil {
		return nil
	}
	if t.column(best.Columns[0]).NotNull {
		return []way{{column: best.Columns[0], table: best.Table, why: "by the foreign key " + best.Name}}
	}
	var ways []way
	for _, fk := range choice {
		ways = append(ways, way{column: fk.Columns[0], table: fk.Table, why: "by the foreign key " + fk.Name})
	}
	if len(ways) > 1 {
		ways[0].why += "; the first that has a value counts"
	}
	return ways
}

// findAlso: further records that a row of several keys concerns.
func (s *sketch) findAlso(t *table) {
	if t.kind != belongs || len(t.owners) == 0 || t.owners[0].from != "" {
		return
	}
	for _, fk := range t.ForeignKeys {
		to := s.byName[fk.Table]
		if len(fk.Columns) != 1 || to == nil || to.kind != record || byColumns.MatchString(strings.ToLower(fk.Columns[0])) {
			continue
		}
		if slices.ContainsFunc(t.owners, func(w way) bool { return w.column == fk.Columns[0] }) || len(t.owners) > 1 && slices.ContainsFunc(t.owners, func(w way) bool { return w.table == fk.Table }) {
			continue
		}
		t.also = append(t.also, way{column: fk.Columns[0], table: fk.Table, why: "guess: " + fk.Name + " leads to another record"})
	}
}

func singular(word string) string {
	switch {
	case word == "people":
		return "person"
	case strings.HasSuffix(word, "ies"):
		return strings.TrimSuffix(word, "ies") + "y"
	case strings.HasSuffix(word, "ses"), strings.HasSuffix(word, "xes"), strings.HasSuffix(word, "ches"):
		if strings.HasSuffix(word, "cases") || strings.HasSuffix(word, "ases") {
			return strings.TrimSuffix(word, "s")
		}
		return strings.TrimSuffix(word, "es")
	}
	return strings.TrimSuffix(word, "s")
}
