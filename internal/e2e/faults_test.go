package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"casebook.example/audit/internal/cluster"
)

// twin is a second daemon for the same two databases, with a configuration and a metrics port of its own.
func (w *world) twin(t *testing.T) *world {
	t.Helper()
	other := &world{source: w.source, audit: w.audit, dir: t.TempDir(), metrics: freeAddress(t)}
	other.config = filepath.Join(other.dir, "casebook-audit.yaml")
	text, err := os.ReadFile(filepath.Join(w.dir, "mapping.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	other.write(t, "mapping.yaml", string(text))
	other.configure(t, "", "")
	t.Cleanup(func() { other.checkLogs(t) })
	return other
}

// names lists the names that the log has seen for the seeded case, oldest first: world.work makes one each.
func (w *world) names(t *testing.T) string {
	t.Helper()
	return w.auditValue(t, `select string_agg(vals[array_position(paths, 'new.name')], ',' order by seq) from audit.entry
		where table_name = 'cases.cases' and 'new.name' = any(paths)`)
}

// stored waits until the log has seen a name.
func (w *world) stored(t *testing.T, limit time.Duration, name string) {
	t.Helper()
	eventually(t, limit, name+" is stored", func() bool {
		n, err := tryValue(t.Context(), w.audit.DSN(auditDB, cluster.Superuser), `select count(*) from audit.entry where $1 = any(vals)`, secretWord+" "+name)
		return err == nil && n != "0"
	})
}

// once fails unless the log has seen each of the names exactly once, in this order.
func (w *world) once(t *testing.T, names ...string) {
	t.Helper()
	want := secretWord + " " + strings.Join(names, ","+secretWord+" ")
	if have := w.names(t); have != want {
		t.Errorf("the log has the names %s\nwant %s", have, want)
	}
}

// A second daemon waits, and takes over by itself when the first is gone.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	first := w.start(t)
	w.streaming(t)
	w.work(t, "one")
	w.stored(t, 10*time.Second, "one")

	other := w.twin(t)
	second := other.start(t)
	eventually(t, 10*time.Second, "the second daemon stands by", func() bool {
		body, _ := other.get("/readyz")
		return strings.Contains(body, "standing by")
	})
	w.work(t, "two")
	w.stored(t, 10*time.Second, "two")
	if body, status := other.get("/readyz"); status == 200 {
		t.Errorf("the second daemon says that it streams beside the first: %s", body)
	}

	first.kill()
	w.work(t, "three")
	other.stored(t, 15*time.Second, "three")
	if !second.running() {
		t.Error("the second daemon ended")
	}
	w.once(t, "one", "two", "three")
	w.checkChain(t)
}

// SIGTERM in the middle of work ends the daemon in good order, and nothing is lost or doubled when it is back.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.makeOracle(t)
	before := w.snapshot(t)
	daemon := w.start(t)
	w.streaming(t)
	tr := &truth{users: map[uint32]map[string]bool{}}
	var writers sync.WaitGroup
	defer writers.Wait()
	writing, stop := context.WithCancel(t.Context())
	defer stop()
	for no := range writerUsers {
		writers.Go(func() { newWriter(w, no, 7, tr).run(writing, t) })
	}
	for range 2 {
		(&victims{world: w}).grown(t)
		daemon.signal(t, syscall.SIGTERM)
		if code := daemon.wait(t, 10*time.Second); code != exitDone {
			t.Errorf("after SIGTERM the exit code is %d", code)
		}
		daemon = w.start(t)
		w.streaming(t)
	}
	stop()
	writers.Wait()
	w.caughtUp(t, time.Minute)
	entries := w.entries(t)
	checkTransactions(t, entries, w.oracle(t))
	checkFold(t, w.meanings(t), before, entries, w.snapshot(t))
	w.checkChain(t)
}

// While the audit database is away the daemon lets go of the source, which can then be stopped, and what was committed
// meanwhile arrives later.
func TestAuditDatabaseAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	daemon := w.start(t)
	w.streaming(t)
	w.work(t, "one")
	w.stored(t, 10*time.Second, "one")

	if err := w.audit.Shutdown(); err != nil {
		t.Fatal(err)
	}
	w.work(t, "two")
	eventually(t, 30*time.Second, "the replication connection is released", func() bool {
		return w.sourceValue(t, `select not active from pg_replication_slots where slot_name = 'casebook_audit'`) == "true"
	})
	if _, status := w.get("/readyz"); status != 503 {
		t.Errorf("/readyz answers %d while the audit database is away", status)
	}
	if _, status := w.get("/healthz"); status != 200 {
		t.Errorf("/healthz answers %d", status)
	}
	w.work(t, "three")
	began := time.Now()
	if err := w.source.Shutdown(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the source took %s to stop", took)
	}
	for _, c := range []*cluster.Cluster{w.source, w.audit} {
		if err := c.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.work(t, "four")
	w.stored(t, time.Minute, "four")
	if !daemon.running() {
		t.Error("the daemon ended")
	}
	w.once(t, "one", "two", "three", "four")
	w.checkChain(t)
}

