package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/internal/cluster"
	auditsql "casebook.example/audit/sql"
)

// auditTest is a set-up audit database beside a set-up source, on a server of their own.
type auditTest struct {
	*sourceTest
	audit *pgx.Conn // superuser
}

func newAuditTest(t *testing.T, version int) *auditTest {
	t.Helper()
	a := &auditTest{sourceTest: newSourceTest(t, newOwnServer(t, version))}
	a.setup(t)
	a.exec(t, "CREATE DATABASE log ENCODING 'UTF8' TEMPLATE template0")
	server := a.db.Cluster
	a.cfg.Audit = AuditConfig{DSN: server.DSN("log", "log_writer"), ReaderDSN: server.DSN("log", "log_reader"), Chain: "casebook"}
	a.cfg.Ledger.Origin = "audit.invalid/casebook"
	var err error
	if a.audit, err = connectAdmin(context.Background(), "test", server.DSN("log", cluster.Superuser)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.audit.Close(context.Background()) })
	a.setupAudit(t)
	return a
}

func (a *auditTest) setupAudit(t testing.TB) {
	t.Helper()
	plan, err := planSetupAudit(context.Background(), a.audit, a.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.apply(context.Background(), a.audit); err != nil {
		t.Fatal(err)
	}
}

func (a *auditTest) check(t testing.TB) *checker {
	t.Helper()
	c := &checker{cfg: a.cfg, tables: a.tables}
	if err := c.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return c
}

func (a *auditTest) wantFindings(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got = nil
		for _, f := range a.check(t).findings {
			got = append(got, f.Code)
		}
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
	}
	t.Errorf("findings %v, want %v", got, want)
}

func TestCheckAuditFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	for _, version := range []int{14, 15, 16, 17, 18} {
		t.Run(fmt.Sprintf("pg%d", version), func(t *testing.T) {
			t.Parallel()
			a := newAuditTest(t, version)
			a.wantFindings(t) // before the first start: nothing streamed, no slot, no partitions
			a.breakRoles(t)
			a.breakChain(t)
		})
	}
}

