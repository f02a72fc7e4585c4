package mapping

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// Mapper turns transactions into entries. One goroutine owns it. After an error it is of no more use: what it had taken
// in is not known to be stored, so the caller begins again with a new one from the audit database's position.
type Mapper struct {
	rules    *Rules
	dir      *directory
	log      *zap.Logger
	plans    map[*capture.Relation]*plan
	unplaced *prometheus.CounterVec
	records  []RecordName
	users    []UserName
	named    int // bytes of records and users
	window   int // windowBytes, spillBytes: tests make them small
	spillAt  int
	work     work             // of the transaction at hand
	stamps   map[string]stamp // that were read before, without their last key
	backends *backends
	hashKey  []byte
}

// work is what is known while the changes of one transaction are walked over.
type work struct {
	tx     *capture.Tx
	commit ledger.LSN
	state
	misses  map[Key]struct{}
	entries []*ledger.Entry
	buf     []byte
	fields  []ledger.Field
	changed []bool
	memory  memory
	shapes  []shape  // that the transaction brings
	x       mapping  // the row change at hand
	hops    hops     // on the way to its record
	seen    []record // that list it
}

// state is what one change leaves to the next.
type state struct {
	actor    actor
	stamp    stamp  // the last one
	bemi     string // the last message of Bemi's
	shapes   int    // of work.shapes that are written
	rows     int64  // row changes so far
	count    tally
	unplaced [numReasons]int
}

// tally is what became of the row changes.
type tally struct {
	entries, noise, excluded int
}

// reason says why an entry stands under no record.
type reason int

const (
	reasonParent reason = iota
	reasonNoOwner
	reasonUnmapped
	numReasons
)

var reasonNames = [numReasons]string{"parent_unknown", "no_owner", "unmapped_table"}

const (
	// windowBytes is how much of entries is made before they are given out, so that all their misses are loaded together.
	windowBytes = 12 << 20
	// spillBytes is how much of changed directory rows and names may wait inside one huge transaction.
	spillBytes = 8 << 20
	// rounds is how often a window is mapped again because rows were missing. Loading follows owners and names level by
	// level, so two are nearly always enough.
	rounds = 40
)

// Config is what a mapper works with.
type Config struct {
	Rules *Rules
	// Load reads directory rows from the audit database; rows that are not there it leaves out.
	Load func(ctx context.Context, keys []Key) ([]StoredRow, error)
	// SeededAt is where the snapshot was taken that the directory was last filled from: see Seeding.
	SeededAt ledger.LSN
	HashKey  []byte // of the keyed hashes that the rules want
	Log      *zap.Logger
	Reg      prometheus.Registerer // may be nil
}

// NewMapper makes a mapper.
func NewMapper(cfg Config) *Mapper {
	rules, reg := cfg.Rules, cfg.Reg
	unplaced := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "unplaced_total", Help: "Entries that stand under no record although they should.",
	}, []string{"reason"}))
	for _, name := range reasonNames {
		unplaced.WithLabelValues(name)
	}
	m := &Mapper{
		rules: rules, dir: newDirectory(cfg), log: cfg.Log, unplaced: unplaced,
		plans: map[*capture.Relation]*plan{}, window: windowBytes, spillAt: spillBytes, stamps: map[string]stamp{},
		backends: newBackends(reg), hashKey: cfg.HashKey,
	}
	m.work.misses = map[Key]struct{}{}
	return m
}

// Map gives the entries of a transaction to emit: one for each row change with audit meaning, in their order, and then the
// one that closes the transaction. They are new each time, the receiver may keep them, and nothing in them points into
// the transaction's buffer. Map keeps up to 12 MiB of entries until it can give them out; see MapHuge.
//
// When the directory rows that it needs are in the cache, it asks the audit database nothing; else once or twice for all
// of them together.
func (m *Mapper) Map(ctx context.Context, tx *capture.Tx, prevCommit ledger.LSN, emit func(*ledger.Entry) error) error {
	return m.run(ctx, tx, prevCommit, nil, emit)
}

// MapHuge is Map for a transaction of any size. Whenever many directory rows are dirty it hands them to spill, which
// writes them inside the open transaction of the audit database; from then on load must read through that transaction.
// spill should take the names with TakeNames too.
func (m *Mapper) MapHuge(ctx context.Context, tx *capture.Tx, prevCommit ledger.LSN, spill func([]StoredRow) error, emit func(*ledger.Entry) error) error {
	return m.run(ctx, tx, prevCommit, spill, emit)
}

