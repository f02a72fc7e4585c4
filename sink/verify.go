package sink

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"casebook.example/audit/ledger"
)

// Scope says what Verify looks at, and what it may trust.
type Scope struct {
	From uint64
	To   int64 // last entry; negative: the end

	// Since is a checkpoint that is trusted: its entries are not looked at again, and what follows must continue its tree. From
	// is left out then.
	Since *ledger.Checkpoint
	// Leaves wants chain, tree and checkpoints alone: what the entries hold, and what is derived from them, is not looked at.
	Leaves bool
	// Copy, when there is one, gives the leaf hashes of entries from from to to-1 as they were kept elsewhere. It is asked
	// for entries below CopySize alone, in their order.
	Copy     func(ctx context.Context, from, to uint64) ([]ledger.Hash, error)
	CopySize uint64

	// Policy, when there is one, must have signed every stored checkpoint.
	Policy *ledger.Policy
	// Outside are checkpoints that were kept outside of the audit database, as their signer left them: only they show that
	// a chain was replaced or shortened as a whole. They want From 0 and To negative.
	Outside []ledger.Checkpoint

	// Approvers are the verifier keys whose approvals of removals count. Where something was removed and none are named,
	// nothing is decided.
	Approvers []string
}

func (s Scope) whole() bool { return s.From == 0 && s.To < 0 }

// Verification is what Verify found.
type Verification struct {
	Chain       string `json:"chain"`
	From        uint64 `json:"from"`
	Entries     uint64 `json:"entries"`
	Head        string `json:"head"` // leaf hash of the last entry, hexadecimal
	Root        string `json:"root"` // of the tree, hexadecimal; "" where the first entry was not looked at
	Checkpoints int    `json:"checkpoints"`
	Outside     int    `json:"outside_checkpoints"`
	SignedSize  uint64 `json:"signed_size"` // of the last checkpoint that holds

	Tree ledger.Checkpoint `json:"-"` // what was proven, where Root is: a Since of the next run

	Removed []Removed `json:"removed,omitempty"` // what is missing lawfully, by order
}

// Removed is what one order has taken out of the log.
type Removed struct {
	Order   uint64 `json:"order"`
	Entries int    `json:"entries"`
}

// Verify recomputes a chain from what is stored: entries, tiles, checkpoints and derived rows. A chain that does not hold
// is a *ledger.BrokenError; every other error says that nothing was decided. conn may be the writer's or a reader's;
// progress is called now and then with the number of entries done and of all.
func Verify(ctx context.Context, conn *pgx.Conn, chain string, scope Scope, progress func(done, all uint64)) (*Verification, error) {
	if len(scope.Outside) > 0 && !scope.whole() {
		return nil, errors.New("a checkpoint from outside is compared with the whole chain: leave out the range")
	}
	if scope.Since != nil && scope.From != 0 {
		return nil, errors.New("behind a trusted checkpoint nothing is to be left out")
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog; SET LOCAL casebook_audit.tenants = '*'; SET LOCAL TimeZone = 'UTC'"); err != nil {
		return nil, err
	}
	var size int64
	var id pgtype.UUID
	var head []byte
	v := &verification{tx: tx, scope: scope, signed: checkpoints{policy: scope.Policy, outside: scope.Outside}, progress: progress}
	err = tx.QueryRow(ctx, `SELECT c.chain, c.chain_id, c.origin, p.size, p.head FROM audit.chain c JOIN audit.position p USING (chain) WHERE c.name = $1`, chain).
		Scan(&v.number, &id, &v.signed.origin, &size, &head)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, newFault(ErrNotOurs, "the audit database has no chain named %q", chain)
	}
	if err != nil {
		return nil, explain(err)
	}
	if !scope.Leaves {
		if v.removals, err = loadRemovals(ctx, tx, v.number, id.Bytes, v.signed.origin, scope.Approvers); err != nil {
			return nil, err
		}
	}
	v.under = map[uint64]int{}
	v.chain = ledger.NewVerifier(id.Bytes, v.signed.origin)
	if scope.From > 0 {
		v.chain = ledger.NewVerifierAt(id.Bytes, scope.From)
	}
	if scope.Since != nil {
		if err := v.resume(ctx, *scope.Since, id.Bytes, uint64(max(size, 0))); err != nil {
			return nil, err
		}
		scope = v.scope
	} else {
		v.rooted = scope.From == 0
	}
	if !v.rooted {
		v.tiles.base = (scope.From + ledger.TileWidth - 1) / ledger.TileWidth * ledger.TileWidth
	}
	if err := v.rows(ctx, uint64(max(size, 0))); err != nil {
		return nil, err
	}
	last := v.chain.Head()
	if scope.To < 0 {
		switch {
		case v.chain.Size() != uint64(size) && !(scope.From > uint64(size)):
			return nil, &ledger.BrokenError{Seq: min(v.chain.Size(), uint64(size)), Detector: ledger.DetectPosition, Reason: fmt.Sprintf("the chain has %d entries, the position says %d", v.chain.Size(), size)}
		case v.chain.Size() > scope.From && string(head) != string(last[:]):
			return nil, &ledger.BrokenError{Seq: v.chain.Size() - 1, Detector: ledger.DetectPosition, Reason: "the last leaf hash is not the one of the position"}
		}
	}
	if v.rooted && scope.To < 0 {
		if err := v.signed.beyond(ctx, tx, v.number, v.chain.Size()); err != nil {
			return nil, err
		}
		if err := v.tiles.beyond(ctx, tx, v.number); err != nil {
			return nil, err
		}
	}
	if !scope.Leaves {
		if err := v.further.check(ctx, tx, v.number, scope.From, scope.To); err != nil {
			return nil, err
		}
	}
	result := &Verification{Chain: chain, From: scope.From, Entries: v.chain.Size() - scope.From, Checkpoints: v.signed.seen, Outside: v.signed.met, SignedSize: v.signed.last}
	for order, entries := range v.under {
		result.Removed = append(result.Removed, Removed{order, entries})
	}
	slices.SortFunc(result.Removed, func(a, b Removed) int { return cmp.Compare(a.Order, b.Order) })
	if result.Entries > 0 {
		result.Head = fmt.Sprintf("%x", last[:])
	}
	if v.rooted {
		result.Tree = ledger.Checkpoint{Origin: v.signed.origin, Size: v.tiles.tree.Size(), Root: v.tiles.tree.Root()}
		result.Root = fmt.Sprintf("%x", result.Tree.Root[:])
	}
	return result, nil
}

