package sink

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// Edge is the tree as it is stored now over all but about the last back entries: where a look at the right edge alone begins.
// Nothing of it is verified.
func Edge(ctx context.Context, conn *pgx.Conn, chain string, back uint64) (c ledger.Checkpoint, err error) {
	found, err := stored.FindChain(ctx, conn, chain)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, newFault(ErrNotOurs, "the audit database has no chain named %q", chain)
	}
	if err != nil {
		return c, explain(err)
	}
	var size int64
	if err := conn.QueryRow(ctx, "SELECT size FROM audit.position WHERE chain = $1", found.Number).Scan(&size); err != nil {
		return c, explain(err)
	}
	at := uint64(max(size, 0))
	at = (at - min(back, at)) / ledger.TileWidth * ledger.TileWidth
	tree, err := stored.OpenTree(ctx, conn, found.Number, at)
	if err != nil {
		return c, decided(err, at-min(at, 1))
	}
	return ledger.Checkpoint{Origin: found.Origin, Size: at, Root: tree.Root()}, nil
}
