package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
	"casebook.example/audit/reconcile"
	"casebook.example/audit/sink"
)

func newReconcileCmd(e *env) *cobra.Command {
	var only []string
	var resume string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "reconcile",
		Short: "Hold the source's tables against what the log says of them",
		Long: `Reconcile takes a snapshot of the source at one place of its stream, waits until the log is complete up to there, and compares
the tables, row by row, with the fold of all entries. Differences name table, key and column, never a value; the result is an
entry in the log. A running daemon lets the chain go for that moment and goes on by itself.

It ends with 0 when all agrees, with 1 when something differs, with 2 or 3 when it could not look. With --resume, tables that a
run before has finished are not compared again: the file remembers them.`,
		Example: "  casebook-audit reconcile\n  casebook-audit reconcile --table cases.cases --table people.people --json\n  casebook-audit reconcile --resume /var/lib/casebook-audit/reconcile.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(e)
			if err != nil {
				return err
			}
			report, err := runReconcile(cmd.Context(), e, cfg, only, resume, wait)
			if err != nil {
				return err
			}
			return printReconciliation(e, report)
		},
	}
	cmd.Flags().StringArrayVar(&only, "table", nil, "only this table, schema.name; may be given again")
	cmd.Flags().StringVar(&resume, "resume", "", "file that remembers the tables that are done")
	cmd.Flags().DurationVar(&wait, "wait", 5*time.Minute, "how long the log may take to be complete up to the snapshot")
	return cmd
}

func runReconcile(ctx context.Context, e *env, cfg *Config, only []string, resume string, wait time.Duration) (*reconcile.Report, error) {
	conn, err := connectAdmin(ctx, "audit.reader_dsn", cfg.Audit.ReaderDSN)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	fileRules, err := loadRules(cfg)
	if err != nil {
		return nil, err
	}
	tables, err := tablesToReconcile(ctx, cfg, fileRules, only)
	if err != nil {
		return nil, err
	}
	finished, err := readFinished(resume)
	if err != nil {
		return nil, err
	}
	tables = slices.DeleteFunc(tables, func(t reconcile.Table) bool { return slices.Contains(finished, t.Name) })

	source := capture.Config{DSN: cfg.Source.DSN, Slot: cfg.Source.Slot, Publication: cfg.Source.Publication}
	slot, err := capture.CreateTemporarySlot(ctx, source)
	if err != nil {
		return nil, &exitError{exitCodeOf(err), fmt.Errorf("source: %w", err)}
	}
	defer slot.Close()
	lsn := ledger.LSN(slot.ConsistentPoint)
	if err := waitComplete(ctx, conn, cfg.Audit.Chain, lsn, wait); err != nil {
		return nil, err
	}
	progress := newProgress(e.stderr, "reconcile")
	n := 0
	report, err := reconcile.Run(ctx, conn, cfg.Audit.Chain, source, slot.SnapshotName, lsn, fileRules, tables, func(t reconcile.TableReport) {
		n++
		progress.set(uint64(n), uint64(len(tables)))
		if t.Differences == 0 { // what differs is looked at again
			finished = append(finished, t.Name)
			err = errors.Join(err, writeFinished(resume, finished))
		}
	})
	progress.done()
	if err != nil {
		return nil, &exitError{exitCodeOf(err), fmt.Errorf("reconcile: nothing is decided: %w", err)}
	}
	return report, recordReconciliation(ctx, cfg, report)
}

// tablesToReconcile are those whose changes become entries, as the source has them.
func tablesToReconcile(ctx context.Context, cfg *Config, rules *mapping.Rules, only []string) ([]reconcile.Table, error) {
	conn, err := connectAdmin(ctx, "source.dsn", cfg.Source.DSN)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	cat, err := readSourceCatalog(ctx, conn, conn.Config().User, cfg.Source.Publication)
	if err != nil {
		return nil, err
	}
	shapes, err := readShapes(ctx, conn)
	if err != nil {
		return nil, err
	}
	asked := map[string]bool{}
	for _, name := range only {
		asked[name] = true
	}
	var tables []reconcile.Table
	for _, t := range rules.Tables() {
		rel := cat.rels[t.Name]
		told := t.Fate == mapping.FateRecord || t.Fate == mapping.FateBelongs || t.Fate == mapping.FateLog
		if !told || rel == nil || len(only) > 0 && !asked[t.Name] {
			continue
		}
		delete(asked, t.Name)
		shape := shapes[rel.oid]
		tables = append(tables, reconcile.Table{Name: t.Name, Columns: slices.DeleteFunc(slices.Clone(shape.columns), func(c string) bool { return slices.Contains(shape.generated, c) })})
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		return nil, &exitError{exitUsage, fmt.Errorf("--table %s: no such table has entries: see casebook-audit mapping check", name)}
	}
	return tables, nil
}

