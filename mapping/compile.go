package mapping

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"casebook.example/audit/ledger"
)

// compiler turns the file into rules.
type compiler struct {
	file  *file
	src   *source
	rules *Rules
}

func (c *compiler) compile() error {
	f := c.file
	if f.Version != 1 {
		return c.src.fail([]any{"version"}, "version must be 1: this program reads no other")
	}
	if len(f.Tables) == 0 {
		return c.src.fail([]any{"tables"}, "tables is missing: name every table of the database, those without entries too")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Tables)) {
		if schema, rest, ok := strings.Cut(name, "."); !ok || schema == "" || rest == "" || strings.Contains(rest, ".") {
			return c.src.fail([]any{"tables", name}, "%q must be schema.table", name)
		}
		if f.Tables[name] == nil {
			return c.src.fail([]any{"tables", name}, "nothing is said of %s: give it an owner, or a fate (log, labels, excluded, off)", name)
		}
		t := &table{name: name, at: len(c.rules.order)}
		c.rules.tables[name] = t
		c.rules.order = append(c.rules.order, t)
	}
	if err := c.context(); err != nil {
		return err
	}
	c.rules.types = f.RecordTypes
	if f.Authors != nil {
		c.rules.authors = *f.Authors
	}
	for _, t := range c.rules.order {
		tc := &tableCompiler{compiler: c, t: t, f: f.Tables[t.name]}
		if err := tc.compile(); err != nil {
			return err
		}
	}
	if err := c.usersTable(); err != nil {
		return err
	}
	if err := c.definitionsTable(); err != nil {
		return err
	}
	if err := c.recordTypes(); err != nil {
		return err
	}
	for _, t := range c.rules.order {
		if err := c.checkNames(t); err != nil {
			return err
		}
	}
	if err := c.ownersLeadToRecords(); err != nil {
		return err
	}
	c.directories()
	return c.directoryColumns()
}

// directoryColumns: the directory must follow from the log alone. So what it keeps must be in the entries.
func (c *compiler) directoryColumns() error {
	for _, t := range c.rules.order {
		for _, column := range t.dir {
			switch {
			case t.fate == FateOff:
				return c.src.fail([]any{"tables", t.name, "fate"}, "%s is not published, but other tables show its names: they would stay those of the first day; use fate labels", t.name)
			case t.noise[column]:
				return c.src.fail([]any{"tables", t.name}, "%s.%s is noise, but a name or an owner needs it: its changes must be in the log", t.name, column)
			case t.class[column] >= classMasked:
				return c.src.fail([]any{"tables", t.name}, "%s.%s is masked, but a name or an owner needs it", t.name, column)
			case t.custom != nil && t.custom.Column == column:
				return c.src.fail([]any{"tables", t.name}, "%s.%s holds custom fields: it cannot be part of a name", t.name, column)
			}
		}
	}
	return nil
}

func (c *compiler) recordTypes() error {
	var records []string
	seen := map[fileRecord]string{}
	for _, t := range c.rules.order {
		if t.record == nil {
			continue
		}
		records = append(records, t.name)
		if other := seen[*t.record]; other != "" {
			return c.src.fail([]any{"tables", t.name, "record"}, "%s is a %s of %s already: nobody could tell their records apart", other, t.record.Type, t.record.Application)
		}
		seen[*t.record] = t.name
	}
	for _, word := range slices.Sorted(maps.Keys(c.file.RecordTypes)) {
		if name := c.file.RecordTypes[word]; !slices.Contains(records, name) {
			return c.src.fail([]any{"record_types", word}, "%s is not a table with a record%s", name, didYouMean(name, records))
		}
	}
	return nil
}

func (c *compiler) names() []string { return slices.Sorted(maps.Keys(c.rules.tables)) }

// find gives a table that the file names elsewhere.
func (c *compiler) find(name string, path ...any) (*table, error) {
	if t := c.rules.tables[name]; t != nil {
		return t, nil
	}
	return nil, c.src.fail(path, "table %q is not in this mapping%s", name, didYouMean(name, c.names()))
}

func (c *compiler) context() error {
	for _, item := range c.file.Context {
		variable, ok := item.Key.(string)
		if !ok {
			return c.src.fail([]any{"context", fmt.Sprint(item.Key)}, "a session variable is a text like audit.user_id")
		}
		if !slices.Contains(stampVariables, variable) {
			return c.src.fail([]any{"context", variable}, "%s is not a variable that the stamp carries (%s)%s", variable, strings.Join(stampVariables, ", "), didYouMean(variable, stampVariables))
		}
		path, ok := item.Value.(string)
		if item.Value != nil && !ok {
			return c.src.fail([]any{"context", variable}, "behind %s stands nothing, or the path of the user in its JSON, like sub", variable)
		}
		c.rules.context = append(c.rules.context, contextRule{variable, path})
	}
	if len(c.rules.context) == 0 {
		c.rules.context = []contextRule{{variable: "audit.user_id"}}
	}
	return nil
}

