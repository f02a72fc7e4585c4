package mapping

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"casebook.example/audit/deploy/reference"
)

// small is a right file; each case replaces one thing in it.
const small = `version: 1
tenant: tenant_id
context:
  audit.user_id:
  request.jwt.claims: sub
users: {table: app.users, email: email, name: name, kind: kind, initiators: {robot: application}}
noise: [updated_at]
record_types: {case: app.cases}
tables:
  app.cases:
    record: {application: Engage, type: Case}
    resource: Cases
    name: "{title} Case"
    soft_delete: [{column: deleted_at}]
    words:
      create: Case created
      update_of:
        status: "Status changed from {old} to {new}"
  app.users:
    fate: log
    resource: Administration
    name: "{name}"
    never: [password]
  app.notes:
    resource: Notes
    name: "{subject}"
    owner:
      - {type: on_type, id: on_id}
    references:
      author_id: {label: Author, table: app.users}
    masked: [secret]
    system:
      - {no_user: true, only: [locked_at]}
  app.files:
    resource: Files
    owner:
      - {column: note_id, table: app.notes}
    also:
      - {column: case_id, table: app.cases}
  app.jobs:
    fate: off
    reason: a queue
`

var faulty = []struct{ name, old, new string }{
	{"no YAML", "tables:\n", "tables: [\n"},
	{"two documents", "version: 1\n", "version: 1\n---\nversion: 1\n"},
	{"unknown key", "    resource: Notes", "    resorce: Notes"},
	{"unknown key at the top", "noise: ", "nois: "},
	{"unknown key, nothing near", "noise: ", "favourite_colour: "},
	{"a key twice", "    resource: Notes\n", "    resource: Notes\n    resource: Notes\n"},
	{"a table twice", "  app.jobs:\n", "  app.notes:\n    fate: off\n    reason: x\n  app.jobs:\n"},
	{"text for a list", "noise: [updated_at]", "noise: updated_at"},
	{"list for a text", "    resource: Notes", "    resource: [Notes]"},
	{"text for a number", "version: 1", "version: one"},
	{"text for true", "no_user: true", "no_user: maybe"},
	{"group for a list", "      - {type: on_type, id: on_id}", "      type: on_type"},
	{"another version", "version: 1", "version: 2"},
	{"no tables", small[strings.Index(small, "tables:\n"):], "tables: {}\n"},
	{"empty", small, ""},
	{"table without schema", "  app.jobs:", "  jobs:"},
	{"nothing said of a table", "  app.jobs:\n    fate: off\n    reason: a queue\n", "  app.jobs:\n"},
	{"neither owner nor fate", "    fate: off\n    reason: a queue", "    resource: Jobs"},
	{"unknown fate", "fate: off", "fate: of"},
	{"no reason", "    reason: a queue\n", ""},
	{"no resource", "    resource: Files\n", ""},
	{"owner of an off table", "    reason: a queue", "    reason: a queue\n    owner: [{column: note_id, table: app.notes}]"},
	{"unknown owner table", "{column: note_id, table: app.notes}", "{column: note_id, table: app.note}"},
	{"half an owner", "{column: note_id, table: app.notes}", "{column: note_id}"},
	{"a pair without tables", "record_types: {case: app.cases}\n", ""},
	{"a type that is no record", "record_types: {case: app.cases}", "record_types: {case: app.users}"},
	{"owners in a circle", "      - {type: on_type, id: on_id}", "      - {column: file_id, table: app.files}"},
	{"owner that leads nowhere", "{column: case_id, table: app.cases}", "{column: user_id, table: app.users}"},
	{"record with an owner", "    soft_delete:", "    owner: [{column: x, table: app.cases}]\n    soft_delete:"},
	{"record without a type", "{application: Engage, type: Case}", "{application: Engage}"},
	{"record without a name", "    name: \"{title} Case\"\n", ""},
	{"reference to nowhere", "table: app.users}\n    masked", "table: app.user}\n    masked"},
	{"masked in a name", "name: \"{subject}\"", "name: \"{secret}\""},
	{"masked in words", "    masked: [secret]", "    masked: [secret]\n    words: {update_of: {secret: \"Secret is {new}\"}}"},
	{"never in a reference", "name: \"{subject}\"", "name: \"{author_id.password}\""},
	{"masked and never", "    masked: [secret]", "    masked: [secret]\n    never: [secret]"},
	{"masked user", "never: [password]", "never: [email]"},
	{"masked key", "    masked: [secret]", "    masked: [secret]\n    key: [secret]"},
	{"open brace", "\"{subject}\"", "\"{subject\""},
	{"close brace", "\"{subject}\"", "\"subject}\""},
	{"bad part", "\"{subject}\"", "\"{sub ject}\""},
	{"bad format", "\"{subject}\"", "\"{subject:long}\""},
	{"old where no column is", "create: Case created", "create: Case {new}"},
	{"column of no reference", "\"{subject}\"", "\"{subject.name}\""},
	{"a record's name needs others", "    soft_delete:", "    references: {boss_id: {table: app.cases}}\n    called: \"{boss_id}\"\n    soft_delete:"},
	{"names in a circle", "    name: \"{name}\"\n", "    name: \"{boss_id}\"\n    references: {boss_id: {table: app.users}}\n"},
	{"empty rule", "{no_user: true, only: [locked_at]}", "{no_user: false}"},
	{"rule without value", "only: [locked_at]}", "column: kind}"},
	{"rule on a wrong word", "only: [locked_at]}", "on: [insert]}"},
	{"unknown variable", "  audit.user_id:\n", "  audit.userid:\n"},
	{"unknown initiator", "robot: application", "robot: machine"},
	{"users not found by their key", "users: {table: app.users,", "users: {table: app.users, id: email,"},
	{"tenant of no reference", "    resource: Files", "    resource: Files\n    tenant: note_id.tenant_id"},
	{"two records of one name", "  app.jobs:\n    fate: off\n    reason: a queue\n", "  app.jobs:\n    record: {application: Engage, type: Case}\n    resource: Jobs\n    name: \"{id}\"\n"},
	{"hash of what is shown", "    masked: [secret]", "    masked: [secret]\n    hashed: [subject]"},
	{"hash of what is never stored", "never: [password]", "never: [password]\n    hashed: [password]"},
	{"links from nowhere", "{column: note_id, table: app.notes}", "{from: app.link, by: file_id}"},
	{"half a link", "{column: note_id, table: app.notes}", "{from: app.notes}"},
	{"links that lead nowhere", "{column: note_id, table: app.notes}", "{from: app.users, by: file_id}"},
	{"links to a composite key", "    resource: Files\n    owner:\n      - {column: note_id, table: app.notes}", "    resource: Files\n    key: [a, b]\n    owner:\n      - {from: app.notes, by: file_id}"},
	{"noise in a name", "noise: [updated_at]", "noise: [updated_at, title]"},
	{"custom fields in a name", "    soft_delete:", "    custom_fields: {column: title}\n    soft_delete:"},
	{"names of a table that is off", "table: app.users}\n    masked", "table: app.users}\n      job_id: {table: app.jobs}\n    masked"},
	{"composite owner", "  app.notes:\n", "  app.notes:\n    key: [a, b]\n"},
}

