package sink

import (
	"context"
	"fmt"

	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
)

// Seed says where a slot was made, and on what.
type Seed struct {
	Slot            string
	ConsistentPoint ledger.LSN
	SystemID        string
	Timeline        int32
}

// BeginSeed notes the slot before the directory is filled, so that a crash on the way is noticed: until MarkSeeded the
// chain counts as not begun. Directory rows that are there stay: the snapshot overwrites those that it has, the others
// are of rows that were deleted.
func (w *Writer) BeginSeed(ctx context.Context, seed Seed, entries ...*ledger.Entry) error {
	err := w.inOne(ctx, func(b *Batch) error {
		_, err := b.tx.Exec(ctx, `UPDATE audit.position SET slot = $2, consistent_point = $3::pg_lsn, system_id = $4, timeline = $5, seeded_at = NULL WHERE chain = $1`,
			w.number, seed.Slot, seed.ConsistentPoint.String(), seed.SystemID, seed.Timeline)
		if err != nil {
			return explain(fmt.Errorf("note the slot: %w", err))
		}
		return b.Entries(ctx, entries)
	})
	if err != nil {
		return err
	}
	at := w.Position()
	at.Slot, at.ConsistentPoint, at.SystemID, at.Timeline, at.Seeded = seed.Slot, seed.ConsistentPoint, seed.SystemID, seed.Timeline, false
	w.setPosition(at)
	return nil
}

// SeedRows stores a part of the snapshot, with the entries that tell of it.
func (w *Writer) SeedRows(ctx context.Context, entries []*ledger.Entry, rows []mapping.StoredRow, records []mapping.RecordName, users []mapping.UserName) error {
	return w.inOne(ctx, func(b *Batch) error {
		if err := b.told(ctx, rows, entries); err != nil {
			return err
		}
		return b.Names(ctx, records, users)
	})
}

// Configure stores which rules count from here on: rows of the directory that name them, and the entry that tells.
func (w *Writer) Configure(ctx context.Context, rows []mapping.StoredRow, entries ...*ledger.Entry) error {
	return w.inOne(ctx, func(b *Batch) error { return b.told(ctx, rows, entries) })
}

// MarkSeeded ends the filling: rows of the directory say which rules it was filled for, entries say what the stream begins
// with, and streaming starts at the slot's consistent point.
func (w *Writer) MarkSeeded(ctx context.Context, rows []mapping.StoredRow, entries ...*ledger.Entry) error {
	return w.inOne(ctx, func(b *Batch) error {
		if err := b.told(ctx, rows, entries); err != nil {
			return err
		}
		at := w.Position()
		_, err := b.tx.Exec(ctx, `UPDATE audit.position SET seeded_at = now(), end_lsn = greatest(end_lsn, $2::pg_lsn), acked_lsn = greatest(acked_lsn, $2::pg_lsn) WHERE chain = $1`,
			w.number, at.ConsistentPoint.String())
		if err != nil {
			return explain(fmt.Errorf("note that the directory is filled: %w", err))
		}
		at.EndLSN, at.AckedLSN, at.Seeded = max(at.EndLSN, at.ConsistentPoint), max(at.AckedLSN, at.ConsistentPoint), true
		w.setPosition(at)
		return nil
	})
}

// told stores entries, and the directory rows that they tell of.
func (b *Batch) told(ctx context.Context, rows []mapping.StoredRow, entries []*ledger.Entry) error {
	if err := b.Entries(ctx, entries); err != nil {
		return err
	}
	return b.Directory(ctx, rows)
}

// inOne makes a batch of what fn stores.
func (w *Writer) inOne(ctx context.Context, fn func(b *Batch) error) error {
	b, err := w.Begin(ctx)
	if err != nil {
		return err
	}
	defer b.Rollback()
	if err := fn(b); err != nil {
		return err
	}
	return b.Commit(ctx, Upto{})
}