func (m *Mapper) run(ctx context.Context, tx *capture.Tx, prevCommit ledger.LSN, spill func([]StoredRow) error, emit func(*ledger.Entry) error) error {
	w := &m.work
	w.start(tx)
	m.dir.spilled = false
	if err := m.feed(ctx, tx, spill); err != nil {
		return m.failed(tx, err)
	}
	if err := m.entries(ctx, w, emit); err != nil {
		return m.failed(tx, err)
	}
	for i, n := range w.unplaced {
		if n > 0 {
			m.unplaced.WithLabelValues(reasonNames[i]).Add(float64(n))
		}
	}
	return emit(boundary(w, prevCommit))
}

func (m *Mapper) failed(tx *capture.Tx, err error) error {
	return fmt.Errorf("map transaction %d, commit LSN %s: %w", tx.XID, tx.CommitLSN, err)
}

func (w *work) start(tx *capture.Tx) {
	w.tx, w.commit = tx, ledger.LSN(tx.CommitLSN)
	w.state = state{actor: unattributed()}
	w.entries, w.shapes = w.entries[:0], w.shapes[:0]
	clear(w.misses)
}

// feed is the first pass: all changes go into the directory, so that the second finds every row as it is before and after
// the transaction.
func (m *Mapper) feed(ctx context.Context, tx *capture.Tx, spill func([]StoredRow) error) error {
	commit := ledger.LSN(tx.CommitLSN)
	if err := m.dir.pin(ctx); err != nil {
		return err
	}
	for c, err := range tx.Changes() {
		if err != nil {
			return err
		}
		if c.Op == capture.OpMessage {
			continue
		}
		p := m.plan(c.Rel)
		if !p.compared {
			if err := m.compareShape(ctx, p, c.Ordinal); err != nil {
				return err
			}
		}
		if p.t == nil || !p.t.target {
			continue
		}
		if c.Op == capture.OpTruncate {
			if err := m.dir.complete(ctx, commit); err != nil {
				return err
			}
			m.dir.truncate(p.t, commit)
			continue
		}
		r := m.dir.feed(p, c, commit, p.trustedOld(c))
		if r != nil {
			m.dir.link(r)
			if !r.gone {
				m.note(r)
			}
		}
		if len(m.dir.partial) >= loadBatch {
			if err := m.dir.fill(ctx); err != nil {
				return err
			}
		}
		if spill != nil && m.dir.fresh+m.named >= m.spillAt {
			if err := m.dir.complete(ctx, commit); err != nil {
				return err
			}
			if err := spill(m.dir.takeDirty(false)); err != nil {
				return err
			}
			m.dir.spilled = true
			m.dir.trim()
		}
	}
	return m.dir.complete(ctx, commit)
}

