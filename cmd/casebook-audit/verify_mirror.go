package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"casebook.example/audit/ledger"
)

// mirrorTimeout bounds one file of a mirror over HTTP.
const mirrorTimeout = 30 * time.Second

// treeMirror is a copy of the tree that somebody else keeps: the files of https://c2sp.org/tlog-tiles. It belongs to one goroutine.
type treeMirror struct {
	read       func(ctx context.Context, path string) ([]byte, error)
	close      func()
	checkpoint ledger.Checkpoint
}

// openMirror opens a folder or an address and reads the mirror's checkpoint, which must be signed as policy says; nil: nobody is
// asked for.
func openMirror(ctx context.Context, from string, policy *ledger.Policy) (*treeMirror, error) {
	m := &treeMirror{close: func() {}}
	if strings.HasPrefix(from, "https://") || strings.HasPrefix(from, "http://") {
		base, err := url.Parse(from)
		if err != nil || base.Host == "" {
			return nil, errors.New("--compare: this is not an address")
		}
		client := &http.Client{Timeout: mirrorTimeout}
		m.close = client.CloseIdleConnections
		m.read = func(ctx context.Context, path string) ([]byte, error) {
			return fetch(ctx, client, base.JoinPath(path).String())
		}
	} else {
		root, err := os.OpenRoot(from)
		if err != nil {
			return nil, fmt.Errorf("--compare: %w", err)
		}
		m.close = func() { root.Close() }
		m.read = func(_ context.Context, path string) ([]byte, error) {
			f, err := root.Open(filepath.FromSlash(path))
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return readBounded(f)
		}
	}
	text, err := m.read(ctx, "checkpoint")
	if err == nil {
		read := ledger.ReadCheckpoint
		if policy != nil {
			read = policy.Open
		}
		m.checkpoint, err = read(text)
	}
	if err != nil {
		m.close()
		return nil, fmt.Errorf("the checkpoint of the mirror: %w", err)
	}
	if err := m.whole(ctx); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// whole reads all tiles once: a mirror that is not what its own checkpoint says decides nothing about the log.
func (m *treeMirror) whole(ctx context.Context) error {
	var tree ledger.Tree
	for at := uint64(0); at < m.checkpoint.Size; at += ledger.TileWidth {
		list, err := m.leafHashes(ctx, at, min(at+ledger.TileWidth, m.checkpoint.Size))
		if err != nil {
			return err
		}
		for _, hash := range list {
			tree.Append(hash, nil)
		}
	}
	if tree.Root() != m.checkpoint.Root {
		return errors.New("the tiles of the mirror are not those of its own checkpoint: the mirror is damaged")
	}
	return nil
}

// readBounded reads a file of a mirror, none of which is longer than a tile.
func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, 64<<10+1))
	if err == nil && len(data) > 64<<10 {
		err = errors.New("the file is longer than any of a mirror")
	}
	return data, err
}

func fetch(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", address, resp.Status)
	}
	return readBounded(resp.Body)
}

// leafHashes are those of entries from to to-1. from is the first of a tile.
func (m *treeMirror) leafHashes(ctx context.Context, from, to uint64) ([]ledger.Hash, error) {
	var list []ledger.Hash
	for index := from / ledger.TileWidth; index*ledger.TileWidth < to; index++ {
		width := min(m.checkpoint.Size-index*ledger.TileWidth, ledger.TileWidth)
		path := ledger.TileID{Level: 0, Index: int64(index), Width: int(width)}.Path()
		data, err := m.read(ctx, path)
		if err != nil {
			return nil, fmt.Errorf("the mirror's %s: %w", path, err)
		}
		if len(data) != int(width)*len(ledger.Hash{}) {
			return nil, fmt.Errorf("the mirror's %s has %d bytes, it must have %d", path, len(data), int(width)*len(ledger.Hash{}))
		}
		for at := 0; at < len(data); at += len(ledger.Hash{}) {
			list = append(list, ledger.Hash(data[at:at+len(ledger.Hash{})]))
		}
	}
	return list[:min(uint64(len(list)), to-from)], nil
}
