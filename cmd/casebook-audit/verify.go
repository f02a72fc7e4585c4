package main

import (
	"context"
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
	"casebook.example/audit/sql"
)

// verifyFlags are those of `verify`.
type verifyFlags struct {
	from    uint64
	to      int64
	entry   int64
	since   string
	copy    string
	policy  string
	outside []string
	leaves  bool
	sql     bool
}

func newVerifyCmd(e *env) *cobra.Command {
	f := &verifyFlags{}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the chain and every commitment from what is stored",
		Long: `Verify reads the log through audit.reader_dsn and recomputes every hash of it: commitments, leaves, links, the order of the
stream, the counts of each transaction, the end of the chain, the tiles of the Merkle tree, the stored checkpoints, and the
rows that are derived from entries.

It ends with 0 when all of it holds, with 1 and the first bad entry when it does not, with 2 or 3 when it could not look.
That the whole log was replaced or shortened, together with everything else in the database, is seen only by what was kept
outside of it:

  --checkpoint FILE  the entries under it must still be those; several are possible
  --since FILE       the same, and only what is newer is looked at
  --compare DIR|URL  every leaf hash is compared with a mirror, as export --format tiles makes it and /tile/ serves it

What is missing from entries must have been removed under an order that two keys of redaction.approvers have approved, and what
such an order removed must be gone. With --policy every checkpoint must be signed as the policy says, the stored ones too. --leaves looks at chain, tree and
checkpoints alone, which is several times quicker. --entry looks at one entry. --sql prints a script for psql that does the same
without this program, apart from signatures.`,
		Example: "  casebook-audit verify\n  casebook-audit verify --from 100000 --json\n  casebook-audit verify --policy policy.txt --since march.checkpoint\n  casebook-audit verify --compare https://mirror.example/casebook/ --leaves\n  casebook-audit verify --sql | psql -X audit",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(e)
			if err != nil {
				return err
			}
			if f.sql {
				_, err := io.WriteString(e.stdout, sql.Verify(cfg.Audit.Chain))
				return err
			}
			return f.run(cmd.Context(), e, cfg)
		},
	}
	flags := cmd.Flags()
	flags.Uint64Var(&f.from, "from", 0, "first entry")
	flags.Int64Var(&f.to, "to", -1, "last entry (default: the end)")
	flags.Int64Var(&f.entry, "entry", -1, "one entry, and that the newest checkpoint is over it")
	flags.StringVar(&f.since, "since", "", "trusted checkpoint: only what is newer is looked at")
	flags.StringVar(&f.copy, "compare", "", "folder or address of a mirror of the tree")
	flags.StringVar(&f.policy, "policy", "", "file that says who must have signed checkpoints")
	flags.StringSliceVar(&f.outside, "checkpoint", nil, "signed checkpoints that were kept outside of the audit database")
	flags.BoolVar(&f.leaves, "leaves", false, "chain, tree and checkpoints alone, not what the entries hold")
	flags.BoolVar(&f.sql, "sql", false, "print a script for psql that verifies the log in plain SQL")
	for _, pair := range [][2]string{
		{"since", "from"}, {"since", "checkpoint"}, {"compare", "from"}, {"compare", "since"}, {"compare", "to"}, {"entry", "from"}, {"entry", "to"}, {"entry", "since"},
		{"entry", "compare"}, {"entry", "checkpoint"}, {"entry", "leaves"}, {"sql", "entry"}, {"sql", "since"}, {"sql", "compare"}, {"sql", "from"}, {"sql", "to"},
		{"sql", "leaves"}, {"sql", "checkpoint"}, {"sql", "policy"},
	} {
		cmd.MarkFlagsMutuallyExclusive(pair[0], pair[1])
	}
	return cmd
}

