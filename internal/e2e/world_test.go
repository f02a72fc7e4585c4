package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/cluster"
	"casebook.example/audit/ledger"
)

const (
	sourceDB = "casebook"
	auditDB  = "audit"
	appRole  = "casebook_app"

	// password is in every connection string. The servers ask for none, so it is only there to be leaked.
	password = "hush-Tr0ub4dor"
)

// appRights gives the application's role what an application has.
const appRights = `
create role casebook_app login;
do $$
declare s text;
begin
  for s in select nspname from pg_namespace where nspname !~ '^(pg_|information_schema)' loop
    execute format('grant usage on schema %I to casebook_app', s);
    execute format('grant select, insert, update, delete on all tables in schema %I to casebook_app', s);
    execute format('grant usage on all sequences in schema %I to casebook_app', s);
  end loop;
end $$`

// durable are the settings of a server whose commits outlive a SIGKILL, as in production.
var durable = map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}

// world is a source, an audit database, and what the daemon needs to run between them.
type world struct {
	source, audit *cluster.Cluster
	dir           string // configuration, mapping, logs
	config        string
	metrics       string // address of the metrics port
	started       atomic.Int32
}

// options say how a world differs from the usual one.
type options struct {
	version int               // of both servers
	source  map[string]string // settings
	audit   map[string]string
	noSetup bool // leave both sides as a DBA finds them

	makeAudit func(*cluster.Cluster) string // SQL that makes the audit database
}

