package ledger

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// ReadTile gives the first width hashes of a tile, full or at the right edge, as they are stored.
type ReadTile func(level int, index int64, width int) ([]byte, error)

// Prover proves things about a tree whose root is known. Every hash that it reads is checked against that root first, so
// a tile that was tampered with is an error and never a proof that says something else.
type Prover struct {
	tree tlog.Tree
	read ReadTile
}

// NewProver proves with the tree of size leaves and the given root.
func NewProver(size uint64, root Hash, read ReadTile) *Prover {
	return &Prover{tlog.Tree{N: int64(size), Hash: tlog.Hash(root)}, read}
}

// Inclusion proves that leaf seq is in the tree.
func (p *Prover) Inclusion(seq uint64) ([]Hash, error) {
	if seq >= uint64(p.tree.N) {
		return nil, fmt.Errorf("entry %d is not in a tree of %d", seq, p.tree.N)
	}
	proof, err := tlog.ProveRecord(p.tree.N, int64(seq), p.hashes())
	return ours(proof), wrapTile(err)
}

// Consistency proves that the tree begins with the smaller one of old leaves. Nothing is to be proven for old = 0.
func (p *Prover) Consistency(old uint64) ([]Hash, error) {
	switch {
	case old > uint64(p.tree.N):
		return nil, fmt.Errorf("a tree of %d does not begin with one of %d", p.tree.N, old)
	case old == 0 || old == uint64(p.tree.N):
		return nil, nil
	}
	proof, err := tlog.ProveTree(p.tree.N, int64(old), p.hashes())
	return ours(proof), wrapTile(err)
}

// ErrTiles says that stored tiles do not give the root that they must give.
var ErrTiles = errors.New("the stored tiles are not those of the tree: run `casebook-audit verify`")

// readError is trouble in reading tiles, which says nothing about them.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// wrapTile tells a tile that does not fit from one that could not be read.
func wrapTile(err error) error {
	var read *readError
	if err == nil || errors.As(err, &read) {
		return err
	}
	return fmt.Errorf("%w (%w)", ErrTiles, err)
}

func (p *Prover) hashes() tlog.HashReader { return tlog.TileHashReader(p.tree, tileReader(p.read)) }

// tileReader makes a tlog.TileReader of a ReadTile. It keeps nothing.
type tileReader ReadTile

func (tileReader) Height() int                     { return TileHeight }
func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

func (r tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		var err error
		if data[i], err = r(t.L, t.N, t.W); err != nil {
			return nil, &readError{err}
		}
		if len(data[i]) != t.W*len(Hash{}) {
			return nil, fmt.Errorf("tile %s has %d bytes", t.Path(), len(data[i]))
		}
	}
	return data, nil
}

func ours(list []tlog.Hash) []Hash {
	out := make([]Hash, len(list))
	for i, h := range list {
		out[i] = Hash(h)
	}
	return out
}

func theirs(list []Hash) []tlog.Hash {
	out := make([]tlog.Hash, len(list))
	for i, h := range list {
		out[i] = tlog.Hash(h)
	}
	return out
}

// CheckInclusion says whether proof shows that leaf is number seq of the tree.
func CheckInclusion(proof []Hash, size uint64, root Hash, seq uint64, leaf Hash) error {
	if seq >= size || size >= 1<<62 {
		return fmt.Errorf("entry %d is not in a tree of %d", seq, size)
	}
	return tlog.CheckRecord(theirs(proof), int64(size), tlog.Hash(root), int64(seq), tlog.Hash(leaf))
}

// CheckConsistency says whether proof shows that the tree of size leaves begins with that of oldSize. Every tree begins
// with the empty one.
func CheckConsistency(proof []Hash, size uint64, root Hash, oldSize uint64, oldRoot Hash) error {
	switch {
	case oldSize > size || size >= 1<<62:
		return fmt.Errorf("a tree of %d does not begin with one of %d", size, oldSize)
	case oldSize == 0:
		if empty := new(Tree).Root(); oldRoot != empty || len(proof) != 0 {
			return errors.New("a tree of no leaves with a root or a proof of its own")
		}
		return nil
	}
	return tlog.CheckTree(theirs(proof), int64(size), tlog.Hash(root), int64(oldSize), tlog.Hash(oldRoot))
}
