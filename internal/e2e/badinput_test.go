package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"casebook.example/audit/internal/cluster"
)

// fingerprint is what a command that was refused must leave as it was.
func (w *world) fingerprint(t *testing.T) string {
	t.Helper()
	source := w.sourceValue(t, `select concat_ws(' ', (select string_agg(slot_name || coalesce(confirmed_flush_lsn::text, ''), ',') from pg_replication_slots),
		(select count(*) from pg_class), (select count(*) from pg_trigger), (select string_agg(rolname || rolreplication, ',' order by rolname) from pg_roles))`)
	audit := w.auditValue(t, `select concat_ws(' ', (select count(*) from pg_class), (select string_agg(rolname, ',' order by rolname) from pg_roles))`)
	if w.auditValue(t, `select to_regclass('audit.entry') is not null and to_regclass('audit.position') is not null`) == "true" {
		audit += w.auditValue(t, `select (select count(*) from audit.entry) || ' ' || (select string_agg(p::text, ',') from audit.position p)`)
	}
	return source + " | " + audit
}

// refused runs `run`, which must end by itself with this code and say this, once, and change nothing.
func (w *world) refused(t *testing.T, code int, says string) {
	t.Helper()
	before := w.fingerprint(t)
	r := w.run(t, nil, "run")
	if r.code != code {
		t.Errorf("want exit %d: %s", code, r)
	}
	if !regexp.MustCompile(says).MatchString(r.stderr) {
		t.Errorf("the message lacks %q: %s", says, r)
	}
	if n := strings.Count(r.stderr, "casebook-audit: "); n != 1 {
		t.Errorf("%d messages, want one: %s", n, r)
	}
	if strings.Contains(r.stderr, "panic") || strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("it panicked: %s", r)
	}
	if after := w.fingerprint(t); after != before {
		t.Errorf("it changed something:\nbefore %s\nafter  %s", before, after)
	}
	t.Logf("%s", lastLines(r.stderr, 3))
}

