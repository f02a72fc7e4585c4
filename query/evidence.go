package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/bundle"
	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// What Prove and WriteBundle refuse.
var (
	// ErrNoEntry: there is no such entry, or not for this caller.
	ErrNoEntry = errors.New("there is no such entry, or not for you")
	// ErrNewer: the entry is not under a signed checkpoint yet.
	ErrNewer = errors.New("the entry is not under a signed checkpoint yet: try again in a moment")
	// ErrManyEntries: a bundle does not take that many.
	ErrManyEntries = fmt.Errorf("a bundle takes up to %d entries: narrow the dates, or name a record", maxBundle)
	// ErrSince: consistency was asked for with more entries than are signed.
	ErrSince = errors.New("consistency was asked for with more entries than are under the last checkpoint")
)

// maxBundle is how many entries a bundle takes. More than that is a matter for a mirror.
const maxBundle = 100_000

// evidence is the log as one transaction proves it, under the last signed checkpoint.
type evidence struct {
	tx     pgx.Tx
	scope  scope
	chain  stored.Chain
	signed []byte
	under  ledger.Checkpoint
	prover *ledger.Prover
}

func openEvidence(ctx context.Context, tx pgx.Tx, s scope, chain string) (*evidence, error) {
	e := &evidence{tx: tx, scope: s}
	var err error
	if e.chain, err = stored.FindChain(ctx, tx, chain); err != nil {
		return nil, err
	}
	if e.signed, e.under, err = stored.LastCheckpoint(ctx, tx, e.chain); err != nil {
		return nil, err
	}
	e.prover = ledger.NewProver(e.under.Size, e.under.Root, remember(stored.Tiles(ctx, tx, e.chain.Number)))
	return e, nil
}

// remember keeps the tiles that were read last: neighbours have most of theirs in common.
func remember(read ledger.ReadTile) ledger.ReadTile {
	const most = 128 // of 8 KiB
	type key struct {
		level int
		index int64
		width int
	}
	kept := map[key][]byte{}
	return func(level int, index int64, width int) ([]byte, error) {
		k := key{level, index, width}
		if data, ok := kept[k]; ok {
			return data, nil
		}
		data, err := read(level, index, width)
		if err == nil {
			if len(kept) >= most {
				clear(kept)
			}
			kept[k] = data
		}
		return data, err
	}
}

// rows reads entries by their numbers, in order, as far as the caller may see them.
func (e *evidence) rows(ctx context.Context, seqs []int64, fn func(*ledger.Row) error) error {
	b := &builder{}
	where := "chain = " + b.arg(e.chain.Number) + " AND seq = ANY(" + b.arg(seqs) + ")"
	if e.scope.tenants != nil {
		where += " AND tenant_id = ANY(" + b.arg(e.scope.tenants) + ")"
	}
	found, err := e.tx.Query(ctx, "SELECT "+stored.RowColumns+" FROM audit.entry WHERE "+where+" ORDER BY seq", b.args...)
	if err != nil {
		return err
	}
	list, err := pgx.CollectRows(found, func(pgx.CollectableRow) (*ledger.Row, error) { return stored.ScanRow(found) })
	if err != nil {
		return err
	}
	for _, r := range list {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// Prove gives one entry with its proof, to a caller that may see it. conn is a reader's.
func Prove(ctx context.Context, conn *pgx.Conn, chain string, caller *Caller, seq int64) (entry *bundle.Entry, err error) {
	err = Read(ctx, conn, chain, caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		entry, err = prove(ctx, tx, s, chain, seq)
		return err
	})
	return entry, err
}

func prove(ctx context.Context, tx pgx.Tx, s scope, chain string, seq int64) (entry *bundle.Entry, err error) {
	e, err := openEvidence(ctx, tx, s, chain)
	if err != nil {
		return nil, err
	}
	err = e.rows(ctx, []int64{seq}, func(r *ledger.Row) error {
		if r.Seq >= e.under.Size {
			return ErrNewer
		}
		inclusion, err := e.prover.Inclusion(r.Seq)
		if err != nil {
			return err
		}
		if entry, err = bundle.NewEntry(e.chain.Origin, e.chain.ID, r); err != nil {
			return err
		}
		entry.Prove(inclusion, e.signed)
		return nil
	})
	if err == nil && entry == nil {
		err = ErrNoEntry
	}
	return entry, err
}

// BundleInfo is what WriteBundle wrote.
type BundleInfo struct {
	Name    ledger.Hash
	Entries int
	Newer   int // left out: not under the checkpoint yet
	Size    uint64
}

// WriteBundle writes the entries of a filter with their proofs to w. since are sizes that the log is shown to begin with.
// words are the question as it was asked. An error means that what was written is not whole. conn is a reader's.
func WriteBundle(ctx context.Context, conn *pgx.Conn, chain string, caller *Caller, f Filter, words string, since []uint64, w io.Writer, progress func(rows int64)) (info *BundleInfo, err error) {
	err = Read(ctx, conn, chain, caller, 0, func(tx pgx.Tx, s scope) error {
		info, err = writeBundle(ctx, tx, s, chain, caller, f, words, since, w, progress)
		return err
	})
	return info, err
}

func writeBundle(ctx context.Context, tx pgx.Tx, s scope, chain string, caller *Caller, f Filter, words string, since []uint64, w io.Writer, progress func(rows int64)) (*BundleInfo, error) {
	e, err := openEvidence(ctx, tx, s, chain)
	if err != nil {
		return nil, err
	}
	info := &BundleInfo{Size: e.under.Size}
	var seqs []int64
	err = eachEntry(ctx, tx, s, f, Page{}, func(entry *Entry) error {
		switch {
		case entry.Seq >= e.under.Size:
			info.Newer++
		case len(seqs) == maxBundle:
			return ErrManyEntries
		default:
			seqs = append(seqs, int64(entry.Seq))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(seqs)
	seqs = slices.Compact(seqs)
	slices.Sort(since)
	since = slices.Compact(since)
	proofs := make([][]ledger.Hash, len(since))
	for i, old := range since { // before anything is written
		if old > e.under.Size {
			return nil, ErrSince
		}
		if proofs[i], err = e.prover.Consistency(old); err != nil {
			return nil, err
		}
	}
	out, err := bundle.NewWriter(w, e.signed, words, strings.Join(caller.Tenants, ","))
	if err != nil {
		return nil, err
	}
	for i, old := range since {
		if err := out.Consistency(old, proofs[i]); err != nil {
			return nil, err
		}
	}
	for part := range slices.Chunk(seqs, 200) {
		err := e.rows(ctx, part, func(r *ledger.Row) error {
			inclusion, err := e.prover.Inclusion(r.Seq)
			if err != nil {
				return err
			}
			info.Entries++
			entry, err := bundle.NewEntry(e.chain.Origin, e.chain.ID, r)
			if err != nil {
				return err
			}
			return out.Entry(entry, inclusion)
		})
		if err != nil {
			return nil, err
		}
		if progress != nil {
			progress(int64(info.Entries))
		}
	}
	if info.Entries != len(seqs) {
		return nil, fmt.Errorf("%d entries were found and %d could be read", len(seqs), info.Entries)
	}
	info.Name, err = out.Close(uint64(info.Newer))
	return info, err
}

// signedPatience is what a client is told to wait for a checkpoint.
const signedPatience = time.Second
