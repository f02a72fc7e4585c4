package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// secretWord is in every text that the writers write, so that a log line with a value of a row can be found.
const secretWord = "Quillfeather"

// The users that the writers work as: one each, and one who takes over in the middle of a transaction.
var (
	writerUsers = [...]string{
		"20000000-0000-4000-8000-000000000001", // Maria Alvarez
		"20000000-0000-4000-8000-000000000002", // David Kim
		"20000000-0000-4000-8000-000000000003", // Tanya Brooks
		"20000000-0000-4000-8000-000000000005", // Ruth Cole
	}
	secondUser = "20000000-0000-4000-8000-000000000004" // Omar Haddad
)

// truth is what the writers know of their own transactions: who worked in each. It is written before the commit, so it
// also covers the commits whose answer was lost. A crash may give an id away again that reached no commit; the later
// transaction then overwrites it.
type truth struct {
	mu        sync.Mutex
	users     map[uint32]map[string]bool // by transaction id
	committed int
	undone    int // rolled back, wilfully or by a conflict
	unknown   int // the connection went in the middle
}

func (tr *truth) note(xid uint32, users map[string]bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.users[xid] = users
}

func (tr *truth) count(n *int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	*n++
}

// writer is one session of the application. All its fields belong to its goroutine.
type writer struct {
	no    int
	dsn   string
	rng   *rand.Rand
	truth *truth
	conn  *pgx.Conn

	// The transaction that is open.
	tx      pgx.Tx
	user    string          // who works at the moment
	workers map[string]bool // all who have worked in it

	rounds int // transactions begun
	mine   rows
}

// rows are keys of rows that a writer made, by kind. Some of them may be gone: then an update finds nothing.
type rows struct {
	people, loners, cases, notes, enrollments, interactions, tasks, sms, forms, events, relations, reports []string
}

func newWriter(w *world, no int, seed uint64, tr *truth) *writer {
	return &writer{
		no: no, dsn: w.source.DSN(sourceDB, appRole) + "&application_name=engage-" + strconv.Itoa(no),
		rng: rand.New(rand.NewPCG(seed, uint64(no))), truth: tr,
	}
}

// run writes until ctx is done. It reconnects whenever the source has gone.
func (w *writer) run(ctx context.Context, t *testing.T) {
	defer func() {
		if w.conn != nil {
			_ = w.conn.Close(context.Background())
		}
	}()
	for ctx.Err() == nil {
		if w.conn == nil {
			conn, err := pgx.Connect(ctx, w.dsn)
			if err != nil {
				pause(ctx, 20*time.Millisecond)
				continue
			}
			w.conn = conn
		}
		// Without the context: a transaction that is under way at the end is finished, not left unknown.
		err := w.transaction(context.Background())
		var pgErr *pgconn.PgError
		switch {
		case err == nil:
		case w.conn.IsClosed() || errors.As(err, &pgErr) && strings.HasPrefix(pgErr.Code, "57P"):
			w.truth.count(&w.truth.unknown)
			_ = w.conn.Close(context.Background())
			w.conn = nil
		case errors.As(err, &pgErr) && (strings.HasPrefix(pgErr.Code, "40") || strings.HasPrefix(pgErr.Code, "23")):
			w.truth.count(&w.truth.undone) // a deadlock, or two writers wanted the same key
		default:
			t.Errorf("writer %d: %v", w.no, err)
			return
		}
		// A person works no faster, and two processors are shared with three servers.
		pause(ctx, time.Duration(2+w.rng.IntN(14))*time.Millisecond)
	}
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// transaction does one to six pieces of work, at times with a change of user, a savepoint that may be rolled back, or a
// change of mind about the whole.
func (w *writer) transaction(ctx context.Context) (err error) {
	w.rounds++
	w.workers = map[string]bool{}
	if w.tx, err = w.conn.Begin(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = w.tx.Rollback(ctx)
		}
	}()
	var xid uint64
	if err := w.tx.QueryRow(ctx, `select pg_current_xact_id()::text::bigint`).Scan(&xid); err != nil {
		return err
	}
	if err := w.become(ctx, writerUsers[w.no]); err != nil {
		return err
	}
	if w.no == 0 && w.rounds%250 == 100 && w.rounds < 1200 {
		err = w.bulk(ctx)
	} else {
		err = w.work(ctx)
	}
	if err != nil {
		return err
	}
	if w.chance(5) {
		w.truth.count(&w.truth.undone)
		return w.tx.Rollback(ctx)
	}
	w.truth.note(uint32(xid), w.workers)
	if err := w.tx.Commit(ctx); err != nil {
		return err
	}
	w.truth.count(&w.truth.committed)
	return nil
}

