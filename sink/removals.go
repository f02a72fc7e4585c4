package sink

import (
	"context"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// loadRemovals reads orders, approvals, holds and removals. Each is held against its own leaf here; that they stand in the
// chain is for whoever goes over it.
func loadRemovals(ctx context.Context, tx pgx.Tx, chain int32, id [16]byte, origin string, approvers []string) (*ledger.Removals, error) {
	removals := ledger.NewRemovals(origin, approvers)
	rows, err := tx.Query(ctx, "SELECT "+stored.RowColumns+" FROM audit.entry WHERE chain = $1 AND kind IN (6, 7) ORDER BY seq", chain)
	if err != nil {
		return nil, explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		row, err := stored.ScanRow(rows)
		if err != nil {
			return nil, err
		}
		if err := ledger.NewVerifierAt(id, row.Seq).Check(row); err != nil {
			return nil, err
		}
		if err := removals.Take(row); err != nil {
			return nil, err
		}
	}
	return removals, explain(rows.Err())
}

// Removals reads orders, approvals, holds and removals of the writer's chain, as of now. approvers are the keys that count.
func (w *Writer) Removals(ctx context.Context, approvers []string) (removals *ledger.Removals, err error) {
	err = pgx.BeginFunc(ctx, w.conn, func(tx pgx.Tx) error {
		removals, err = loadRemovals(ctx, tx, w.number, w.chain.ID, w.chain.Origin, approvers)
		return err
	})
	return removals, err
}

// Row reads one entry; nil: there is none.
func (w *Writer) Row(ctx context.Context, seq uint64) (*ledger.Row, error) {
	rows, err := w.conn.Query(ctx, "SELECT "+stored.RowColumns+" FROM audit.entry WHERE chain = $1 AND seq = $2", w.number, int64(seq))
	if err != nil {
		return nil, explain(err)
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, explain(rows.Err())
	}
	row, err := stored.ScanRow(rows)
	if err != nil {
		return nil, err
	}
	return row, ledger.NewVerifierAt(w.chain.ID, seq).Check(row)
}

// Chain is the number of the chain in this database, and its origin.
func (w *Writer) Chain() (number int32, origin string) { return w.number, w.chain.Origin }

// Read runs fn in a transaction that reads.
func (w *Writer) Read(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return explain(pgx.BeginTxFunc(ctx, w.conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, fn))
}