// verification is one run of Verify.
type verification struct {
	tx       pgx.Tx
	number   int32
	scope    Scope
	chain    *ledger.Verifier
	tiles    tileChecker
	signed   checkpoints
	further  alsoChecker
	removals *ledger.Removals
	under    map[uint64]int // entries by the order that took something out of them
	progress func(done, all uint64)
	rooted   bool          // the tree is that of the first entry on
	copied   []ledger.Hash // of the stretch
	events   []*ledger.Row // key events of the stretch, where only leaves are read
}

// rows goes over the entries in stretches, each with the tiles that it completes and the checkpoints over it, in constant
// memory. The last stretch has no end: nothing may stand behind it.
func (v *verification) rows(ctx context.Context, size uint64) error {
	end := size
	if v.scope.To >= 0 {
		end = min(end, uint64(v.scope.To)+1)
	}
	for at := v.scope.From; ; {
		next := at - at%treeChunk + treeChunk
		bound := int64(next)
		if next >= end {
			if bound = int64(end); v.scope.To < 0 {
				bound = -1
			}
		}
		if err := v.stretch(ctx, at, bound, end); err != nil {
			return err
		}
		if next >= end {
			return nil
		}
		at = next
	}
}

func (v *verification) stretch(ctx context.Context, from uint64, bound int64, end uint64) error {
	if v.rooted {
		if err := v.signed.load(ctx, v.tx, v.number, from, bound); err != nil {
			return err
		}
	}
	if v.scope.Copy != nil && from < v.scope.CopySize {
		to := v.scope.CopySize
		if bound >= 0 {
			to = min(to, uint64(bound))
		}
		var err error
		if v.copied, err = v.scope.Copy(ctx, from, to); err != nil {
			return err
		}
	}
	var err error
	if v.scope.Leaves {
		if v.rooted {
			// Keys come out of what the entries hold.
			if err := v.keyEvents(ctx, from, bound); err != nil {
				return err
			}
		}
		err = leaves(ctx, v.tx, v.number, from, bound, func(leaf *ledger.Leaf, hash ledger.Hash) error {
			if err := v.chain.CheckLeaf(leaf, hash); err != nil {
				return err
			}
			if leaf.Kind == ledger.KindKey && v.rooted {
				if len(v.events) == 0 || v.events[0].Seq != leaf.Seq || v.events[0].LeafHash != hash {
					return &ledger.BrokenError{Seq: leaf.Seq, Detector: ledger.DetectLeaf, Reason: "this key event has no content"}
				}
				v.signed.take(v.events[0])
				v.events = v.events[1:]
			}
			return v.took(leaf.Seq, hash, from, end)
		})
	} else {
		err = entries(ctx, v.tx, v.number, from, bound, func(r *checkedRow) error {
			if err := v.chain.CheckWith(r.row, r.content); err != nil {
				return err
			}
			if r.wrong != nil {
				return r.wrong
			}
			under, err := v.removals.Check(r.row)
			if err != nil {
				return err
			}
			for _, order := range under {
				v.under[order]++
			}
			v.further.add(r.further)
			if v.rooted {
				v.signed.take(r.row)
			}
			return v.took(r.row.Seq, r.row.LeafHash, from, end)
		})
	}
	if err != nil {
		return err
	}
	return v.tiles.check(ctx, v.tx, v.number)
}

