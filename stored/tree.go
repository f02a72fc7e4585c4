package stored

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
)

// Querier is a connection or a transaction of one.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// LeafHashes reads the leaf hashes of entries from to to-1. One that is missing is an error.
func LeafHashes(ctx context.Context, q Querier, chain int32, from, to uint64) ([]ledger.Hash, error) {
	return hashes(ctx, q, int64(from), int64(to), "entry", `SELECT seq, leaf_hash FROM audit.leaf WHERE chain = $1 AND seq >= $2 AND seq < $3 ORDER BY seq`, chain)
}

// TileRoots reads the roots of the full tiles from to to-1 of a level, which are hashes of the next one.
func TileRoots(ctx context.Context, q Querier, chain int32, level int, from, to int64) ([]ledger.Hash, error) {
	return hashes(ctx, q, from, to, fmt.Sprintf("tile of level %d", level),
		`SELECT index, root FROM audit.tile WHERE chain = $1 AND index >= $2 AND index < $3 AND level = $4 ORDER BY index`, chain, int16(level))
}

func hashes(ctx context.Context, q Querier, from, to int64, what, sql string, chain int32, more ...any) ([]ledger.Hash, error) {
	if from >= to {
		return nil, nil
	}
	rows, err := q.Query(ctx, sql, append([]any{chain, from, to}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	out := make([]ledger.Hash, 0, min(to-from, 1<<16))
	var n int64
	var hash []byte
	_, err = pgx.ForEachRow(rows, []any{&n, &hash}, func() error {
		if want := from + int64(len(out)); n != want || len(hash) != len(ledger.Hash{}) {
			return fmt.Errorf("%w: %s %d is missing or no hash", ledger.ErrTiles, what, want)
		}
		out = append(out, ledger.Hash(hash))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	if int64(len(out)) != to-from {
		return nil, fmt.Errorf("%w: %s %d is missing", ledger.ErrTiles, what, from+int64(len(out)))
	}
	return out, nil
}

// Tiles reads tiles for proofs: full ones as they are stored, those at the right edge from what they are made of.
func Tiles(ctx context.Context, q Querier, chain int32) ledger.ReadTile {
	return func(level int, index int64, width int) ([]byte, error) {
		rows, err := q.Query(ctx, "SELECT substr(hashes, 1, $4) FROM audit.tile WHERE chain = $1 AND level = $2 AND index = $3", chain, int16(level), index, int32(width*len(ledger.Hash{})))
		if err != nil {
			return nil, fmt.Errorf("read a tile: %w", err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		if err != nil {
			return nil, fmt.Errorf("read a tile: %w", err)
		}
		if len(found) == 1 {
			return found[0], nil
		}
		first := index * ledger.TileWidth
		var list []ledger.Hash
		if level == 0 {
			list, err = LeafHashes(ctx, q, chain, uint64(first), uint64(first)+uint64(width))
		} else {
			list, err = TileRoots(ctx, q, chain, level-1, first, first+int64(width))
		}
		if err != nil {
			return nil, err
		}
		out := make([]byte, 0, ledger.TileSize)
		for _, h := range list {
			out = append(out, h[:]...)
		}
		return out, nil
	}
}

// OpenTree takes up the tree of the first size entries. All its full tiles must be stored.
func OpenTree(ctx context.Context, q Querier, chain int32, size uint64) (*ledger.Tree, error) {
	return ledger.OpenTree(size, func(level int) ([]ledger.Hash, error) {
		end := size >> (ledger.TileHeight * level)
		from := end - uint64(ledger.EdgeCount(size, level))
		if level == 0 {
			return LeafHashes(ctx, q, chain, from, end)
		}
		return TileRoots(ctx, q, chain, level-1, int64(from), int64(end))
	})
}

// Prover proves things about the tree of the first size entries. root is what that tree must have: of a checkpoint, or
// the one that OpenTree gives.
func Prover(ctx context.Context, q Querier, chain int32, size uint64, root ledger.Hash) *ledger.Prover {
	return ledger.NewProver(size, root, Tiles(ctx, q, chain))
}
