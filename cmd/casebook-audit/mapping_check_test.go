package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/mapping"
)

// Every table and every column of the database is listed with what becomes of it; what does not fit is a finding.
func TestMappingCheck(t *testing.T) {
	t.Parallel()
	db := pgtest.Reference(t)
	db.Exec(t, `alter table cases.programs add column grant_number text; create table public.surprise (id int primary key);
		alter table people.people drop column primary_language`)
	file := filepath.Join(t.TempDir(), "mapping.yaml")
	text := strings.Replace(reference.Mapping, `name: "{name} Case"`, `name: "{nickname} Case"`, 1)
	text = strings.Replace(text, `name: "{first_name[0]}. {last_name}"`, `name: "{full_name}"`, 1)
	text = strings.Replace(text, "full_name, ", "", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	e := &env{stdout: &out, stderr: &out, json: true}
	cmd := newMappingCheckCmd(e)
	cmd.SetArgs([]string{file, "--dsn", db.DSN("")})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(t.Context())
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != exitFinding {
		t.Errorf("a mapping that does not fit ends with %v", err)
	}
	var report struct {
		Tables []struct {
			Name        string
			Fate        mapping.Fate
			ColumnFates []struct{ Column, Fate string }
		} `json:"tables"`
		Findings []finding `json:"findings"`
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatalf("%v: %v\n%s", err, exit, out.String())
	}
	fates, count := map[string]string{}, 0
	for _, table := range report.Tables {
		fates[table.Name] = string(table.Fate)
		for _, c := range table.ColumnFates {
			fates[table.Name+"."+c.Column] = c.Fate
			count++
		}
	}
	for name, want := range map[string]string{
		"people.people": "record", "ops.user_sessions": "off", "public.surprise": "unmapped", "cases.programs.grant_number": "shown",
		"people.people.ssn": "masked", "membership.users.password_digest": "never stored", "content.notes.body": "restricted",
		"people.people.id": "key, shown", "people.people.tenant_id": "tenant", "people.people.custom_fields": "custom fields, by key",
		"cases.case_involvements.case_id": "owner, shown with the name of cases.cases", "cases.cases.updated_at": "noise",
		"services.service_enrollments.total_cost": "shown, as money", "public.surprise.id": "masked: the table is not in the mapping",
	} {
		if fates[name] != want {
			t.Errorf("%s: %q, want %q", name, fates[name], want)
		}
	}
	var columns int
	if err := db.Conn(t).QueryRow(t.Context(), `select count(*) from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p') and not c.relispartition and a.attnum > 0 and not a.attisdropped and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'`).Scan(&columns); err != nil {
		t.Fatal(err)
	}
	if count != columns {
		t.Errorf("%d columns are listed, the database has %d", count, columns)
	}
	codes := map[string]string{}
	for _, f := range report.Findings {
		codes[f.Code] = strings.Join(f.Objects, " ") + f.Mend
	}
	for code, about := range map[string]string{"mapping-column-missing": "cases.cases.nickname", "mapping-table-unmapped": "public.surprise", "mapping-column-generated": "people.people.full_name"} {
		if !strings.Contains(codes[code], about) {
			t.Errorf("no finding %s about %s: %v", code, about, codes)
		}
	}

	out.Reset()
	e.json = false
	cmd = newMappingCheckCmd(e)
	cmd.SetArgs([]string{"../../deploy/reference/mapping.yaml"})
	if err := cmd.ExecuteContext(t.Context()); err != nil || !strings.Contains(out.String(), "people.people ") {
		t.Errorf("the reference mapping: %v\n%s", err, out.String())
	}
}
