package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"casebook.example/audit/deploy/reference"
)

// A mapping that changes while the daemon runs counts from a place in the stream on, which the log shows; what the
// directory needs for it comes from a snapshot of that place. A file that is not right changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	daemon := w.start(t)
	w.streaming(t)
	goal := func(text string) {
		w.sourceExec(t, `begin; set local audit.user_id = '`+writerUsers[0]+`';
			insert into cases.case_goals (case_id, description) values ('`+seededCase+`', '`+text+`'); commit`)
	}
	summary := func(text string) string {
		var said string
		eventually(t, 30*time.Second, "the goal "+text+" is stored", func() bool {
			said = w.auditValue(t, `select max(record_name || ': ' || summary) from audit.entry where table_name = 'cases.case_goals' and row_name = '`+text+`'`)
			return said != ""
		})
		return said
	}
	hangUp := func(mapping string) {
		if err := os.WriteFile(filepath.Join(w.dir, "mapping.yaml"), []byte(mapping), 0o600); err != nil {
			t.Fatal(err)
		}
		daemon.signal(t, syscall.SIGHUP)
	}
	adopted := func(n int) {
		eventually(t, 30*time.Second, "the mapping is in the log", func() bool {
			return w.auditValue(t, `select count(*) from audit.entry where kind = 14 and action = 'mapping'`) == strconv.Itoa(n)
		})
	}
	w.sourceExec(t, "create table public.not_ours (id int primary key, label text)")
	goal("one")
	if said := summary("one"); !strings.HasSuffix(said, ": Goal added") {
		t.Errorf("the first goal: %s", said)
	}

	// Other words need nothing of the source.
	words := strings.Replace(reference.Mapping, "create: Goal added", "create: Goal set", 1)
	hangUp(words)
	adopted(2)
	goal("two")
	if said := summary("two"); !strings.HasSuffix(said, ": Goal set") {
		t.Errorf("after other words: %s", said)
	}

	// A name out of another column: the directory does not have it yet, and the record's row does not change.
	named := strings.Replace(words, `name: "{name} Case"`, `name: "{name} Case of {opened_on}"`, 1)
	if named == words {
		t.Fatal("the reference mapping has other names than this test knows")
	}
	hangUp(named)
	adopted(3)
	goal("three")
	if said := summary("three"); !strings.Contains(said, " Case of 2026-01-05: ") {
		t.Errorf("after another name: %s", said)
	}
	if n := w.sourceValue(t, `select count(*) from pg_replication_slots`); n != "1" {
		t.Errorf("%s slots are left", n)
	}

	// A file that is not right.
	hangUp(named + "\nnonsense: 1\n")
	eventually(t, 10*time.Second, "the metric says that the reload failed", func() bool {
		n, _ := w.metric("mapping_reload_failed")
		return n == 1
	})
	// A file that does not fit the source: it names a column that is not there, and a table that the role may not read.
	for i, wrong := range []string{
		strings.Replace(named, "Case of {opened_on}", "Case of {never_there}", 1),
		strings.Replace(named, `name: "{name} Case of {opened_on}"`, `name: "{name} Case of {opened_on}"`+"\n    also: []", 1) + "\n  public.not_ours:\n    fate: labels\n    reason: x\n    name: \"{label}\"\n  public.uses_it:\n    fate: log\n    resource: X\n    references: {x_id: {table: public.not_ours}}\n",
	} {
		hangUp(named) // right again
		eventually(t, 10*time.Second, "the metric says that all is well", func() bool {
			n, ok := w.metric("mapping_reload_failed")
			return ok && n == 0
		})
		hangUp(wrong)
		eventually(t, 30*time.Second, "the metric says that mapping "+strconv.Itoa(i)+" cannot follow", func() bool {
			n, _ := w.metric("mapping_reload_failed")
			return n == 1
		})
		if !daemon.running() {
			t.Fatal("the daemon ended")
		}
	}
	hangUp(named + "\nnonsense: 1\n")
	goal("four")
	if said := summary("four"); !strings.Contains(said, " Case of 2026-01-05: Goal set") {
		t.Errorf("after a file that is not right: %s", said)
	}

	// The file changes while the daemon is down. What was committed under the old one until then is mapped by it.
	daemon.signal(t, syscall.SIGTERM)
	if code := daemon.wait(t, 10*time.Second); code != exitDone {
		t.Fatalf("exit code %d", code)
	}
	goal("five")
	if err := os.WriteFile(filepath.Join(w.dir, "mapping.yaml"), []byte(strings.Replace(named, "Case of {opened_on}", "Case until {closed_on|'now'}", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	w.streaming(t)
	if said := summary("five"); !strings.Contains(said, " Case of 2026-01-05: Goal set") {
		t.Errorf("committed before the start: %s", said)
	}
	adopted(4)
	goal("six")
	if said := summary("six"); !strings.Contains(said, " Case until now: Goal set") {
		t.Errorf("after the start: %s", said)
	}
	w.checkChain(t)
}
