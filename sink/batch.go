package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
)

// Upto says how far a batch takes the position. Zero fields leave it where it is.
type Upto struct {
	CommitLSN   ledger.LSN
	EndLSN      ledger.LSN
	CommittedAt int64 // microseconds since 1970, of the source's clock
	CompleteAt  int64 // the log is complete up to this time
}

// Batch is one transaction of the audit database: entries, tiles, directory rows, names and the position, or nothing of it.
type Batch struct {
	w       *Writer
	tx      pgx.Tx
	before  ledger.Chain  // where the chain stood at Begin
	tree    *ledger.Tree  // with the entries of this batch; nil: there are none yet
	tiles   []ledger.Tile // that the batch has completed and not yet stored
	entries int
	start   time.Time
	counts  counts
	commits []int64 // commit times of the entries, for the latency histogram
}

// Begin opens a batch. The writer allows one at a time.
func (w *Writer) Begin(ctx context.Context) (*Batch, error) {
	if w.dead {
		return nil, newFault(ErrUnknown, "the writer must be opened again after a failed commit")
	}
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return nil, explain(fmt.Errorf("begin: %w", err))
	}
	return &Batch{w: w, tx: tx, before: w.chain, start: time.Now(), counts: counts{}}, nil
}

// Entries seals and stores entries in their order. It may be called many times. An entry that is not from the stream
// (Kind 0, 10, 14, 15 ... with CommittedAt 0) gets the time of recording and no place in the stream.
func (b *Batch) Entries(ctx context.Context, entries []*ledger.Entry) error {
	now := time.Now().UnixMicro()
	for len(entries) > 0 {
		if entries[0].CommittedAt == 0 {
			notFromStream(entries[0], now)
		}
		month, err := b.w.month(ctx, entries[0].CommittedAt)
		if err != nil {
			return err
		}
		n := 1
		for n < len(entries) {
			if entries[n].CommittedAt == 0 {
				notFromStream(entries[n], now)
			}
			if entries[n].CommittedAt != entries[n-1].CommittedAt && time.UnixMicro(entries[n].CommittedAt).UTC().Format("2006_01") != month {
				break
			}
			n++
		}
		if err := b.copy(ctx, month, entries[:n], now); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

func notFromStream(e *ledger.Entry, now int64) {
	e.CommittedAt = now
	if e.CommitLSN == 0 {
		e.Ordinal = -1
	}
}

// copy stores the entries of one month.
func (b *Batch) copy(ctx context.Context, month string, entries []*ledger.Entry, now int64) error {
	w := b.w
	var further []also
	var bad error
	if b.tree == nil {
		b.tree = w.tree.Clone()
	}
	i := 0
	err := b.copyFrom(ctx, copyEntryInto(month), func(buf []byte) ([]byte, bool) {
		if i == len(entries) || bad != nil {
			return buf, false
		}
		sealed := w.chain.Seal(entries[i], now, salt())
		b.tiles = b.tree.Append(sealed.LeafHash, b.tiles)
		i++
		further, bad = alsoOf(further, &sealed)
		b.counts.add(sealed.Entry)
		return appendEntry(buf, w.number, &sealed), true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return explain(fmt.Errorf("store entries: %w", err))
	}
	b.entries += len(entries)
	for _, e := range entries {
		if e.Kind == ledger.KindTransaction {
			b.commits = append(b.commits, e.CommittedAt)
		}
	}
	if len(b.tiles) >= maxTiles {
		if err := b.storeTiles(ctx); err != nil {
			return err
		}
	}
	if len(further) == 0 {
		return nil
	}
	i = 0
	err = b.copyFrom(ctx, copyAlsoInto(month), func(buf []byte) ([]byte, bool) {
		if i == len(further) {
			return buf, false
		}
		i++
		return appendAlso(buf, w.number, &further[i-1]), true
	})
	if err != nil {
		return explain(fmt.Errorf("store further records of entries: %w", err))
	}
	return nil
}

// maxTiles is how many tiles of 8 KiB wait in memory.
const maxTiles = 128

// storeTiles stores the tiles that the batch has completed so far.
func (b *Batch) storeTiles(ctx context.Context) error {
	if len(b.tiles) == 0 {
		return nil
	}
	i := 0
	err := b.copyFrom(ctx, copyTiles, func(buf []byte) ([]byte, bool) {
		if i == len(b.tiles) {
			return buf, false
		}
		i++
		return appendTile(buf, b.w.number, &b.tiles[i-1]), true
	})
	if err != nil {
		return explain(fmt.Errorf("store tiles of the tree: %w", err))
	}
	b.tiles = b.tiles[:0]
	return nil
}

func (b *Batch) copyFrom(ctx context.Context, statement string, next func([]byte) ([]byte, bool)) error {
	_, err := b.w.conn.PgConn().CopyFrom(ctx, newRows(next), statement)
	return err
}

// Directory stores the rows as they are now.
func (b *Batch) Directory(ctx context.Context, rows []mapping.StoredRow) error {
	for part := range slices.Chunk(rows, 5000) {
		tables, ids, states := make([]string, len(part)), make([]string, len(part)), make([]string, len(part))
		for i, r := range part {
			tables[i], ids[i], states[i] = r.Table, r.Row, string(r.State)
		}
		_, err := b.tx.Exec(ctx, `INSERT INTO audit.directory (chain, table_name, row_id, state)
			SELECT $1, t, r, s::jsonb FROM unnest($2::text[], $3::text[], $4::text[]) u(t, r, s)
			ON CONFLICT (chain, table_name, row_id) DO UPDATE SET state = excluded.state`, b.w.number, tables, ids, states)
		if err != nil {
			return explain(fmt.Errorf("store directory rows: %w", err))
		}
	}
	return nil
}

// Names stores names that records and users had. Those that are known already are left alone.
func (b *Batch) Names(ctx context.Context, records []mapping.RecordName, users []mapping.UserName) error {
	for part := range slices.Chunk(records, 5000) {
		var c [5][]string
		for _, r := range part {
			for i, v := range [...]string{r.TenantID, r.Application, r.RecordType, r.RecordID, r.Name} {
				c[i] = append(c[i], v)
			}
		}
		_, err := b.tx.Exec(ctx, `INSERT INTO audit.record_name (chain, tenant_id, application, record_type, record_id, name)
			SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) ON CONFLICT DO NOTHING`,
			b.w.number, c[0], c[1], c[2], c[3], c[4])
		if err != nil {
			return explain(fmt.Errorf("store names of records: %w", err))
		}
	}
	for part := range slices.Chunk(users, 5000) {
		var c [5][]string
		for _, u := range part {
			for i, v := range [...]string{u.TenantID, u.UserID, u.Email, u.Name, u.Kind} {
				c[i] = append(c[i], v)
			}
		}
		_, err := b.tx.Exec(ctx, `INSERT INTO audit.user_name (chain, tenant_id, user_id, email, name, kind)
			SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) ON CONFLICT DO NOTHING`,
			b.w.number, c[0], c[1], c[2], c[3], c[4])
		if err != nil {
			return explain(fmt.Errorf("store names of users: %w", err))
		}
	}
	return nil
}

// Load reads directory rows as this batch sees them, its own uncommitted ones included.
func (b *Batch) Load(ctx context.Context, keys []mapping.Key) ([]mapping.StoredRow, error) {
	return load(ctx, b.w.conn, b.w.number, keys)
}

// Commit moves the position from where Begin found it and makes the batch durable. If we die before it, nothing of the
// batch is there; if its answer is lost (ErrUnknown), the writer must be opened again, and the position tells.
func (b *Batch) Commit(ctx context.Context, upto Upto) error {
	w := b.w
	if err := b.storeTiles(ctx); err != nil {
		return err
	}
	at := w.Position()
	if upto.EndLSN != 0 {
		at.CommitLSN, at.EndLSN, at.AckedLSN = upto.CommitLSN, upto.EndLSN, max(at.AckedLSN, upto.EndLSN)
	}
	at.Size = w.chain.Size
	moved, err := b.tx.Exec(ctx, `UPDATE audit.position SET size = $4, head = $5, recorded_us = $6,
		commit_lsn = $7::pg_lsn, end_lsn = $8::pg_lsn, acked_lsn = $9::pg_lsn,
		committed_at = coalesce($10, committed_at), complete_at = greatest(complete_at, $11)
		WHERE chain = $1 AND size = $2 AND head = $3`,
		w.number, int64(b.before.Size), b.before.Head[:], int64(w.chain.Size), w.chain.Head[:], w.chain.RecordedUS,
		at.CommitLSN.String(), at.EndLSN.String(), at.AckedLSN.String(), timeOrNil(upto.CommittedAt), timeOrNil(upto.CompleteAt))
	if err != nil {
		return explain(fmt.Errorf("move the position: %w", err))
	}
	if moved.RowsAffected() != 1 {
		return newFault(ErrMoved, "the stored position of the chain is not where this daemon left it, at entry %d: somebody else has written to it. Stop every daemon of the chain and run `casebook-audit verify`", b.before.Size)
	}
	if err := b.tx.Commit(ctx); err != nil {
		w.dead = true
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) {
			return explain(fmt.Errorf("commit: %w", err)) // the server said no
		}
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	b.tx = nil
	if b.tree != nil {
		w.tree = b.tree
		at.Root = w.tree.Root()
	}
	w.setPosition(at)
	w.metrics.stored(b, upto)
	select {
	case w.grew <- struct{}{}:
	default:
	}
	return nil
}

func timeOrNil(us int64) any {
	if us == 0 {
		return nil
	}
	return time.UnixMicro(us)
}

// Rollback undoes a batch that was not committed; after Commit it does nothing.
func (b *Batch) Rollback() {
	if b.tx == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := b.tx.Rollback(ctx); err != nil {
		b.w.dead = true
	}
	b.tx = nil
	if !b.w.dead {
		b.w.chain = b.before
		clear(b.w.months) // partitions made in this batch went with it
	}
}
