package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/cluster"
)

func newDemoCmd(e *env) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole thing on two throwaway Postgres servers",
		Long: `Demo starts two throwaway Postgres servers, one with a Casebook-shaped database and one for the log, sets up both with
the same commands that a deployment uses, runs the daemon, and plays a working day of named users through real sessions.
Then it says where the endpoint is and what to try, and goes on with everyday work until Ctrl-C. Nothing is left.

With --once it plays the day, checks what came of it and ends: 0 when all of it held, 1 when not.`,
		Example: "  casebook-audit demo\n  casebook-audit demo --once",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &demo{e: e, once: once, print: &demoPrinter{out: e.stdout, err: e.stderr, start: time.Now()}}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "play the day, check the log and end")
	return cmd
}

// demo is one run of the command.
type demo struct {
	e     *env
	once  bool
	print *demoPrinter

	source, audit *cluster.Cluster
	admin, log    *pgx.Conn // superuser's sessions: source, audit database
	config        string    // path of the configuration file
	token         string
	day           []*scenario
}

const (
	demoAuditDatabase = "audit"
	demoTenant        = "10000000-0000-4000-8000-000000000001"
	demoStoredTimeout = 3 * time.Minute
)

// run is the demo from the first server to the last. Whatever it starts it stops, in the opposite order, also when ctx
// ends in the middle.
func (d *demo) run(ctx context.Context) (err error) {
	defer func() {
		switch {
		case ctx.Err() == nil:
		case d.once:
			err = &exitError{exitFinding, errors.New("the demo was interrupted")}
		default:
			err = nil // Ctrl-C is how a demo ends: what failed by it is of no interest
		}
		d.print.phase("stopping")
		err = errors.Join(err, d.stopServers())
	}()
	if err := d.startServers(ctx); err != nil {
		return err
	}
	if err := d.setUp(ctx); err != nil {
		return err
	}

	// The daemon and the tail outlive the work by a moment: their context ends when everything is done.
	background, stop := context.WithCancel(ctx)
	defer stop()
	group, background := errgroup.WithContext(background)
	endpoint, err := d.startDaemon(background, group)
	if err != nil {
		stop()
		if first := group.Wait(); first != nil {
			err = first // the daemon's own word on why it did not get that far
		}
		return err
	}
	entries := newTail(d.print)
	group.Go(func() error { return entries.run(background, d.audit.DSN(demoAuditDatabase, cluster.Superuser)) })
	group.Go(func() error {
		defer stop()
		if err := d.play(background, entries); err != nil {
			return err
		}
		if d.once {
			return d.check(background)
		}
		d.sayWhatToTry(endpoint)
		return trickle(background, d.source)
	})
	return group.Wait()
}

