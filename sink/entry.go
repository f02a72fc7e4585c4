package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// ErrUndecided: what is stored does not suffice to say whether it holds.
var ErrUndecided = errors.New("this cannot be decided")

// VerifiedEntry is an entry that holds.
type VerifiedEntry struct {
	Chain    string `json:"chain"`
	Seq      uint64 `json:"seq"`
	LeafHash string `json:"leaf_hash"`
	Size     uint64 `json:"signed_size"` // of the checkpoint that it is under
	Root     string `json:"root"`
}

// VerifyEntry recomputes one entry: its commitment, its leaf, and that the newest signed checkpoint is over it. Who must have
// signed that one the policy says; nil: nobody is asked for. approvers are as in Scope. Errors are as with Verify. An entry that is not there or not under a
// checkpoint yet is ErrUndecided.
func VerifyEntry(ctx context.Context, conn *pgx.Conn, chain string, seq uint64, policy *ledger.Policy, approvers []string) (*VerifiedEntry, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog; SET LOCAL casebook_audit.tenants = '*'"); err != nil {
		return nil, err
	}
	found, err := stored.FindChain(ctx, tx, chain)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, newFault(ErrNotOurs, "the audit database has no chain named %q", chain)
	}
	if err != nil {
		return nil, explain(err)
	}
	v := &verification{tx: tx, number: found.Number}
	rows, err := v.rowsWhere(ctx, "seq = $2 LIMIT 2", int64(seq))
	if err != nil {
		return nil, err
	}
	signed, last, err := stored.LastCheckpoint(ctx, tx, found)
	switch {
	case errors.Is(err, stored.ErrUnsigned):
		return nil, fmt.Errorf("%w: %w", ErrUndecided, err)
	case err != nil:
		return nil, explain(err)
	}
	if policy != nil {
		if _, err := policy.Open(signed); err != nil {
			return nil, &ledger.BrokenError{Seq: last.Size - 1, Detector: ledger.DetectCheckpoint, Reason: err.Error()}
		}
	}
	switch {
	case len(rows) == 2:
		return nil, &ledger.BrokenError{Seq: seq, Detector: ledger.DetectDensity, Reason: "there is more than one entry of this number"}
	case len(rows) == 0 && seq < last.Size:
		return nil, &ledger.BrokenError{Seq: seq, Detector: ledger.DetectDensity, Reason: fmt.Sprintf("the entry is missing, and a checkpoint over %d entries was signed", last.Size)}
	case seq >= last.Size:
		return nil, fmt.Errorf("%w: entry %d is not under the newest signed checkpoint, which is over %d", ErrUndecided, seq, last.Size)
	}
	r := rows[0]
	if err := ledger.NewVerifierAt(found.ID, seq).Check(r); err != nil {
		return nil, err
	}
	removals, err := loadRemovals(ctx, tx, found.Number, found.ID, found.Origin, approvers)
	if err != nil {
		return nil, err
	}
	if _, err := removals.Check(r); err != nil {
		return nil, err
	}
	if err := v.included(ctx, last, seq, r.LeafHash); err != nil {
		return nil, decided(err, seq)
	}
	return &VerifiedEntry{Chain: chain, Seq: seq, LeafHash: fmt.Sprintf("%x", r.LeafHash), Size: last.Size, Root: fmt.Sprintf("%x", last.Root)}, nil
}
