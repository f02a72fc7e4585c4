package query_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/query"
	auditsql "casebook.example/audit/sql"
)

// TestSearch: a record is found by any name it ever had, by a part of it, and misspelled.
func TestSearch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i, name := range []string{"J. Sullivan Case", "K. Sullivan", "L. Ortega Case", "100% Home_Care", `back\slash`, "Müller-Lüdenscheidt", "su"} {
		b.add(&ledger.Entry{RecordID: fmt.Sprint("r", i), RecordName: name, UserName: "Maria Alvarez"})
	}
	b.add(&ledger.Entry{RecordID: "r0", RecordName: "J. Sullivan-Lopez Case", Action: "delete", Resource: "Cases"}) // renamed, and gone
	b.add(&ledger.Entry{TenantID: "t2", RecordID: "x", RecordName: "Sullivan of another tenant"})
	find := func(token, q string) string {
		_, _, body := b.get(token, "/v1/records?q="+url.QueryEscape(q))
		var got struct{ Records []query.Record }
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err, body)
		}
		names := []string{}
		for _, r := range got.Records {
			names = append(names, r.Name)
		}
		return strings.Join(names, "; ")
	}
	for q, want := range map[string]string{
		"sullivan case":       "J. Sullivan Case", // before those that are only like it
		"SULLIVAN-LOPEZ":      "J. Sullivan-Lopez Case",
		"ortega":              "L. Ortega Case",
		"ortgea case":         "L. Ortega Case",
		"Sulivan-Lopes":       "J. Sullivan-Lopez Case",
		"mueller-lüdenscheid": "Müller-Lüdenscheidt",
		"su":                  "su",
		"100%":                "100% Home_Care",
		"e_c":                 "100% Home_Care",
		`k\s`:                 `back\slash`,
		"xyzzy":               "",
	} {
		if got := find("one", q); got != want && !strings.HasPrefix(got, want+"; ") || want == "" && got != "" {
			t.Errorf("%q finds %q, want first %q", q, got, want)
		}
	}
	for token, want := range map[string]bool{"one": false, "two": true, "all": true} {
		if got := strings.Contains(find(token, "sullivan"), "another tenant"); got != want {
			t.Errorf("%s finds another tenant's record: %v", token, got)
		}
	}
	// The second fence: the functions themselves, whatever a query forgets to name.
	conn := b.db.ConnAs(t, pgtest.Reader)
	for tenants, want := range map[string]int{"": 0, "t1": 3, "t2": 1, "*": 4} {
		var n int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM audit.find_records(1, NULL, NULL, 'sullivan', 50), set_config('casebook_audit.tenants', $1, false)", tenants).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM audit.find_records(1, NULL, NULL, 'sullivan', 50)) + (SELECT count(*) FROM audit.records_named(1, NULL, NULL, 'sullivan of another tenant'))").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if tenants == "t2" || tenants == "*" {
			want++
		}
		if n != want {
			t.Errorf("a reader for %q finds %d, want %d", tenants, n, want)
		}
	}
	if got, _ := b.list("one", values("user", "maria ALVAREZ", "record_id", "r2")); len(got) != 1 {
		t.Errorf("a user by name: %v", got)
	}
}

// TestSearchWithoutTrigrams: where pg_trgm may not be created, parts of names are found and nothing else is lost.
func TestSearchWithoutTrigrams(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{})
	b.db.Exec(t, "DROP EXTENSION pg_trgm CASCADE; DROP FUNCTION audit.find_records(int, text[], text, text, int), audit.records_named(int, text[], text, text)")
	text, err := auditsql.Audit.ReadFile("audit/003_search.sql")
	if err != nil {
		t.Fatal(err)
	}
	b.db.Exec(t, "SET ROLE casebook_audit_owner; "+strings.ReplaceAll(string(text), "WHERE name = 'pg_trgm'", "WHERE false"))
	for q, want := range map[string]bool{"sulliv": true, "sulivan": false} {
		if _, _, body := b.get("all", "/v1/records?q="+q); strings.Contains(body, "J. Sullivan Case") != want {
			t.Errorf("%s: %s", q, body)
		}
	}
}

// BenchmarkTypeAhead looks for parts of names and misspelled ones among 200,000 of 100,000 records.
func BenchmarkTypeAhead(b *testing.B) {
	s := setup(b)
	s.db.Exec(b, `INSERT INTO audit.record_name (chain, tenant_id, application, record_type, record_id, name)
		SELECT 1, 't' || i % 3, 'Engage', 'Case', 'r' || i % 100000, chr(65 + i % 26) || '. ' || initcap(translate(md5((i % 20000)::text), '0123456789', 'aeioulnrst')) || ' ' || i || ' Case'
		FROM generate_series(1, 200000) i; ANALYZE audit.record_name`)
	var names []string
	_, _, body := s.get("all", "/v1/records?q=a.+")
	var got struct{ Records []query.Record }
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		b.Fatal(err)
	}
	for _, r := range got.Records {
		names = append(names, r.Name)
	}
	for _, c := range []struct {
		name string
		of   func(string) string
	}{
		{"beginning", func(s string) string { return s[:5] }},
		{"part", func(s string) string { return s[5:11] }},
		{"misspelled", func(s string) string { return s[3:7] + s[8:14] }},
		{"everywhere", func(string) string { return "case" }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if status, _, body := s.get("one", "/v1/records?q="+url.QueryEscape(c.of(names[i%len(names)]))); status != 200 {
					b.Fatal(body)
				}
			}
		})
	}
	b.Run("list by name", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if status, _, body := s.get("one", "/v1/entries?record="+url.QueryEscape(names[i%len(names)])); status != 200 {
				b.Fatal(body)
			}
		}
	})
}