// took goes on with an entry that holds by itself: the tree, what was signed over it, and the copy.
func (v *verification) took(seq uint64, hash ledger.Hash, from, end uint64) error {
	v.tiles.add(seq, hash)
	if v.rooted {
		if err := v.signed.compare(&v.tiles.tree); err != nil {
			return err
		}
	}
	if i := seq - from; i < uint64(len(v.copied)) && v.copied[i] != hash {
		return &ledger.BrokenError{Seq: seq, Detector: ledger.DetectCopy, Reason: "the entry is not the one of the copy that was kept outside"}
	}
	if done := v.chain.Size() - v.scope.From; done%4096 == 0 && v.progress != nil {
		v.progress(done, end-min(v.scope.From, end))
	}
	return nil
}

// tileChecker recomputes tiles. Where the first entry is not looked at, those of level 0 alone.
type tileChecker struct {
	tree ledger.Tree
	base uint64 // the tree begins with this entry
	full []ledger.Tile
}

func (c *tileChecker) add(seq uint64, hash ledger.Hash) {
	if seq >= c.base {
		c.full = c.tree.Append(hash, c.full)
	}
}

// first is the first entry below a tile.
func first(level int, index int64) uint64 {
	return uint64(index) << (ledger.TileHeight * (level + 1))
}

// check compares the tiles that were completed since the last call with the stored ones.
func (c *tileChecker) check(ctx context.Context, tx pgx.Tx, chain int32) error {
	defer func() { c.full = c.full[:0] }()
	want := map[[2]int64]*ledger.Tile{}
	var levels []int16
	var indexes []int64
	for i := range c.full {
		t := &c.full[i]
		if c.base > 0 {
			if t.Level > 0 {
				continue
			}
			t.Index += int64(c.base / ledger.TileWidth)
		}
		want[[2]int64{int64(t.Level), t.Index}] = t
		levels, indexes = append(levels, int16(t.Level)), append(indexes, t.Index)
	}
	if len(want) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, `SELECT t.level, t.index, t.hashes, t.root FROM unnest($2::smallint[], $3::bigint[]) w(level, index)
		JOIN audit.tile t ON t.chain = $1 AND t.level = w.level AND t.index = w.index`, chain, levels, indexes)
	if err != nil {
		return explain(err)
	}
	broken := func(level int, index int64, what string) error {
		return &ledger.BrokenError{Seq: first(level, index), Detector: ledger.DetectTree, Reason: fmt.Sprintf("tile %d of level %d of the tree %s", index, level, what)}
	}
	var level int16
	var index int64
	var hashes, root []byte
	_, err = pgx.ForEachRow(rows, []any{&level, &index, &hashes, &root}, func() error {
		key := [2]int64{int64(level), index}
		t := want[key]
		if t == nil || !bytes.Equal(hashes, t.Hashes) || !bytes.Equal(root, t.Root[:]) {
			return broken(int(level), index, "is not that of the entries, or stands twice")
		}
		delete(want, key)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range levels {
		if want[[2]int64{int64(levels[i]), indexes[i]}] != nil {
			return broken(int(levels[i]), indexes[i], "is missing")
		}
	}
	return nil
}

// beyond looks for tiles that no entries have.
func (c *tileChecker) beyond(ctx context.Context, tx pgx.Tx, chain int32) error {
	var level int16
	var index int64
	err := tx.QueryRow(ctx, `SELECT level, index FROM audit.tile WHERE chain = $1 AND (level < 0 OR index < 0 OR level > 6 OR index >= $2::bigint >> (8 * (level + 1))) ORDER BY 1, 2 LIMIT 1`,
		chain, int64(c.tree.Size())).Scan(&level, &index)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return explain(err)
	}
	return &ledger.BrokenError{Seq: c.tree.Size(), Detector: ledger.DetectTree, Reason: fmt.Sprintf("tile %d of level %d stands beyond the end of the chain", index, level)}
}