func (a *auditTest) breakRoles(t *testing.T) {
	current := fmt.Sprintf("UPDATE public.casebook_audit_schema SET version = %d", auditsql.SchemaVersion)
	for _, c := range []struct{ name, broken, mended, want string }{
		{"writer is a superuser", "ALTER ROLE log_writer SUPERUSER", "ALTER ROLE log_writer NOSUPERUSER", "audit-writer-superuser"},
		{"writer is an owner", "GRANT casebook_audit_owner TO log_writer", "REVOKE casebook_audit_owner FROM log_writer", "audit-writer-owner"},
		{"writer may update", "GRANT UPDATE ON audit.entry TO log_writer", "REVOKE UPDATE ON audit.entry FROM log_writer", "audit-writer-rights"},
		{"writer may update one column", "GRANT UPDATE (summary) ON audit.entry TO casebook_audit_writer", "REVOKE UPDATE (summary) ON audit.entry FROM casebook_audit_writer", "audit-writer-rights"},
		{"writer may delete", "GRANT DELETE ON audit.entry TO casebook_audit_writer", "REVOKE DELETE ON audit.entry FROM casebook_audit_writer", "audit-writer-rights"},
		{"writer may rewrite checkpoints", "GRANT UPDATE ON audit.checkpoint TO casebook_audit_writer", "REVOKE UPDATE ON audit.checkpoint FROM casebook_audit_writer", "audit-writer-rights"},
		{"writer may remove tiles", "GRANT DELETE ON audit.tile TO log_writer", "REVOKE DELETE ON audit.tile FROM log_writer", "audit-writer-rights"},
		{"writer may create", "GRANT CREATE ON SCHEMA audit TO log_writer", "REVOKE CREATE ON SCHEMA audit FROM log_writer", "audit-writer-rights"},
		{"writer may not insert", "REVOKE INSERT ON audit.entry FROM casebook_audit_writer", "GRANT INSERT ON audit.entry TO casebook_audit_writer", "audit-writer-insert"},
		{"reader is a superuser", "ALTER ROLE log_reader SUPERUSER", "ALTER ROLE log_reader NOSUPERUSER", "audit-reader-superuser"},
		{"reader has BYPASSRLS", "ALTER ROLE log_reader BYPASSRLS", "ALTER ROLE log_reader NOBYPASSRLS", "audit-reader-bypass"},
		{"reader is an owner", "GRANT casebook_audit_owner TO log_reader", "REVOKE casebook_audit_owner FROM log_reader", "audit-reader-owner"},
		{"reader is a writer", "GRANT casebook_audit_writer TO log_reader", "REVOKE casebook_audit_writer FROM log_reader", "audit-reader-writes"},
		{"reader may not read", "REVOKE SELECT ON audit.entry FROM casebook_audit_reader", "GRANT SELECT ON audit.entry TO casebook_audit_reader", "audit-reader-select"},
		{"row-level security off", "ALTER TABLE audit.user_name DISABLE ROW LEVEL SECURITY", "ALTER TABLE audit.user_name ENABLE ROW LEVEL SECURITY", "audit-rls"},
		{"a partition readable by itself", "SELECT audit.ensure_partitions('2001-01-01', 1); GRANT SELECT ON audit.entry_2001_01 TO log_reader", "DROP TABLE audit.entry_2001_01, audit.entry_also_2001_01", "audit-rls"},
		{"older schema", "UPDATE public.casebook_audit_schema SET version = 0", current, "audit-schema-old"},
		{"newer schema", "UPDATE public.casebook_audit_schema SET version = 99", current, "audit-schema-new"},
		{"not our schema", "ALTER TABLE public.casebook_audit_schema RENAME TO x", "ALTER TABLE public.x RENAME TO casebook_audit_schema", "audit-foreign"},
		{"no schema", "ALTER SCHEMA audit RENAME TO x", "ALTER SCHEMA x RENAME TO audit", "audit-schema"},
		{"fsync off", "ALTER SYSTEM SET fsync = off", "ALTER SYSTEM RESET fsync", "audit-fsync"},
	} {
		t.Run(c.name, func(t *testing.T) {
			apply := func(sql string) {
				execOn(t, a.audit, sql)
				execOn(t, a.audit, "SELECT pg_reload_conf()")
			}
			apply(c.broken)
			a.wantFindings(t, c.want)
			if strings.Contains(c.mended, "RESET fsync") {
				c.mended = "ALTER SYSTEM SET fsync = on"
			}
			apply(c.mended)
			a.wantFindings(t)
		})
	}
	chain, origin := a.cfg.Audit.Chain, a.cfg.Ledger.Origin
	a.cfg.Audit.Chain = "another"
	a.wantFindings(t, "audit-chain")
	a.cfg.Audit.Chain, a.cfg.Ledger.Origin = chain, "another.invalid/x"
	a.wantFindings(t, "audit-origin")
	a.cfg.Ledger.Origin = origin
}

// breakChain lets the chain begin, and then takes away what it needs.
func (a *auditTest) breakChain(t *testing.T) {
	ctx := context.Background()
	a.createSlot(t)
	var system string
	if err := a.conn.QueryRow(ctx, "SELECT system_identifier::text FROM pg_control_system()").Scan(&system); err != nil {
		t.Fatal(err)
	}
	begin := fmt.Sprintf(`UPDATE audit.position SET seeded_at = now(), slot = '%s', system_id = '%s', acked_lsn = 'F/0'`, a.cfg.Source.Slot, system)
	execOn(t, a.audit, begin)
	inactive := "source-slot-inactive"
	a.wantFindings(t, inactive, "audit-partition", "audit-partition")
	execOn(t, a.audit, "SELECT audit.ensure_partitions(current_date, 1)")
	a.wantFindings(t, inactive, "audit-partition", "audit-partition")
	for _, f := range a.check(t).findings {
		if f.Code == "audit-partition" && f.Severity != severityWarning {
			t.Errorf("next month's partition: %+v", f)
		}
	}
	execOn(t, a.audit, "SELECT audit.ensure_partitions(current_date, 2)")
	a.wantFindings(t, inactive)

	execOn(t, a.audit, "UPDATE audit.position SET acked_lsn = '0/1'")
	a.wantFindings(t, inactive, "source-slot-ahead")
	execOn(t, a.audit, "UPDATE audit.position SET acked_lsn = 'F/0', system_id = '1'")
	a.wantFindings(t, inactive, "source-other-cluster")
	execOn(t, a.audit, begin)
	a.exec(t, "SELECT pg_drop_replication_slot('"+a.cfg.Source.Slot+"')")
	a.wantFindings(t, "source-slot-missing")
}
