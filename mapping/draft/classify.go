package draft

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// kind is what a table is taken for.
type kind int

const (
	belongs kind = iota // to a record
	record
	lookup // configuration: shared rows that give labels
	people // the users of the application
	owner  // the tenants
	off    // of no interest: sessions, queues, schema versions
)

// sketch is the draft of a whole file.
type sketch struct {
	tables  []*table
	byName  map[string]*table
	users   *table
	tenants *table
	tenant  string   // the tenants' column in other tables
	noise   []string // columns that many tables have and nobody asks about
	types   map[string]string
}

// table is the draft of one.
type table struct {
	*Table
	kind    kind
	why     string
	refs    []*ForeignKey // of one column, to tables that give names
	in      []incoming
	pairs   []pair
	owners  []way
	also    []way
	unsure  string // what a person must decide
	name    string
	soft    []soft
	masked  []string
	never   []string
	limited []string
	noise   []string
	enums   []string
	money   []string
}

type incoming struct {
	from *table
	key  *ForeignKey
}

// pair is a column with a type and one with the key of a row of that type.
type pair struct {
	typ, id string
	tables  map[string]string // by the type's values
	unknown []string
}

var (
	offNames    = regexp.MustCompile(`(^|_)(schema_migrations|migrations|schema_history|ar_internal_metadata|sessions?|jobs?|queues?|notifications?|import_rows|staging|outbox|spatial_ref_sys|cache|locks?)$|^(django_migrations|django_session|flyway_|delayed_|good_job|oban_)`)
	lookupNames = regexp.MustCompile(`(_|^)(types?|status(es)?|categor(y|ies)|kinds?|templates?|template_steps|versions|values|fields|settings|options|programs?|counties|countries|states|roles?|permissions?|codes?|reasons?|lookups?|config)$`)
	userNames   = regexp.MustCompile(`(^|_)(users?|accounts?|staff|employees|members|operators|auth_user)$`)
	tenantNames = regexp.MustCompile(`(^|_)(tenants?|organi[sz]ations?|agenc(y|ies)|accounts|companies)$`)
	byColumns   = regexp.MustCompile(`(_by|_by_id|_by_user_id|^(assignee|author|organizer|uploader|worker|staff|user)(_user)?(_id)?)$`)
)

// newSketch decides what each table is.
func newSketch(c *Catalog) *sketch {
	s := &sketch{byName: map[string]*table{}, types: map[string]string{}}
	for _, t := range c.Tables {
		own := &table{Table: t}
		s.tables = append(s.tables, own)
		s.byName[t.Name] = own
	}
	slices.SortFunc(s.tables, func(a, b *table) int { return cmp.Compare(a.Name, b.Name) })
	for _, t := range s.tables {
		slices.SortFunc(t.ForeignKeys, func(a, b *ForeignKey) int {
			return cmp.Or(cmp.Compare(t.place(a.Columns[0]), t.place(b.Columns[0])), cmp.Compare(a.Name, b.Name))
		})
		for _, fk := range t.ForeignKeys {
			if to := s.byName[fk.Table]; to != nil && to != t {
				to.in = append(to.in, incoming{t, fk})
			}
		}
	}
	s.findUsers()
	s.findTenants()
	for _, t := range s.tables {
		switch base := t.base(); {
		case t == s.users:
			t.kind, t.why = people, "the users of the application: it has an e-mail address, and most columns of the kind created_by lead here"
		case t == s.tenants:
			t.kind, t.why = owner, "the tenants: the column "+s.tenant+" of most tables leads here"
		case t.Unlogged:
			t.kind, t.why = off, "unlogged: its changes are not in the write-ahead log"
		case len(t.Key) == 0:
			t.kind, t.why = off, "without a primary key its rows cannot be told apart; give it one, and a meaning here"
		case offNames.MatchString(base) && len(t.in) == 0:
			t.kind, t.why = off, "guess, by its name: of no interest to an administrator"
		}
	}
	s.findPairs()
	s.findLookups()
	s.findRecords()
	return s
}

func (t *table) base() string {
	_, name, _ := strings.Cut(t.Name, ".")
	return strings.ToLower(name)
}

func (t *table) place(column string) int {
	return slices.IndexFunc(t.Columns, func(c *Column) bool { return c.Name == column })
}

