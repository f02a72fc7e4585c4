package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/cluster"
	"casebook.example/audit/ledger"
)

const (
	sourceDB = "casebook"
	copyDB   = "casebook" // of the subscriber
	auditDB  = "audit"
	appRole  = "casebook_app"

	ourSlot     = "casebook_audit"
	nowhereSlot = "bench_nowhere"
	copySlot    = "bench_copy" // also the name of the subscription
	publication = "casebook_audit"
)

// settings of all three servers: durable, and of the size of a small real one.
var settings = map[string]string{
	"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "autovacuum": "on",
	"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "15min",
}

//go:embed work.sql
var workSQL string

// world is a source, a subscriber, an audit database, and the program.
type world struct {
	dir                     string // program, configuration, logs
	program                 string
	config                  string
	source, copy, audit     *cluster.Cluster
	atSource, atCopy, atLog *pgx.Conn // superuser's sessions
	say                     func(format string, args ...any)
	started                 int // daemons so far
	profileDir              string
}

// newWorld starts the servers and brings them to where the first backlog can be made: both copies loaded, all slots made.
func newWorld(ctx context.Context, say func(string, ...any), profileDir string) (_ *world, err error) {
	w := &world{say: say, profileDir: profileDir}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.dir, err = os.MkdirTemp("", "casebook-bench-"); err != nil {
		return nil, err
	}
	w.say("building the program, starting three Postgres %d servers", cluster.DefaultVersion)
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.build(groupCtx) })
	for _, c := range []**cluster.Cluster{&w.source, &w.copy, &w.audit} {
		group.Go(func() (err error) {
			*c, err = cluster.Start(groupCtx, cluster.Options{Settings: settings})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := w.load(ctx); err != nil {
		return nil, err
	}
	for _, side := range []struct {
		conn **pgx.Conn
		dsn  string
	}{
		{&w.atSource, w.source.DSN(sourceDB, cluster.Superuser)}, {&w.atCopy, w.copy.DSN(copyDB, cluster.Superuser)},
		{&w.atLog, w.audit.DSN(auditDB, cluster.Superuser)},
	} {
		if *side.conn, err = pgx.Connect(ctx, side.dsn); err != nil {
			return nil, err
		}
	}
	return w, w.makeSlots(ctx)
}

// build makes the program. With a profile wanted, a file is laid over its sources that writes one; the product has no such thing.
func (w *world) build(ctx context.Context) error {
	w.program = filepath.Join(w.dir, "casebook-audit")
	args := []string{"build", "-trimpath", "-o", w.program}
	if w.profileDir != "" {
		overlay, err := w.profilingOverlay(ctx)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	return run(exec.CommandContext(ctx, "go", append(args, "casebook.example/audit/cmd/casebook-audit")...))
}

// load fills the source, copies it to the subscriber as it is, keys and all, and sets up the audit of the source.
func (w *world) load(ctx context.Context) error {
	w.say("loading the reference schema and its rows, copying them to the subscriber")
	for _, step := range []struct{ db, sql string }{
		{"postgres", "create database " + sourceDB}, {sourceDB, reference.Schema}, {sourceDB, reference.Seed}, {sourceDB, workSQL},
		{sourceDB, "call bench.work(4000, 50, 0, 2); call bench.work(4000, 50, 1, 2)"}, {sourceDB, "vacuum analyze"},
	} {
		if err := cluster.RunSQL(ctx, w.source.DSN(step.db, cluster.Superuser), step.sql); err != nil {
			return fmt.Errorf("load the source: %w", err)
		}
	}
	if err := cluster.RunSQL(ctx, w.copy.DSN("postgres", cluster.Superuser), "create database "+copyDB); err != nil {
		return err
	}
	dump := filepath.Join(w.dir, "source.sql")
	err := run(exec.CommandContext(ctx, w.source.Program("pg_dump"), "--no-owner", "--no-acl", "--file", dump, w.source.DSN(sourceDB, cluster.Superuser)))
	if err == nil {
		err = run(exec.CommandContext(ctx, w.source.Program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "--file", dump, w.copy.DSN(copyDB, cluster.Superuser)))
	}
	if err == nil {
		err = cluster.RunSQL(ctx, w.copy.DSN(copyDB, cluster.Superuser), "vacuum analyze")
	}
	if err == nil {
		err = cluster.RunSQL(ctx, w.audit.DSN("postgres", cluster.Superuser), "create database "+auditDB)
	}
	if err != nil {
		return err
	}
	if err := w.configure(); err != nil {
		return err
	}
	if err := w.command(ctx, "setup", "source", "--apply", "--admin-dsn", w.source.DSN(sourceDB, cluster.Superuser)); err != nil {
		return err
	}
	return w.command(ctx, "setup", "audit", "--apply", "--admin-dsn", w.audit.DSN(auditDB, cluster.Superuser))
}

// makeSlots makes the three slots in a row, with nothing written between them. Ours is made by the daemon itself.
func (w *world) makeSlots(ctx context.Context) error {
	w.say("making the three slots")
	d, err := w.startDaemon(ctx)
	if err != nil {
		return err
	}
	if err := d.stop(); err != nil {
		return err
	}
	for _, slot := range []string{nowhereSlot, copySlot} {
		if _, err := w.atSource.Exec(ctx, `select pg_create_logical_replication_slot($1, 'pgoutput')`, slot); err != nil {
			return err
		}
	}
	_, err = w.atCopy.Exec(ctx, fmt.Sprintf(`create subscription %s connection '%s' publication %s
		with (enabled = false, create_slot = false, copy_data = false, slot_name = %s)`, copySlot,
		w.source.DSN(sourceDB, cluster.Superuser), publication, copySlot))
	return err
}

func (w *world) configure() error {
	w.config = filepath.Join(w.dir, "casebook-audit.yaml")
	text := fmt.Sprintf("source:\n  dsn: %s\naudit:\n  dsn: %s\n  reader_dsn: %s\nmapping: mapping.yaml\nquery:\n  listen: \"off\"\nmetrics:\n  listen: \"off\"\nledger:\n  origin: bench.invalid/casebook\n",
		w.source.DSN(sourceDB, "casebook_audit"), w.audit.DSN(auditDB, "casebook_audit_daemon"), w.audit.DSN(auditDB, "casebook_audit_web"))
	if err := os.WriteFile(filepath.Join(w.dir, "mapping.yaml"), []byte(reference.Mapping), 0o600); err != nil {
		return err
	}
	return os.WriteFile(w.config, []byte(text), 0o600)
}

// command runs one of our own commands.
func (w *world) command(ctx context.Context, args ...string) error {
	return run(exec.CommandContext(ctx, w.program, append(args, "--config", w.config)...))
}

// run runs a program to its end; what it said is told only when it failed.
func run(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		return fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, strings.Join(lines[max(0, len(lines)-10):], "\n"))
	}
	return nil
}

// work writes rows in transactions of the given size, from two sessions at once as the application, and then one
// change by which the end can be told. It gives the LSN which that last commit is above, and how many rows there are.
// Commits don't wait for the disk in here: the backlog is no part of what is measured.
func (w *world) work(ctx context.Context, rows, perTransaction int) (end ledger.LSN, err error) {
	group, groupCtx := errgroup.WithContext(ctx)
	for part := range 2 {
		group.Go(func() error {
			return cluster.RunSQL(groupCtx, w.source.DSN(sourceDB, appRole), fmt.Sprintf(
				"set synchronous_commit = off; set application_name = 'engage-%d'; call bench.work(%d, %d, %d, 2)", part, rows/2, perTransaction, part))
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return w.mark(ctx)
}

// mark makes a last commit and gives an LSN below it and above all before it.
func (w *world) mark(ctx context.Context) (ledger.LSN, error) {
	at, err := w.here(ctx)
	if err != nil {
		return 0, err
	}
	_, err = w.atSource.Exec(ctx, `update config.field_values set position = position + 1 where id = '30000000-0000-4000-8000-000000000008'`)
	return at, err
}

func (w *world) here(ctx context.Context) (ledger.LSN, error) {
	return readLSN(ctx, w.atSource, `select pg_current_wal_insert_lsn()::text`)
}

func readLSN(ctx context.Context, conn *pgx.Conn, sql string, args ...any) (ledger.LSN, error) {
	var text string
	if err := conn.QueryRow(ctx, sql, args...).Scan(&text); err != nil {
		return 0, err
	}
	return ledger.ParseLSN(text)
}

func (w *world) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, conn := range []*pgx.Conn{w.atSource, w.atCopy, w.atLog} {
		if conn != nil {
			_ = conn.Close(ctx)
		}
	}
	var errs []error
	for _, c := range []*cluster.Cluster{w.copy, w.audit, w.source} {
		if c != nil {
			errs = append(errs, c.Stop())
		}
	}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}
