package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
)

// demoPrinter keeps the lines of the phases and of the arriving entries apart.
type demoPrinter struct {
	mu       sync.Mutex
	out, err io.Writer
	start    time.Time
}

// phase prints one line of progress, with the time since the beginning.
func (p *demoPrinter) phase(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.err, "%6.1f s  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}

// say prints to the output.
func (p *demoPrinter) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// alike is how many entries in a row by one user with the same words are shown: the batch of the night has 20,000, and the
// off-hours deletion 400 transactions of one.
const alike = 3

// tail prints entries as they arrive in the audit database, until ctx is done. It closes first at the first one.
type tail struct {
	print *demoPrinter
	first chan struct{}

	seq   atomic.Int64 // last entry that was printed or counted, -1: none; the others belong to run
	act   string       // user and words of the entry before
	count int          // of entries like it
}

func newTail(print *demoPrinter) *tail {
	t := &tail{print: print, first: make(chan struct{})}
	t.seq.Store(-1)
	return t
}

const tailQuery = `
select seq, to_char(committed_at, 'HH24:MI:SS'), coalesce(user_name, user_email, initiator, ''),
  concat_ws(' / ', application, record_name, case when sub_resource is null or sub_resource = resource then resource else concat_ws(' > ', resource, sub_resource) end),
  coalesce(summary, action, '')
from audit.entry where kind in (1, 2) and seq > $1 order by seq limit $2`

const tailPage = 5000

func (t *tail) run(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		n, err := t.poll(ctx, conn)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case n == tailPage:
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(150 * time.Millisecond):
		}
	}
}

// poll prints what is new and says how many entries that was.
func (t *tail) poll(ctx context.Context, conn *pgx.Conn) (n int, err error) {
	rows, err := conn.Query(ctx, tailQuery, t.seq.Load(), tailPage)
	if err != nil {
		return 0, err
	}
	var seq int64
	var at, who, where, what string
	_, err = pgx.ForEachRow(rows, []any{&seq, &at, &who, &where, &what}, func() error {
		n++
		if act := who + "\x00" + what; act != t.act {
			t.more()
			t.act, t.count = act, 0
		}
		if t.count++; t.count <= alike {
			t.print.say("  %6d  %s  %-24s %-62s %s", seq, at, cut(who, 24), cut(where, 62), cut(what, 60))
		}
		if t.seq.Swap(seq) < 0 {
			close(t.first)
		}
		return nil
	})
	return n, err
}

// waitFor waits until the entries up to seq are on the screen.
func (t *tail) waitFor(ctx context.Context, seq int64) error {
	for t.seq.Load() < seq {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// more says how many entries like the last one were not shown.
func (t *tail) more() {
	if hidden := t.count - alike; hidden > 0 {
		t.print.say("  %6s  and %d more like this", "", hidden)
	}
}

func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// waitStored waits until the log is complete up to an LSN of the source.
func waitStored(ctx context.Context, audit *pgx.Conn, lsn string) error {
	for {
		var done bool
		err := audit.QueryRow(ctx, `select coalesce(bool_and(greatest(end_lsn, acked_lsn) >= $1::pg_lsn), false) from audit.position`, lsn).Scan(&done)
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the log did not get as far as %s: %w", lsn, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// compareDay prints how many entries each scenario gave and says whether all are as they must be.
func compareDay(ctx context.Context, audit *pgx.Conn, out io.Writer, day []*scenario) (bool, error) {
	ok := true
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scenario\t\tentries\texpected\t")
	for _, s := range day {
		var got int
		err := audit.QueryRow(ctx, `select count(*) from audit.entry where kind in (1, 2) and commit_lsn >= $1::pg_lsn and commit_lsn < $2::pg_lsn`,
			s.before, s.after).Scan(&got)
		if err != nil {
			return false, err
		}
		verdict := ""
		if got != s.want {
			verdict, ok = "WRONG", false
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", s.ID, cut(s.Title, 70), got, s.want, verdict)
	}
	return ok, w.Flush()
}

// printCounts prints the number of entries by application, resource and action.
func printCounts(ctx context.Context, audit *pgx.Conn, out io.Writer) error {
	rows, err := audit.Query(ctx, `
		select coalesce(application, '(no record)'), coalesce(resource, '-'), coalesce(action, '-'), count(*)
		from audit.entry where kind in (1, 2) group by 1, 2, 3 order by 1, 2, 3`)
	if err != nil {
		return err
	}
	type line struct{ application, resource string }
	counts := map[line]map[string]int{}
	var lines []line
	var actions []string
	var l line
	var action string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&l.application, &l.resource, &action, &n}, func() error {
		if counts[l] == nil {
			counts[l] = map[string]int{}
			lines = append(lines, l)
		}
		if !slices.Contains(actions, action) {
			actions = append(actions, action)
		}
		counts[l][action] = n
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(actions)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "application\tresource\t%s\ttotal\n", strings.Join(actions, "\t"))
	all := 0
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s", l.application, l.resource)
		total := 0
		for _, action := range actions {
			total += counts[l][action]
			if n := counts[l][action]; n > 0 {
				fmt.Fprintf(w, "\t%d", n)
			} else {
				fmt.Fprint(w, "\t")
			}
		}
		all += total
		fmt.Fprintf(w, "\t%d\n", total)
	}
	fmt.Fprintf(w, "\t%s\t%d\n", strings.Repeat("\t", len(actions)), all)
	return w.Flush()
}

// verifyInSQL checks the chain with the function that the audit database has.
func verifyInSQL(ctx context.Context, audit *pgx.Conn) error {
	var entries, bad int64
	var first *int64
	if err := audit.QueryRow(ctx, `select entries, bad, first_bad from audit.verify_chain()`).Scan(&entries, &bad, &first); err != nil {
		return err
	}
	if bad != 0 || entries == 0 {
		return fmt.Errorf("%d of %d entries are bad, the first one is %v", bad, entries, first)
	}
	return nil
}
