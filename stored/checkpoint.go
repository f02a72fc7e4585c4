package stored

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"casebook.example/audit/ledger"
)

// Chain is what a chain is called.
type Chain struct {
	Number int32 // inside this database
	ID     [16]byte
	Origin string
}

// ErrUnsigned: the chain has no signed checkpoint yet.
var ErrUnsigned = errors.New("the log has no signed checkpoint yet")

// FindChain looks a chain up by its name.
func FindChain(ctx context.Context, q Querier, name string) (c Chain, err error) {
	var id pgtype.UUID
	if err := q.QueryRow(ctx, "SELECT chain, chain_id, origin FROM audit.chain WHERE name = $1", name).Scan(&c.Number, &id, &c.Origin); err != nil {
		return c, fmt.Errorf("read the chain %q: %w", name, err)
	}
	c.ID = id.Bytes
	return c, nil
}

// LastCheckpoint reads the newest signed checkpoint of a chain, as it was signed.
func LastCheckpoint(ctx context.Context, q Querier, chain Chain) (signed []byte, c ledger.Checkpoint, err error) {
	var text string
	err = q.QueryRow(ctx, "SELECT note FROM audit.checkpoint WHERE chain = $1 ORDER BY size DESC LIMIT 1", chain.Number).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, c, ErrUnsigned
	}
	if err != nil {
		return nil, c, fmt.Errorf("read the last checkpoint: %w", err)
	}
	if c, err = ledger.ReadCheckpoint([]byte(text)); err == nil && c.Origin != chain.Origin {
		err = errors.New("it is of another log")
	}
	if err != nil {
		return nil, c, fmt.Errorf("the last checkpoint that is stored is broken, run `casebook-audit verify`: %w", err)
	}
	return []byte(text), c, nil
}

// Leaves reads the blind leaves of entries from to to-1.
func Leaves(ctx context.Context, q Querier, chain Chain, from, to uint64) ([]ledger.Leaf, error) {
	rows, err := q.Query(ctx, "SELECT seq, kind, prev, recorded_us, commitment FROM audit.leaf WHERE chain = $1 AND seq >= $2 AND seq < $3 ORDER BY seq", chain.Number, int64(from), int64(to))
	if err != nil {
		return nil, fmt.Errorf("read leaves: %w", err)
	}
	var list []ledger.Leaf
	var seq, recorded int64
	var kind int16
	var prev, commitment []byte
	_, err = pgx.ForEachRow(rows, []any{&seq, &kind, &prev, &recorded, &commitment}, func() error {
		if want := from + uint64(len(list)); uint64(seq) != want || len(prev) != 32 || len(commitment) != 32 {
			return fmt.Errorf("%w: the leaf of entry %d is missing or none", ledger.ErrTiles, want)
		}
		list = append(list, ledger.Leaf{Kind: ledger.Kind(kind), ChainID: chain.ID, Seq: uint64(seq), Prev: ledger.Hash(prev), RecordedUS: recorded, Commitment: ledger.Hash(commitment)})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read leaves: %w", err)
	}
	if uint64(len(list)) != to-from {
		return nil, fmt.Errorf("%w: the leaf of entry %d is missing", ledger.ErrTiles, from+uint64(len(list)))
	}
	return list, nil
}

// TileData reads a tile as it is served: hashes, or an entry bundle whose leaves have the hashes of the tree.
func TileData(ctx context.Context, q Querier, chain Chain, t ledger.TileID) ([]byte, error) {
	if t.Level != ledger.EntriesLevel {
		return Tiles(ctx, q, chain.Number)(t.Level, t.Index, t.Width)
	}
	first := uint64(t.Index) * ledger.TileWidth
	leaves, err := Leaves(ctx, q, chain, first, first+uint64(t.Width))
	if err != nil {
		return nil, err
	}
	hashes, err := Tiles(ctx, q, chain.Number)(0, t.Index, t.Width)
	if err != nil {
		return nil, err
	}
	if err := ledger.CheckLeaves(leaves, hashes); err != nil {
		return nil, err
	}
	var data []byte
	for i := range leaves {
		data = ledger.AppendBundleEntry(data, &leaves[i])
	}
	return data, nil
}
