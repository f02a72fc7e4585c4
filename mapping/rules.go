package mapping

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"casebook.example/audit/ledger"
)

// Rules are a mapping file that was found right. They never change.
type Rules struct {
	hash        [32]byte
	tables      map[string]*table
	order       []*table
	users       *usersRule
	context     []contextRule
	definitions *definitionsRule
}

// contextRule is a session variable that may name the user; path leads into its JSON, "" takes it as it is.
type contextRule struct {
	variable, path string
}

type usersRule struct {
	t                 *table
	email, name, kind int // in t.dir; -1: none
	initiators        map[string]string
}

// definitionsRule is the table which says what the keys of custom fields are called.
type definitionsRule struct {
	t                *table
	label, sensitive int    // in t.dir
	key              [3]int // which of tenant (0), record type (1), key (2) stands where in the table's key
}

type class uint8

const (
	classPlain class = iota
	classRestricted
	classMasked
	classNever
)

type table struct {
	name     string
	fate     Fate
	reason   string
	key      []string
	record   *fileRecord
	resource string
	section  string
	rowName  *template
	tenant   string // column
	tenantOf string // column of the row that tenant refers to
	owner    []ownerRule
	optional bool
	also     []ownerRule
	refs     map[string]*refRule
	class    map[string]class
	noise    map[string]bool
	enums    map[string]bool
	labels   map[string]string
	soft     []fileSoft
	custom   *fileCustom
	words    wordsRule
	system   []systemRule
	columns  []string // all that the file names, sorted

	at      int                   // in Rules.order
	target  bool                  // other tables look at its rows, so the directory keeps them
	dir     []string              // columns of the directory, the key first
	dirAt   map[string]int        // where they stand
	pairs   map[string]*ownerRule // by the column of the id: owners whose table depends on a type
	called  *template             // what other rows call it; nil: its name
	ownName bool                  // the row's name needs no other row: it may be kept
}

type ownerRule struct {
	column string // or the pair's id
	to     *table
	typ    string            // column with the type
	tables map[string]*table // its values
}

type refRule struct {
	label string
	t     *table
}

type wordsRule struct {
	create, update, delete, softDelete, restore *template
	createWhen, updateOf                        []whenRule
}

type whenRule struct {
	column, value string
	any           bool // any value
	say           *template
}

type systemRule struct {
	fileSystem
	via *table
}

// Parse reads a mapping file. The error of a faulty file is a *FileError with the place.
func Parse(name string, text []byte) (*Rules, error) {
	f, src, err := read(name, text)
	if err != nil {
		return nil, err
	}
	c := &compiler{file: f, src: src, rules: &Rules{hash: sha256.Sum256(text), tables: map[string]*table{}}}
	if err := c.compile(); err != nil {
		return nil, err
	}
	return c.rules, nil
}

// Hash is the SHA-256 of the file's text.
func (r *Rules) Hash() [32]byte { return r.hash }

// Tables lists every table that the file names, sorted.
func (r *Rules) Tables() []TableFate {
	fates := make([]TableFate, len(r.order))
	for i, t := range r.order {
		fates[i] = TableFate{
			Name: t.name, Fate: t.fate, Reason: t.reason, Key: slices.Clone(t.key), Columns: slices.Clone(t.columns),
			Published: t.fate != FateOff, Directory: slices.Clone(t.dir),
		}
	}
	return fates
}

// SeedTables are the tables that the directory is filled from before streaming starts, users first.
func (r *Rules) SeedTables() []SeedTable {
	var tables []SeedTable
	for _, t := range r.order {
		if len(t.dir) > 0 {
			schema, name, _ := strings.Cut(t.name, ".")
			tables = append(tables, SeedTable{Schema: schema, Name: name, Columns: slices.Clone(t.dir)})
		}
	}
	return tables
}

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
	return nil
}

func (c *compiler) recordTypes() error {
	var records []string
	for _, t := range c.rules.order {
		if t.record != nil {
			records = append(records, t.name)
		}
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
						return c.src.fail([]any{"tables", t.name, kind, i}, "%s leads to %s, and from there no way leads to a record", rules[i].column, to.name)
					}
				}
			}
		}
	}
	return nil
}

func (o *ownerRule) targets(yield func(*table) bool) {
	if o.to != nil {
		yield(o.to)
		return
	}
	for _, word := range slices.Sorted(maps.Keys(o.tables)) { // sorted: the same file, the same first fault
		if !yield(o.tables[word]) {
			return
		}
	}
}

// target gives the table that a type's value stands for.
func (o *ownerRule) target(typ string) *table {
	if o.to != nil {
		return o.to
	}
	return o.tables[typ]
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

// keep adds a column to the directory and gives its place; -1 for none.
func (t *table) keep(column string) int {
	if column == "" || !t.target {
		return -1
	}
	if t.dirAt == nil {
		t.dirAt = map[string]int{}
	}
	at, ok := t.dirAt[column]
	if !ok {
		at = len(t.dir)
		t.dir = append(t.dir, column)
		t.dirAt[column] = at
	}
	return at
}

// names adds columns that the file names outside of the table's own block.
func (t *table) names(columns ...string) {
	for _, column := range columns {
		if column != "" && !slices.Contains(t.columns, column) {
			t.columns = append(t.columns, column)
		}
	}
	slices.Sort(t.columns)
}

func (t *table) namesRef(ref *refRule) bool {
	for a := range t.rowName.atoms {
		if t.refs[a.col] == ref {
			return true
		}
	}
	return t.refs[t.tenant] == ref
}

// templates are all of the table's.
func (t *table) templates() []*template {
	w := &t.words
	all := []*template{t.rowName, t.called, w.create, w.update, w.delete, w.softDelete, w.restore}
	for _, when := range [][]whenRule{w.createWhen, w.updateOf} {
		for i := range when {
			all = append(all, when[i].say)
		}
	}
	return all
}

func mapItems(s yaml.MapSlice) func(func(string, any) bool) {
	return func(yield func(string, any) bool) {
		for _, item := range s {
			if !yield(fmt.Sprint(item.Key), item.Value) {
				return
			}
		}
	}
}