func (c *compiler) usersTable() error {
	u := c.file.Users
	if u == nil {
		return nil
	}
	t, err := c.find(u.Table, "users", "table")
	if err != nil {
		return err
	}
	if u.ID == "" {
		u.ID = "id"
	}
	if len(t.key) != 1 || t.key[0] != u.ID {
		return c.src.fail([]any{"users", "id"}, "the key of %s is (%s), so users cannot be found by %s", t.name, strings.Join(t.key, ", "), u.ID)
	}
	for _, column := range []string{u.Email, u.Name, u.Kind} {
		if t.class[column] >= classMasked {
			return c.src.fail([]any{"users"}, "%s of %s is masked: it cannot say who a user is", column, t.name)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(u.Initiators)) {
		initiator := u.Initiators[kind]
		switch initiator {
		case ledger.InitiatorUser, ledger.InitiatorApplication, ledger.InitiatorSystem:
		default:
			return c.src.fail([]any{"users", "initiators", kind}, "an initiator is user, application or system, not %q", initiator)
		}
	}
	t.names(u.Email, u.Name, u.Kind)
	c.rules.users = &usersRule{t: t, initiators: u.Initiators}
	if u.Email != "" {
		c.rules.users.byEmail = c.listOf(t, u.Email)
	}
	return nil
}

func (c *compiler) definitionsTable() error {
	d := c.file.CustomFields
	if d == nil {
		return nil
	}
	t, err := c.find(d.Table, "custom_fields", "table")
	if err != nil {
		return err
	}
	rule := &definitionsRule{t: t}
	want := []string{d.Tenant, d.RecordType, d.Key}
	for i, column := range t.key {
		at := slices.Index(want, column)
		if at < 0 || column == "" || len(t.key) != 3 {
			return c.src.fail([]any{"custom_fields"}, "the key of %s must be tenant, record_type and key; it is (%s)", t.name, strings.Join(t.key, ", "))
		}
		rule.key[i] = at
	}
	if d.Label == "" {
		return c.src.fail([]any{"custom_fields"}, "label is missing: the column of %s that says what a field is called", t.name)
	}
	t.names(d.Label, d.Sensitive)
	c.rules.definitions = rule
	return nil
}

// ownersLeadToRecords: from every table that belongs to a record, each alternative ends at one.
func (c *compiler) ownersLeadToRecords() error {
	var ends func(t *table, seen map[*table]bool) bool
	ends = func(t *table, seen map[*table]bool) bool {
		if t.record != nil {
			return true
		}
		if seen[t] {
			return false
		}
		seen[t] = true
		defer delete(seen, t)
		for i := range t.owner {
			for to := range t.owner[i].targets {
				if ends(to, seen) {
					return true
				}
			}
		}
		return false
	}
	for _, t := range c.rules.order {
		for i, rules := range [][]ownerRule{t.owner, t.also} {
			kind := [...]string{"owner", "also"}[i]
			for i := range rules {
				for to := range rules[i].targets {
					if !ends(to, map[*table]bool{}) {
						return c.src.fail([]any{"tables", t.name, kind, i}, "%s leads to %s, and from there no way leads to a record", rules[i].words(), to.name)
					}
				}
			}
		}
	}
	return nil
}

// directories decides which rows and columns the directory keeps: of rows that others look at, what their name, their
// owner and their tenant need.
func (c *compiler) directories() {
	r := c.rules
	var visit func(t *table)
	visit = func(t *table) {
		if t.target {
			return
		}
		t.target = true
		for _, ref := range t.refs {
			if t.namesRef(ref) {
				visit(ref.t)
			}
		}
	}
	for _, t := range r.order {
		if t.record != nil {
			visit(t)
		}
		if t.fate == FateOff || t.fate == FateExcluded || t.fate == FateLabels {
			continue
		}
		for _, rules := range [][]ownerRule{t.owner, t.also} {
			for i := range rules {
				rules[i].targets(func(to *table) bool { visit(to); return true })
			}
		}
		for _, ref := range t.refs {
			visit(ref.t)
		}
	}
	if r.users != nil {
		visit(r.users.t)
	}
	if r.definitions != nil {
		visit(r.definitions.t)
	}
	r.shapes = c.ownTable("(shape)", "table", "shape")
	r.truncated = c.ownTable("(truncated)", "table")
	r.shapes.pinned, r.truncated.pinned = true, true
	for i, t := range r.own {
		t.at = len(r.order) + i
		if t.from != nil {
			visit(t.from)
		}
	}
	for _, t := range r.order {
		if !t.target {
			continue
		}
		t.dirAt = map[string]int{}
		for _, column := range t.key {
			t.keep(column)
		}
		t.ownName = true
		for a := range t.called.atoms {
			t.keep(a.col)
		}
		for a := range t.rowName.atoms {
			t.keep(a.col)
			if t.refs[a.col] != nil {
				t.ownName = false

			}
		}
		for i := range t.owner {
			t.keep(t.owner[i].column)
			t.keep(t.owner[i].typ)
		}
		t.keep(t.tenant)
		for _, list := range t.links {
			t.keep(list.key[0])
		}
	}
	for _, t := range r.order { // columns that other tables' templates and rules reach for
		for _, tpl := range t.templates() {
			for a := range tpl.atoms {
				if ref := t.refs[a.col]; ref != nil {
					ref.t.keep(a.other)
					ref.t.names(a.other)
				}
			}
		}
		if ref := t.refs[t.tenant]; ref != nil {
			ref.t.keep(t.tenantOf)
			ref.t.names(t.tenantOf)
		}
		for _, s := range t.system {
			if s.via != nil {
				s.via.keep(s.Column)
				s.via.names(s.Column)
			}
		}
	}
	if u := r.users; u != nil {
		f := c.file.Users
		u.email, u.name, u.kind = u.t.keep(f.Email), u.t.keep(f.Name), u.t.keep(f.Kind)
	}
	if d := r.definitions; d != nil {
		d.label, d.sensitive = d.t.keep(c.file.CustomFields.Label), d.t.keep(c.file.CustomFields.Sensitive)
	}
}

// checkNames: what a template shows must not be a secret, and a record's name must not need other rows.
func (c *compiler) checkNames(t *table) error {
	secret := func(t *table, column string) bool { return t.class[column] >= classMasked }
	f := c.file.Tables[t.name]
	check := func(tpl *template, of string, path ...any) error {
		for a := range tpl.atoms {
			column := a.col
			if a.which != 0 {
				column = of
			}
			if secret(t, column) {
				return c.src.fail(append([]any{"tables", t.name}, path...), "%q would show %s, which is masked", tpl.text, column)
			}
			ref := t.refs[column]
			if a.other != "" && ref == nil {
				return c.src.fail(append([]any{"tables", t.name}, path...), "%q: {%s.%s} needs a reference on %s", tpl.text, column, a.other, column)
			}
			if a.other != "" && secret(ref.t, a.other) {
				return c.src.fail(append([]any{"tables", t.name}, path...), "%q would show %s of %s, which is masked", tpl.text, a.other, ref.t.name)
			}
			if t.record != nil && (tpl == t.rowName || tpl == t.called) && ref != nil {
				return c.src.fail(append([]any{"tables", t.name}, path...), "the name of a record may only use its own columns: %s refers to %s", column, ref.t.name)
			}
		}
		return nil
	}
	if err := check(t.rowName, "", "name"); err != nil {
		return err
	}
	if err := check(t.called, "", "called"); err != nil {
		return err
	}
	w := &t.words
	for i, tpl := range []*template{w.create, w.update, w.delete, w.softDelete, w.restore} {
		if err := check(tpl, "", "words", [...]string{"create", "update", "delete", "soft_delete", "restore"}[i]); err != nil {
			return err
		}
	}
	for i, when := range [][]whenRule{w.createWhen, w.updateOf} {
		key := [...]string{"create_when", "update_of"}[i]
		for _, rule := range when {
			name := rule.column
			if !rule.any {
				name += "=" + rule.value
			}
			if err := check(rule.say, rule.column, "words", key, name); err != nil {
				return err
			}
		}
	}
	if f.Fate == "" || f.Fate == FateLog {
		return c.nameLoop(t)
	}
	return nil
}

// nameLoop finds names that need themselves: a's name shows b, b's name shows a.
func (c *compiler) nameLoop(t *table) error {
	var walk func(at *table, depth int) bool
	walk = func(at *table, depth int) bool {
		if depth > len(c.rules.order) {
			return true
		}
		for a := range at.rowName.atoms {
			if ref := at.refs[a.col]; ref != nil && a.other == "" && walk(ref.t, depth+1) {
				return true
			}
		}
		return false
	}
	if walk(t, 0) {
		return c.src.fail([]any{"tables", t.name, "name"}, "the name of %s needs itself, by way of its references", t.name)
	}
	return nil
}