// findUsers looks for the table with an address that the authors' columns lead to.
func (s *sketch) findUsers() {
	best := 0
	for _, t := range s.tables {
		if t.like("email") == "" || t.like("email") != "" && len(t.Key) != 1 {
			continue
		}
		score := 0
		for _, in := range t.in {
			if byColumns.MatchString(strings.ToLower(in.key.Columns[0])) {
				score += 2
			}
		}
		if userNames.MatchString(t.base()) {
			score += 3
		}
		if score > best {
			s.users, best = t, score
		}
	}
}

// findTenants looks for the one column that most tables have in common and that leads to one table.
func (s *sketch) findTenants() {
	count := map[string]int{}
	to := map[string]*table{}
	for _, t := range s.tables {
		for _, fk := range t.ForeignKeys {
			if len(fk.Columns) == 1 && fk.Table != t.Name {
				if target := s.byName[fk.Table]; target != nil && tenantNames.MatchString(target.base()) && target != s.users {
					count[fk.Columns[0]]++
					to[fk.Columns[0]] = target
				}
			}
		}
	}
	best := 0
	for _, column := range sorted(count) {
		if count[column] > best && count[column]*4 >= len(s.tables) {
			s.tenant, s.tenants, best = column, to[column], count[column]
		}
	}
}

// findPairs looks for columns X_type and X_id (or X_table and X_row ...) without a foreign key.
func (s *sketch) findPairs() {
	for _, t := range s.tables {
		for _, c := range t.Columns {
			for _, suffix := range []string{"_type", "_table", "_kind", "_class", "_type_id"} {
				stem, ok := strings.CutSuffix(c.Name, suffix)
				if !ok || stem == "" {
					continue
				}
				id := t.column(stem + "_id")
				if id == nil {
					id = t.column("object_id")
				}
				if id == nil || id == c || t.references(id.Name) || suffix == "_type_id" && !t.references(c.Name) || suffix != "_type_id" && t.references(c.Name) {
					continue
				}
				p := pair{typ: c.Name, id: id.Name, tables: map[string]string{}}
				for _, value := range c.Values {
					if to := s.named(value); to != nil {
						p.tables[value] = to.Name
					} else {
						p.unknown = append(p.unknown, value)
					}
				}
				if len(p.tables) > 0 {
					t.pairs = append(t.pairs, p)
				} else {
					t.unsure = c.Name + " and " + id.Name + " look like a pair of type and key, but the type's values are not known: owner: [{type: " + c.Name + ", id: " + id.Name + ", tables: {...}}]"
				}
				break
			}
		}
	}
}

func (t *table) references(column string) bool {
	return slices.ContainsFunc(t.ForeignKeys, func(fk *ForeignKey) bool { return slices.Contains(fk.Columns, column) })
}

// named finds the table that a type's value means: "case", "Case", "app.Case", "cases", "Intake::Report".
func (s *sketch) named(value string) *table {
	word := strings.ToLower(snake(value[strings.LastIndexAny(value, ".:/")+1:]))
	for _, name := range []string{word, plural(word), strings.TrimSuffix(word, "s")} {
		for _, t := range s.tables {
			if t.base() == name && t.kind != off {
				return t
			}
		}
	}
	for _, name := range []string{word, plural(word)} { // with a prefix: app_case, service_interactions
		for _, t := range s.tables {
			if strings.HasSuffix(t.base(), "_"+name) && t.kind != off {
				return t
			}
		}
	}
	return nil
}

func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if r >= 'A' && r <= 'Z' && i > 0 && s[i-1] >= 'a' && s[i-1] <= 'z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func plural(word string) string {
	switch {
	case word == "person":
		return "people"
	case strings.HasSuffix(word, "y") && !strings.HasSuffix(word, "ay") && !strings.HasSuffix(word, "ey"):
		return strings.TrimSuffix(word, "y") + "ies"
	case strings.HasSuffix(word, "s"), strings.HasSuffix(word, "x"), strings.HasSuffix(word, "ch"):
		return word + "es"
	}
	return word + "s"
}

