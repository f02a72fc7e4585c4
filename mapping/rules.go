package mapping

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"casebook.example/audit/ledger"
)

// Rules are a mapping file that was found right. They never change.
type Rules struct {
	hash        [32]byte
	tables      map[string]*table
	order       []*table // of the file
	own         []*table // of the directory alone: lists of links, shapes, truncations
	shapes      *table
	truncated   *table
	authors     fileAuthors
	types       map[string]string // of records, by the words of type columns
	text        string            // of the file
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
	email, name, kind int    // in t.dir; -1: none
	byEmail           *table // lists of users by address; nil without an e-mail column
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
	money    map[string]bool
	hashed   map[string]bool
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
	links   []*table              // lists that its rows stand in
	from    *table                // of a list of links: the table whose rows it lists
	pinned  bool                  // its rows stay in the cache
	called  *template             // what other rows call it; nil: its name
	ownName bool                  // the row's name needs no other row: it may be kept
}

// ownerRule is one way from a row towards its record: by a column, by a pair of type and id, or back through the rows of
// another table that name this one.
type ownerRule struct {
	column string // or the pair's id
	to     *table
	typ    string            // column with the type
	tables map[string]*table // its values
	links  *table            // the list of the rows that name this one; see linksTable
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
	c := &compiler{file: f, src: src, rules: &Rules{hash: sha256.Sum256(text), text: string(text), tables: map[string]*table{}}}
	if err := c.compile(); err != nil {
		return nil, err
	}
	return c.rules, nil
}

// Hash is the SHA-256 of the file's text.
func (r *Rules) Hash() [32]byte { return r.hash }

// stored is the key of the directory row that holds the rules in force.
var storedRules = Key{Table: "(mapping)"}

// Stored is the directory row that says which rules made the entries so far.
func (r *Rules) Stored() StoredRow {
	return StoredRow{storedRules, append(appendJSON([]byte(`{"text":`), r.text), '}')}
}

// InForce reads the rules that made the last entries; nil when there are none yet.
func InForce(ctx context.Context, load func(context.Context, []Key) ([]StoredRow, error)) (*Rules, error) {
	found, err := load(ctx, []Key{storedRules})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	var state struct{ Text string }
	if err := json.Unmarshal(found[0].State, &state); err != nil {
		return nil, fmt.Errorf("the mapping that the audit database holds is not readable: %w", err)
	}
	return Parse("the mapping in force", []byte(state.Text))
}

// Entry is the entry that says that these rules count from here on; before are those that counted until then, or nil.
func (r *Rules) Entry(before *Rules) *ledger.Entry {
	text := func(path, value string) ledger.Field {
		return ledger.Field{Path: path, Type: "text", State: ledger.FieldValue, Value: value}
	}
	e := &ledger.Entry{Kind: ledger.KindConfiguration, Action: "mapping", Initiator: ledger.InitiatorSystem, Summary: "Mapping in force"}
	e.Fields = []ledger.Field{text("mapping.sha256", hex.EncodeToString(r.hash[:]))}
	if before != nil {
		e.Summary = "Mapping changed"
		e.Fields = append(e.Fields, text("mapping.before_sha256", hex.EncodeToString(before.hash[:])))
	}
	e.Fields = append(e.Fields, text(pathMappingText, r.text))
	return e
}

const pathMappingText = "mapping.text"

// PathSeededAt is the field of a configuration entry that says where a snapshot was taken: what the directory holds from
// before, and the entries that follow don't bring, is gone.
const PathSeededAt = "capture.snapshot"

// SeedsSince are the tables that the directory must be filled from again before these rules may follow others: those of
// which it lacks a column.
func (r *Rules) SeedsSince(before *Rules) []SeedTable {
	return slices.DeleteFunc(r.SeedTables(), func(s SeedTable) bool {
		was := before.tables[s.t.name]
		if was == nil || !slices.Equal(was.key, s.t.key) {
			return false
		}
		for _, column := range s.t.dir {
			if _, ok := was.dirAt[column]; !ok {
				return false
			}
		}
		return true
	})
}

// Hashes says whether the file wants keyed hashes, so that there must be a key.
func (r *Rules) Hashes() bool {
	for _, t := range r.order {
		if len(t.hashed) > 0 {
			return true
		}
	}
	return false
}

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

// SeedTables says what the directory is filled from before streaming starts. A table may stand there more than once.
func (r *Rules) SeedTables() []SeedTable {
	var tables []SeedTable
	for _, t := range r.order {
		if len(t.dir) > 0 {
			schema, name, _ := strings.Cut(t.name, ".")
			tables = append(tables, SeedTable{Schema: schema, Name: name, Columns: slices.Clone(t.dir), t: t})
		}
	}
	for _, t := range r.own {
		if t.from == nil {
			continue
		}
		schema, name, _ := strings.Cut(t.from.name, ".")
		by := t.key[0]
		tables = append(tables, SeedTable{Schema: schema, Name: name, Columns: append([]string{by}, t.from.key...), OrderBy: by, t: t})
	}
	return tables
}

// words name the way in an error.
func (o *ownerRule) words() string {
	if o.links != nil {
		return "the way back through " + o.links.name
	}
	return o.column
}

// targets are the tables that the way leads to next.
func (o *ownerRule) targets(yield func(*table) bool) {
	if o.to != nil {
		yield(o.to)
		return
	}
	if o.links != nil {
		yield(o.links.from)
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