// TestFaults: what is wrong, where, and what to write instead.
func TestFaults(t *testing.T) {
	t.Parallel()
	if _, err := Parse("mapping.yaml", []byte(small)); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range faulty {
		text := strings.Replace(small, f.old, f.new, 1)
		if text == small {
			t.Errorf("%s: the file has no %q", f.name, f.old)
		}
		_, err := Parse("mapping.yaml", []byte(text))
		if err == nil {
			t.Errorf("%s: the file is taken", f.name)
			continue
		}
		if _, again := Parse("mapping.yaml", []byte(text)); again.Error() != err.Error() {
			t.Errorf("%s: the error is another one each time", f.name)
		}
		fmt.Fprintf(&got, "== %s\n%s\n", f.name, err)
	}
	golden(t, "faults", got.String())
}

// TestReference: every table of the schema is mapped or left out by name.
func TestReference(t *testing.T) {
	t.Parallel()
	rules, err := Parse("mapping.yaml", []byte(reference.Mapping))
	if err != nil {
		t.Fatal(err)
	}
	count := map[Fate]int{}
	for _, f := range rules.Tables() {
		count[f.Fate]++
		if f.Fate != FateRecord && f.Fate != FateBelongs && f.Reason == "" {
			t.Errorf("%s is %s for no reason", f.Name, f.Fate)
		}
		for i, column := range f.Key {
			if len(f.Directory) > 0 && f.Directory[i] != column {
				t.Errorf("the directory of %s does not begin with its key", f.Name)
			}
		}
		for _, column := range f.Directory {
			if !slices.Contains(f.Columns, column) {
				t.Errorf("%s.%s is in the directory, but not among the columns that are named", f.Name, column)
			}
		}
		created := strings.Contains(reference.Schema, "CREATE TABLE "+f.Name+" (")
		if !created {
			t.Errorf("the schema has no table %s", f.Name)
		}
	}
	if n := strings.Count(reference.Schema, "\nCREATE TABLE ") - 1; n != len(rules.Tables()) { // one is a partition
		t.Errorf("the schema has %d tables, the mapping %d", n, len(rules.Tables()))
	}
	want := map[Fate]int{FateRecord: 4, FateBelongs: 42, FateLog: 15, FateExcluded: 1, FateOff: 6}
	if fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("fates are %v, want %v", count, want)
	}
}