// entries is the second pass. It maps a window of changes, trusting that the directory rows are at hand; where some were
// not, it loads them all and maps the window again, with a second walk that follows behind the first.
func (m *Mapper) entries(ctx context.Context, w *work, emit func(*ledger.Entry) error) error {
	var behind trail
	defer behind.stop()
	start := w.state
	n := 0
	flush := func() error {
		if len(w.misses) > 0 {
			if err := m.again(ctx, w, &behind, start, n); err != nil {
				return err
			}
		}
		behind.due += n
		start, n, w.memory.handed = w.state, 0, 0
		for i, e := range w.entries {
			w.entries[i] = nil
			if err := emit(e); err != nil {
				return err
			}
		}
		w.entries = w.entries[:0]
		m.dir.trim()
		return nil
	}
	for c, err := range w.tx.Changes() {
		if err != nil {
			return err
		}
		m.shapesBefore(w, c)
		if e := m.change(w, c); e != nil {
			w.entries = append(w.entries, e)
		}
		if n++; w.memory.handed >= m.window {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// again maps the n changes of a window once more, after loading what was missed.
func (m *Mapper) again(ctx context.Context, w *work, behind *trail, start state, n int) error {
	if err := m.settle(ctx, w, 0); err != nil {
		return err
	}
	w.state, w.entries = start, w.entries[:0]
	for range n {
		c, err := behind.step(w.tx)
		if err != nil {
			return err
		}
		m.shapesBefore(w, c)
		before := w.state
		e := m.change(w, c)
		for round := 1; len(w.misses) > 0; round++ { // what only the loaded rows led to: hardly ever
			if err := m.settle(ctx, w, round); err != nil {
				return err
			}
			w.state = before
			e = m.change(w, c)
		}
		if e != nil {
			w.entries = append(w.entries, e)
		}
	}
	behind.due -= n
	return nil
}

// trail is a walk over a transaction that stays behind until it is needed.
type trail struct {
	next func() (*capture.Change, error, bool)
	end  func()
	due  int // steps that the window is ahead of it
}

func (t *trail) step(tx *capture.Tx) (*capture.Change, error) {
	if t.next == nil {
		t.next, t.end = iter.Pull2(tx.Changes())
	}
	for ; t.due > 0; t.due-- {
		if _, err, ok := t.next(); err != nil || !ok {
			return nil, errors.Join(errors.New("the transaction cannot be walked over twice"), err)
		}
	}
	c, err, ok := t.next()
	if !ok {
		return nil, errors.New("the transaction is shorter than before")
	}
	return c, err
}

func (t *trail) stop() {
	if t.end != nil {
		t.end()
	}
}

func (m *Mapper) settle(ctx context.Context, w *work, round int) error {
	if round == rounds {
		return fmt.Errorf("the directory does not come to rest after %d rounds of loading", rounds)
	}
	if err := m.dir.want(ctx, w.misses); err != nil {
		return err
	}
	clear(w.misses)
	return nil
}

func (m *Mapper) plan(rel *capture.Relation) *plan {
	p := m.plans[rel]
	if p == nil {
		if len(m.plans) > 10_000 { // shapes that are long gone
			clear(m.plans)
		}
		p = newPlan(m.rules, rel)
		m.plans[rel] = p
		if p.t == nil {
			m.log.Warn("a table of the stream is not in the mapping", zap.String("table", rel.FullName))
		} else if p.key == nil && p.t.fate != FateOff && p.t.fate != FateExcluded {
			m.log.Warn("the stream lacks a key column of the mapping", zap.String("table", rel.FullName), zap.Strings("key", p.t.key))
		}
	}
	return p
}

// note keeps the names of records and users for the search.
func (m *Mapper) note(r *row) {
	if record, user := m.rules.nameOfRow(r.t, r.key, r.cur); record != nil {
		m.records = append(m.records, *record)
		m.named += int(unsafe.Sizeof(*record)) + len(record.Name)
	} else if user != nil {
		m.users = append(m.users, *user)
		m.named += int(unsafe.Sizeof(*user)) + len(user.Name)
	}
}

// nameOfRow is the name of a record or of a user, nil for other rows.
func (r *Rules) nameOfRow(t *table, key string, img image) (*RecordName, *UserName) {
	tenant := ""
	if at, ok := t.dirAt[t.tenant]; ok && t.tenantOf == "" {
		tenant = img.text(at)
	}
	if t.record != nil {
		name := ownName(t, img)
		return &RecordName{tenant, t.record.Application, t.record.Type, key, name}, nil
	}
	if u := r.users; u != nil && u.t == t {
		return nil, &UserName{tenant, key, img.text(u.email), img.text(u.name), img.text(u.kind)}
	}
	return nil, nil
}

// TakeNames gives the names since the last take.
func (m *Mapper) TakeNames() ([]RecordName, []UserName) {
	records, users := m.records, m.users
	m.records, m.users, m.named = nil, nil, 0
	return records, users
}

// TakeDirty gives the directory rows that changed since the last take. They stay in the cache until Stored says that
// all takes so far are committed: load would not find them yet.
func (m *Mapper) TakeDirty() []StoredRow { return m.dir.takeDirty(true) }

// DirtyCount is how many rows TakeDirty would give.
func (m *Mapper) DirtyCount() int { return len(m.dir.dirty) }

// Stored says that what was taken is committed.
func (m *Mapper) Stored() {
	for i, r := range m.dir.taken {
		r.taken = false
		m.dir.taken[i] = nil
	}
	m.dir.taken = m.dir.taken[:0]
}

func (d *directory) takeDirty(pin bool) []StoredRow {
	if len(d.dirty) == 0 {
		return nil
	}
	rows := make([]StoredRow, len(d.dirty))
	for i, r := range d.dirty {
		rows[i] = r.encode()
		r.dirty = false
		if pin && !r.taken {
			r.taken = true
			d.taken = append(d.taken, r)
		}
		d.dirty[i] = nil
	}
	d.dirty, d.fresh = d.dirty[:0], 0
	return rows
}

// boundary is the entry that closes a transaction.
func boundary(w *work, prevCommit ledger.LSN) *ledger.Entry {
	e := w.entry()
	e.Kind, e.Ordinal, e.Action, e.Summary = ledger.KindTransaction, int64(w.tx.Rows), "transaction", "End of a transaction"
	number := func(path string, n int) ledger.Field {
		return ledger.Field{Path: path, Type: "int8", State: ledger.FieldValue, Value: strconv.Itoa(n)}
	}
	e.Fields = []ledger.Field{
		{Path: pathPrevCommit, Type: "pg_lsn", State: ledger.FieldValue, Value: prevCommit.String()},
		number(pathChanges, w.tx.Rows), number(pathEntries, w.count.entries),
		number(pathNoise, w.count.noise), number(pathExcluded, w.count.excluded),
	}
	return e
}

func (w *work) entry() *ledger.Entry {
	e := w.memory.entry()
	e.CommitLSN, e.XID, e.CommittedAt = w.commit, w.tx.XID, w.tx.CommitTime
	return e
}
