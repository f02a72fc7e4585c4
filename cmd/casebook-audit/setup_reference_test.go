package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/pgtest"
)

// runCommand runs the program with a configuration file in dir.
func runCommand(t testing.TB, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(context.Background(), append(args, "--config", filepath.Join(dir, "casebook-audit.yaml")), &out, &err)
	return code, out.String(), err.String()
}

// writeConfig writes a configuration and the reference mapping.
func writeConfig(t testing.TB, sourceDSN, auditDSN, readerDSN, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for file, text := range map[string]string{
		"casebook-audit.yaml": "source: {dsn: '" + sourceDSN + "', slot: slot_" + name + "}\naudit: {dsn: '" + auditDSN + "', reader_dsn: '" + readerDSN + "'}\n",
		"mapping.yaml":        reference.Mapping,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The reference deployment by the commands alone: printed, applied, complete, found in order, and taken away again.
func TestReferenceBySetupAndCheck(t *testing.T) {
	t.Parallel()
	pgtest.EachReference(t, func(t *testing.T, db *pgtest.DB) {
		s := &sourceTest{db: db, conn: db.Conn(t)}
		role := "audit_" + db.Name
		dir := writeConfig(t, db.DSN(role), db.DSN(role), db.DSN(role), db.Name)
		admin := []string{"--admin-dsn", db.DSN("")}
		t.Cleanup(func() {
			s.conn.Exec(context.Background(), "DROP OWNED BY "+role)
			s.conn.Exec(context.Background(), "DROP ROLE "+role)
		})
		before := s.snapshot(t)

		code, printed, stderr := runCommand(t, dir, append(admin, "setup", "source")...)
		if code != exitDone || !strings.Contains(printed, "CREATE PUBLICATION") || !strings.Contains(stderr, "Nothing was changed") {
			t.Fatalf("exit %d, stderr %s", code, stderr)
		}
		if !slices.Equal(before, s.snapshot(t)) {
			t.Fatal("setup without --apply changed something")
		}
		code, applied, stderr := runCommand(t, dir, append(admin, "setup", "source", "--apply")...)
		if code != exitDone || applied != printed {
			t.Fatalf("exit %d, the applied text is the printed one: %v; %s", code, applied == printed, stderr)
		}
		code, again, _ := runCommand(t, dir, append(admin, "setup", "source", "--apply")...)
		if code != exitDone || !strings.Contains(again, "nothing to do") {
			t.Errorf("exit %d, the second run:\n%s", code, again)
		}

		// The audit side has no schema here, and the tests' servers have neither fsync nor a limit for slots.
		code, text, stderr := runCommand(t, dir, "check", "--json")
		var report struct{ Findings []finding }
		if err := json.Unmarshal([]byte(text), &report); err != nil {
			t.Fatalf("check: exit %d: %v\n%s%s", code, err, text, stderr)
		}
		var codes []string
		for _, f := range report.Findings {
			codes = append(codes, f.Code)
			if f.Code != "audit-schema" && f.Code != "audit-fsync" && f.Code != "source-slot-limit" {
				t.Errorf("finding %+v", f)
			}
		}
		if code != exitFinding || len(codes) != 3 {
			t.Errorf("check: exit %d, findings %v", code, codes)
		}

		code, _, stderr = runCommand(t, dir, append(admin, "setup", "source", "--remove", "--apply")...)
		if code != exitDone {
			t.Fatalf("remove: exit %d: %s", code, stderr)
		}
		wantSame(t, before, s.snapshot(t))
	})
}

// Wrong input ends with the documented code and a message that holds no password and no user.
func TestSetupAndCheckRefuse(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	good := db.DSN("")
	unreachable := "postgres://somebody:geheim@127.0.0.1:1/nothing?sslmode=disable"
	for _, c := range []struct {
		name   string
		source string
		args   []string
		code   int
		want   string
	}{
		{"unreachable", unreachable, []string{"setup", "source"}, exitUnreachable, "source.dsn: cannot connect"},
		{"unreachable admin", good, []string{"setup", "source", "--admin-dsn", unreachable}, exitUnreachable, "--admin-dsn: cannot connect"},
		{"malformed admin", good, []string{"setup", "source", "--admin-dsn", "postgres://u:geheim@[::1/x"}, exitUsage, "--admin-dsn is not a connection string"},
		{"another database", db.Cluster.DSN("template1", "somebody"), []string{"setup", "source", "--admin-dsn", good}, exitUsage, "must be the same"},
		{"unknown role", strings.Replace(good, "postgres@", "somebody:geheim@", 1), []string{"setup", "source"}, exitUnreachable, "check role, password and pg_hba.conf"},
		{"unreachable for check", unreachable, []string{"check"}, exitUnreachable, "NOT CHECKED: source.dsn: cannot connect"},
		{"no such database for check", strings.Replace(good, db.Name, "geheim", 1), []string{"check"}, exitUnreachable, "there is no such database"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := writeConfig(t, c.source, good, good, db.Name)
			code, stdout, stderr := runCommand(t, dir, c.args...)
			if code != c.code || !strings.Contains(stdout+stderr, c.want) {
				t.Errorf("exit %d, want %d and %q:\n%s%s", code, c.code, c.want, stdout, stderr)
			}
			for _, secret := range []string{"geheim", "somebody"} {
				if strings.Contains(stdout+stderr, secret) {
					t.Errorf("%q is shown:\n%s%s", secret, stdout, stderr)
				}
			}
		})
	}
}