// newWorld starts both servers and prepares them by the program's own commands. Nothing is left of it after the test.
func newWorld(t *testing.T, o options) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Postgres: not with -short")
	}
	w := &world{dir: t.TempDir()}
	var group errgroup.Group
	for _, side := range []struct {
		cluster  **cluster.Cluster
		settings map[string]string
	}{{&w.source, o.source}, {&w.audit, o.audit}} {
		group.Go(func() (err error) {
			*side.cluster, err = cluster.Start(t.Context(), cluster.Options{Version: o.version, Settings: side.settings})
			return err
		})
	}
	err := group.Wait()
	for _, c := range []*cluster.Cluster{w.source, w.audit} {
		if c == nil {
			continue
		}
		t.Cleanup(func() {
			if err := c.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.load(t, o)
	w.metrics = freeAddress(t)
	w.config = filepath.Join(w.dir, "casebook-audit.yaml")
	w.write(t, "mapping.yaml", reference.Mapping)
	w.configure(t, "", "")
	if !o.noSetup {
		w.setup(t)
	}
	t.Cleanup(func() { w.checkLogs(t) })
	return w
}

// load fills the source and makes the audit database, both as the superuser.
func (w *world) load(t *testing.T, o options) {
	t.Helper()
	var group errgroup.Group
	group.Go(func() error {
		for _, step := range []struct{ db, sql string }{
			{"postgres", "create database " + sourceDB}, {sourceDB, reference.Schema}, {sourceDB, reference.Seed}, {sourceDB, appRights},
		} {
			if err := cluster.RunSQL(t.Context(), w.source.DSN(step.db, cluster.Superuser), step.sql); err != nil {
				return fmt.Errorf("load the source: %w", err)
			}
		}
		return nil
	})
	group.Go(func() error {
		sql := "create database " + auditDB
		if o.makeAudit != nil {
			sql = o.makeAudit(w.audit)
		}
		return cluster.RunSQL(t.Context(), w.audit.DSN("postgres", cluster.Superuser), sql)
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// configure writes the configuration file, with a replacement in it when old is not empty.
func (w *world) configure(t *testing.T, old, with string) {
	t.Helper()
	text := fmt.Sprintf(`source:
  dsn: %s
audit:
  dsn: %s
  reader_dsn: %s
mapping: mapping.yaml
query:
  listen: "off"
metrics:
  listen: %s
`, secret(w.source.DSN(sourceDB, "casebook_audit")), secret(w.audit.DSN(auditDB, "casebook_audit_daemon")),
		secret(w.audit.DSN(auditDB, "casebook_audit_web")), w.metrics)
	if old != "" && !strings.Contains(text, old) {
		t.Fatalf("the configuration has no %q", old)
	}
	w.write(t, "casebook-audit.yaml", strings.Replace(text, old, with, 1))
}

// secret adds the password to a DSN.
func secret(dsn string) string { return strings.Replace(dsn, "@", ":"+password+"@", 1) }

func (w *world) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// setup prepares both sides as the manual says.
func (w *world) setup(t *testing.T) {
	t.Helper()
	w.mustRun(t, "setup", "source", "--apply", "--admin-dsn", w.source.DSN(sourceDB, cluster.Superuser))
	w.mustRun(t, "setup", "audit", "--apply", "--admin-dsn", w.audit.DSN(auditDB, cluster.Superuser))
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// connect gives a superuser's session, closed at the test's end.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

func (w *world) sourceConn(t *testing.T) *pgx.Conn {
	t.Helper()
	return connect(t, w.source.DSN(sourceDB, cluster.Superuser))
}

func (w *world) auditConn(t *testing.T) *pgx.Conn {
	t.Helper()
	return connect(t, w.audit.DSN(auditDB, cluster.Superuser))
}

// sourceExec runs a script in the source, as the superuser.
func (w *world) sourceExec(t *testing.T, sql string) {
	t.Helper()
	if err := cluster.RunSQL(t.Context(), w.source.DSN(sourceDB, cluster.Superuser), sql); err != nil {
		t.Fatal(err)
	}
}

// auditExec runs a script in the audit database, as the superuser.
func (w *world) auditExec(t *testing.T, sql string) {
	t.Helper()
	if err := cluster.RunSQL(t.Context(), w.audit.DSN(auditDB, cluster.Superuser), sql); err != nil {
		t.Fatal(err)
	}
}

// work commits one change as Maria Alvarez: a case gets a name that tells it apart.
func (w *world) work(t *testing.T, name string) {
	t.Helper()
	err := cluster.RunSQL(t.Context(), w.source.DSN(sourceDB, appRole), fmt.Sprintf(`begin; set local audit.user_id = '%s';
		update cases.cases set name = '%s %s' where id = '%s'; commit`, writerUsers[0], secretWord, name, seededCase))
	if err != nil {
		t.Fatal(err)
	}
}

// value reads one value of a database as text.
func value(t *testing.T, dsn, sql string, args ...any) string {
	t.Helper()
	text, err := tryValue(t.Context(), dsn, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return text
}

func tryValue(ctx context.Context, dsn, sql string, args ...any) (string, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	var text *string
	if err := conn.QueryRow(ctx, `select (`+sql+`)::text`, args...).Scan(&text); err != nil {
		return "", err
	}
	if text == nil {
		return "", nil
	}
	return *text, nil
}

func (w *world) sourceValue(t *testing.T, sql string, args ...any) string {
	t.Helper()
	return value(t, w.source.DSN(sourceDB, cluster.Superuser), sql, args...)
}

func (w *world) auditValue(t *testing.T, sql string, args ...any) string {
	t.Helper()
	return value(t, w.audit.DSN(auditDB, cluster.Superuser), sql, args...)
}

// caughtUp waits until the log holds all that was committed before the call. It makes a last commit of its own, so that
// there is a transaction to wait for.
func (w *world) caughtUp(t *testing.T, limit time.Duration) {
	t.Helper()
	here, err := ledger.ParseLSN(w.sourceValue(t, `select pg_current_wal_insert_lsn()`))
	if err != nil {
		t.Fatal(err)
	}
	w.work(t, "the last word "+here.String())
	eventually(t, limit, "everything up to "+here.String()+" is stored", func() bool {
		stored, err := tryValue(t.Context(), w.audit.DSN(auditDB, cluster.Superuser), `select max(commit_lsn) from audit.position`)
		if err != nil {
			return false
		}
		lsn, err := ledger.ParseLSN(stored)
		return err == nil && lsn >= here
	})
}

// checkLogs looks for what no log line may hold, in all that the daemons of this world have printed.
func (w *world) checkLogs(t *testing.T) {
	logs, _ := filepath.Glob(filepath.Join(w.dir, "run-*.log"))
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		noSecrets(t, filepath.Base(name), string(text))
	}
}

// noSecrets fails the test when a text holds a password or a value of a row.
func noSecrets(t *testing.T, what, text string) {
	t.Helper()
	for _, secret := range []string{password, secretWord, "20000000-0000-4000-8000", "50000000-0000-4000-8000", "hfs.example", "123-45-6789", "Sullivan"} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("%s holds %q: ...%s", what, secret, text[max(0, i-200):min(len(text), i+len(secret)+40)])
		}
	}
}