func (d *demo) startServers(ctx context.Context) error {
	d.print.phase("starting two throwaway Postgres %d servers, not as root, each in a folder of its own", cluster.DefaultVersion)
	group, groupCtx := errgroup.WithContext(ctx)
	for _, s := range []struct {
		to       **cluster.Cluster
		settings map[string]string
	}{
		{&d.source, map[string]string{"wal_level": "logical", "max_slot_wal_keep_size": "4GB", "log_statement": "none"}},
		{&d.audit, map[string]string{"wal_level": "replica", "autovacuum": "on"}},
	} {
		group.Go(func() (err error) {
			*s.to, err = cluster.Start(groupCtx, cluster.Options{Settings: s.settings})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	d.print.phase("source on port %d, audit database on port %d", d.source.Port, d.audit.Port)

	d.print.phase("loading the reference schema and 40,000 rows to start from")
	if err := loadSource(ctx, d.source); err != nil {
		return err
	}
	return cluster.RunSQL(ctx, d.audit.DSN("postgres", cluster.Superuser), "create database "+demoAuditDatabase)
}

// setUp writes a configuration as a deployment has it and runs the commands that a DBA would run.
func (d *demo) setUp(ctx context.Context) (err error) {
	if err := d.writeConfig(); err != nil {
		return err
	}
	for _, command := range []struct {
		args []string
		dsn  string
	}{
		{[]string{"setup", "source", "--apply"}, d.source.DSN(demoDatabase, cluster.Superuser)},
		{[]string{"setup", "audit", "--apply"}, d.audit.DSN(demoAuditDatabase, cluster.Superuser)},
	} {
		d.print.phase("casebook-audit %s", strings.Join(command.args, " "))
		if err := d.command(ctx, append(command.args, "--admin-dsn", command.dsn)...); err != nil {
			return err
		}
	}
	if d.admin, err = pgx.Connect(ctx, d.source.DSN(demoDatabase, cluster.Superuser)); err != nil {
		return err
	}
	d.log, err = pgx.Connect(ctx, d.audit.DSN(demoAuditDatabase, cluster.Superuser))
	return err
}

// command runs one of our own commands, as a shell would. What it printed is shown only when it failed.
func (d *demo) command(ctx context.Context, args ...string) error {
	var out bytes.Buffer
	if code := run(ctx, append([]string{"--config", d.config}, args...), &out, &out); code != exitDone {
		return &exitError{exitFinding, fmt.Errorf("casebook-audit %s ended with %d:\n%s", args[0], code, out.String())}
	}
	return nil
}

// writeConfig puts configuration, mapping and tokens beside the audit server's data: they go with it.
func (d *demo) writeConfig() error {
	d.config = filepath.Join(d.audit.Dir, defaultConfigFile)
	d.token = rand.Text()
	sum := sha256.Sum256([]byte(d.token))
	for name, text := range map[string]string{
		d.config: fmt.Sprintf(`source:
  dsn: %s
audit:
  dsn: %s
  reader_dsn: %s
mapping: mapping.yaml
query:
  listen: 127.0.0.1:0
  auth: {tokens_file: tokens.yaml}
metrics:
  listen: 127.0.0.1:0
ledger:
  origin: demo.invalid/casebook
`, d.source.DSN(demoDatabase, "casebook_audit"), d.audit.DSN(demoAuditDatabase, "casebook_audit_daemon"),
			d.audit.DSN(demoAuditDatabase, "casebook_audit_web")),
		filepath.Join(d.audit.Dir, "mapping.yaml"): reference.Mapping,
		filepath.Join(d.audit.Dir, "tokens.yaml"): fmt.Sprintf("- name: demo\n  sha256: %s\n  tenants: [%s]\n",
			hex.EncodeToString(sum[:]), demoTenant),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// addresses are those that the daemon got.
type addresses struct{ query, metrics string }

// startDaemon runs the daemon in the group and waits until it streams. Its log is a file: the screen belongs to the demo.
func (d *demo) startDaemon(ctx context.Context, group *errgroup.Group) (addresses, error) {
	cfg, err := loadConfig(&env{configFile: d.config})
	if err != nil {
		return addresses{}, err
	}
	rules, err := loadRules(cfg)
	if err != nil {
		return addresses{}, err
	}
	logConfig := zap.NewProductionConfig()
	logConfig.OutputPaths = []string{filepath.Join(d.audit.Dir, "daemon.log")}
	logConfig.DisableStacktrace = true
	log, err := logConfig.Build()
	if err != nil {
		return addresses{}, err
	}
	got := make(chan addresses, 1)
	daemon, err := newDaemon(cfg, rules, log)
	if err != nil {
		return addresses{}, err
	}
	daemon.listening = func(query, metrics string) { got <- addresses{query, metrics} }
	d.print.phase("casebook-audit run: making the slot, filling the directory from its snapshot")
	group.Go(func() error {
		defer log.Sync()
		return daemon.run(ctx)
	})
	var at addresses
	select {
	case at = <-got:
	case <-ctx.Done():
		return at, context.Cause(ctx)
	}
	if err := waitStreaming(ctx, daemon); err != nil {
		return at, err
	}
	d.print.phase("the daemon streams; endpoint http://%s, metrics http://%s/metrics", at.query, at.metrics)
	return at, nil
}

func waitStreaming(ctx context.Context, daemon *daemon) error {
	for {
		if p, _, _ := daemon.health.get(); p == phaseStreaming {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// play plays the day and waits until all of it is stored.
func (d *demo) play(ctx context.Context, entries *tail) error {
	names, err := demoUsers(ctx, d.admin)
	if err != nil {
		return err
	}
	if d.day, err = demoDay(); err != nil {
		return err
	}
	d.print.phase("a working day begins")
	for i, s := range d.day {
		d.print.phase("%s %s (%s)", s.ID, s.Title, s.people(names))
		if err := s.play(ctx, d.source, d.admin); err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		select { // the first one alone, so that its way can be watched
		case <-entries.first:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	d.print.phase("the day is over; waiting until the log is complete up to %s", d.day[len(d.day)-1].after)
	waitCtx, cancel := context.WithTimeout(ctx, demoStoredTimeout)
	defer cancel()
	if err := waitStored(waitCtx, d.log, d.day[len(d.day)-1].after); err != nil {
		return err
	}
	var last int64
	if err := d.log.QueryRow(ctx, `select max(seq) from audit.entry where kind in (1, 2)`).Scan(&last); err != nil {
		return err
	}
	if err := entries.waitFor(ctx, last); err != nil {
		return err
	}
	d.print.phase("the log is complete")
	return nil
}

// check is what --once ends with. Each part is tried, whatever the others say.
func (d *demo) check(ctx context.Context) error {
	d.print.mu.Lock() // the tables are not for others to write into
	defer d.print.mu.Unlock()
	out := d.e.stdout
	fmt.Fprintln(out, "\nEntries by application, resource and action")
	if err := printCounts(ctx, d.log, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nEntries of each scenario")
	ok, err := compareDay(ctx, d.log, out, d.day)
	if err != nil {
		return err
	}
	fmt.Fprintln(out)
	if err := d.command(ctx, "verify"); err != nil {
		ok = false
		fmt.Fprintf(out, "The chain, recomputed in Go: WRONG: %v\n", err)
	} else {
		fmt.Fprintln(out, "The chain, recomputed in Go: intact")
	}
	if err := verifyInSQL(ctx, d.log); err != nil {
		ok = false
		fmt.Fprintf(out, "The chain in plain SQL: WRONG: %v\n", err)
	} else {
		fmt.Fprintln(out, "The chain in plain SQL: intact")
	}
	if !ok {
		return &exitError{exitFinding, errors.New("the day did not come out as it must")}
	}
	fmt.Fprintln(out, "All of it held.")
	return nil
}

func (d *demo) sayWhatToTry(at addresses) {
	program, err := os.Executable()
	if err != nil {
		program = "casebook-audit"
	}
	d.print.say(`
The log answers at http://%s/ (page and API) and http://%s/metrics. Sign in to the page with the token %s.
Try, in another terminal:

  curl -H 'Authorization: Bearer %s' 'http://%s/v1/entries?application=Engage&record=J.+Sullivan+Case&limit=5'
  %s --config %s query --application Engage --record 'J. Sullivan Case'
  %s --config %s verify

The work goes on. Ctrl-C ends it, and nothing is left.
`, at.query, at.metrics, d.token, d.token, at.query, program, d.config, program, d.config)
}

func (d *demo) stopServers() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, conn := range []*pgx.Conn{d.admin, d.log} {
		if conn != nil {
			_ = conn.Close(ctx)
		}
	}
	var errs []error
	for _, c := range []*cluster.Cluster{d.source, d.audit} {
		if c != nil {
			errs = append(errs, c.Stop())
		}
	}
	return errors.Join(errs...)
}
