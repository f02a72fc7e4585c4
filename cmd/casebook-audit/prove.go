package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"casebook.example/audit/bundle"
	"casebook.example/audit/ledger"
	"casebook.example/audit/query"
	"casebook.example/audit/stored"
)

func newProveCmd(e *env) *cobra.Command {
	var output, format string
	var tenants []string
	cmd := &cobra.Command{
		Use:   "prove SEQ",
		Short: "Write one entry with the proof that it is in the log",
		Long: `Prove writes an entry with all its fields and their salts, its leaf, and the proof that the leaf is under the last signed
checkpoint, as JSON that verify-bundle checks, or with --format tlog-proof the proof alone, as stock tools of
https://c2sp.org/tlog-proof read it. It reads the audit database through audit.reader_dsn.`,
		Example: "  casebook-audit prove 1234 --output 1234.json\n  casebook-audit verify-bundle 1234.json --policy policy.txt",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || seq < 0 {
				return &exitError{exitUsage, fmt.Errorf("%q is not the number of an entry", args[0])}
			}
			if format != "json" && format != "tlog-proof" {
				return &exitError{exitUsage, fmt.Errorf("--format %q: must be json or tlog-proof", format)}
			}
			cfg, conn, err := readerConn(cmd.Context(), e)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(cmd.Context()))
			entry, err := query.Prove(cmd.Context(), conn, cfg.Audit.Chain, &query.Caller{Name: "casebook-audit", Tenants: tenants}, seq)
			if err != nil {
				return evidenceError("prove", err)
			}
			text, err := entry.Marshal()
			if err != nil {
				return err
			}
			if format == "tlog-proof" {
				text = []byte(entry.TLogProof)
			}
			return writeOutput(e, output, func(w io.Writer) error {
				_, err := w.Write(text)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&output, "output", "-", "file, - is the standard output")
	cmd.Flags().StringVar(&format, "format", "json", "json or tlog-proof")
	cmd.Flags().StringSliceVar(&tenants, "tenant", []string{query.AllTenants}, "tenants to read for")
	return cmd
}

// evidenceError gives the exit code of what cannot be proven: a log that does not hold is a finding.
func evidenceError(what string, err error) error {
	code := exitUnreachable
	switch {
	case errors.Is(err, ledger.ErrTiles):
		code = exitFinding
	case errors.Is(err, query.ErrNoEntry), errors.Is(err, query.ErrNewer), errors.Is(err, query.ErrManyEntries), errors.Is(err, query.ErrSince), errors.Is(err, stored.ErrUnsigned):
		code = exitUsage
	}
	return &exitError{code, fmt.Errorf("%s: %w", what, err)}
}

// writeOutput writes the standard output, or a file that gets its name when it is whole.
func writeOutput(e *env, output string, write func(io.Writer) error) (err error) {
	if output == "-" {
		return write(e.stdout)
	}
	part := output + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err == nil {
			err = os.Rename(part, output)
		}
	}()
	return write(f)
}

func newVerifyBundleCmd(e *env) *cobra.Command {
	var policyFile string
	var trusted []string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "verify-bundle FILE",
		Short: "Check a bundle or a proof, with nothing but the file and a policy",
		Long: `Verify-bundle checks what export --format bundle, /v1/export?format=bundle or prove has written. It needs no database, no
configuration and no network. Who must have signed comes from --policy, never from the file; --trusted names checkpoints
that you had before, and the file must show that the log still begins with them.

It prints the entries that are proven. It ends with 0 when every byte of the file holds, with 1 and the reason when it does
not. It cannot show that the file holds all entries that there are: no proof of single entries can.`,
		Example: "  casebook-audit verify-bundle march.zip --policy policy.txt\n  casebook-audit verify-bundle march.zip --policy policy.txt --trusted february.checkpoint --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if policyFile == "" {
				return &exitError{exitUsage, errors.New(`--policy is missing: a file that says who must have signed, "log VERIFIER-KEY" and "quorum none"; it must come from another hand than the bundle`)}
			}
			policy, before, err := readTrust(policyFile, trusted)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			f, err := os.Open(args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			defer f.Close()
			result, facts, err := verifyFile(f, policy, before)
			if err != nil {
				if e.json {
					if err := json.NewEncoder(e.stdout).Encode(map[string]any{"ok": false, "reason": err.Error()}); err != nil {
						return err
					}
				} else {
					fmt.Fprintf(e.stdout, "Nothing is proven: %s\n", plain(err.Error()))
				}
				return &exitError{code: exitFinding}
			}
			return printProven(e, result, facts, quiet)
		},
	}
	cmd.Flags().StringVar(&policyFile, "policy", "", "file that says who must have signed")
	cmd.Flags().StringSliceVar(&trusted, "trusted", nil, "signed checkpoints that you had before")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "do not print the entries")
	return cmd
}