// Each wrong input gives one clear message and the documented exit code, and changes nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	// A first run makes the chain and the slot, so that there is something to spoil.
	daemon := w.start(t)
	w.streaming(t)
	w.work(t, "one")
	w.stored(t, 10*time.Second, "one")
	daemon.kill()
	eventually(t, 10*time.Second, "the slot is free", func() bool {
		return w.sourceValue(t, `select not active from pg_replication_slots where slot_name = 'casebook_audit'`) == "true"
	})
	nowhere := "postgres://casebook_audit:" + password + "@127.0.0.1:1/" + sourceDB + "?sslmode=disable"

	t.Run("source does not answer", func(t *testing.T) {
		w.configure(t, secret(w.source.DSN(sourceDB, "casebook_audit")), nowhere)
		w.refused(t, exitUnreachable, `(?i)source.*refused`)
	})
	t.Run("audit database does not answer", func(t *testing.T) {
		w.configure(t, secret(w.audit.DSN(auditDB, "casebook_audit_daemon")), nowhere)
		w.refused(t, exitUnreachable, `(?i)audit.*refused`)
	})
	t.Run("no such database", func(t *testing.T) {
		w.configure(t, "/"+auditDB, "/nothing")
		w.refused(t, exitUnreachable, `no database of the name in audit\.dsn`)
	})
	t.Run("no such role", func(t *testing.T) {
		w.configure(t, "casebook_audit_daemon", "somebody")
		w.refused(t, exitUnreachable, `role and password in audit\.dsn`)
	})
	t.Run("not a connection string", func(t *testing.T) {
		w.configure(t, secret(w.source.DSN(sourceDB, "casebook_audit")), "postgres://a:"+password+"@[::1")
		w.refused(t, exitUsage, `source\.dsn`)
	})
	t.Run("unknown configuration key", func(t *testing.T) {
		w.configure(t, "metrics:\n  listen:", "metrics:\n  port: 1\n  listen:")
		w.refused(t, exitUsage, `\[10:3\].*port|:10:3.*port`)
	})
	t.Run("configuration is not YAML", func(t *testing.T) {
		w.configure(t, "source:\n", "source: [\n")
		w.refused(t, exitUsage, `casebook-audit\.yaml`)
	})
	t.Run("mapping is not there", func(t *testing.T) {
		w.configure(t, "mapping: mapping.yaml", "mapping: nothing.yaml")
		w.refused(t, exitUsage, `nothing\.yaml`)
	})
	t.Run("unknown mapping key", func(t *testing.T) {
		w.configure(t, "mapping: mapping.yaml", "mapping: wrong.yaml")
		w.spoilMapping(t, "tables:\n", "nonsense: 1\ntables:\n")
		w.refused(t, exitUsage, `wrong\.yaml:\d+:\d+: .*nonsense`)
	})
	t.Run("mapping names a missing column", func(t *testing.T) {
		w.configure(t, "mapping: mapping.yaml", "mapping: wrong.yaml")
		w.spoilMapping(t, "last_activity_at", "last_activity_on")
		if r := w.run(t, nil, "check"); r.code != exitFinding || !strings.Contains(r.stdout, "cases.cases.last_activity_on") {
			t.Errorf("check: %s", r)
		}
	})
	t.Run("slot in use by another consumer", func(t *testing.T) {
		w.configure(t, "", "")
		stop := w.consume(t)
		defer stop()
		w.refused(t, exitUsage, `slot "casebook_audit" is in use`)
	})
	t.Run("source role may not replicate", func(t *testing.T) {
		w.configure(t, "", "")
		w.sourceExec(t, `alter role casebook_audit noreplication`)
		defer w.sourceExec(t, `alter role casebook_audit replication`)
		w.refused(t, exitUsage, `may not replicate.*REPLICATION`)
	})
	t.Run("audit role may not write", func(t *testing.T) {
		w.configure(t, "casebook_audit_daemon", "casebook_audit_web")
		w.refused(t, exitUsage, `setup audit --apply`)
	})
	t.Run("publication is gone", func(t *testing.T) {
		w.configure(t, "", "")
		w.sourceExec(t, `alter publication casebook_audit rename to other`)
		defer w.sourceExec(t, `alter publication other rename to casebook_audit`)
		w.refused(t, exitUsage, `publication "casebook_audit" does not exist`)
	})
	t.Run("other source cluster", func(t *testing.T) {
		other, err := cluster.Start(t.Context(), cluster.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Stop()
		for _, sql := range []string{"create role casebook_audit login replication", "create database " + sourceDB} {
			if err := cluster.RunSQL(t.Context(), other.DSN("postgres", cluster.Superuser), sql); err != nil {
				t.Fatal(err)
			}
		}
		w.configure(t, secret(w.source.DSN(sourceDB, "casebook_audit")), secret(other.DSN(sourceDB, "casebook_audit")))
		w.refused(t, exitUsage, `belongs to source cluster`)
	})
	t.Run("audit database of a newer version", func(t *testing.T) {
		w.configure(t, "", "")
		w.auditExec(t, `update public.casebook_audit_schema set version = version + 1`)
		defer w.auditExec(t, `update public.casebook_audit_schema set version = version - 1`)
		w.refused(t, exitUsage, `install the newer casebook-audit`)
	})
	t.Run("audit database is not ours", func(t *testing.T) {
		w.configure(t, "/"+auditDB+"?", "/postgres?")
		w.refused(t, exitUsage, `setup audit --apply`)
	})

	// Nothing of all this has broken anything.
	w.configure(t, "", "")
	w.start(t)
	w.streaming(t)
	w.work(t, "two")
	w.stored(t, 10*time.Second, "two")
	w.once(t, "one", "two")
	w.checkChain(t)
}

// spoilMapping writes wrong.yaml: the mapping with one replacement.
func (w *world) spoilMapping(t *testing.T, old, with string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "mapping.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("the mapping has no %q", old)
	}
	w.write(t, "wrong.yaml", strings.Replace(string(text), old, with, 1))
}

// consume reads the daemon's slot as a stranger would, without confirming anything, until stop is called.
func (w *world) consume(t *testing.T) (stop func()) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), w.source.DSN(sourceDB, cluster.Superuser)+"&replication=database")
	if err != nil {
		t.Fatal(err)
	}
	err = pglogrepl.StartReplication(t.Context(), conn, "casebook_audit", 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'casebook_audit'"}})
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = conn.Close(context.Background()) }
}

// A source that does not log what we need is named by check and refused by run.
func TestWALLevelReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{source: map[string]string{"wal_level": "replica"}})
	r := w.run(t, nil, "check")
	if r.code != exitFinding || !strings.Contains(r.stdout, "wal_level") {
		t.Errorf("check: %s", r)
	}
	w.run(t, nil, "run") // the chain begins, whatever the source is
	w.refused(t, exitUsage, `wal_level = replica.*wal_level = 'logical'`)
}

// Without setup, run says what to do first.
func TestNotSetUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noSetup: true})
	w.configure(t, "casebook_audit_daemon", cluster.Superuser)
	w.refused(t, exitUsage, `setup audit --apply`)
}