// checkpoints compares signed checkpoints with the recomputed tree.
type checkpoints struct {
	origin  string
	policy  *ledger.Policy
	outside []ledger.Checkpoint
	keys    []*ledger.Policy // in force: those of the last key event

	next []signedCheckpoint // of the stretch, by size
	seen int
	met  int // of outside
	last uint64
}

type signedCheckpoint struct {
	ledger.Checkpoint
	note string
}

// take looks for key events. A key that nobody can verify with is none.
func (c *checkpoints) take(r *ledger.Row) {
	if r.Entry.Kind != ledger.KindKey {
		return
	}
	c.keys = nil
	for _, key := range keysOf(&r.Entry) {
		if p, err := ledger.KeyPolicy(key); err == nil {
			c.keys = append(c.keys, p)
		}
	}
}

// inForce says whether one of the keys in force has signed.
func (c *checkpoints) inForce(note string) bool {
	for _, key := range c.keys {
		if _, err := key.Open([]byte(note)); err == nil {
			return true
		}
	}
	return false
}

// load reads the checkpoints over the entries from from up to bound, or to the end.
func (c *checkpoints) load(ctx context.Context, tx pgx.Tx, chain int32, from uint64, bound int64) error {
	rows, err := tx.Query(ctx, `SELECT size, root, note FROM audit.checkpoint WHERE chain = $1 AND size > $2 AND ($3 < 0 OR size <= $3) ORDER BY size`, chain, int64(from), bound)
	if err != nil {
		return explain(err)
	}
	c.next = c.next[:0]
	var size int64
	var root []byte
	var text string
	_, err = pgx.ForEachRow(rows, []any{&size, &root, &text}, func() error {
		broken := func(reason string) error {
			return &ledger.BrokenError{Seq: uint64(max(size-1, 0)), Detector: ledger.DetectCheckpoint, Reason: fmt.Sprintf("checkpoint of size %d: %s", size, reason)}
		}
		signed, err := ledger.ReadCheckpoint([]byte(text))
		if err == nil && c.policy != nil {
			signed, err = c.policy.Open([]byte(text))
		}
		switch {
		case err != nil:
			return broken(err.Error())
		case signed.Origin != c.origin:
			return broken("it is of another log")
		case signed.Size != uint64(size) || string(signed.Root[:]) != string(root):
			return broken("its columns say something else than its note")
		}
		c.next = append(c.next, signedCheckpoint{signed, text})
		return nil
	})
	return err
}

// compare is called after each entry.
func (c *checkpoints) compare(tree *ledger.Tree) error {
	broken := func(where string) error {
		return &ledger.BrokenError{Seq: tree.Size() - 1, Detector: ledger.DetectCheckpoint, Reason: fmt.Sprintf("the first %d entries are not those of the checkpoint %s", tree.Size(), where)}
	}
	for len(c.next) > 0 && c.next[0].Size == tree.Size() {
		if c.next[0].Root != tree.Root() {
			return broken("that was signed over them")
		}
		if !c.inForce(c.next[0].note) {
			return &ledger.BrokenError{Seq: tree.Size() - 1, Detector: ledger.DetectCheckpoint, Reason: fmt.Sprintf("checkpoint of size %d: it bears no signature of a key that was in force there", tree.Size())}
		}
		c.seen, c.last, c.next = c.seen+1, tree.Size(), c.next[1:]
	}
	for i := range c.outside {
		if c.outside[i].Size != tree.Size() {
			continue
		}
		if c.outside[i].Origin != c.origin || c.outside[i].Root != tree.Root() {
			return broken("that was kept outside")
		}
		c.met++
	}
	return nil
}

// beyond looks for checkpoints over more entries than there are.
func (c *checkpoints) beyond(ctx context.Context, tx pgx.Tx, chain int32, size uint64) error {
	var last int64
	if err := tx.QueryRow(ctx, "SELECT coalesce(max(size), 0) FROM audit.checkpoint WHERE chain = $1", chain).Scan(&last); err != nil {
		return explain(err)
	}
	for _, o := range c.outside {
		if o.Size == 0 {
			c.met++
		}
		last = max(last, int64(o.Size))
	}
	if uint64(last) > size {
		return &ledger.BrokenError{Seq: size, Detector: ledger.DetectCheckpoint, Reason: fmt.Sprintf("a checkpoint over %d entries was signed, the chain has %d: its end was removed", last, size)}
	}
	return nil
}
