package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"casebook.example/audit/ledger"
)

// forest is a tree with everything kept: the tiles that it gave and its leaves, beside a second implementation.
type forest struct {
	leaves []ledger.Hash
	tiles  map[[2]int64]ledger.Tile
	tree   ledger.Tree
	oracle *compact.Range
}

func grow(t testing.TB, size int) *forest {
	t.Helper()
	f := &forest{tiles: map[[2]int64]ledger.Tile{}, oracle: (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)}
	random := rand.New(rand.NewPCG(1, uint64(size)))
	for len(f.leaves) < size {
		f.add(t, ledger.Hash(rfc6962.DefaultHasher.HashLeaf(fmt.Append(nil, random.Uint64()))))
	}
	return f
}

func (f *forest) add(t testing.TB, leaf ledger.Hash) {
	f.leaves = append(f.leaves, leaf)
	if err := f.oracle.Append(leaf[:], nil); err != nil {
		t.Fatal(err)
	}
	for _, tile := range f.tree.Append(leaf, nil) {
		if len(tile.Hashes) != ledger.TileSize {
			t.Fatalf("a full tile of %d bytes", len(tile.Hashes))
		}
		f.tiles[[2]int64{int64(tile.Level), tile.Index}] = tile
	}
}

func (f *forest) oracleRoot(t testing.TB) ledger.Hash {
	root, err := f.oracle.GetRootHash(nil)
	if err != nil {
		t.Fatal(err)
	}
	if root == nil {
		root = rfc6962.DefaultHasher.EmptyRoot()
	}
	return ledger.Hash(root)
}

// read is how tiles are read from a store that has full ones and leaf hashes only.
func (f *forest) read(level int, index int64, width int) ([]byte, error) {
	if tile, ok := f.tiles[[2]int64{int64(level), index}]; ok {
		return tile.Hashes[:32*width], nil
	}
	var out []byte
	for i := range int64(width) {
		n := index*ledger.TileWidth + i
		h := ledger.Hash{}
		if level == 0 {
			h = f.leaves[n]
		} else {
			h = f.tiles[[2]int64{int64(level - 1), n}].Root
		}
		out = append(out, h[:]...)
	}
	return out, nil
}

func (f *forest) edge(size uint64) func(level int) ([]ledger.Hash, error) {
	return func(level int) ([]ledger.Hash, error) {
		n := ledger.EdgeCount(size, level)
		data, err := f.read(level, int64(size>>(8*(level+1))), n)
		out := make([]ledger.Hash, n)
		for i := range out {
			out[i] = ledger.Hash(data[32*i:])
		}
		return out, err
	}
}

var edgeSizes = []int{0, 1, 2, 3, 255, 256, 257, 511, 512, 65535, 65536, 65537}

// TestTree holds the tree against a second implementation, and its tiles against tlog's idea of them.
func TestTree(t *testing.T) {
	for _, size := range edgeSizes {
		f := grow(t, size)
		if got, want := f.tree.Root(), f.oracleRoot(t); got != want || f.tree.Size() != uint64(size) {
			t.Errorf("size %d: root %x of %d, want %x", size, got, f.tree.Size(), want)
		}
		full := 0
		for _, tile := range tlog.NewTiles(ledger.TileHeight, 0, int64(size)) {
			if tile.W != ledger.TileWidth {
				continue
			}
			full++
			if _, ok := f.tiles[[2]int64{int64(tile.L), tile.N}]; !ok {
				t.Errorf("size %d: tile %s is missing", size, tile.Path())
			}
		}
		if full != len(f.tiles) {
			t.Errorf("size %d: %d tiles, want %d", size, len(f.tiles), full)
		}
		again, err := ledger.OpenTree(uint64(size), f.edge(uint64(size)))
		if err != nil {
			t.Fatal(err)
		}
		if again.Root() != f.tree.Root() {
			t.Errorf("size %d: another root after opening it again", size)
		}
		// Both go on alike, and the clone does not disturb the tree.
		clone := f.tree.Clone()
		for i := range 300 {
			leaf := ledger.Hash{byte(i), byte(i >> 8), 7}
			a, b := again.Append(leaf, nil), clone.Append(leaf, nil)
			if !slices.EqualFunc(a, b, func(a, b ledger.Tile) bool {
				return a.Level == b.Level && a.Index == b.Index && a.Root == b.Root && bytes.Equal(a.Hashes, b.Hashes)
			}) {
				t.Fatalf("size %d: other tiles after opening it again", size)
			}
		}
		if again.Root() != clone.Root() || f.tree.Root() != f.oracleRoot(t) {
			t.Errorf("size %d: the trees do not go on alike", size)
		}
	}
}

