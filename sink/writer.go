package sink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
	"casebook.example/audit/sql"
)

// Config says which chain of which audit database.
type Config struct {
	DSN   string
	Chain string // name of the chain, made by setup
}

// Position is where the chain stands.
type Position struct {
	Size            uint64      // number of entries
	Root            ledger.Hash // of the tree over them
	CommitLSN       ledger.LSN  // of the last transaction stored: what is not above it is skipped
	EndLSN          ledger.LSN  // of the same: where the stream starts again
	AckedLSN        ledger.LSN  // the source may have been told to forget everything up to here
	SystemID        string      // of the source; "" before the first start
	Timeline        int32
	Slot            string
	ConsistentPoint ledger.LSN // where the slot was made
	Seeded          bool       // the directory has been filled: streaming may begin
}

// Writer is the only writer of one chain. It holds the chain's advisory lock for as long as its connection lives. All
// methods but Load belong to one goroutine at a time; Load has a connection of its own and may run beside an Append.
type Writer struct {
	log     *zap.Logger
	metrics *metrics
	conn    *pgx.Conn // the writing session, which holds the lock
	number  int32     // of the chain, inside this database
	chain   ledger.Chain
	tree    *ledger.Tree    // over the chain as of the last commit
	months  map[string]bool // whose partitions are there
	dead    bool            // after a failed commit: the chain in memory may be ahead of the table

	grew chan struct{} // Grew's

	mu sync.Mutex // Position is asked by others
	at Position

	reader *pgx.Conn // Load's
}

// lockClass is the first half of the advisory lock; the second is the chain's number.
const lockClass = 0x0ca5eb00

// standbyPoll is how often a standby looks whether the chain is free.
const standbyPoll = 500 * time.Millisecond

// Open takes the chain. Another daemon on it is ErrHeld.
func Open(ctx context.Context, cfg Config, log *zap.Logger, reg prometheus.Registerer) (*Writer, error) {
	return open(ctx, cfg, log, reg, lockTry)
}

// OpenWait is Open for a hot standby: it waits until the daemon that holds the chain is gone.
func OpenWait(ctx context.Context, cfg Config, log *zap.Logger, reg prometheus.Registerer) (*Writer, error) {
	return open(ctx, cfg, log, reg, lockStandby)
}

// OpenTurn is Open for a command that has something to append while a daemon runs: it queues for the chain, and the daemon
// sees that (Asked) and lets it go. One that does not within the lock timeout is ErrHeld.
func OpenTurn(ctx context.Context, cfg Config, log *zap.Logger, reg prometheus.Registerer) (*Writer, error) {
	return open(ctx, cfg, log, reg, lockTurn)
}

// How open takes the lock.
type lockHow uint8

const (
	lockTry lockHow = iota
	lockStandby
	lockTurn
)

func open(ctx context.Context, cfg Config, log *zap.Logger, reg prometheus.Registerer, how lockHow) (_ *Writer, err error) {
	w := &Writer{log: log, metrics: newMetrics(reg), months: map[string]bool{}, grew: make(chan struct{}, 1)}
	if w.conn, err = dial(ctx, cfg.DSN); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if err := check(ctx, w.conn); err != nil {
		return nil, err
	}
	if err := w.findChain(ctx, cfg.Chain); err != nil {
		return nil, err
	}
	if err := w.lock(ctx, cfg.Chain, how); err != nil {
		return nil, err
	}
	if err := w.readPosition(ctx); err != nil {
		return nil, err
	}
	if err := w.openTree(ctx); err != nil {
		return nil, err
	}
	if err := w.ensureMonths(ctx, time.Now().UTC(), 4); err != nil {
		return nil, err
	}
	if w.chain.Size == 0 {
		if err := w.genesis(ctx); err != nil {
			return nil, err
		}
	}
	if w.reader, err = dial(ctx, cfg.DSN); err != nil {
		return nil, err
	}
	w.metrics.size.Set(float64(w.chain.Size))
	return w, nil
}

// dial opens a session whose settings are ours, whatever the server's or the role's are.
func dial(ctx context.Context, dsn string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("audit.dsn is not a connection string that libpq takes")
	}
	cfg.ConnectTimeout = 10 * time.Second
	for name, value := range map[string]string{
		"application_name": "casebook-audit", "timezone": "UTC", "client_encoding": "UTF8",
		"search_path": "pg_catalog", "synchronous_commit": "on", "lock_timeout": "30s", "idle_in_transaction_session_timeout": "0",
	} {
		cfg.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(err)
	}
	return conn, nil
}

