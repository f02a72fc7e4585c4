package mapping

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"casebook.example/audit/ledger"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// TestScenarios plays the reference day in order, as each scenario stands on the ones before, and compares whole entries.
// The golden files were read against the description of the day, sentence by sentence.
func TestScenarios(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, s := range []struct {
		id      string
		entries int                               // without boundaries
		rule    func(*testing.T, []*ledger.Entry) // instead of a golden file, where the entries are many
	}{
		{"S01", 8, nil}, {"S02", 8, nil}, {"S03", 1, nil}, {"S04", 2, nil}, {"S06", 5, nil}, {"S07", 1, nil}, {"S08", 5, nil},
		{"S09", 2, nil}, {"S10", 6, nil}, {"S11", 2, nil}, {"S13", 7, nil}, {"S14", 20_000, reassigned}, {"S16", 14, nil},
		{"S17", 4, nil}, {"S18", 460, cleanedOut}, {"S20", 2, nil}, {"S23", 2, nil}, {"S25", 20, renamed}, {"E1", 3, nil},
		{"E2", 1, nil}, {"E3", 1, nil},
	} {
		var changes []*ledger.Entry
		loads := b.store.loads
		all := b.section(t, s.id)
		if loads = b.store.loads - loads; s.id == "S14" && loads > 20 || loads > 420 {
			t.Errorf("%s asked the audit database %d times", s.id, loads)
		}
		for _, e := range all {
			if e.Kind == ledger.KindChange || e.Kind == ledger.KindTruncate {
				changes = append(changes, e)
			}
		}
		if s.id != "E2" { // the shape of each table is told before its first change
			all = slices.DeleteFunc(all, func(e *ledger.Entry) bool { return e.Kind == ledger.KindRelation })
		}
		t.Run(s.id, func(t *testing.T) {
			if len(changes) != s.entries {
				t.Errorf("%d entries instead of %d", len(changes), s.entries)
			}
			if s.rule != nil {
				s.rule(t, changes)
				return
			}
			golden(t, s.id, dump(all))
		})
	}
	for _, name := range []string{"J. Sullivan Case", "E. Reyes Case", "E. Reyes", "E. Reyes 2026-03-10 Report", "Miller Foster Home", "C. No1", "C. No1-Changed"} {
		if !b.names[name] {
			t.Errorf("nobody was told that a record was called %q", name)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s, line %d differs; got\n%s\nwant\n%s", path, i+1, around(g, i), around(w, i))
		}
	}
}

func around(lines []string, i int) string {
	return strings.Join(lines[max(0, min(i-6, len(lines))):min(i+4, len(lines))], "\n")
}

// reassigned: the nightly batch, one entry a case.
func reassigned(t *testing.T, entries []*ledger.Entry) {
	cases := map[string]bool{}
	for i, e := range entries {
		cases[e.RecordID] = true
		got := dump([]*ledger.Entry{e})
		want := "== transaction 1\n-- " + strconv.Itoa(i) + " kind 1 update\n" +
			"tenant: 10000000-0000-4000-8000-000000000001\napplication: Engage\nrecord type: Case\nrecord: " + e.RecordID +
			"\nrecord name: " + e.RecordName + "\nresource: Assignments\nsub-resource: Assignments\ntable: membership.assignment_users\nrow: " + e.RowID +
			"\nrow name: Maria Alvarez (primary)\nsummary: Reassigned from Kyle Rowan to Maria Alvarez\ninitiator: system\n" +
			"user: 20000000-0000-4000-8000-000000000007\nemail: system@hfs.example\nuser name: Casebook System\ndb user: postgres\ndb app: casebook-web\n" +
			"  old.user_id (uuid) = 20000000-0000-4000-8000-000000000008\n  new.user_id (uuid) = 20000000-0000-4000-8000-000000000001\n" +
			"  oldname.user_id (text) = Kyle Rowan\n  newname.user_id (text) = Maria Alvarez\n"
		if got != want {
			t.Fatalf("entry %d is\n%s\nwant\n%s", i, got, want)
		}
		if !strings.HasPrefix(e.RecordName, "Batch case ") || !strings.HasSuffix(e.RecordName, " Case") || e.RowID == "" || e.RecordID == "" {
			t.Fatalf("entry %d stands under %q, row %q", i, e.RecordName, e.RowID)
		}
	}
	if len(cases) != 20_000 {
		t.Errorf("%d cases instead of 20,000", len(cases))
	}
}

// cleanedOut: 400 notes deleted softly in 400 transactions, then 60 attachments for good in one.
func cleanedOut(t *testing.T, entries []*ledger.Entry) {
	cases := map[string]bool{}
	for i, e := range entries {
		cases[e.RecordID] = true
		words, resource, fields := "Note deleted", "Notes", 1
		if i >= 400 {
			words, resource, fields = "Attachment deleted permanently", "Attachments", 11
		}
		if e.Summary != words || e.Resource != resource || e.Action != ledger.ActionDelete || len(e.Fields) != fields ||
			e.Initiator != ledger.InitiatorUser || e.UserEmail != "kyle.rowan@hfs.example" || !strings.HasPrefix(e.RecordName, "Batch case ") {
			t.Fatalf("entry %d is\n%s", i, dump([]*ledger.Entry{e}))
		}
		if i >= 400 && strings.Contains(dump([]*ledger.Entry{e}), "k/") {
			t.Fatalf("entry %d tells the storage key", i)
		}
	}
	if len(cases) != 400 {
		t.Errorf("%d cases instead of 400", len(cases))
	}
}

// renamed: the eligibility system changed 20 of 500 people.
func renamed(t *testing.T, entries []*ledger.Entry) {
	for i, e := range entries {
		was, is := "No"+strconv.Itoa(i+1), "No"+strconv.Itoa(i+1)+"-Changed"
		if e.RecordName != "C. "+is || e.Application != "People" || e.Summary != "Person updated" || e.Initiator != ledger.InitiatorApplication ||
			e.UserEmail != "eligibility-sync@hfs.example" || len(e.Fields) != 2 || field(e, "old.last_name") != was || field(e, "new.last_name") != is {
			t.Fatalf("entry %d is\n%s", i, dump([]*ledger.Entry{e}))
		}
	}
}
