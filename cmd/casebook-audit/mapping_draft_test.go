package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/mapping"
	"casebook.example/audit/mapping/draft"
)

// owned is what a mapping file says of a table's way to its record, read by its words alone.
type owned struct {
	Fate   string `yaml:"fate"`
	Record any    `yaml:"record"`
	Owner  []struct {
		Column, Table, Type, ID, From, By string
	} `yaml:"owner"`
}

func ownership(t *testing.T, text string) map[string]owned {
	t.Helper()
	var file struct {
		Tables map[string]owned `yaml:"tables"`
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	return file.Tables
}

func draftOf(t *testing.T, db *pgtest.DB) (string, *mapping.Rules) {
	t.Helper()
	catalog, name, err := readDraftCatalog(t.Context(), db.Conn(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	text := draft.Write(catalog, name)
	slices.Reverse(catalog.Tables)
	if again := draft.Write(catalog, name); again != text {
		t.Error("another order of the catalog gives another draft")
	}
	rules, err := mapping.Parse("draft.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return text, rules
}

// Of the tables that belong to a record, the draft of the reference schema proposes the right owner for nine in ten: the
// same as the mapping that people made.
func TestDraftReference(t *testing.T) {
	t.Parallel()
	db := pgtest.Reference(t)
	text, rules := draftOf(t, db)
	got, want := ownership(t, text), ownership(t, reference.Mapping)
	right, all := 0, 0
	for name, w := range want {
		if w.Fate != "" {
			continue
		}
		all++
		g := got[name]
		switch {
		case w.Record != nil && g.Record != nil:
			right++
		case w.Record == nil && len(g.Owner) > 0 && g.Owner[0] == w.Owner[0] && len(g.Owner) == len(w.Owner):
			right++
		default:
			t.Logf("%s: the draft says %+v, people said %+v", name, g, w)
		}
	}
	t.Logf("%d of %d right", right, all)
	if right*10 < all*9 || all < 46 {
		t.Errorf("the draft is right for %d of %d tables\n%s", right, all, text)
	}
	for name, w := range want {
		if g := got[name]; w.Fate != "" && g.Fate == "" {
			t.Logf("%s belongs to no record, the draft says %+v", name, g)
		}
	}

	// It fits its own database, and keeps the secrets that people found.
	c := &checker{cfg: &Config{}, tables: rules.Tables()}
	conn := db.Conn(t)
	cat, err := readSourceCatalog(t.Context(), conn, "postgres", "casebook_audit")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.checkMapping(t.Context(), conn, cat); err != nil {
		t.Fatal(err)
	}
	for _, f := range c.findings {
		if f.Severity == severityError {
			t.Errorf("check of the draft: %s %s", f.What, f.Objects)
		}
	}
	for _, line := range []string{"never: [password_digest]", "never: [storage_key]", "masked: [date_of_birth, ssn"} {
		if !strings.Contains(text, line) {
			t.Errorf("the draft lacks %q", line)
		}
	}
}

// Another style of schema: integer keys, one schema, prefixes, quoted names, a composite key, a soft delete by a flag.
func TestDraftOtherStyle(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, `
		create table auth_user (id serial primary key, email text not null, password text, last_name text);
		create table clinic_patient (id serial primary key, first_name text, last_name text, ssn text, is_deleted boolean default false, created_by int references auth_user);
		create table clinic_visit (id serial primary key, patient_id int not null references clinic_patient on delete cascade, doctor_id int references auth_user, notes text, fee numeric(8,2));
		create table "clinic_visitItem" (visit_id int references clinic_visit on delete cascade, "lineNo" int, "itemName" text, primary key (visit_id, "lineNo"));
		create table clinic_attachment (id serial primary key, content_type text check (content_type in ('clinic_patient', 'clinic_visit')), object_id int, file_name text, storage_key text);
		create table clinic_address (id serial primary key, city text, street text);
		create table clinic_patient_address (patient_id int references clinic_patient on delete cascade, address_id int references clinic_address, primary key (patient_id, address_id));
		create table clinic_diagnosis_code (id serial primary key, code text, label text);
		create table clinic_visit_diagnosis (id serial primary key, visit_id int not null references clinic_visit on delete cascade, diagnosis_code_id int references clinic_diagnosis_code);
		create table django_session (session_key text primary key, session_data text);
		create unlogged table scratch (id int primary key);
		create table heap (a int);
		create table "off" ("null" int primary key, "yes" text);
		comment on table clinic_visit is E'One visit.\nWith a line break: and #odd "things"';
		comment on column clinic_patient.last_name is 'Family name'`)
	text, rules := draftOf(t, db)
	got := ownership(t, text)
	if got["public.clinic_patient"].Record == nil {
		t.Error("the patient is no record")
	}
	for table, want := range map[string]string{
		"public.clinic_visit": "patient_id", "public.clinic_visitItem": "visit_id", "public.clinic_visit_diagnosis": "visit_id", "public.clinic_patient_address": "patient_id",
	} {
		if o := got[table].Owner; len(o) != 1 || o[0].Column != want {
			t.Errorf("%s: %+v", table, o)
		}
	}
	if o := got["public.clinic_attachment"].Owner; len(o) != 1 || o[0].Type != "content_type" || o[0].ID != "object_id" {
		t.Errorf("the pair: %+v", o)
	}
	if o := got["public.clinic_address"].Owner; len(o) != 1 || o[0].From != "public.clinic_patient_address" || o[0].By != "address_id" {
		t.Errorf("the shared address: %+v", o)
	}
	for _, f := range rules.Tables() {
		off := slices.Contains([]string{"public.django_session", "public.scratch", "public.heap"}, f.Name)
		if (f.Fate == mapping.FateOff) != off {
			t.Errorf("%s is %s", f.Name, f.Fate)
		}
	}
	for _, line := range []string{"never: [password]", "masked: [ssn]", "restricted: [notes]", "money: [fee]", "{column: is_deleted, value: \"true\"}", "users: {table: public.auth_user,"} {
		if !strings.Contains(text, line) {
			t.Errorf("the draft lacks %q", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// The command never overwrites a file.
func TestDraftFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mapping.yaml")
	if err := writeDraft(nil, path, "one"); err != nil {
		t.Fatal(err)
	}
	if err := writeDraft(nil, path, "two"); err == nil {
		t.Error("a file was overwritten")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "one" {
		t.Errorf("the file holds %q (%v)", text, err)
	}
}
