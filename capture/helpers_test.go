package capture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap/zaptest"

	"casebook.example/audit/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const patience = 30 * time.Second

// bed is a database with tables, publication and slot.
type bed struct {
	db  *pgtest.DB
	cfg Config
	sql *pgx.Conn
}

// setup runs the DDL, publishes every table through its root and makes the slot.
func setup(t *testing.T, db *pgtest.DB, ddl string) *bed {
	t.Helper()
	db.Exec(t, ddl)
	db.Exec(t, `create publication casebook_audit for all tables with (publish_via_partition_root = true)`)
	b := &bed{db: db, sql: db.Conn(t), cfg: Config{
		DSN: db.DSN(""), Slot: "s_" + db.Name, Publication: "casebook_audit", SpillDir: t.TempDir(),
		IdleInterval: 50 * time.Millisecond,
	}}
	slot, err := CreateSlot(t.Context(), b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := slot.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// session is a stream that runs.
type session struct {
	*Stream
	out    chan Event
	cancel context.CancelFunc
	done   chan error
}

func (b *bed) open(t *testing.T, cfg Config, from LSN) *Stream {
	t.Helper()
	s, err := Open(t.Context(), cfg, from, zaptest.NewLogger(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (b *bed) run(t *testing.T, cfg Config, from LSN, buffer int) *session {
	t.Helper()
	return runStream(t, b.open(t, cfg, from), buffer)
}

func runStream(t *testing.T, s *Stream, buffer int) *session {
	ctx, cancel := context.WithCancel(context.Background())
	r := &session{Stream: s, out: make(chan Event, buffer), cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- s.Run(ctx, r.out); close(r.done) }()
	t.Cleanup(func() { cancel(); r.wait(t) })
	return r
}

// stop ends the session in good order.
func (r *session) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := r.wait(t); !errors.Is(err, context.Canceled) {
		t.Fatalf("a stopped stream ended with %v", err)
	}
}

func (r *session) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		t.Fatal("the stream does not end")
		return nil
	}
}

func (r *session) event(t *testing.T) Event {
	t.Helper()
	select {
	case e, ok := <-r.out:
		if !ok {
			t.Fatalf("the stream ended: %v", r.wait(t))
		}
		return e
	case <-time.After(patience):
		t.Fatal("no event comes")
		return Event{}
	}
}

// tx is the next transaction; idle news before it are confirmed as a consumer would.
func (r *session) tx(t *testing.T) *Tx {
	t.Helper()
	for {
		if e := r.event(t); e.Tx != nil {
			t.Cleanup(func() { e.Tx.Close() })
			return e.Tx
		} else {
			r.Confirm(e.Idle)
		}
	}
}

// endsWithoutTx waits for the end of a stream that must not deliver anything more.
func (r *session) endsWithoutTx(t *testing.T) {
	t.Helper()
	deadline := time.After(patience / 2)
	for {
		select {
		case e, ok := <-r.out:
			if !ok {
				return
			}
			if e.Tx != nil {
				t.Fatalf("transaction %s was delivered", e.Tx.CommitLSN)
			}
		case <-deadline:
			t.Fatal("the stream goes on")
		}
	}
}

func (b *bed) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if len(args) == 0 {
		args = []any{pgx.QueryExecModeSimpleProtocol}
	}
	if _, err := b.sql.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// slot is the state of the bed's slot.
func (b *bed) slot(t *testing.T) SlotInfo {
	t.Helper()
	info, found, err := LookupSlot(context.Background(), b.sql.PgConn(), b.cfg.Slot)
	if err != nil || !found {
		t.Fatalf("slot: found %v, %v", found, err)
	}
	return info
}

// eventually polls until ok says yes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come to: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// text writes a transaction down: one line a change; NULL, ~ unchanged, - absent.
func text(t *testing.T, tx *Tx) []string {
	t.Helper()
	var lines []string
	rows := 0
	for c, err := range tx.Changes() {
		if err != nil {
			t.Fatal(err)
		}
		if c.Op == OpMessage {
			lines = append(lines, fmt.Sprintf("message %s %s", c.Prefix, c.Content))
			if c.Ordinal != -1 {
				t.Errorf("a message has the ordinal %d", c.Ordinal)
			}
			continue
		}
		if c.Ordinal != rows {
			t.Errorf("row change %d has the ordinal %d", rows, c.Ordinal)
		}
		rows++
		line := [...]string{OpInsert: "insert ", OpUpdate: "update ", OpDelete: "delete ", OpTruncate: "truncate "}[c.Op] + c.Rel.FullName
		if c.Old != nil {
			line += map[bool]string{false: " old", true: " key"}[c.OldKey] + tuple(c.Rel, c.Old)
		}
		if c.New != nil {
			line += " new" + tuple(c.Rel, c.New)
		}
		lines = append(lines, line)
	}
	if rows != tx.Rows {
		t.Errorf("the transaction says %d rows and has %d", tx.Rows, rows)
	}
	return lines
}

func tuple(rel *Relation, values []Value) string {
	var parts []string
	for i, v := range values {
		s := string(v.Bytes)
		switch v.State {
		case Null:
			s = "NULL"
		case Unchanged:
			s = "~"
		case Absent:
			s = "-"
		case Text:
			if len(s) > 100 {
				s = fmt.Sprintf("%s[%d]", s[:3], len(s))
			}
		}
		parts = append(parts, rel.Columns[i].Name+"="+s)
	}
	return "(" + strings.Join(parts, " ") + ")"
}

func sameLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}
