package ledger

import (
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// The shape of tiles, after https://c2sp.org/tlog-tiles: a tile of level l lists the nodes of height 8*l of the tree.
const (
	TileHeight = 8
	TileWidth  = 1 << TileHeight         // hashes in a full tile
	TileSize   = TileWidth * len(Hash{}) // bytes of a full tile
)

// Tile is a full tile of the Merkle tree: 256 hashes of one level, and the hash that stands for them on the next one.
type Tile struct {
	Level  int   // 0: leaf hashes
	Index  int64 // first hash is the one number 256*Index of its level
	Hashes []byte
	Root   Hash // of the 256 hashes; one hash of tile Index/256 of the next level
}

// Tree is the right edge of a chain's Merkle tree (RFC 6962): all that is needed to append leaf hashes and to know the
// root, in about 8 KiB a level. The zero value is the empty tree. It belongs to one goroutine.
type Tree struct {
	size     uint64
	frontier []Hash   // frontier[h]: the perfect subtree of height h at the right edge, where bit h of size is set
	partial  [][]byte // partial[l]: the hashes of the tile of level l that is not full yet
}

// Size is the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Append adds one leaf hash. Tiles that it completes are appended to full, lower levels first; they belong to the caller.
func (t *Tree) Append(leaf Hash, full []Tile) []Tile {
	t.add(0, leaf)
	node, height := leaf, 0
	for ; t.size>>height&1 == 1; height++ {
		node = Hash(tlog.NodeHash(tlog.Hash(t.frontier[height]), tlog.Hash(node)))
		if (height+1)%TileHeight == 0 {
			// Two halves of a tile have met: this leaf has filled it.
			level := height / TileHeight
			full = append(full, Tile{Level: level, Index: int64(t.size >> (TileHeight * (level + 1))), Hashes: t.partial[level], Root: node})
			t.partial[level] = nil
			t.add(level+1, node)
		}
	}
	if height == len(t.frontier) {
		t.frontier = append(t.frontier, Hash{})
	}
	t.frontier[height] = node
	t.size++
	return full
}

func (t *Tree) add(level int, h Hash) {
	if level == len(t.partial) {
		t.partial = append(t.partial, nil)
	}
	if t.partial[level] == nil {
		t.partial[level] = make([]byte, 0, TileSize)
	}
	t.partial[level] = append(t.partial[level], h[:]...)
}

// Root is the RFC 6962 root. That of the empty tree is the hash of nothing.
func (t *Tree) Root() Hash {
	if t.size == 0 {
		h, _ := tlog.TreeHash(0, nil) // reads nothing
		return Hash(h)
	}
	height := bits.TrailingZeros64(t.size)
	root := t.frontier[height]
	for height++; t.size>>height != 0; height++ {
		if t.size>>height&1 == 1 {
			root = Hash(tlog.NodeHash(tlog.Hash(t.frontier[height]), tlog.Hash(root)))
		}
	}
	return root
}

// Clone is a copy that may grow by itself.
func (t *Tree) Clone() *Tree {
	c := &Tree{size: t.size, frontier: slices.Clone(t.frontier), partial: make([][]byte, len(t.partial))}
	for level, hashes := range t.partial {
		if hashes != nil {
			c.partial[level] = append(make([]byte, 0, TileSize), hashes...)
		}
	}
	return c
}

// EdgeCount is how many hashes of a level the right edge of a tree holds: those of its tile that is not full.
func EdgeCount(size uint64, level int) int {
	return int(size >> (TileHeight * level) % TileWidth)
}

// Levels is the number of levels of tiles, full or not, that a tree has.
func Levels(size uint64) int {
	return (bits.Len64(size) + TileHeight - 1) / TileHeight
}

// OpenTree takes up a tree again where it was left. edge gives, for each level below Levels(size), the EdgeCount(size,
// level) hashes of its tile that is not full: leaf hashes on level 0, roots of the last full tiles of the level below on
// the others.
func OpenTree(size uint64, edge func(level int) ([]Hash, error)) (*Tree, error) {
	t := &Tree{size: size, frontier: make([]Hash, bits.Len64(size)), partial: make([][]byte, Levels(size))}
	for level := range t.partial {
		hashes, err := edge(level)
		if err != nil {
			return nil, err
		}
		if want := EdgeCount(size, level); len(hashes) != want {
			return nil, fmt.Errorf("the right edge of level %d has %d hashes, a tree of %d leaves has %d there", level, len(hashes), size, want)
		}
		for i := range hashes {
			t.add(level, hashes[i])
		}
		// From the left: the largest perfect subtree first.
		for height := TileHeight - 1; height >= 0; height-- {
			if len(hashes)>>height&1 == 0 {
				continue
			}
			at := len(hashes) >> (height + 1) << (height + 1)
			t.frontier[TileHeight*level+height] = perfect(hashes[at : at+1<<height])
		}
	}
	return t, nil
}

// perfect is the root over a power of two of hashes.
func perfect(hashes []Hash) Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return Hash(tlog.NodeHash(tlog.Hash(perfect(hashes[:half])), tlog.Hash(perfect(hashes[half:]))))
}