// maxProofFile is more than the proof of any single entry has.
const maxProofFile = 256 << 20

// verifyFile takes a bundle, or the proof of one entry. The facts hold when err is nil.
func verifyFile(f *os.File, policy *ledger.Policy, trusted []ledger.Checkpoint) (*bundle.Result, []*bundle.Fact, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	var facts []*bundle.Fact
	first := make([]byte, 1)
	if n, _ := f.ReadAt(first, 0); n == 1 && first[0] == '{' {
		if len(trusted) > 0 {
			return nil, nil, errors.New("the proof of a single entry shows nothing of earlier checkpoints: ask for a bundle with --since")
		}
		text, err := io.ReadAll(io.LimitReader(f, maxProofFile))
		if err != nil {
			return nil, nil, err
		}
		fact, under, err := bundle.VerifyEntry(text, policy)
		if err != nil {
			return nil, nil, err
		}
		return &bundle.Result{Checkpoint: under, Entries: 1, Withheld: fact.Withheld}, []*bundle.Fact{fact}, nil
	}
	result, err := bundle.Verify(f, info.Size(), policy, trusted, func(fact *bundle.Fact) error {
		facts = append(facts, fact)
		return nil
	})
	return result, facts, err
}

func printProven(e *env, r *bundle.Result, facts []*bundle.Fact, quiet bool) error {
	type shown struct {
		Seq      uint64            `json:"seq"`
		Recorded string            `json:"recorded_at"`
		Fields   map[string]string `json:"fields"`
		Withheld int               `json:"withheld"`
	}
	at := func(us int64) string { return time.UnixMicro(us).UTC().Format(time.RFC3339Nano) }
	if e.json {
		out := struct {
			OK       bool    `json:"ok"`
			Origin   string  `json:"origin"`
			Size     uint64  `json:"size"`
			Root     string  `json:"root"`
			Name     string  `json:"bundle,omitempty"`
			Query    string  `json:"query,omitempty"`
			Newer    uint64  `json:"newer"`
			Trusted  int     `json:"trusted"`
			Withheld int     `json:"withheld"`
			Entries  []shown `json:"entries"`
		}{OK: true, Origin: r.Checkpoint.Origin, Size: r.Checkpoint.Size, Root: hex.EncodeToString(r.Checkpoint.Root[:]), Trusted: r.Trusted, Withheld: r.Withheld, Entries: []shown{}}
		if r.Manifest != nil {
			out.Name, out.Query, out.Newer = hex.EncodeToString(r.Name[:]), r.Manifest.Query, r.Manifest.Newer
		}
		for _, f := range facts {
			s := shown{f.Seq, at(f.RecordedUS), map[string]string{}, f.Withheld}
			for _, field := range f.Fields {
				if !field.Withheld && field.State == ledger.FieldValue {
					s.Fields[field.Path] = field.Value
				}
			}
			out.Entries = append(out.Entries, s)
		}
		return json.NewEncoder(e.stdout).Encode(out)
	}
	fmt.Fprintf(e.stdout, "Proven: %d entries of %s, under the checkpoint over %d entries.\n", r.Entries, plain(r.Checkpoint.Origin), r.Checkpoint.Size)
	if r.Manifest != nil {
		fmt.Fprintf(e.stdout, "Bundle: %x\nAsked for: %s, tenants %s\n", r.Name[:], plain(r.Manifest.Query), plain(r.Manifest.Tenants))
		if r.Manifest.Newer > 0 {
			fmt.Fprintf(e.stdout, "Left out, as not signed when it was made: %d entries\n", r.Manifest.Newer)
		}
	}
	if r.Trusted > 0 {
		fmt.Fprintf(e.stdout, "The log still begins with all %d checkpoints that you trust.\n", r.Trusted)
	}
	if r.Withheld > 0 {
		fmt.Fprintf(e.stdout, "Withheld: %d fields\n", r.Withheld)
	}
	for _, f := range facts {
		if quiet {
			break
		}
		fmt.Fprintf(e.stdout, "%d\t%s\t%s\t%s\t%s\t%s\n", f.Seq, at(f.RecordedUS), plain(f.Text("user_email")), plain(f.Text("action")), plain(f.Text("record_name")), plain(f.Text("summary")))
	}
	return nil
}