func (w *writer) work(ctx context.Context) error {
	for range 1 + w.rng.IntN(6) {
		if w.chance(8) {
			if err := w.become(ctx, secondUser); err != nil {
				return err
			}
		}
		if w.chance(12) {
			if err := w.savepoint(ctx); err != nil {
				return err
			}
		}
		if err := w.piece(ctx); err != nil {
			return err
		}
	}
	return nil
}

// savepoint works under a savepoint, at times as another user, and goes back to it or not.
func (w *writer) savepoint(ctx context.Context) error {
	before := w.user
	if err := w.exec(ctx, `savepoint s`); err != nil {
		return err
	}
	if w.chance(50) {
		if err := w.become(ctx, secondUser); err != nil {
			return err
		}
	}
	for range 1 + w.rng.IntN(3) {
		if err := w.piece(ctx); err != nil {
			return err
		}
	}
	if w.chance(60) {
		w.user = before // the setting goes back with the savepoint
		return w.exec(ctx, `rollback to savepoint s`)
	}
	return w.exec(ctx, `release savepoint s`)
}

// become makes somebody the user of the session, for the rest of the transaction.
func (w *writer) become(ctx context.Context, user string) error {
	w.user = user
	w.workers[user] = true
	return w.exec(ctx, `select set_config('audit.user_id', $1, true)`, user)
}

func (w *writer) exec(ctx context.Context, sql string, args ...any) error {
	if _, err := w.tx.Exec(ctx, sql, args...); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(sql), "\n")
		return fmt.Errorf("%s: %w", first, err)
	}
	return nil
}

// returning runs a statement that gives one text back, and adds it to a list of keys.
func (w *writer) returning(ctx context.Context, list *[]string, sql string, args ...any) error {
	var key string
	if err := w.tx.QueryRow(ctx, sql, args...).Scan(&key); err != nil {
		return err
	}
	*list = append(*list, key)
	return nil
}

func (w *writer) chance(percent int) bool { return w.rng.IntN(100) < percent }

// id makes a key.
func (w *writer) id() string {
	return fmt.Sprintf("%08x-%04x-4000-8000-%012x", w.rng.Uint32(), w.no, w.rng.Uint64()&0xffffffffffff)
}

// pick takes one key of a list, or a key that nothing has when the list is empty.
func (w *writer) pick(list []string) string {
	if len(list) == 0 {
		return "00000000-0000-4000-8000-000000000000"
	}
	return list[w.rng.IntN(len(list))]
}

// number is pick for keys that are numbers.
func (w *writer) number(list []string) int64 {
	if len(list) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(w.pick(list), 10, 64)
	return n
}

// text makes a value, now and then one with characters that a careless program stumbles over.
func (w *writer) text(what string) string {
	text := secretWord + " " + what + " " + strconv.Itoa(w.rng.IntN(1_000_000))
	switch w.rng.IntN(8) {
	case 0:
		text += " \"quoted\" 'single' back\\slash"
	case 1:
		text += "\ttab\nline \\N {brace,\"x\"} ünïcödé 漢字 🂡"
	}
	return text
}

// long makes a text that Postgres stores out of line.
func (w *writer) long() string {
	var b strings.Builder
	b.WriteString(secretWord)
	for range 200 + w.rng.IntN(400) {
		fmt.Fprintf(&b, " %016x", w.rng.Uint64())
	}
	return b.String()
}

// maybe is NULL at times, and at times the empty string, which is not the same.
func (w *writer) maybe(text string) *string {
	switch w.rng.IntN(4) {
	case 0:
		return nil
	case 1:
		text = ""
	}
	return &text
}
