package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// A transaction much larger than what the daemon may hold goes through whole, and the daemon stays small: its rows wait on
// disk and reach the audit database in parts. The limit is the promise of the design, 256 MB.
func TestHugeTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	daemon := w.start(t)
	w.streaming(t)
	const rows = 150_000
	w.sourceExec(t, fmt.Sprintf(`begin; set local audit.user_id = '%s';
		insert into people.people (tenant_id, first_name, last_name)
		select '10000000-0000-4000-8000-000000000001', 'Many', repeat('x', 400) || n from generate_series(1, %d) n; commit`, writerUsers[0], rows))
	w.caughtUp(t, 5*time.Minute)
	// Each person, and the e-mail address that a trigger makes for it.
	if n := w.auditValue(t, `select count(*) from audit.entry where kind = 1 and table_name = 'people.people' and xid =
		(select xid from audit.entry where table_name = 'people.people' order by seq desc limit 1)`); n != strconv.Itoa(rows) {
		t.Errorf("%s entries, want %d", n, rows)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", daemon.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if peak == nil {
		t.Fatalf("no peak of memory in %s", status)
	}
	kb, err := strconv.Atoi(string(peak[1]))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("peak %d MiB", kb>>10)
	if kb > 256<<10 {
		t.Errorf("the daemon took %d MiB", kb>>10)
	}
	w.checkChain(t)
}
