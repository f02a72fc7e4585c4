package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/internal/cluster"
)

// auditCatalog lists what setup audit may make: roles, memberships, and everything in its schemas.
func auditCatalog(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		SELECT 'role ' || rolname || ' ' || rolsuper || rolcanlogin || rolbypassrls FROM pg_roles WHERE rolname !~ '^pg_'
		UNION ALL SELECT 'member ' || roleid::regrole || ' ' || member::regrole FROM pg_auth_members WHERE roleid::regrole::text !~ '^pg_'
		UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_'
		UNION ALL SELECT 'relation ' || oid::regclass || ' ' || coalesce(relacl::text, '') FROM pg_class WHERE relnamespace::regnamespace::text IN ('audit', 'public')
		UNION ALL SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE pronamespace::regnamespace::text IN ('audit', 'public') ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// The audit side by the commands alone: printed, applied, a second time, used, and taken away again.
func TestSetupAudit(t *testing.T) {
	t.Parallel()
	for _, version := range []int{14, 15, 18} {
		server := newOwnServer(t, version)
		conn := server.Conn(t)
		dir := writeConfig(t, server.DSN(""), server.DSN("w"), server.DSN("r"), server.Name)
		admin := []string{"setup", "audit", "--admin-dsn", server.DSN("")}
		do := func(args ...string) (int, string, string) {
			t.Helper()
			return runCommand(t, dir, append(slices.Clone(admin), args...)...)
		}
		before := auditCatalog(t, conn)

		code, printed, stderr := do()
		if code != exitDone || !strings.Contains(printed, "CREATE TABLE audit.entry") || !strings.Contains(printed, `CREATE ROLE "w" LOGIN`) {
			t.Fatalf("%d: exit %d: %s", version, code, stderr)
		}
		if !slices.Equal(before, auditCatalog(t, conn)) {
			t.Fatal("setup without --apply changed something")
		}
		// The reader of the printed text gets what --apply does, but for the chain's random id.
		if code, _, stderr := do("--apply"); code != exitDone {
			t.Fatalf("%d: exit %d: %s", version, code, stderr)
		}
		applied := auditCatalog(t, conn)
		if code, again, _ := do("--apply"); code != exitDone || !strings.Contains(again, "nothing to do") || !slices.Equal(applied, auditCatalog(t, conn)) {
			t.Errorf("%d: the second run: exit %d\n%s", version, code, again)
		}

		// A log with entries is not removed by accident.
		server.Exec(t, "UPDATE audit.position SET size = 2")
		if code, _, stderr := do("--remove", "--apply"); code != exitFinding || !strings.Contains(stderr, "--destroy-log") {
			t.Errorf("%d: a log with entries: exit %d, %s", version, code, stderr)
		}
		if code, _, stderr := do("--remove", "--apply", "--destroy-log"); code != exitDone {
			t.Errorf("%d: remove: exit %d, %s", version, code, stderr)
		}
		if after := auditCatalog(t, conn); !slices.Equal(before, after) {
			t.Errorf("%d: after remove:\n%s\nbefore:\n%s", version, strings.Join(after, "\n"), strings.Join(before, "\n"))
		}
	}
}

func TestSetupAuditRefuses(t *testing.T) {
	t.Parallel()
	server := newOwnServer(t, cluster.DefaultVersion)
	conn := server.Conn(t)
	dir := writeConfig(t, server.DSN(""), server.DSN("w"), server.DSN("r"), server.Name)
	same := writeConfig(t, server.DSN(""), server.DSN("w"), server.DSN("w"), server.Name)
	server.Exec(t, "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	for _, c := range []struct {
		name, before, dir, db, want string
		code                        int
	}{
		{"one role for both", "", same, server.Name, "must not be able to write", exitUsage},
		{"not UTF8", "", dir, "latin", "ENCODING 'UTF8'", exitFinding},
		{"somebody else's schema", "CREATE SCHEMA audit", dir, server.Name, "did not make", exitFinding},
		{"a newer version", "CREATE TABLE public.casebook_audit_schema AS SELECT 99 AS version", dir, server.Name, "install the newer", exitFinding},
		{"another origin", "", dir, server.Name, "an origin never changes", exitFinding},
	} {
		if c.before != "" {
			server.Exec(t, c.before)
		}
		if c.name == "another origin" {
			server.Exec(t, "DROP SCHEMA audit; DROP TABLE public.casebook_audit_schema")
			if code, _, stderr := runCommand(t, dir, "setup", "audit", "--apply", "--admin-dsn", server.DSN("")); code != exitDone {
				t.Fatal(stderr)
			}
			server.Exec(t, "UPDATE audit.chain SET origin = 'audit.example/other'")
		}
		before := auditCatalog(t, conn)
		code, _, stderr := runCommand(t, c.dir, "setup", "audit", "--apply", "--admin-dsn", server.Cluster.DSN(c.db, cluster.Superuser))
		if code != c.code || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, want %d and %q: %s", c.name, code, c.code, c.want, stderr)
		}
		if !slices.Equal(before, auditCatalog(t, conn)) {
			t.Errorf("%s: something was changed", c.name)
		}
	}
}

// TestSetupAuditIsOneTransaction: what fails at the end leaves nothing of the beginning.
func TestSetupAuditIsOneTransaction(t *testing.T) {
	t.Parallel()
	server := newOwnServer(t, cluster.DefaultVersion)
	conn := server.Conn(t)
	before := auditCatalog(t, conn)
	dir := writeConfig(t, server.DSN(""), server.DSN("w"), server.DSN("r"), server.Name)
	cfg, err := loadConfig(&env{configFile: dir + "/casebook-audit.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := planSetupAudit(t.Context(), conn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	plan.add("a step that fails", "SELECT 1/0")
	if err := plan.apply(context.Background(), conn); err == nil || !strings.Contains(err.Error(), "a step that fails") {
		t.Errorf("apply: %v", err)
	}
	if after := auditCatalog(t, conn); !slices.Equal(before, after) {
		t.Errorf("something stayed: %v", after)
	}
}
