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
	var policyFile string
	var outside []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the chain and every commitment from what is stored",
		Long: `Verify reads the log through audit.reader_dsn and recomputes every hash of it: commitments, leaves, links, the order of the
stream, the counts of each transaction, the end of the chain, the tiles of the Merkle tree, the stored checkpoints, and the
rows that are derived from entries.

It ends with 0 when all of it holds, with 1 and the first bad entry when it does not, with 2 or 3 when it could not look.
That the whole log was replaced or shortened, together with everything else in the database, is seen only by a checkpoint
that was kept outside of it: name such files with --checkpoint. With --policy every checkpoint must be signed as the policy
says, the stored ones too.`,
		Example: "  casebook-audit verify\n  casebook-audit verify --from 100000 --json\n  casebook-audit verify --policy policy.txt --checkpoint march.checkpoint",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			cfg, err := loadConfig(e)
			if err != nil {
				return err
			}
			scope := sink.Scope{From: from, To: to}
			if scope.Policy, scope.Outside, err = readTrust(policyFile, outside); err != nil {
				return &exitError{exitUsage, err}
			}
			conn, err := connectAdmin(ctx, "audit.reader_dsn", cfg.Audit.ReaderDSN)
			if err != nil {
				return err
			}
			defer conn.Close(ctx)
			progress := newProgress(e.stderr, "verify")
			start := time.Now()
			found, err := sink.Verify(ctx, conn, cfg.Audit.Chain, scope, progress.set)
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
			if from == 0 {
				fmt.Fprintf(e.stdout, "Root: %s\nCheckpoints that hold: %d stored, the last over %d entries; %d from outside\n", found.Root, found.Checkpoints, found.SignedSize, found.Outside)
			}
			return nil
		},
	}
	cmd.Flags().Uint64Var(&from, "from", 0, "first entry")
	cmd.Flags().Int64Var(&to, "to", -1, "last entry (default: the end)")
	cmd.Flags().StringVar(&policyFile, "policy", "", "file that says who must have signed checkpoints")
	cmd.Flags().StringSliceVar(&outside, "checkpoint", nil, "signed checkpoints that were kept outside of the audit database")
	return cmd
}

// readTrust reads a policy and checkpoints that were kept outside. A checkpoint without a policy counts as it stands: then
// it must come from a place that the administrators of the audit database cannot write to.
func readTrust(policyFile string, checkpointFiles []string) (policy *ledger.Policy, outside []ledger.Checkpoint, err error) {
	if policyFile != "" {
		text, err := os.ReadFile(policyFile)
		if err != nil {
			return nil, nil, fmt.Errorf("policy: %w", err)
		}
		if policy, err = ledger.ParsePolicy(text); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", policyFile, err)
		}
	}
	for _, file := range checkpointFiles {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, fmt.Errorf("checkpoint: %w", err)
		}
		read := ledger.ReadCheckpoint
		if policy != nil {
			read = policy.Open
		}
		c, err := read(text)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		outside = append(outside, c)
	}
	return policy, outside, nil
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