func (f *verifyFlags) run(ctx context.Context, e *env, cfg *Config) error {
	scope := sink.Scope{From: f.from, To: f.to, Leaves: f.leaves, Approvers: cfg.Redaction.Approvers}
	files := f.outside
	if f.since != "" {
		files = []string{f.since}
	}
	var err error
	if scope.Policy, scope.Outside, err = readTrust(f.policy, files); err != nil {
		return &exitError{exitUsage, err}
	}
	if f.since != "" {
		scope.Since, scope.Outside = &scope.Outside[0], nil
	}
	if f.copy != "" {
		m, err := openMirror(ctx, f.copy, scope.Policy)
		if err != nil {
			return &exitError{exitUsage, fmt.Errorf("verify: nothing is decided: %w", err)}
		}
		defer m.close()
		scope.Copy, scope.CopySize = m.leafHashes, m.checkpoint.Size
		scope.Outside = append(scope.Outside, m.checkpoint)
	}
	conn, err := connectAdmin(ctx, "audit.reader_dsn", cfg.Audit.ReaderDSN)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if f.entry >= 0 {
		found, err := sink.VerifyEntry(ctx, conn, cfg.Audit.Chain, uint64(f.entry), scope.Policy, scope.Approvers)
		if err != nil {
			return notVerified(e, cfg.Audit.Chain, err)
		}
		if e.json {
			return json.NewEncoder(e.stdout).Encode(struct {
				OK bool `json:"ok"`
				*sink.VerifiedEntry
			}{true, found})
		}
		_, err = fmt.Fprintf(e.stdout, "Entry %d of the chain %s holds, and stands under the checkpoint over %d entries.\nLeaf hash: %s\nRoot: %s\n", found.Seq, found.Chain, found.Size, found.LeafHash, found.Root)
		return err
	}
	progress := newProgress(e.stderr, "verify")
	start := time.Now()
	found, err := sink.Verify(ctx, conn, cfg.Audit.Chain, scope, progress.set)
	progress.done()
	if err != nil {
		return notVerified(e, cfg.Audit.Chain, err)
	}
	if e.json {
		return json.NewEncoder(e.stdout).Encode(struct {
			OK bool `json:"ok"`
			*sink.Verification
		}{true, found})
	}
	what := "The chain %s holds: %d entries from %d on, in %s.\nHead: %s\n"
	if f.leaves {
		what = "The chain %s holds, without a look at what its entries hold: %d leaves from %d on, in %s.\nHead: %s\n"
	}
	fmt.Fprintf(e.stdout, what, found.Chain, found.Entries, found.From, time.Since(start).Round(time.Millisecond), found.Head)
	for _, r := range found.Removed {
		fmt.Fprintf(e.stdout, "Removed under order %d, as approved: from %d entries\n", r.Order, r.Entries)
	}
	if found.Root != "" {
		fmt.Fprintf(e.stdout, "Root: %s\nCheckpoints that hold: %d stored, the last over %d entries; %d from outside\n", found.Root, found.Checkpoints, found.SignedSize, found.Outside)
	}
	return nil
}

// notVerified prints what is evidence, with exit code 1; every other error says that nothing is decided.
func notVerified(e *env, chain string, err error) error {
	var broken *ledger.BrokenError
	if !errors.As(err, &broken) {
		return &exitError{exitCodeOf(err), fmt.Errorf("verify: nothing is decided: %w", err)}
	}
	if e.json {
		if err := json.NewEncoder(e.stdout).Encode(map[string]any{
			"ok": false, "chain": chain, "seq": broken.Seq, "detector": broken.Detector, "reason": broken.Reason,
		}); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(e.stdout, "The chain does not hold. First bad entry: %d\n  %s (detector: %s)\n", broken.Seq, broken.Reason, broken.Detector)
	}
	return &exitError{code: exitFinding}
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
		// With the count and the rate comes the time that is left.
		p.bar = progressbar.NewOptions64(int64(all), progressbar.OptionSetPredictTime(true), progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(p.what),
			progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	_ = p.bar.Set64(int64(done)) // a bar that cannot be drawn is no reason to fail
}

func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
