package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// Checkpoints reads what is to be signed of a chain and stores what was signed, on a connection of its own beside the
// writer's. It belongs to one goroutine.
type Checkpoints struct {
	conn   *pgx.Conn
	chain  int32
	origin string
}

// OpenCheckpoints connects as the writer does.
func OpenCheckpoints(ctx context.Context, cfg Config) (_ *Checkpoints, err error) {
	c := &Checkpoints{}
	if c.conn, err = dial(ctx, cfg.DSN); err != nil {
		return nil, err
	}
	if err := c.conn.QueryRow(ctx, "SELECT chain, origin FROM audit.chain WHERE name = $1", cfg.Chain).Scan(&c.chain, &c.origin); err != nil {
		c.Close()
		return nil, explain(fmt.Errorf("read the chain: %w", err))
	}
	return c, nil
}

// Close ends the session.
func (c *Checkpoints) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	c.conn.Close(ctx)
}

// Origin is the name of the log.
func (c *Checkpoints) Origin() string { return c.origin }

// At is the checkpoint over the first size entries, from what is stored and not from what the writer remembers. Only
// entries that are committed, and so durable, are ever in it.
func (c *Checkpoints) At(ctx context.Context, size uint64) (ledger.Checkpoint, error) {
	tree, err := stored.OpenTree(ctx, c.conn, c.chain, size)
	if errors.Is(err, ledger.ErrTiles) {
		return ledger.Checkpoint{}, newFault(ErrMoved, "%s", err)
	}
	if err != nil {
		return ledger.Checkpoint{}, explain(err)
	}
	return ledger.Checkpoint{Origin: c.origin, Size: size, Root: tree.Root()}, nil
}

// Consistency proves that the tree of later begins with the first old entries.
func (c *Checkpoints) Consistency(ctx context.Context, old uint64, later ledger.Checkpoint) ([]ledger.Hash, error) {
	proof, err := stored.Prover(ctx, c.conn, c.chain, later.Size, later.Root).Consistency(old)
	if errors.Is(err, ledger.ErrTiles) {
		return nil, newFault(ErrMoved, "%s", err)
	}
	return proof, explain(err)
}

// Covers says why the chain up to entry seq is not under a signed checkpoint that holds and that a key in force has signed;
// nil: it is.
func (c *Checkpoints) Covers(ctx context.Context, seq uint64) error {
	signed, last, err := stored.LastCheckpoint(ctx, c.conn, stored.Chain{Number: c.chain, Origin: c.origin})
	if err != nil {
		return err
	}
	if last.Size <= seq {
		return fmt.Errorf("the last signed checkpoint covers the entries before %d", last.Size)
	}
	keys, err := c.Keys(ctx)
	if err != nil {
		return err
	}
	by := checkpoints{}
	for _, key := range keys {
		if p, err := ledger.KeyPolicy(key); err == nil {
			by.keys = append(by.keys, p)
		}
	}
	at, err := c.At(ctx, last.Size)
	if err != nil {
		return err
	}
	if !by.inForce(string(signed)) || at.Root != last.Root {
		return errors.New("the last checkpoint that is stored is not that of the chain, or not signed by a key in force: run `casebook-audit verify`")
	}
	return nil
}

// Store keeps a signed checkpoint. One of that size that is there already stays as it is.
func (c *Checkpoints) Store(ctx context.Context, signed []byte) error {
	read, err := ledger.ReadCheckpoint(signed)
	if err != nil {
		return fmt.Errorf("store a checkpoint: %w", err)
	}
	if read.Origin != c.origin || read.Size == 0 {
		return fmt.Errorf("store a checkpoint: it is over %d entries of %q, the chain is %q", read.Size, read.Origin, c.origin)
	}
	_, err = c.conn.Exec(ctx, "INSERT INTO audit.checkpoint (chain, size, root, note) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", c.chain, int64(read.Size), read.Root[:], string(signed))
	if err != nil {
		return explain(fmt.Errorf("store a checkpoint: %w", err))
	}
	return nil
}

// Recorded is when entry seq was sealed.
func (c *Checkpoints) Recorded(ctx context.Context, seq uint64) (time.Time, error) {
	var us int64
	if err := c.conn.QueryRow(ctx, "SELECT recorded_us FROM audit.leaf WHERE chain = $1 AND seq = $2", c.chain, int64(seq)).Scan(&us); err != nil {
		return time.Time{}, explain(fmt.Errorf("read a leaf: %w", err))
	}
	return time.UnixMicro(us), nil
}

// Keys are the verifier keys that the last key event of the chain names; none before the first one.
func (c *Checkpoints) Keys(ctx context.Context) ([]string, error) {
	rows, err := c.conn.Query(ctx, "SELECT "+stored.RowColumns+" FROM audit.entry WHERE chain = $1 AND kind = 5 ORDER BY seq DESC LIMIT 1", c.chain)
	if err != nil {
		return nil, explain(fmt.Errorf("read the key events: %w", err))
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, explain(rows.Err())
	}
	row, err := stored.ScanRow(rows)
	if err != nil {
		return nil, err
	}
	return keysOf(&row.Entry), nil
}

// KeyEvent is the entry that says which keys sign from it on.
func KeyEvent(keys, before []string) *ledger.Entry {
	e := &ledger.Entry{Kind: ledger.KindKey, Action: "key", Summary: "Signing begins", Initiator: ledger.InitiatorSystem}
	if len(before) > 0 {
		e.Summary = "Signing keys changed"
	}
	for i, key := range keys {
		e.Fields = append(e.Fields, ledger.Field{Path: fmt.Sprintf("key.%d", i), Type: "vkey", State: ledger.FieldValue, Value: key})
	}
	return e
}

func keysOf(e *ledger.Entry) (keys []string) {
	for _, f := range e.Fields {
		if strings.HasPrefix(f.Path, "key.") && f.State == ledger.FieldValue {
			keys = append(keys, f.Value)
		}
	}
	slices.Sort(keys)
	return keys
}