// check refuses a database that is not an audit database of this program's version.
func check(ctx context.Context, conn *pgx.Conn) error {
	var there, utf8 bool
	err := conn.QueryRow(ctx, `SELECT to_regclass('audit.entry') IS NOT NULL AND to_regclass($1) IS NOT NULL,
		(SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()) = 'UTF8'`, sql.VersionTable).Scan(&there, &utf8)
	if err != nil {
		return explain(err)
	}
	if !there {
		return newFault(ErrNotOurs, "the audit database has no audit log: run `casebook-audit setup audit --apply`, or point audit.dsn at the right database")
	}
	if !utf8 {
		return newFault(ErrNotOurs, "the audit database's encoding is not UTF8: create it with ENCODING 'UTF8'")
	}
	var version int
	if err := conn.QueryRow(ctx, "SELECT version FROM "+sql.VersionTable).Scan(&version); err != nil {
		return explain(fmt.Errorf("read the version of the audit database: %w", err))
	}
	switch {
	case version < sql.SchemaVersion:
		return newFault(ErrVersion, "the audit database is of version %d, this program needs %d: run `casebook-audit setup audit --apply`", version, sql.SchemaVersion)
	case version > sql.SchemaVersion:
		return newFault(ErrVersion, "the audit database is of version %d, this program knows only up to %d: install the newer casebook-audit", version, sql.SchemaVersion)
	}
	return nil
}

func (w *Writer) findChain(ctx context.Context, name string) error {
	var id pgtype.UUID
	err := w.conn.QueryRow(ctx, "SELECT chain, chain_id, origin FROM audit.chain WHERE name = $1", name).Scan(&w.number, &id, &w.chain.Origin)
	if errors.Is(err, pgx.ErrNoRows) {
		return newFault(ErrNotOurs, "the audit database has no chain named %q: set audit.chain to one that it has, or run `casebook-audit setup audit --apply`", name)
	}
	if err != nil {
		return explain(fmt.Errorf("read the chain: %w", err))
	}
	w.chain.ID = id.Bytes
	return nil
}

