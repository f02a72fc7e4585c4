package ledger_test

import (
	"testing"

	"casebook.example/audit/ledger"
)

func TestTilePath(t *testing.T) {
	for path, want := range map[string]ledger.TileID{
		"tile/0/000": {Level: 0, Index: 0, Width: 256}, "tile/1/x001/234.p/7": {Level: 1, Index: 1234, Width: 7}, "tile/entries/x001/x234/067": {Level: -1, Index: 1234067, Width: 256},
	} {
		if got, err := ledger.ParseTilePath(path); err != nil || got != want || got.Path() != path {
			t.Errorf("%s: %+v %v", path, got, err)
		}
	}
	for _, bad := range []string{
		"", "tile", "tile/", "tile/0/0", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/007", "tile/0/001/000", "tile/-1/000", "tile/8/000", "tile/0/../000", "tile/0/000/",
		"/tile/0/000", "tile/8/0/000", "tile/data/000", "tile/0/x999/x999/x999/x999/x999/x999/999", "tile/00/000", "tile/0/000.p/1/x",
	} {
		if got, err := ledger.ParseTilePath(bad); err == nil {
			t.Errorf("%s: taken as %+v", bad, got)
		}
	}
	for _, c := range []struct {
		id   ledger.TileID
		size uint64
		want bool
	}{
		{ledger.TileID{Width: 1}, 0, false}, {ledger.TileID{Width: 1}, 1, true}, {ledger.TileID{Width: 256}, 255, false}, {ledger.TileID{Width: 256}, 256, true},
		{ledger.TileID{Level: 1, Width: 1}, 255, false}, {ledger.TileID{Level: 1, Width: 1}, 256, true}, {ledger.TileID{Level: 1, Width: 2}, 511, false},
		{ledger.TileID{Level: -1, Index: 1, Width: 1}, 256, false}, {ledger.TileID{Level: -1, Index: 1, Width: 1}, 257, true}, {ledger.TileID{Level: 7, Index: 1 << 47, Width: 1}, 1 << 62, false},
	} {
		if got := c.id.In(c.size); got != c.want {
			t.Errorf("%+v in %d: %v", c.id, c.size, got)
		}
	}
}

func FuzzParseTilePath(f *testing.F) {
	f.Add("tile/0/000.p/12")
	f.Add("tile/entries/x001/234")
	f.Fuzz(func(t *testing.T, path string) {
		if id, err := ledger.ParseTilePath(path); err == nil && id.Path() != path {
			t.Fatalf("%q was read as %q", path, id.Path())
		}
	})
}
