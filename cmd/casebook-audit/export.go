package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/mirror"
	"casebook.example/audit/query"
)

// formatTiles is the export that is no list of entries.
const formatTiles query.Format = "tiles"

func exportBundle(ctx context.Context, e *env, flags *filterFlags, filter query.Filter, since []string, output string) error {
	var sizes []uint64
	for _, text := range since {
		size, err := strconv.ParseUint(text, 10, 62)
		if err != nil {
			return &exitError{exitUsage, fmt.Errorf("--since %q is not the size of a checkpoint", text)}
		}
		sizes = append(sizes, size)
	}
	words := url.Values{}
	for name, value := range flags.values {
		if *value != "" {
			words.Set(name, *value)
		}
	}
	cfg, conn, err := readerConn(ctx, e)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	bar := newProgress(e.stderr, "export")
	var info *query.BundleInfo
	err = writeOutput(e, output, func(w io.Writer) (err error) {
		info, err = query.WriteBundle(ctx, conn, cfg.Audit.Chain, flags.caller(), filter, words.Encode(), sizes, w, func(rows int64) { bar.set(uint64(rows), 0) })
		return err
	})
	bar.done()
	if err != nil {
		return evidenceError("export: the bundle is not whole", err)
	}
	fmt.Fprintf(e.stderr, "%d entries under the checkpoint over %d; %d newer ones are left out.\nBundle: %x\n", info.Entries, info.Size, info.Newer, info.Name[:])
	return nil
}

// exportTiles writes or brings up to date a mirror of the tree.
func exportTiles(ctx context.Context, e *env, folder string) error {
	if folder == "-" {
		return &exitError{exitUsage, errors.New("--output is missing: the folder of the mirror")}
	}
	cfg, conn, err := readerConn(ctx, e)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return &exitError{exitUnreachable, fmt.Errorf("export: %w", err)}
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	bar := newProgress(e.stderr, "export")
	last, err := mirror.Export(ctx, tx, cfg.Audit.Chain, folder, bar.set)
	bar.done()
	if errors.Is(err, mirror.ErrRewritten) {
		return &exitError{exitFinding, fmt.Errorf("export: %w", err)}
	}
	if err != nil {
		return evidenceError("export", err)
	}
	fmt.Fprintf(e.stderr, "The mirror %s holds the tree of %d entries.\n", folder, last.Size)
	return nil
}