// findLookups: shared rows without a way of their own to anything, that others refer to, or that are called so.
func (s *sketch) findLookups() {
	for _, t := range s.tables {
		if t.kind != belongs || len(t.pairs) > 0 {
			continue
		}
		if !lookupNames.MatchString(t.base()) {
			continue
		}
		lookup1 := true
		for _, fk := range t.ForeignKeys {
			to := s.byName[fk.Table]
			if to != nil && to != t && to != s.tenants && to != s.users && to.kind == belongs && !lookupNames.MatchString(to.base()) {
				lookup1 = false
			}
		}
		if lookup1 {
			t.kind, t.why = lookup, "guess: configuration, whose rows give labels to others"
		}
	}
	// What belongs to the users or to the tenants is administration.
	for changed := true; changed; {
		changed = false
		for _, t := range s.tables {
			if t.kind != belongs || len(t.pairs) > 0 || len(t.ForeignKeys) == 0 {
				continue
			}
			ways, other := 0, 0
			for _, fk := range t.ForeignKeys {
				to := s.byName[fk.Table]
				switch {
				case to == nil || to == t:
				case to == s.users || to == s.tenants || to.kind == people || to.kind == owner || to.kind == lookup:
					if to != s.tenants || t.Key != nil && slices.Contains(t.Key, fk.Columns[0]) {
						ways++
					}
				default:
					other++
				}
			}
			if ways > 0 && other == 0 && len(t.in) <= 2 && t.member(s) {
				t.kind, t.why, changed = lookup, "guess: administration, as it belongs to users or to configuration", true
			}
		}
	}
}

// member: all that the table's key is made of leads to users, tenants or configuration; or its name begins like theirs.
func (t *table) member(s *sketch) bool {
	for _, to := range []*table{s.users, s.tenants} {
		if to != nil && strings.HasPrefix(t.base(), strings.TrimSuffix(to.base(), "s")) {
			return true
		}
	}
	covered := 0
	for _, column := range t.Key {
		if t.references(column) {
			covered++
		}
	}
	if covered == len(t.Key) {
		return true
	}
	for _, fk := range t.ForeignKeys {
		if to := s.byName[fk.Table]; to != nil && to.kind == lookup && fk.Cascade {
			return true
		}
	}
	return len(t.in) > 0 && t.kind == belongs && s.inUsers(t)
}

// inUsers: everything that refers to the table belongs to users too.
func (s *sketch) inUsers(t *table) bool {
	for _, in := range t.in {
		ok := false
		for _, fk := range in.from.ForeignKeys {
			if fk.Table != t.Name && s.users != nil && fk.Table == s.users.Name && slices.Contains(in.from.Key, fk.Columns[0]) {
				ok = true
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

// findRecords: what stands by itself and much hangs on. A type's value that many pairs have in common names a record.
func (s *sketch) findRecords() {
	score := map[*table]int{}
	for _, t := range s.tables {
		for _, p := range t.pairs {
			for _, name := range p.tables {
				score[s.byName[name]] += 3
			}
		}
		for _, in := range t.in {
			if !byColumns.MatchString(strings.ToLower(in.key.Columns[0])) {
				score[t]++
				if in.key.Cascade {
					score[t]++
				}
			}
		}
	}
	best := 0
	for _, t := range s.tables {
		if t.kind == belongs && !s.held(t) {
			best = max(best, score[t])
		}
	}
	for _, t := range s.tables {
		if t.kind == belongs && !s.held(t) && len(t.Key) == 1 && t.nameColumns(s) != "" && score[t]*6 >= best && score[t] > 1 {
			t.kind, t.why = record, "guess: it stands by itself, and others hang on it"
		}
	}
	for _, t := range s.tables { // types that name records
		for _, p := range t.pairs {
			for value, name := range p.tables {
				if s.byName[name].kind == record {
					s.types[value] = name
				}
			}
		}
	}
}

// held says whether a table's rows hang on others: by a pair, by a foreign key that they cannot be without or go with, or by
// a choice of several.
func (s *sketch) held(t *table) bool {
	if len(t.pairs) > 0 {
		return true
	}
	choice := map[string]bool{}
	for _, fk := range t.ForeignKeys {
		to := s.byName[fk.Table]
		if to == nil || to == t || to.kind != belongs && to.kind != record || byColumns.MatchString(strings.ToLower(fk.Columns[0])) {
			continue
		}
		if c := t.column(fk.Columns[0]); fk.Cascade || c != nil && c.NotNull {
			return true
		}
		if !fk.SetToNull && !strings.Contains(fk.Columns[0], "source") && !strings.Contains(fk.Columns[0], "primary") {
			choice[fk.Table] = true
		}
	}
	return len(choice) > 1
}
