package draft

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Write gives the mapping file. database is its name, for the heading.
func Write(c *Catalog, database string) string {
	s := newSketch(c)
	s.findOwners()
	s.findNoise()
	for _, t := range s.tables {
		s.findColumns(t)
	}
	w := &writer{s: s}
	w.heading(database)
	for _, t := range s.tables {
		w.table(t)
	}
	return w.String()
}

type writer struct {
	strings.Builder
	s *sketch
}

func (w *writer) line(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

func (w *writer) heading(database string) {
	s := w.s
	w.line("# yaml-language-server: $schema=mapping.schema.json")
	w.line("# Draft of a mapping for %s, out of its catalog. Read every line before it counts: what is called a guess is one.", oneLine(database))
	w.line("# The reference mapping explains every key.")
	w.line("version: 1")
	if s.tenant != "" {
		w.line("\n# The tenant of a row: most tables have this column, and it leads to %s.", s.tenants.Name)
		w.line("tenant: %s", plain(s.tenant))
	} else {
		w.line("\n# No column that names a tenant was found.")
		w.line("tenant: none")
	}
	w.line("\n# Session variables that name the user, the first that is set counts.")
	w.line("context:\n  audit.user_id:\n  app.current_user_id:\n  request.jwt.claims: sub")
	if u := s.users; u != nil {
		w.line("\n# Who the users are: %s", u.why)
		parts := []string{"table: " + plain(u.Name), "id: " + plain(u.Key[0]), "email: " + plain(u.like("email"))}
		for _, column := range []string{"display_name", "name", "full_name", "last_name", "username"} {
			if c := u.column(column); c != nil && !c.Generated {
				parts = append(parts, "name: "+plain(column))
				break
			}
		}
		w.line("users: {%s}", strings.Join(parts, ", "))
	} else {
		w.line("\n# No table of users was found; with one, the log shows names and addresses:\n# users: {table: app.users, id: id, email: email, name: name}")
	}
	create, update := "", ""
	for _, column := range s.noise {
		switch lower := strings.ToLower(column); {
		case strings.HasPrefix(lower, "created_by"):
			create = column
		case strings.HasPrefix(lower, "updated_by"), strings.HasPrefix(lower, "modified_by"):
			update = column
		}
	}
	if create != "" || update != "" {
		w.line("\n# Columns that name the author of a row: where they contradict the session, the entry says so.")
		var parts []string
		if create != "" {
			parts = append(parts, "create: "+plain(create))
		}
		if update != "" {
			parts = append(parts, "update: "+plain(update))
		}
		w.line("authors: {%s}", strings.Join(parts, ", "))
	}
	w.line("\n# Columns without audit meaning, in every table: guesses by their names.")
	w.line("noise: %s", list(s.noise))
	if len(s.types) > 0 {
		w.line("\n# The values of type columns that name records.")
		var parts []string
		for _, value := range sorted(s.types) {
			parts = append(parts, plain(value)+": "+plain(s.types[value]))
		}
		w.line("record_types: {%s}", strings.Join(parts, ", "))
	}
	w.line("\ntables:")
}

func (w *writer) table(t *table) {
	w.line("\n  %s:", plain(t.Name))
	if strings.Count(t.Name, ".") != 1 {
		w.line("    # a dot in a name is more than the mapping can read")
	}
	if t.Comment != "" {
		w.line("    # the database says: %s", oneLine(t.Comment))
	}
	if t.unsure != "" {
		w.line("    # to decide: %s", t.unsure)
	}
	if len(t.Key) > 0 && !(len(t.Key) == 1 && t.Key[0] == "id") {
		w.line("    key: %s", list(t.Key))
	}
	switch t.kind {
	case off:
		w.line("    fate: off\n    reason: %s", quote(t.why))
		return
	case record:
		w.line("    # %s", t.why)
		w.line("    record: {application: %s, type: %s}", plain(title(schema(t.Name))), plain(title(singular(t.base()))))
	case belongs:
	default:
		w.line("    fate: log\n    reason: %s", quote(t.why))
	}
	w.line("    resource: %s", quote(title(t.base())))
	if t.name != "" {
		w.line("    name: %s", quote(t.name))
	}
	if t.column(w.s.tenant) == nil && w.s.tenant != "" {
		w.line("    tenant: none")
	}
	if len(t.owners) > 0 {
		w.line("    owner:")
		w.ways(t.owners)
	}
	if len(t.also) > 0 {
		w.line("    also:")
		w.ways(t.also)
	}
	if len(t.refs) > 0 {
		w.line("    references:")
		for _, fk := range t.refs {
			w.line("      %s: {label: %s, table: %s}", plain(fk.Columns[0]), quote(title(strings.TrimSuffix(snake(fk.Columns[0]), "_id"))), plain(fk.Table))
		}
	}
	for _, group := range []struct {
		key, why string
		columns  []string
	}{
		{"never", "guess: secrets", t.never}, {"masked", "guess: identifies a person, or is nobody's business", t.masked},
		{"restricted", "guess: free text about people", t.limited}, {"noise", "guess", t.noise}, {"enums", "", t.enums}, {"money", "guess", t.money},
	} {
		if len(group.columns) > 0 {
			comment := ""
			if group.why != "" {
				comment = "   # " + group.why
			}
			w.line("    %s: %s%s", group.key, list(group.columns), comment)
		}
	}
	for i, s := range t.soft {
		if i == 0 {
			w.line("    soft_delete:   # guess: by the column's name")
		}
		part := "column: " + plain(s.column)
		if s.by != "" {
			part += ", by: " + plain(s.by)
		}
		if s.value != "" {
			part += ", value: " + quote(s.value)
		}
		w.line("      - {%s}", part)
	}
	for _, c := range t.Columns {
		if c.Comment != "" {
			w.line("    # %s: the database says: %s", c.Name, oneLine(c.Comment))
		}
	}
}

func (w *writer) ways(ways []way) {
	for _, o := range ways {
		switch {
		case o.from != "":
			w.line("      - {from: %s, by: %s}   # %s", plain(o.from), plain(o.by), o.why)
		case o.pair != nil:
			extra := ""
			var parts []string
			for _, value := range sorted(o.pair.tables) {
				if w.s.types[value] != o.pair.tables[value] {
					parts = append(parts, plain(value)+": "+plain(o.pair.tables[value]))
				}
			}
			if len(parts) > 0 {
				extra = ", tables: {" + strings.Join(parts, ", ") + "}"
			}
			w.line("      - {type: %s, id: %s%s}   # %s", plain(o.pair.typ), plain(o.pair.id), extra, o.why)
			if len(o.pair.unknown) > 0 {
				w.line("      # to decide: which tables the values %s mean", oneLine(strings.Join(o.pair.unknown, ", ")))
			}
		default:
			w.line("      - {column: %s, table: %s}   # %s", plain(o.column), plain(o.table), o.why)
		}
	}
}

func schema(name string) string { s, _, _ := strings.Cut(name, "."); return s }

// title writes service_types as Service Types.
func title(s string) string {
	words := strings.FieldsFunc(snake(s), func(r rune) bool { return r == '_' || r == ' ' || r == '-' })
	for i, word := range words {
		words[i] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, " ")
}

var plainText = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*( [A-Za-z0-9_.]+)*$`)

// plain writes a scalar so that YAML reads the same text back.
func plain(s string) string {
	switch strings.ToLower(s) {
	case "null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan":
		return quote(s)
	}
	if plainText.MatchString(s) {
		return s
	}
	return quote(s)
}

// quote is a YAML text in double quotes.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f || r == 0x85 || r == 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func list(items []string) string {
	parts := make([]string, len(items))
	for i, item := range items {
		parts[i] = plain(item)
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// oneLine makes a text safe for a comment.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 || r == 0xfeff {
			return ' '
		}
		return r
	}, s)), " ")
	if runes := []rune(s); len(runes) > 200 {
		s = string(runes[:200]) + "…"
	}
	return s
}
