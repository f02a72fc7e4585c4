package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// treeChunk is how many leaf hashes are read at once where tiles are made afterwards.
const treeChunk = ledger.TileWidth * ledger.TileWidth

// openTree takes up the tree where the position stands. Tiles that a chain of an older version does not have are made
// from its leaf hashes, in transactions of treeChunk entries: an interruption leaves the ones that are there.
func (w *Writer) openTree(ctx context.Context) error {
	var tiles uint64
	if err := w.conn.QueryRow(ctx, "SELECT coalesce(max(index), -1) + 1 FROM audit.tile WHERE chain = $1 AND level = 0", w.number).Scan(&tiles); err != nil {
		return explain(fmt.Errorf("read the tree: %w", err))
	}
	size := w.chain.Size
	if tiles > size/ledger.TileWidth {
		return newFault(ErrMoved, "the tree has tiles of entries beyond the %d that the chain has: the chain was shortened, run `casebook-audit verify`", size)
	}
	if missing := size/ledger.TileWidth - tiles; missing > 0 {
		w.log.Info("making tiles of the tree from stored leaf hashes", zap.Uint64("tiles", missing))
	}
	tree, err := stored.OpenTree(ctx, w.conn, w.number, tiles*ledger.TileWidth)
	for at := tiles * ledger.TileWidth; err == nil && at < size; {
		next := min(at-at%treeChunk+treeChunk, size)
		err = w.appendLeaves(ctx, tree, at, next)
		at = next
	}
	if errors.Is(err, ledger.ErrTiles) {
		return newFault(ErrMoved, "%s", err)
	}
	if err != nil {
		return explain(err)
	}
	if size > 0 {
		head, err := stored.LeafHashes(ctx, w.conn, w.number, size-1, size)
		if err != nil && !errors.Is(err, ledger.ErrTiles) {
			return explain(err)
		}
		if err != nil || head[0] != w.chain.Head {
			return newFault(ErrMoved, "the last entry of the chain is not the one that audit.position names: the chain was tampered with, run `casebook-audit verify`")
		}
	}
	w.tree = tree
	at := w.Position()
	at.Root = tree.Root()
	w.setPosition(at)
	return nil
}

// appendLeaves adds the leaf hashes from to to-1 to tree and stores the tiles that they complete.
func (w *Writer) appendLeaves(ctx context.Context, tree *ledger.Tree, from, to uint64) error {
	leaves, err := stored.LeafHashes(ctx, w.conn, w.number, from, to)
	if err != nil {
		return err
	}
	b := &Batch{w: w}
	for _, leaf := range leaves {
		b.tiles = tree.Append(leaf, b.tiles)
	}
	if len(b.tiles) == 0 {
		return nil
	}
	return pgx.BeginFunc(ctx, w.conn, func(pgx.Tx) error { return b.storeTiles(ctx) })
}
