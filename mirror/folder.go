package mirror

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// ErrRewritten: the folder holds what the log does not have any more. It is evidence.
var ErrRewritten = errors.New("the log is not the one of the mirror")

// Export writes the tree under the last checkpoint into a folder, which is made where it is missing: tile/..., and last the
// checkpoint, so that a folder with a checkpoint is whole. Files that are there with the same content stay, so a mirror is
// brought up to date by doing it again; one with other content is an error and stays too. q must see one snapshot.
func Export(ctx context.Context, q stored.Querier, chain, dir string, progress func(done, all uint64)) (ledger.Checkpoint, error) {
	found, err := stored.FindChain(ctx, q, chain)
	if err != nil {
		return ledger.Checkpoint{}, err
	}
	signed, last, err := stored.LastCheckpoint(ctx, q, found)
	if err != nil {
		return last, err
	}
	have, err := mirrored(dir, last)
	if err != nil {
		return last, err
	}
	if before, err := stored.OpenTree(ctx, q, found.Number, have.Size); err != nil {
		return last, err
	} else if before.Root() != have.Root {
		return last, fmt.Errorf("%w: %s holds %d entries that are not those of the log, which was rewritten; keep the folder, it is evidence", ErrRewritten, dir, have.Size)
	}
	tiles := ledger.NewTiles(have.Size, last.Size)
	for i, id := range tiles {
		data, err := stored.TileData(ctx, q, found, id)
		if err != nil {
			return last, err
		}
		if err := put(filepath.Join(dir, filepath.FromSlash(id.Path())), data, false); err != nil {
			return last, err
		}
		if progress != nil {
			progress(uint64(i+1), uint64(len(tiles)))
		}
	}
	return last, put(filepath.Join(dir, "checkpoint"), signed, true)
}

// mirrored is the checkpoint that a folder has; without one, that over no entries.
func mirrored(dir string, last ledger.Checkpoint) (c ledger.Checkpoint, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if errors.Is(err, os.ErrNotExist) {
		return ledger.Checkpoint{Origin: last.Origin, Root: new(ledger.Tree).Root()}, nil
	}
	if err != nil {
		return c, err
	}
	c, err = ledger.ReadCheckpoint(text)
	switch {
	case err != nil:
		return c, fmt.Errorf("%s: %w", dir, err)
	case c.Origin != last.Origin:
		return c, fmt.Errorf("%s is a mirror of another log, %q", dir, c.Origin)
	case c.Size > last.Size:
		return c, fmt.Errorf("%w: %s holds %d entries, more than the log has, which was shortened; keep the folder, it is evidence", ErrRewritten, dir, c.Size)
	}
	return c, nil
}

// put writes a file by way of another name.
func put(path string, data []byte, replace bool) error {
	if !replace {
		if was, err := os.ReadFile(path); err == nil {
			if string(was) == string(data) {
				return nil
			}
			return fmt.Errorf("%w: %s holds something else; keep the folder, it is evidence", ErrRewritten, path)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
