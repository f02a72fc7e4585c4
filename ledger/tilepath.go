package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

// TileID names a tile or a part of one, as the paths of https://c2sp.org/tlog-tiles do.
type TileID struct {
	Level int   // EntriesLevel: the leaves themselves
	Index int64 // as Tile.Index
	Width int   // hashes or leaves, 1 to 256
}

// EntriesLevel is the level of entry bundles: leaves, each behind its length.
const EntriesLevel = -1

// Path is where the tile is served: tile/0/x001/234, tile/entries/000.p/12.
func (t TileID) Path() string { return torchwood.TilePath(t.tlog()) }

func (t TileID) tlog() tlog.Tile {
	return tlog.Tile{H: TileHeight, L: t.Level, N: t.Index, W: t.Width}
}

// ParseTilePath reads what Path writes, and nothing else.
func ParseTilePath(path string) (TileID, error) {
	t, err := torchwood.ParseTilePath(path)
	if err != nil || t.L > 62/TileHeight || t.N >= 1<<48 || t.H != TileHeight {
		return TileID{}, errors.New("this is not the path of a tile")
	}
	id := TileID{t.L, t.N, t.W}
	if id.Path() != path {
		return TileID{}, errors.New("this is not the path of a tile")
	}
	return id, nil
}

// In says whether a tree of size leaves has the tile.
func (t TileID) In(size uint64) bool {
	return uint64(t.Index)*TileWidth+uint64(t.Width) <= size>>(TileHeight*max(t.Level, 0))
}

// NewTiles are the tiles, full and partial, of a tree of size leaves that one of old leaves did not have.
func NewTiles(old, size uint64) []TileID {
	var list []TileID
	for _, t := range tlog.NewTiles(TileHeight, int64(old), int64(size)) {
		list = append(list, TileID{t.L, t.N, t.W})
		if t.L == 0 {
			list = append(list, TileID{EntriesLevel, t.N, t.W})
		}
	}
	return list
}

// AppendBundleEntry adds a leaf to an entry bundle: its length as u16, then its bytes.
func AppendBundleEntry(b []byte, l *Leaf) []byte {
	return l.Append(binary.BigEndian.AppendUint16(b, LeafSize))
}

// CheckLeaves says whether leaves have these hashes: an entry bundle that does not is not handed out.
func CheckLeaves(leaves []Leaf, hashes []byte) error {
	if len(hashes) != len(leaves)*len(Hash{}) {
		return fmt.Errorf("%w: %d leaves, %d bytes of hashes", ErrTiles, len(leaves), len(hashes))
	}
	for i := range leaves {
		if h := leaves[i].Hash(); h != Hash(hashes[i*len(h):]) {
			return fmt.Errorf("%w: the leaf of entry %d has another hash", ErrTiles, leaves[i].Seq)
		}
	}
	return nil
}
