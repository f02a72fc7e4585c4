package sink

import (
	"context"
	"errors"
	"fmt"

	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// resume takes up the chain behind a trusted checkpoint. The hashes at the right edge of its tree must give its root; what is
// appended to them then continues that tree and no other one.
func (v *verification) resume(ctx context.Context, since ledger.Checkpoint, id [16]byte, size uint64) error {
	v.scope.From, v.rooted = since.Size, true
	if since.Origin != v.signed.origin {
		return fmt.Errorf("the trusted checkpoint is of the log %q, this one is %q", since.Origin, v.signed.origin)
	}
	broken := func(reason string) error {
		return &ledger.BrokenError{Seq: since.Size - 1, Detector: ledger.DetectCheckpoint, Reason: reason}
	}
	if since.Size > size {
		return &ledger.BrokenError{Seq: size, Detector: ledger.DetectCheckpoint, Reason: fmt.Sprintf("the trusted checkpoint is over %d entries, the chain has %d: its end was removed", since.Size, size)}
	}
	if since.Size == 0 {
		if since.Root != new(ledger.Tree).Root() {
			return errors.New("the trusted checkpoint is over no entries and has the root of some")
		}
		return nil
	}
	other := fmt.Sprintf("the first %d entries are not those of the trusted checkpoint, or tiles of their tree were changed", since.Size)
	tree, err := stored.OpenTree(ctx, v.tx, v.number, since.Size)
	switch {
	case errors.Is(err, ledger.ErrTiles):
		return broken(other + ": " + err.Error())
	case err != nil:
		return explain(err)
	case tree.Root() != since.Root:
		return broken(other)
	}
	// The next entry links to the last one of that tree.
	last, err := stored.LeafHashes(ctx, v.tx, v.number, since.Size-1, since.Size)
	if err == nil {
		err = v.included(ctx, since, since.Size-1, last[0])
	}
	if err != nil {
		return decided(err, since.Size-1)
	}
	v.tiles.tree, v.chain = *tree, ledger.NewVerifierAfter(id, since.Size, last[0])
	return v.keyBefore(ctx, since, id)
}

// decided says of an error whether it is evidence: tiles that do not fit are, trouble with the connection is not.
func decided(err error, seq uint64) error {
	if errors.Is(err, ledger.ErrTiles) {
		return &ledger.BrokenError{Seq: seq, Detector: ledger.DetectTree, Reason: err.Error()}
	}
	return explain(err)
}

// included proves with the stored tiles that an entry is under a checkpoint.
func (v *verification) included(ctx context.Context, under ledger.Checkpoint, seq uint64, leaf ledger.Hash) error {
	proof, err := stored.Prover(ctx, v.tx, v.number, under.Size, under.Root).Inclusion(seq)
	if err != nil {
		return err
	}
	if err := ledger.CheckInclusion(proof, under.Size, under.Root, seq, leaf); err != nil {
		return fmt.Errorf("%w: entry %d is not under the checkpoint of size %d", ledger.ErrTiles, seq, under.Size)
	}
	return nil
}

// keyBefore finds the keys that are in force at a trusted checkpoint: those of the last key event below it, which must hold by
// itself and be under the checkpoint.
func (v *verification) keyBefore(ctx context.Context, since ledger.Checkpoint, id [16]byte) error {
	events, err := v.rowsWhere(ctx, "kind = 5 AND seq < $2 ORDER BY seq DESC LIMIT 1", int64(since.Size))
	if err != nil || len(events) == 0 {
		return err
	}
	r := events[0]
	if err := ledger.NewVerifierAt(id, r.Seq).Check(r); err != nil {
		return err
	}
	if err := v.included(ctx, since, r.Seq, r.LeafHash); err != nil {
		return decided(err, r.Seq)
	}
	v.signed.take(r)
	return nil
}

// keyEvents reads the key events of a stretch. Their links are checked with those of all leaves, their content here.
func (v *verification) keyEvents(ctx context.Context, from uint64, bound int64) (err error) {
	v.events, err = v.rowsWhere(ctx, "kind = 5 AND seq >= $2 AND ($3 < 0 OR seq < $3) ORDER BY seq", int64(from), bound)
	if err != nil {
		return err
	}
	hasher := ledger.NewHasher()
	for _, r := range v.events {
		if hasher.Commitment(&r.Entry, &r.Salt) != r.Commitment {
			return &ledger.BrokenError{Seq: r.Seq, Detector: ledger.DetectCommitment, Reason: "the content is not what the commitment says"}
		}
	}
	return nil
}

func (v *verification) rowsWhere(ctx context.Context, where string, args ...any) ([]*ledger.Row, error) {
	rows, err := v.tx.Query(ctx, "SELECT "+stored.RowColumns+" FROM audit.entry WHERE chain = $1 AND "+where, append([]any{v.number}, args...)...)
	if err != nil {
		return nil, explain(err)
	}
	defer rows.Close()
	var list []*ledger.Row
	for rows.Next() {
		r, err := stored.ScanRow(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, explain(rows.Err())
}