// Asked says whether a command queues for the chain (OpenTurn). Only roles that may write it count.
func (w *Writer) Asked(ctx context.Context) (asked bool, err error) {
	err = w.reader.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE l.locktype = 'advisory' AND NOT l.granted AND l.classid::bigint = $1 AND l.objid::bigint = $2 AND l.objsubid = 2
		  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		  AND pg_has_role(a.usesysid, 'casebook_audit_writer', 'MEMBER'))`, int64(lockClass), int64(w.number)).Scan(&asked)
	return asked, explain(err)
}

func (w *Writer) lock(ctx context.Context, name string, how lockHow) error {
	if how == lockTurn {
		_, err := w.conn.Exec(ctx, "SELECT pg_advisory_lock($1, $2)", int32(lockClass), w.number)
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == "55P03" {
			return newFault(ErrHeld, "the daemon of chain %q does not let it go: it is at a long transaction, or of an older version; try again, or stop it", name)
		}
		return explain(err)
	}
	told := false
	for {
		var got bool
		if err := w.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1, $2)", int32(lockClass), w.number).Scan(&got); err != nil {
			return explain(err)
		}
		if got {
			return nil
		}
		if how == lockTry {
			return newFault(ErrHeld, "another daemon writes chain %q: stop it first, or let this one stand by with `run`", name)
		}
		if !told {
			w.log.Info("another daemon holds the chain, standing by", zap.String("chain", name))
			told = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(standbyPoll):
		}
	}
}

func (w *Writer) readPosition(ctx context.Context) error {
	var head []byte
	var commit, end, acked, point int64
	at := Position{}
	err := w.conn.QueryRow(ctx, `SELECT size, head, recorded_us, commit_lsn - '0/0', end_lsn - '0/0', acked_lsn - '0/0',
		coalesce(system_id, ''), coalesce(timeline, 0), coalesce(slot, ''), coalesce(consistent_point - '0/0', 0), seeded_at IS NOT NULL
		FROM audit.position WHERE chain = $1`, w.number).
		Scan(&w.chain.Size, &head, &w.chain.RecordedUS, &commit, &end, &acked, &at.SystemID, &at.Timeline, &at.Slot, &point, &at.Seeded)
	if err != nil {
		return explain(fmt.Errorf("read the position of the chain: %w", err))
	}
	if len(head) != len(w.chain.Head) {
		return newFault(ErrMoved, "audit.position holds a head of %d bytes: the chain was tampered with, run `casebook-audit verify`", len(head))
	}
	copy(w.chain.Head[:], head)
	at.Size, at.CommitLSN, at.EndLSN, at.AckedLSN, at.ConsistentPoint = w.chain.Size, ledger.LSN(commit), ledger.LSN(end), ledger.LSN(acked), ledger.LSN(point)
	w.setPosition(at)
	return nil
}

func (w *Writer) setPosition(at Position) {
	w.mu.Lock()
	w.at = at
	w.mu.Unlock()
}

// Position says where the chain stands, as of the last commit.
func (w *Writer) Position() Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

// Grew is sent to after a commit of entries. One that nobody has received yet stands for all that followed it.
func (w *Writer) Grew() <-chan struct{} { return w.grew }

// genesis is the chain's first entry.
func (w *Writer) genesis(ctx context.Context) error {
	field := func(path, value string) ledger.Field {
		return ledger.Field{Path: path, Type: "text", State: ledger.FieldValue, Value: value}
	}
	return w.AppendEvents(ctx, []*ledger.Entry{{
		Kind: ledger.KindGenesis, Action: "genesis", Summary: "The log begins", Initiator: ledger.InitiatorSystem,
		Fields: []ledger.Field{field("genesis.origin", w.chain.Origin), field("genesis.chain_id", fmt.Sprintf("%x", w.chain.ID)), field("genesis.format", "1")},
	}})
}

// AppendEvents appends entries that do not come from the stream: their place in it and their time are set here.
func (w *Writer) AppendEvents(ctx context.Context, entries []*ledger.Entry) error {
	return w.inOne(ctx, func(b *Batch) error { return b.Entries(ctx, entries) })
}

// Advance stores that the source holds nothing for us up to acked, as of completeAtUS of its clock (0: no news of the
// time). Only then may acked be confirmed to the source.
func (w *Writer) Advance(ctx context.Context, acked ledger.LSN, completeAtUS int64) error {
	_, err := w.conn.Exec(ctx, `UPDATE audit.position SET acked_lsn = greatest(acked_lsn, $2::pg_lsn), complete_at = greatest(complete_at, $3)
		WHERE chain = $1`, w.number, acked.String(), timeOrNil(completeAtUS))
	if err != nil {
		return explain(fmt.Errorf("store the idle position: %w", err))
	}
	at := w.Position()
	at.AckedLSN = max(at.AckedLSN, acked)
	w.setPosition(at)
	if completeAtUS != 0 {
		w.metrics.watermark.Set(float64(completeAtUS) / 1e6)
	}
	return nil
}

// ensureMonths makes the partitions of a month and of those after it.
func (w *Writer) ensureMonths(ctx context.Context, from time.Time, n int) error {
	first := time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC)
	if _, err := w.conn.Exec(ctx, "SELECT audit.ensure_partitions($1, $2)", first, n); err != nil {
		return explain(fmt.Errorf("make the partitions from %s on: %w", first.Format("2006-01"), err))
	}
	for i := range n {
		w.months[first.AddDate(0, i, 0).Format("2006_01")] = true
	}
	return nil
}

// month names the partition of a commit time, and makes it when it is not there.
func (w *Writer) month(ctx context.Context, us int64) (string, error) {
	t := time.UnixMicro(us).UTC()
	if t.Year() < 1970 || t.Year() > 9999 {
		return "", fmt.Errorf("commit time %s: the source's clock is wrong; mend it, or the log cannot be ordered by time", t.Format(time.RFC3339))
	}
	name := t.Format("2006_01")
	if !w.months[name] {
		if err := w.ensureMonths(ctx, t, 1); err != nil {
			return "", err
		}
	}
	return name, nil
}

// Load reads directory rows, as of the last commit. Rows that are not there are missing from the answer.
func (w *Writer) Load(ctx context.Context, keys []mapping.Key) ([]mapping.StoredRow, error) {
	return load(ctx, w.reader, w.number, keys)
}

func load(ctx context.Context, conn *pgx.Conn, chain int32, keys []mapping.Key) ([]mapping.StoredRow, error) {
	tables, rows := make([]string, len(keys)), make([]string, len(keys))
	for i, k := range keys {
		tables[i], rows[i] = k.Table, k.Row
	}
	found, err := conn.Query(ctx, `SELECT d.table_name, d.row_id, d.state FROM unnest($2::text[], $3::text[]) k(t, r)
		JOIN audit.directory d ON d.chain = $1 AND d.table_name = k.t AND d.row_id = k.r`, chain, tables, rows)
	if err != nil {
		return nil, explain(fmt.Errorf("read the directory: %w", err))
	}
	out, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (mapping.StoredRow, error) {
		var r mapping.StoredRow
		err := row.Scan(&r.Table, &r.Row, (*rawJSON)(&r.State))
		return r, err
	})
	if err != nil {
		return nil, explain(fmt.Errorf("read the directory: %w", err))
	}
	return out, nil
}

// rawJSON takes a jsonb column as it is.
type rawJSON []byte

func (r *rawJSON) ScanText(v pgtype.Text) error {
	*r = []byte(v.String)
	return nil
}

// Close ends both sessions, and with the first the lock. It may be called more than once.
func (w *Writer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, conn := range []*pgx.Conn{w.conn, w.reader} {
		if conn != nil {
			conn.Close(ctx)
		}
	}
}

// salt is fresh randomness for one entry.
func salt() ledger.Hash {
	var s ledger.Hash
	rand.Read(s[:]) // never fails
	return s
}
