package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"casebook.example/audit/ledger"
	"casebook.example/audit/sink"
)

func newVerifyCmd(e *env) *cobra.Command {
	var from uint64
	var to int64
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the chain and every commitment from what is stored",
		Long: `Verify reads the log through audit.reader_dsn and recomputes every hash of it: commitments, leaves, links, the order of the
stream, the counts of each transaction, the end of the chain, and the rows that are derived from entries.

It ends with 0 when all of it holds, with 1 and the first bad entry when it does not, with 2 or 3 when it could not look.
It cannot see that the whole log was replaced or shortened together with the stored position: for that, keep the head that
it prints outside of the database, and compare.`,
		Example: "  casebook-audit verify\n  casebook-audit verify --from 100000 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			cfg, err := loadConfig(e)
			if err != nil {
				return err
			}
			conn, err := connectAdmin(ctx, "audit.reader_dsn", cfg.Audit.ReaderDSN)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			progress := newProgress(e.stderr, "verify")
			start := time.Now()
			found, err := sink.Verify(ctx, conn, cfg.Audit.Chain, from, to, progress.set)
			progress.done()
			var broken *ledger.BrokenError
			switch {
			case errors.As(err, &broken):
				if e.json {
					if err := json.NewEncoder(e.stdout).Encode(map[string]any{
						"ok": false, "chain": cfg.Audit.Chain, "seq": broken.Seq, "detector": broken.Detector, "reason": broken.Reason,
					}); err != nil {
						return err
					}
				} else {
					fmt.Fprintf(e.stdout, "The chain does not hold. First bad entry: %d\n  %s (detector: %s)\n", broken.Seq, broken.Reason, broken.Detector)
				}
				return &exitError{code: exitFinding}
			case err != nil:
				return &exitError{exitCodeOf(err), fmt.Errorf("verify: nothing is decided: %w", err)}
			case e.json:
				return json.NewEncoder(e.stdout).Encode(struct {
					OK bool `json:"ok"`
					*sink.Verification
				}{true, found})
			}
			fmt.Fprintf(e.stdout, "The chain %s holds: %d entries from %d on, in %s.\nHead: %s\n", found.Chain, found.Entries, found.From,
				time.Since(start).Round(time.Millisecond), found.Head)
			return nil
		},
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "first entry")
	cmd.Flags().Int64Var(&to, "to", -1, "last entry (default: the end)")
	return cmd
}

// progress is a bar on stderr for what lasts over two seconds, and silence when that is no terminal.
type progress struct {
	w     io.Writer
	what  string
	start time.Time
	bar   *progressbar.ProgressBar
}

func newProgress(w io.Writer, what string) *progress {
	return &progress{w: w, what: what, start: time.Now()}
}

func (p *progress) set(done, all uint64) {
	f, ok := p.w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || time.Since(p.start) < 2*time.Second {
		return
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(int64(all), progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(p.what),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	_ = p.bar.Set64(int64(done)) // a bar that cannot be drawn is no reason to fail
}

func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
