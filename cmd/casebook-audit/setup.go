package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"
)

func newSetupCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Print, and with --apply run, the SQL that prepares a database",
		Long: `Setup prints the SQL that is missing in the source or in the audit database, each statement with its reason, and runs
it with --apply in one transaction. A second run has nothing to do. --remove is the undo.`,
		Example: "  casebook-audit setup source\n  casebook-audit setup audit --apply",
	}
	cmd.AddCommand(newSetupSourceCmd(e), newSetupAuditCmd(e))
	return cmd
}

// sqlPlan is what setup would run: all of it in one transaction, in this order.
type sqlPlan struct {
	steps []sqlStep
	notes []string // what setup leaves to the operator
}

// sqlStep is one statement, or a few that belong together, with the reason that is printed above it.
type sqlStep struct {
	why string
	sql string // without the last semicolon
}

func (p *sqlPlan) add(why, sql string) {
	p.steps = append(p.steps, sqlStep{why, strings.TrimRight(strings.TrimSpace(sql), ";")})
}

func (p *sqlPlan) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

func (p *sqlPlan) empty() bool { return len(p.steps) == 0 }

// planPrologue guards every plan. Names in it are written with their schema, so pg_catalog alone is enough. A busy table
// makes setup fail after a while, with nothing changed, rather than queue the application behind it.
const planPrologue = "SET LOCAL search_path = pg_catalog, pg_temp;\nSET LOCAL lock_timeout = '10s'"

// print writes the plan as a script that psql takes.
func (p *sqlPlan) print(w io.Writer) error {
	var b strings.Builder
	if p.empty() {
		b.WriteString("-- nothing to do\n")
	} else {
		b.WriteString("BEGIN;\n" + planPrologue + ";\n")
		last := ""
		for _, step := range p.steps {
			if step.why != last {
				fmt.Fprintf(&b, "\n%s", comment(step.why))
				last = step.why
			}
			b.WriteString(step.sql + ";\n")
		}
		b.WriteString("\nCOMMIT;\n")
	}
	for _, note := range p.notes {
		fmt.Fprintf(&b, "\n%s", comment("NOTE: "+note))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func comment(text string) string {
	return "-- " + strings.ReplaceAll(text, "\n", "\n-- ") + "\n"
}

func (p *sqlPlan) printJSON(w io.Writer, applied bool) error {
	type step struct {
		Why string `json:"why"`
		SQL string `json:"sql"`
	}
	out := struct {
		Steps   []step   `json:"steps"`
		Notes   []string `json:"notes"`
		Applied bool     `json:"applied"`
	}{[]step{}, append([]string{}, p.notes...), applied}
	for _, s := range p.steps {
		out.Steps = append(out.Steps, step{s.why, s.sql})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

// apply runs the plan in one transaction. Its error names the step that failed; nothing is changed then.
func (p *sqlPlan) apply(ctx context.Context, conn *pgx.Conn) error {
	if p.empty() {
		return nil
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	// A fresh context: the caller's may be what ended us.
	defer func() { //nolint:errcheck // a commit that went through leaves nothing to undo
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = tx.Rollback(undo)
	}()
	run := func(why, sql string) error {
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("%s: %w (nothing was changed)", why, explainSQL(err))
		}
		return nil
	}
	if err := run("begin", planPrologue); err != nil {
		return err
	}
	for _, step := range p.steps {
		why, _, _ := strings.Cut(step.why, "\n")
		if err := run(why, step.sql); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// explainSQL keeps what the server says and adds the way out where there is a usual one.
func explainSQL(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	hint := ""
	switch pgErr.Code {
	case "42501":
		hint = ": run setup as a superuser, or as the tables' owner with the rights named above (--admin-dsn)"
	case "55P03":
		hint = ": a table is in use: try again at a quieter moment"
	}
	return fmt.Errorf("%s (SQLSTATE %s)%s", pgErr.Message, pgErr.Code, hint)
}

// runPlan prints the plan and, with apply, runs it.
func (e *env) runPlan(ctx context.Context, conn *pgx.Conn, plan *sqlPlan, apply bool) error {
	if !e.json {
		if err := plan.print(e.stdout); err != nil {
			return err
		}
	}
	if apply {
		if err := plan.apply(ctx, conn); err != nil {
			return &exitError{exitFinding, err}
		}
	}
	switch {
	case e.json:
		return plan.printJSON(e.stdout, apply && !plan.empty())
	case plan.empty():
	case apply:
		fmt.Fprintln(e.stderr, "Done: all of it in one transaction.")
	default:
		fmt.Fprintln(e.stderr, "Nothing was changed. Run the same with --apply, or give the text above to psql.")
	}
	return nil
}

// connectAdmin connects for setup and check. The error names the setting, never the DSN.
func connectAdmin(ctx context.Context, setting, dsn string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("%s is not a connection string that libpq takes (not shown, as it may hold a password)", setting)}
	}
	// Names come back qualified, and nobody's functions stand in for the server's.
	config.RuntimeParams["search_path"] = "pg_catalog, pg_temp"
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "casebook-audit"
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, &exitError{exitUnreachable, fmt.Errorf("%s: cannot connect: %s", setting, connectReason(err))}
	}
	return conn, nil
}

// connectReason is the server's or the system's word on a failed connection, without the user and database that pgx
// puts before it.
func connectReason(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return fmt.Sprintf("the server refused (SQLSTATE %s): %s", pgErr.Code, refusal(pgErr.Code))
	}
	var connectErr *pgconn.ConnectError
	if errors.As(err, &connectErr) && errors.Unwrap(connectErr) != nil {
		return strings.ReplaceAll(errors.Unwrap(connectErr).Error(), "\n", "; ")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return "no connection"
}

func refusal(code string) string {
	switch {
	case strings.HasPrefix(code, "28"):
		return "check role, password and pg_hba.conf"
	case code == "3D000":
		return "there is no such database"
	case code == "53300":
		return "too many connections"
	case strings.HasPrefix(code, "57P"):
		return "it is starting or stopping"
	case code == "42501":
		return "the role may not connect there"
	}
	return "see its log"
}