func TestRowKey(t *testing.T) {
	t.Parallel()
	for want, values := range map[string][]string{
		"a": {"a"}, `a,b\`: {`a,b\`}, "a,b": {"a", "b"}, `a\,b,c\\`: {"a,b", `c\`}, ",": {"", ""},
	} {
		if got := RowKey(values...); got != want {
			t.Errorf("RowKey(%q) = %q, want %q", values, got, want)
		}
	}
}

func TestAppendJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text") + "\u2028\u2029<>&\"\\"
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendJSON(nil, s)); got != string(want) {
			t.Fatalf("%q is written as %s, not as %s", s, got, want)
		}
	})
}

func TestJSONPath(t *testing.T) {
	t.Parallel()
	const claims = `{"sub": "u1", "n": 9007199254740993, "https://x.io/claims": {"user-id": "u2"}, "a": {"b": {"c": "u3"}}, "l": ["x"], "e": null}`
	for path, want := range map[string]string{
		"sub": "u1", "n": "9007199254740993", "https://x.io/claims.user-id": "u2", "a.b.c": "u3", "a.b": "", "l": "", "e": "", "x": "", "sub.x": "",
	} {
		if got := jsonPath(claims, path); got != want {
			t.Errorf("%s gives %q, want %q", path, got, want)
		}
	}
	if got := jsonPath("no JSON", "sub"); got != "" {
		t.Errorf("no JSON gives %q", got)
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	values := map[string]string{"first": "Éva", "last": "Reyes", "empty": "", "at": "2026-03-20 15:04:05+00", "long": "one two three four"}
	show := func(b []byte, a *atom) []byte {
		if values[a.col] == "" {
			return b
		}
		return a.shape(b, values[a.col])
	}
	for _, c := range []struct{ text, name, words string }{
		{"{first[0]}. {last}", "É. Reyes", "É. Reyes"},
		{"{empty[0]}. {last}", "Reyes", ". Reyes"},
		{"{first} - {empty}", "Éva", "Éva - "},
		{"{empty} - {last}", "Reyes", " - Reyes"},
		{"{empty} Case", "Case", " Case"},
		{"Note: {empty}", "", "Note: "},
		{"{empty|first} x", "Éva x", "Éva x"},
		{"{empty|'nobody'}, {at:date}", "nobody, 2026-03-20", "nobody, 2026-03-20"},
		{"at {at:time}", "at 15:04", "at 15:04"},
		{"{long:8}", "one two…", "one two…"},
		{"{long:80}", "one two three four", "one two three four"},
		{"{empty} ({empty})", ")", " ()"},
		{"plain", "plain", "plain"},
	} {
		tpl, err := parseTemplate(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(tpl.render(nil, false, show)); got != c.name {
			t.Errorf("%s as a name is %q, want %q", c.text, got, c.name)
		}
		if got := string(tpl.render(nil, true, show)); got != c.words {
			t.Errorf("%s as words is %q, want %q", c.text, got, c.words)
		}
	}
}
