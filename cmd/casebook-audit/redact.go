package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"casebook.example/audit/ledger"
	"casebook.example/audit/removal"
	"casebook.example/audit/signer"
	"casebook.example/audit/sink"
)

func newRedactCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "redact",
		Short: "Remove something from the log under an order that two keys have approved",
		Long: `Redact removes lawfully what the log must no longer hold, and leaves a log that still verifies: an order in the log names
entries and fields, two people approve it with keys of their own, carry-out destroys it and puts that into the log.

Levels: fields (the values and salts of named fields), entry (all of the entry but its place and its commit time), seal (the values
are encrypted to redaction.seal_recipient and kept aside: reversible). A running daemon lets the chain go for each of these
commands and goes on by itself.`,
		Example: "  casebook-audit redact order --entries 1042,1043 --level fields --fields new.note --reason 'sealed by court' --authority 'County Court 12/3'\n" +
			"  casebook-audit redact approve 2001 --key anna.key\n  casebook-audit redact carry-out 2001",
	}
	cmd.AddCommand(newRedactOrderCmd(e), newRedactShowCmd(e), newRedactApproveCmd(e), newRedactCarryOutCmd(e), newRedactUnsealCmd(e),
		newRedactHoldCmd(e, true), newRedactHoldCmd(e, false))
	return cmd
}

// removalConfig is what package removal needs of the configuration.
func removalConfig(cfg *Config) removal.Config {
	c := removal.Config{
		Sink: sink.Config{DSN: cfg.Audit.DSN, Chain: cfg.Audit.Chain}, DSN: cfg.Redaction.DSN, Approvers: cfg.Redaction.Approvers,
		Signed: cfg.Ledger.signed(), Recipient: cfg.Redaction.SealRecipient,
	}
	for _, kept := range []struct {
		text string
		to   *func(time.Time) time.Time
	}{{cfg.Redaction.WALKept, &c.WALUntil}, {cfg.Redaction.BackupsKept, &c.BackupsUntil}} {
		if a, err := parseSpan(kept.text); err == nil { // validate has looked at it
			*kept.to = a.after
		}
	}
	return c
}

// atDesk gives do an operator's turn at the chain.
func atDesk(ctx context.Context, e *env, do func(d *removal.Desk) error) error {
	cfg, err := loadConfig(e)
	if err != nil {
		return err
	}
	d, err := removal.Open(ctx, removalConfig(cfg))
	if err == nil {
		defer d.Close()
		err = do(d)
	}
	var refused *removal.RefusedError
	var broken *ledger.BrokenError
	var exit *exitError
	var pgErr *pgconn.PgError
	switch {
	case err == nil, errors.As(err, &exit):
		return err
	case errors.As(err, &refused), errors.Is(err, ledger.ErrNoApprovers):
		return &exitError{exitUsage, fmt.Errorf("%w; nothing was changed", err)}
	case errors.As(err, &broken):
		return &exitError{exitFinding, fmt.Errorf("the log does not hold, run `casebook-audit verify`: %w", err)}
	case errors.As(err, &pgErr) && pgErr.Code == "55P03":
		return &exitError{exitUnreachable, fmt.Errorf("a table is in use: %w", err)}
	}
	return &exitError{exitCodeOf(err), err}
}

// operator is who runs the command, as the system says: an assertion, not a proof.
func operator() string {
	name := "unknown"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	return name
}

func orderArg(args []string) (uint64, error) {
	seq, err := strconv.ParseUint(args[0], 10, 63)
	if err != nil {
		return 0, &exitError{exitUsage, fmt.Errorf("%q is not the number of an order's entry", args[0])}
	}
	return seq, nil
}

