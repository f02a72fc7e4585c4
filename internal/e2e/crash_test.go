package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"casebook.example/audit/internal/cluster"
)

// seedEnv repeats a run: the seed that a run used is in its output.
const seedEnv = "CASEBOOK_AUDIT_TEST_SEED"

// The exit codes of the program.
const (
	exitDone        = 0
	exitFinding     = 1
	exitUsage       = 2
	exitUnreachable = 3
)

// killsEach is how often each of the three is killed: daemon, audit database, source.
const killsEach = 8

// No committed change is lost or doubled, and each keeps its user, while everything is killed with SIGKILL at random
// moments: the daemon, the audit database, the source, at times one while another is still down.
func TestExactlyOnce(t *testing.T) {
	w := newWorld(t, options{source: durableWith("deadlock_timeout", "100ms"), audit: durable})
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(seedEnv); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", seedEnv, seed)

	w.makeOracle(t)
	before := w.snapshot(t)
	victims := &victims{world: w}
	var supervisor, writers sync.WaitGroup
	defer supervisor.Wait()
	supervising, stopDaemon := context.WithCancel(t.Context())
	defer stopDaemon()
	supervisor.Go(func() { victims.supervise(supervising, t) })
	w.streaming(t)

	tr := &truth{users: map[uint32]map[string]bool{}}
	defer writers.Wait()
	writing, stop := context.WithCancel(t.Context())
	defer stop()
	for no := range writerUsers {
		writers.Go(func() { newWriter(w, no, seed, tr).run(writing, t) })
	}
	victims.killAll(t, rand.New(rand.NewPCG(seed, 1000)))
	stop()
	writers.Wait()
	t.Logf("%d transactions committed, %d rolled back, %d ended with their connection", tr.committed, tr.undone, tr.unknown)
	if tr.committed < 500 || tr.unknown == 0 {
		t.Errorf("too little work for a test")
	}
	w.caughtUp(t, time.Minute)
	stopDaemon()
	supervisor.Wait()

	t.Run("chain", w.checkChain)
	entries := w.entries(t)
	t.Logf("%d entries", len(entries))
	t.Run("transactions", func(t *testing.T) { checkTransactions(t, entries, w.oracle(t)) })
	t.Run("fold", func(t *testing.T) { checkFold(t, w.meanings(t), before, entries, w.snapshot(t)) })
	t.Run("users", func(t *testing.T) { checkUsers(t, entries, tr) })
}

func durableWith(name, value string) map[string]string {
	settings := map[string]string{name: value}
	for name, value := range durable {
		settings[name] = value
	}
	return settings
}

// victims are what the test kills, and brings back a moment later.
type victims struct {
	world  *world
	daemon atomic.Pointer[process]
	down   [3]sync.Mutex // held while the victim is down; the daemon's by nobody
}

const (
	killDaemon = iota
	killAudit
	killSource
)

var victimNames = [...]string{"daemon", "audit database", "source"}

// supervise keeps the daemon running until ctx is done, as the service unit does: killed, or ended because a database
// was away when it started, it is started again.
func (v *victims) supervise(ctx context.Context, t *testing.T) {
	var logs []string
	for ctx.Err() == nil {
		p, err := v.world.launch()
		if err != nil {
			t.Error(err)
			return
		}
		v.daemon.Store(p)
		logs = append(logs, p.logFile)
		select {
		case <-p.done:
		case <-ctx.Done():
			p.kill()
		}
		if code := p.cmd.ProcessState.ExitCode(); !p.killed.Load() && code != exitUnreachable {
			t.Errorf("the daemon ended by itself with exit code %d:\n%s", code, lastLines(p.log(), 10))
			return
		}
		pause(ctx, 100*time.Millisecond)
	}
	if t.Failed() && len(logs) > 0 {
		last, _ := os.ReadFile(logs[len(logs)-1])
		t.Logf("the end of the last daemon's log:\n%s", lastLines(string(last), 20))
	}
}

// killAll kills each victim killsEach times, in random order. After most of the kills it waits until the log grows
// again, so that there is something to lose; after the others it kills on while the last victim is still coming back.
func (v *victims) killAll(t *testing.T, rng *rand.Rand) {
	var order []int
	for range killsEach {
		order = append(order, killDaemon, killAudit, killSource)
	}
	rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	var restarts sync.WaitGroup
	defer restarts.Wait()
	began := time.Now()
	for n, victim := range order {
		if n == 0 || rng.IntN(3) > 0 {
			v.grown(t)
		}
		pause(t.Context(), time.Duration(rng.IntN(500))*time.Millisecond)
		back := time.Duration(rng.IntN(300)) * time.Millisecond
		if t.Failed() {
			return
		}
		t.Logf("%5.1f s, kill %d: %s", time.Since(began).Seconds(), n+1, victimNames[victim])
		c := v.world.audit
		switch victim {
		case killDaemon:
			eventually(t, 10*time.Second, "the daemon is started again", func() bool { return v.daemon.Load().running() })
			v.daemon.Load().kill()
			continue
		case killSource:
			c = v.world.source
		}
		v.down[victim].Lock() // waits until it is back from the last time
		c.Kill()
		restarts.Go(func() {
			defer v.down[victim].Unlock()
			pause(t.Context(), back)
			if err := c.Restart(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// grown waits until the log has more entries than at the call.
func (v *victims) grown(t *testing.T) {
	t.Helper()
	dsn := v.world.audit.DSN(auditDB, cluster.Superuser)
	size := func() (int, error) {
		text, err := tryValue(t.Context(), dsn, `select max(size) from audit.position`)
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(text)
	}
	from := -1
	eventually(t, time.Minute, "the log grows", func() bool {
		now, err := size()
		if err != nil {
			return false
		}
		if from < 0 {
			from = now
		}
		return now > from
	})
}