// gapEntries lists what the gap entries say.
func (w *world) gapEntries(t *testing.T) []*entry {
	t.Helper()
	var gaps []*entry
	for _, e := range w.entries(t) {
		if e.kind == 10 {
			gaps = append(gaps, e)
		}
	}
	return gaps
}

// What the daemon could not see is an entry in the chain, not silence; and capture goes on behind it.
func TestSlotTampering(t *testing.T) {
	for _, test := range []struct{ name, sql string }{
		{"dropped", `select pg_drop_replication_slot('casebook_audit')`},
		{"advanced", `select pg_replication_slot_advance('casebook_audit', pg_current_wal_lsn())`},
		{"made again", `select pg_drop_replication_slot('casebook_audit'), pg_create_logical_replication_slot('casebook_audit', 'pgoutput')`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{source: durable}) // so that what was committed is there when the slot moves
			daemon := w.start(t)
			w.streaming(t)
			w.work(t, "one")
			w.stored(t, 10*time.Second, "one")
			daemon.signal(t, syscall.SIGTERM)
			if code := daemon.wait(t, 10*time.Second); code != exitDone {
				t.Fatalf("after SIGTERM the exit code is %d", code)
			}

			eventually(t, 10*time.Second, "the slot is free", func() bool {
				return w.sourceValue(t, `select active from pg_replication_slots where slot_name = 'casebook_audit'`) == "false"
			})
			w.work(t, "lost")
			w.sourceExec(t, test.sql)
			w.start(t)
			w.streaming(t)
			w.work(t, "three")
			w.stored(t, 30*time.Second, "three")

			w.once(t, "one", "three")
			gaps := w.gapEntries(t)
			if len(gaps) != 1 {
				t.Fatalf("%d gap entries, want 1", len(gaps))
			}
			t.Logf("gap: %s (%s)", gaps[0].remark, gaps[0].summary)
			from, _, _ := gaps[0].field("gap.from_lsn")
			to, _, _ := gaps[0].field("gap.to_lsn")
			if w.auditValue(t, `select $1::pg_lsn < $2::pg_lsn`, from, to) != "true" {
				t.Errorf("the gap is from %s to %s", from, to)
			}
			if n, ok := w.metric("gaps_total"); !ok || n != 1 {
				t.Errorf("gaps_total is %v (%t)", n, ok)
			}
			w.checkChain(t)
		})
	}
}

// A full disk under the audit database: the daemon says so, the slot keeps what is not stored, and when there is room
// again the daemon goes on by itself.
func TestAuditDiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "192m")
	w := newWorld(t, options{makeAudit: func(c *cluster.Cluster) string {
		info, err := os.Stat(c.Dir)
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		if err := os.Chown(disk, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
		return "create tablespace small location '" + disk + "'; create database " + auditDB + " tablespace small"
	}})
	daemon := w.start(t)
	w.streaming(t)
	w.work(t, "one")
	w.stored(t, 10*time.Second, "one")

	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	// A large transaction, which cannot fit into pages that are there already.
	w.sourceExec(t, `begin; set local audit.user_id = '`+writerUsers[0]+`';
		update membership.assignment_users set duty = 'secondary'; commit`)
	w.work(t, "two")
	eventually(t, time.Minute, "the daemon says that it cannot store", func() bool {
		_, status := w.get("/readyz")
		return status == 503 && strings.Contains(daemon.log(), "53100")
	})
	eventually(t, time.Minute, "the metric says so too", func() bool {
		connection, _ := w.metric(`stopped{reason="connection"}`)
		sink, _ := w.metric(`stopped{reason="sink"}`)
		return connection+sink == 1
	})
	kept := w.sourceValue(t, `select confirmed_flush_lsn < pg_current_wal_lsn() from pg_replication_slots where slot_name = 'casebook_audit'`)
	if kept != "true" {
		t.Error("the slot does not keep what is not stored")
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	w.work(t, "three")
	w.stored(t, 2*time.Minute, "three")
	if !daemon.running() {
		t.Error("the daemon ended")
	}
	w.once(t, "one", "two", "three")
	if n := w.auditValue(t, `select count(*) from audit.entry where table_name = 'membership.assignment_users'`); len(n) < 5 {
		t.Errorf("%s entries of the large transaction", n)
	}
	w.checkChain(t)
}

// missing skips a test for what this machine lacks, but not in CI, where nothing may be missing.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// smallDisk mounts a file system in memory.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cba-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("cannot mount a small file system (root can): %v: %s", err, out))
	}
	// Registered before the servers are: it runs when they have gone.
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// fill takes all the room that is left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			return
		}
	}
}