// waitComplete waits until the log holds all that the source committed before lsn.
func waitComplete(ctx context.Context, conn *pgx.Conn, chain string, lsn ledger.LSN, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; {
		var there bool
		err := conn.QueryRow(ctx, `SELECT greatest(p.end_lsn, p.acked_lsn) >= $2::pg_lsn FROM audit.position p JOIN audit.chain c USING (chain) WHERE c.name = $1`, chain, lsn.String()).Scan(&there)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return &exitError{exitUsage, fmt.Errorf("the audit database has no chain named %q", chain)}
		case err != nil:
			return &exitError{exitUnreachable, fmt.Errorf("audit database: %w", err)}
		case there:
			return nil
		case time.Now().After(deadline):
			return &exitError{exitUsage, fmt.Errorf("the log is not complete up to %s after %s: does the daemon run? (casebook-audit status)", lsn, limit)}
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// recordReconciliation puts the result into the log: what was compared, and where it differs.
func recordReconciliation(ctx context.Context, cfg *Config, report *reconcile.Report) error {
	w, err := sink.OpenTurn(ctx, sink.Config{DSN: cfg.Audit.DSN, Chain: cfg.Audit.Chain}, zap.NewNop(), nil)
	if err != nil {
		return &exitError{exitCodeOf(err), fmt.Errorf("record the result in the log: %w", err)}
	}
	defer w.Close()
	e := &ledger.Entry{
		Kind: ledger.KindVerification, Action: "reconcile", Initiator: ledger.InitiatorSystem, Summary: "The source's tables are what the log says",
		Fields: []ledger.Field{
			{Path: "reconcile.lsn", Type: "pg_lsn", State: ledger.FieldValue, Value: report.LSN.String()},
			{Path: "reconcile.tables", Type: "int8", State: ledger.FieldValue, Value: strconv.Itoa(len(report.Tables))},
			{Path: "reconcile.rows", Type: "int8", State: ledger.FieldValue, Value: strconv.FormatInt(sumOf(report, func(t reconcile.TableReport) int64 { return t.Rows }), 10)},
			{Path: "reconcile.differences", Type: "int8", State: ledger.FieldValue, Value: strconv.FormatInt(differences(report), 10)},
		},
	}
	if differences(report) > 0 {
		e.Summary = "The source's tables are not what the log says"
	}
	for i, d := range report.Differences {
		if i == 100 {
			break
		}
		e.Fields = append(e.Fields, ledger.Field{Path: "difference." + strconv.Itoa(i+1), Type: "text", State: ledger.FieldValue, Value: differenceText(d)})
	}
	return w.AppendEvents(ctx, []*ledger.Entry{e})
}

func differenceText(d reconcile.Difference) string {
	where := d.Table + " " + d.Row
	if d.Column != "" {
		where += " " + d.Column
	}
	return where + " " + d.What
}

func sumOf(r *reconcile.Report, of func(reconcile.TableReport) int64) (n int64) {
	for _, t := range r.Tables {
		n += of(t)
	}
	return n
}

func differences(r *reconcile.Report) int64 {
	return sumOf(r, func(t reconcile.TableReport) int64 { return t.Differences })
}

func printReconciliation(e *env, r *reconcile.Report) error {
	n := differences(r)
	if e.json {
		if err := json.NewEncoder(e.stdout).Encode(r); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(e.stdout, "%d tables with %d rows compared with the log at %s: %d %s.\n", len(r.Tables),
			sumOf(r, func(t reconcile.TableReport) int64 { return t.Rows }), r.LSN, n, plural(int(n), "difference"))
		for _, d := range r.Differences {
			fmt.Fprintln(e.stdout, "  "+differenceText(d))
		}
		if int(n) > len(r.Differences) {
			fmt.Fprintf(e.stdout, "  and %d more\n", int(n)-len(r.Differences))
		}
	}
	if n > 0 {
		return &exitError{code: exitFinding}
	}
	return nil
}

// readFinished and writeFinished remember tables between runs.
func readFinished(path string) (tables []string, err error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &tables)
	}
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("--resume %s: %w", path, err)}
	}
	return tables, nil
}

func writeFinished(path string, tables []string) error {
	if path == "" {
		return nil
	}
	text, err := json.Marshal(tables)
	if err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