func newRedactOrderCmd(e *env) *cobra.Command {
	var r removal.Request
	var entries []string
	cmd := &cobra.Command{
		Use:   "order",
		Short: "Put an order into the log: which entries and fields are to go, why, and on whose authority",
		Long: `Order names what is to go, by entries or by a record, and puts that into the log. Rows of the directory that hold one of
the values come into the order by themselves. Entries outside of it that hold the name of the record are printed: order
them too where they must go. Reason and authority stay in the log for ever: put no name of a client into them.`,
		Example: "  casebook-audit redact order --record 7a0c... --level entry --reason 'expungement' --authority 'County Court 12/3'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range entries {
				seq, err := strconv.ParseUint(text, 10, 63)
				if err != nil {
					return &exitError{exitUsage, fmt.Errorf("--entries: %q is no number of an entry", text)}
				}
				r.Entries = append(r.Entries, seq)
			}
			if (len(r.Entries) == 0) == (r.Record == "") {
				return &exitError{exitUsage, errors.New("name --entries or a --record")}
			}
			r.By = operator()
			return atDesk(cmd.Context(), e, func(d *removal.Desk) error {
				o, err := d.Order(cmd.Context(), r)
				if err != nil {
					return err
				}
				if e.json {
					return json.NewEncoder(e.stdout).Encode(o)
				}
				fmt.Fprintf(e.stdout, "Order %d names %d entries, %d of them with rows of the directory.\n", o.Seq, o.Entries, o.Directory)
				if len(o.Also) > 0 {
					fmt.Fprintf(e.stdout, "Entries that are not in it and hold a name that is to go: %s\n", join(o.Also))
				}
				fmt.Fprintf(e.stdout, "Next, by two people: casebook-audit redact approve %d --key FILE\n", o.Seq)
				return nil
			})
		},
	}
	cmd.Flags().StringSliceVar(&entries, "entries", nil, "numbers of entries")
	cmd.Flags().StringVar(&r.Record, "record", "", "id of a record: all entries that it lists")
	cmd.Flags().StringSliceVar(&r.Fields, "fields", nil, "paths of fields, such as new.note or record_name")
	cmd.Flags().StringVar(&r.Level, "level", ledger.LevelFields, "seal, fields or entry")
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why")
	cmd.Flags().StringVar(&r.Authority, "authority", "", "on whose order: the court's reference, the rule")
	return cmd
}

func join(list []uint64) string {
	var b strings.Builder
	for i, n := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.FormatUint(n, 10))
	}
	return b.String()
}

func newRedactShowCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show ORDER", Short: "Print an order as approvers sign it, and what became of it", Example: "  casebook-audit redact show 2001", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := orderArg(args)
			if err != nil {
				return err
			}
			return atDesk(cmd.Context(), e, func(d *removal.Desk) error {
				s, err := d.State(seq)
				if err != nil {
					return err
				}
				text, err := s.Order.Text()
				if err != nil {
					return err
				}
				if e.json {
					return json.NewEncoder(e.stdout).Encode(map[string]any{"order": s.Seq, "leaf": fmt.Sprintf("%x", s.Leaf), "text": text, "approvals": len(s.Approved), "done": s.Done})
				}
				fmt.Fprintf(e.stdout, "order %d\nleaf %x\n%s\nValid approvals of different keys: %d of %d. Carried out: %t.\n", s.Seq, s.Leaf, text, len(s.Approved), ledger.Approvals, s.Done)
				return nil
			})
		},
	}
}

func newRedactApproveCmd(e *env) *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use:   "approve ORDER --key FILE",
		Short: "Approve an order with a key of redaction.approvers",
		Long: `Approve signs the text of an order, with its number and its leaf hash, and puts the signature into the log. Read it before:
casebook-audit redact show ORDER. The key is one that keygen made, with an --origin of the approver's own; its passphrase is
taken from CASEBOOK_AUDIT_LEDGER_SIGNING_PASSPHRASE or its _FILE.`,
		Example: "  casebook-audit redact approve 2001 --key anna.key", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := orderArg(args)
			if err != nil {
				return err
			}
			passphrase, err := passphraseFromEnv()
			if err != nil {
				return &exitError{exitUsage, err}
			}
			key, err := signer.OpenKeyFile(keyFile, passphrase)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return atDesk(cmd.Context(), e, func(d *removal.Desk) error {
				at, err := d.Approve(cmd.Context(), seq, key.VKey, key)
				if err != nil {
					return err
				}
				if e.json {
					return json.NewEncoder(e.stdout).Encode(map[string]uint64{"order": seq, "approval": at})
				}
				fmt.Fprintf(e.stdout, "Order %d is approved by %s: entry %d.\n", seq, key.Name(), at)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "key file of the approver")
	_ = cmd.MarkFlagRequired("key")
	return cmd
}

func newRedactCarryOutCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "carry-out ORDER",
		Short: "Destroy what an approved order names, and put that into the log",
		Long: `Carry-out refuses unless two different keys have approved the order, order and approvals lie under a signed checkpoint
where the log is signed (or they could be made up after the deed), and no record of it is under a legal hold. The tables that held the values are rewritten with VACUUM FULL: their months
can be neither read nor written meanwhile. It may be run again when it was broken off.`,
		Example: "  casebook-audit redact carry-out 2001", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := orderArg(args)
			if err != nil {
				return err
			}
			return atDesk(cmd.Context(), e, func(d *removal.Desk) error {
				done, err := d.CarryOut(cmd.Context(), seq)
				if err != nil {
					return err
				}
				if e.json {
					return json.NewEncoder(e.stdout).Encode(done)
				}
				fmt.Fprintf(e.stdout, "Order %d is carried out: entry %d. Removed: %d fields of %d entries, %d further records, %d names, columns of %d directory rows.\n"+
					"Archived WAL may hold it until: %s\nBackups may hold it until: %s\n", done.Order, done.Seq, done.Fields, done.Entries, done.Also, done.Names, done.Directory, done.WALUntil, done.BackupsUntil)
				return nil
			})
		},
	}
}

func newRedactUnsealCmd(e *env) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "unseal ORDER --identity FILE", Short: "Print what an order of the level seal keeps aside; the log says that it was read",
		Example: "  casebook-audit redact unseal 2001 --identity custodian.age", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := orderArg(args)
			if err != nil {
				return err
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("identity: %w", err)}
			}
			identities, err := age.ParseIdentities(strings.NewReader(string(text)))
			if err != nil || len(identities) != 1 {
				return &exitError{exitUsage, errors.New("the identity file does not hold one identity as age-keygen writes it")}
			}
			return atDesk(cmd.Context(), e, func(d *removal.Desk) error {
				list, err := d.Unseal(cmd.Context(), seq, operator(), identities[0])
				if err != nil {
					return err
				}
				for _, u := range list {
					if err := json.NewEncoder(e.stdout).Encode(u); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&file, "identity", "", "age identity that belongs to redaction.seal_recipient")
	_ = cmd.MarkFlagRequired("identity")
	return cmd
}

func newRedactHoldCmd(e *env, hold bool) *cobra.Command {
	var record, reason string
	use, short, said := "hold", "Put a record under a legal hold: nothing of it is removed or pruned", "is under a legal hold"
	if !hold {
		use, short, said = "release", "Release a record from its legal hold", "is released"
	}
	cmd := &cobra.Command{
		Use: use + " --record ID --reason WHY", Short: short, Example: "  casebook-audit redact " + use + " --record 7a0c... --reason 'case 12/3'", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return atDesk(cmd.Context(), e, func(d *removal.Desk) error {
				seq, err := d.Hold(cmd.Context(), record, hold, reason, operator())
				if err != nil {
					return err
				}
				if e.json {
					return json.NewEncoder(e.stdout).Encode(map[string]any{"record": record, "hold": hold, "entry": seq})
				}
				fmt.Fprintf(e.stdout, "Record %s %s: entry %d.\n", record, said, seq)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&record, "record", "", "id of the record")
	cmd.Flags().StringVar(&reason, "reason", "", "why; it stays in the log")
	return cmd
}
