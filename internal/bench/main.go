// Command bench measures casebook-audit against Postgres' own logical replication, in one run, on the same work: see the
// table that it prints. It judges nothing: figures depend on the machine, ratios travel.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{start: time.Now()}
	flag.BoolVar(&b.quick, "quick", false, "a tenth of the rows, short rounds: to try the benchmark itself")
	flag.IntVar(&b.repeat, "repeat", 1, "times each backlog is made and drained")
	flag.StringVar(&b.only, "only", "", "one part alone: drain, latency, primary, mapping")
	flag.StringVar(&b.profileDir, "profile", "", "write profiles of the daemon into this folder: run-N.cpu, run-N.allocs")
	flag.Parse()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	quick      bool
	repeat     int
	only       string
	profileDir string
	start      time.Time
}

// backlogs are the sizes of transactions, 100,000 row changes of each.
var backlogs = [...]int{1, 10, 1000}

const backlogRows = 100_000

// consumers are who drains a backlog, each alone.
var consumers = [...]struct{ title string }{
	{"pg_recvlogical to /dev/null"}, {"Postgres' subscription"}, {"casebook-audit"},
}

const nowhere, peer, ours = 0, 1, 2

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%5.1fs  %s\n", time.Since(b.start).Seconds(), fmt.Sprintf(format, args...))
}

func (b *bench) does(part string) bool { return b.only == "" || b.only == part }

func (b *bench) run(ctx context.Context) (err error) {
	r := &results{rows: backlogRows, settings: settings}
	rounds, roundLasts, loadLasts := 4, 4*time.Second, 15*time.Second
	if b.quick {
		r.rows, rounds, roundLasts, loadLasts = backlogRows/10, 2, time.Second, 2*time.Second
	}
	if b.only != "mapping" {
		w, err := newWorld(ctx, b.say, b.profileDir)
		if err != nil {
			return err
		}
		defer func() {
			if closeErr := w.close(); err == nil {
				err = closeErr
			}
		}()
		r.postgres = w.version(ctx)
		if b.does("drain") {
			for n := range b.repeat {
				for i := range backlogs {
					if err := b.drainAll(ctx, w, r, i, n); err != nil {
						return err
					}
				}
			}
		}
		if b.does("latency") {
			if r.ours, r.copied, r.atRest, err = w.latencies(ctx, loadLasts); err != nil {
				return err
			}
		}
		if b.does("primary") {
			if r.tps, err = w.primaryCost(ctx, rounds, roundLasts); err != nil {
				return err
			}
		}
	}
	if b.does("mapping") {
		b.say("cost of mapping alone")
		if r.mapping, err = mappingCost(ctx); err != nil {
			return err
		}
	}
	b.say("done")
	r.print(os.Stdout)
	return nil
}

// drainAll makes one backlog and lets each consumer drain it. Who goes first changes from round to round.
func (b *bench) drainAll(ctx context.Context, w *world, r *results, backlog, round int) error {
	size := backlogs[backlog]
	b.say("writing %d row changes in transactions of %d", r.rows, size)
	start, err := w.here(ctx)
	if err != nil {
		return err
	}
	end, err := w.work(ctx, r.rows, size)
	if err != nil {
		return err
	}
	for i := range consumers {
		c := (i + round) % len(consumers)
		d, err := [...]func(*world, context.Context) (drain, error){
			func(w *world, ctx context.Context) (drain, error) { return w.toNowhere(ctx, end) },
			func(w *world, ctx context.Context) (drain, error) { return w.toCopy(ctx, end) },
			func(w *world, ctx context.Context) (drain, error) { return w.toLog(ctx, start, end) },
		}[c](w, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", consumers[c].title, err)
		}
		b.say("  %-28s %8.0f rows/s", consumers[c].title, float64(r.rows)/d.took.Seconds())
		r.drains[backlog][c] = append(r.drains[backlog][c], d)
	}
	return w.sameRows(ctx, start, end, r.rows)
}

// version is what the source says it is.
func (w *world) version(ctx context.Context) string {
	var v string
	if err := w.atSource.QueryRow(ctx, `show server_version`).Scan(&v); err != nil {
		return err.Error()
	}
	return v
}

// mappingCost runs the benchmark of the package, which prints a line for each kind of work.
func mappingCost(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", ".", "casebook.example/audit/mapping").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -bench of mapping: %w: %s", err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Benchmark") {
			lines = append(lines, strings.Join(strings.Fields(line), " "))
		}
	}
	return lines, nil
}