// TestProofs: each proof holds for us and for the second implementation, for its own leaf and size only.
func TestProofs(t *testing.T) {
	hasher := rfc6962.DefaultHasher
	big := grow(t, 65537)
	roots := map[int]ledger.Hash{}
	var tree ledger.Tree
	roots[0] = tree.Root()
	for i, leaf := range big.leaves {
		tree.Append(leaf, nil)
		roots[i+1] = tree.Root()
	}
	bytesOf := func(list []ledger.Hash) (out [][]byte) {
		for _, h := range list {
			out = append(out, h[:])
		}
		return out
	}
	at := func(t interface{ Fatal(...any) }, size, old, seq int) {
		root := roots[size]
		prover := ledger.NewProver(uint64(size), root, big.read)
		if seq < size {
			p, err := prover.Inclusion(uint64(seq))
			if err != nil {
				t.Fatal(err)
			}
			leaf := big.leaves[seq]
			if err := ledger.CheckInclusion(p, uint64(size), root, uint64(seq), leaf); err != nil {
				t.Fatal(fmt.Sprintf("inclusion of %d in %d: %v", seq, size, err))
			}
			if err := proof.VerifyInclusion(hasher, uint64(seq), uint64(size), leaf[:], bytesOf(p), root[:]); err != nil {
				t.Fatal(fmt.Sprintf("inclusion of %d in %d: the second implementation says %v", seq, size, err))
			}
			for _, bad := range [][]ledger.Hash{append(slices.Clone(p), ledger.Hash{}), p[:max(0, len(p)-1)]} {
				if len(bad) != len(p) && ledger.CheckInclusion(bad, uint64(size), root, uint64(seq), leaf) == nil {
					t.Fatal("a proof of another length was taken")
				}
			}
			if other := big.leaves[(seq+1)%len(big.leaves)]; ledger.CheckInclusion(p, uint64(size), root, uint64(seq), other) == nil {
				t.Fatal("a proof was taken for another leaf")
			}
			if size > 1 && ledger.CheckInclusion(p, uint64(size), root, uint64(seq+1)%uint64(size), leaf) == nil {
				t.Fatal("a proof was taken for another index")
			}
		}
		p, err := prover.Consistency(uint64(old))
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.CheckConsistency(p, uint64(size), root, uint64(old), roots[old]); err != nil {
			t.Fatal(fmt.Sprintf("consistency of %d with %d: %v", old, size, err))
		}
		oldRoot := roots[old]
		if old > 0 {
			if err := proof.VerifyConsistency(hasher, uint64(old), uint64(size), bytesOf(p), oldRoot[:], root[:]); err != nil {
				t.Fatal(fmt.Sprintf("consistency of %d with %d: the second implementation says %v", old, size, err))
			}
		}
		oldRoot[0] ^= 1
		if ledger.CheckConsistency(p, uint64(size), root, uint64(old), oldRoot) == nil {
			t.Fatal("a consistency proof was taken for another old root")
		}
	}
	for _, size := range edgeSizes {
		for _, old := range edgeSizes {
			if old <= size {
				at(t, size, old, max(0, old-1))
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 65537).Draw(t, "size")
		at(t, size, rapid.IntRange(0, size).Draw(t, "old"), rapid.IntRange(0, size-1).Draw(t, "seq"))
	})
}

// TestProverChecksTiles: what is read wrong is an error, of the right kind, and never a proof.
func TestProverChecksTiles(t *testing.T) {
	f := grow(t, 66000)
	down := errors.New("the database is down")
	for level := range 3 {
		lie := func(l int, index int64, width int) ([]byte, error) {
			data, err := f.read(l, index, width)
			data = slices.Clone(data)
			if l == level {
				data[len(data)/2] ^= 1
			}
			return data, err
		}
		p := ledger.NewProver(66000, f.tree.Root(), lie)
		if _, err := p.Inclusion(70); !errors.Is(err, ledger.ErrTiles) {
			t.Errorf("level %d: inclusion by a wrong tile: %v", level, err)
		}
		if _, err := p.Consistency(300); !errors.Is(err, ledger.ErrTiles) {
			t.Errorf("level %d: consistency by a wrong tile: %v", level, err)
		}
	}
	short := ledger.NewProver(66000, f.tree.Root(), func(int, int64, int) ([]byte, error) { return make([]byte, 5), nil })
	if _, err := short.Inclusion(70); !errors.Is(err, ledger.ErrTiles) {
		t.Errorf("a tile of five bytes: %v", err)
	}
	away := ledger.NewProver(66000, f.tree.Root(), func(int, int64, int) ([]byte, error) { return nil, down })
	if _, err := away.Inclusion(70); !errors.Is(err, down) || errors.Is(err, ledger.ErrTiles) {
		t.Errorf("a tile that cannot be read: %v", err)
	}
	good := ledger.NewProver(66000, f.tree.Root(), f.read)
	for _, bad := range []uint64{66000, 66001, 1 << 63} {
		if _, err := good.Inclusion(bad); err == nil {
			t.Errorf("entry %d was proven", bad)
		}
	}
	if _, err := good.Consistency(66001); err == nil {
		t.Error("consistency with a larger tree was proven")
	}
	for _, bad := range []func() error{
		func() error { return ledger.CheckInclusion(nil, 1<<63, ledger.Hash{}, 1<<62, ledger.Hash{}) },
		func() error { return ledger.CheckConsistency(nil, 1<<63, ledger.Hash{}, 1<<63, ledger.Hash{}) },
		func() error { return ledger.CheckInclusion(nil, 0, ledger.Hash{}, 0, ledger.Hash{}) },
		func() error { return ledger.CheckConsistency(nil, 5, ledger.Hash{}, 0, ledger.Hash{}) },
	} {
		if bad() == nil {
			t.Error("a proof about nothing was taken")
		}
	}
}

func TestOpenTreeRefuses(t *testing.T) {
	if _, err := ledger.OpenTree(300, func(int) ([]ledger.Hash, error) { return make([]ledger.Hash, 3), nil }); err == nil {
		t.Error("a right edge of the wrong length was taken")
	}
}

func BenchmarkTree(b *testing.B) {
	var tree ledger.Tree
	var tiles []ledger.Tile
	b.ReportAllocs()
	for b.Loop() {
		tiles = tree.Append(ledger.Hash{1}, tiles[:0])
	}
}
