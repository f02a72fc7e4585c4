package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/capture"
	auditsql "casebook.example/audit/sql"
)

const setupAudit = "casebook-audit setup audit --apply"

// chainState is where the chain stands, as far as the source must fit it.
type chainState struct {
	found, seeded bool
	acked         capture.LSN
	systemID      string
}

// checkAudit looks at the audit database as the writer and as the reader.
func (c *checker) checkAudit(ctx context.Context) error {
	conn, err := connectAdmin(ctx, "audit.dsn", c.cfg.Audit.DSN)
	if err != nil {
		return errors.Join(err, c.checkReader(ctx, false))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	c.audit = &side{name: "audit"}
	c.findings = append(c.findings, transportFinding("audit.dsn", conn.PgConn().Conn())...)
	if c.audit.clock, err = readClock(ctx, conn, "the audit database"); err != nil {
		return fmt.Errorf("ask the audit database for its time: %w", err)
	}
	ready, err := c.checkLedger(ctx, conn)
	if err != nil {
		return fmt.Errorf("check the audit database: %w", err)
	}
	return c.checkReader(ctx, ready)
}

// checkLedger makes the probes that the writer's connection can make. ready is false where there is no ledger yet, and
// the rest would only repeat that.
func (c *checker) checkLedger(ctx context.Context, conn *pgx.Conn) (ready bool, err error) {
	var version int
	var encoding, fsync string
	var recovery bool
	var schema, ours bool
	err = conn.QueryRow(ctx, `
		SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), current_setting('fsync'), pg_is_in_recovery(),
		  to_regnamespace('audit') IS NOT NULL, to_regclass($1) IS NOT NULL`, auditsql.VersionTable).
		Scan(&version, &encoding, &fsync, &recovery, &schema, &ours)
	if err != nil {
		return false, err
	}
	c.audit.about = fmt.Sprintf("Postgres %d.%d, chain %s", version/10000, version%10000, c.cfg.Audit.Chain)
	if version < 140000 {
		c.add(finding{severityError, "audit-version", fmt.Sprintf("the audit database is Postgres %d", version/10000),
			"The ledger needs 14 or later.", "Upgrade it.", nil})
	}
	if recovery {
		c.add(finding{severityError, "audit-standby", "audit.dsn leads to a standby", "Nothing can be stored there.",
			"Name the primary, or all servers with target_session_attrs=read-write.", nil})
	}
	if encoding != "UTF8" {
		c.add(finding{severityError, "audit-encoding", "the audit database's encoding is " + encoding,
			"Text of the source may have no place in it, and hashes are taken of UTF-8.",
			"CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, then " + setupAudit, nil})
	}
	if fsync != "on" {
		c.add(finding{severityError, "audit-fsync", "fsync is off on the audit database's server",
			"The source forgets what is said to be stored; after a crash of the machine it would be nowhere.",
			"ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();", nil})
	}
	switch {
	case !schema:
		c.add(finding{severityError, "audit-schema", "there is no schema audit in the audit database", "There is no log to write to.", setupAudit, nil})
		return false, nil
	case !ours:
		c.add(finding{severityError, "audit-foreign", "schema audit in the audit database was not made by casebook-audit",
			"What is in it is somebody else's.", "Name another database in audit.dsn, then " + setupAudit, nil})
		return false, nil
	}
	var migration int
	if err := conn.QueryRow(ctx, "SELECT version FROM "+auditsql.VersionTable).Scan(&migration); err != nil {
		return false, err
	}
	switch {
	case migration < auditsql.SchemaVersion:
		c.add(finding{severityError, "audit-schema-old", fmt.Sprintf("the audit database is of version %d, this program writes version %d", migration, auditsql.SchemaVersion),
			"The daemon does not start on it.", setupAudit, nil})
		return false, nil
	case migration > auditsql.SchemaVersion:
		c.add(finding{severityError, "audit-schema-new", fmt.Sprintf("the audit database is of version %d, this program knows only up to %d", migration, auditsql.SchemaVersion),
			"The daemon does not start on it.", "Install the newer casebook-audit.", nil})
		return false, nil
	}
	if err := c.checkWriter(ctx, conn); err != nil {
		return false, err
	}
	if err := c.checkChain(ctx, conn); err != nil {
		return false, err
	}
	return true, c.checkPartitions(ctx, conn)
}

// mayDo is what a role may do in the audit database.
type mayDo struct {
	super, bypassRLS, owner bool
	read, insert            bool
	change                  bool // UPDATE, DELETE or TRUNCATE of entries, tiles or checkpoints, or CREATE in the schema
	rlsOff                  []string
}

func readRights(ctx context.Context, conn *pgx.Conn) (m mayDo, err error) {
	err = conn.QueryRow(ctx, `
		SELECT r.rolsuper, r.rolbypassrls,
		  pg_has_role(r.oid, e.relowner, 'MEMBER') OR pg_has_role(r.oid, n.nspowner, 'MEMBER'),
		  has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_table_privilege(r.oid, e.oid, 'SELECT'),
		  has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_table_privilege(r.oid, e.oid, 'INSERT'),
		  has_table_privilege(r.oid, e.oid, 'UPDATE, DELETE, TRUNCATE') OR has_any_column_privilege(r.oid, e.oid, 'UPDATE')
		    OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname IN ('tile', 'checkpoint')
		      AND (has_table_privilege(r.oid, c.oid, 'UPDATE, DELETE, TRUNCATE') OR has_any_column_privilege(r.oid, c.oid, 'UPDATE')))
		    OR has_schema_privilege(r.oid, n.oid, 'CREATE'),
		  ARRAY(SELECT format('audit.%I', c.relname) FROM pg_class c WHERE c.relnamespace = n.oid
		        AND NOT c.relrowsecurity AND (c.relname IN ('entry', 'entry_also', 'record_name', 'user_name')
		          OR c.relispartition AND has_table_privilege(r.oid, c.oid, 'SELECT')) ORDER BY 1)
		FROM pg_roles r, pg_namespace n JOIN pg_class e ON e.relnamespace = n.oid AND e.relname = 'entry'
		WHERE r.rolname = current_user AND n.nspname = 'audit'`).
		Scan(&m.super, &m.bypassRLS, &m.owner, &m.read, &m.insert, &m.change, &m.rlsOff)
	if errors.Is(err, pgx.ErrNoRows) {
		return m, errors.New("there is no table audit.entry: " + setupAudit)
	}
	return m, err
}

func (c *checker) checkWriter(ctx context.Context, conn *pgx.Conn) error {
	m, err := readRights(ctx, conn)
	if err != nil {
		return err
	}
	role := quoteIdent(conn.Config().User)
	switch {
	case m.super:
		c.add(finding{severityWarning, "audit-writer-superuser", "the role of audit.dsn is a superuser",
			"Whoever gets at the daemon can rewrite the log.",
			"Give the daemon a role of its own: CREATE ROLE ... LOGIN IN ROLE casebook_audit_writer; and name it in audit.dsn.", nil})
		return nil
	case m.owner:
		c.add(finding{severityWarning, "audit-writer-owner", "the role of audit.dsn owns the log, or may act as its owner",
			"Whoever gets at the daemon can rewrite the log.",
			fmt.Sprintf("REVOKE casebook_audit_owner FROM %s; or name a member of casebook_audit_writer in audit.dsn.", role), nil})
		return nil
	case m.change:
		c.add(finding{severityWarning, "audit-writer-rights", "the role of audit.dsn may change or remove entries",
			"The log is append-only for everybody; a writer who may do more can rewrite it.",
			fmt.Sprintf("REVOKE UPDATE, DELETE, TRUNCATE ON audit.entry, audit.tile, audit.checkpoint FROM %s, casebook_audit_writer; REVOKE CREATE ON SCHEMA audit FROM %s, casebook_audit_writer;", role, role), nil})
	}
	if !m.insert {
		c.add(finding{severityError, "audit-writer-insert", "the role of audit.dsn may not write to the log",
			"The daemon cannot store anything.", fmt.Sprintf("GRANT casebook_audit_writer TO %s;", role), nil})
	}
	return nil
}

func (c *checker) checkChain(ctx context.Context, conn *pgx.Conn) error {
	var acked *string
	var systemID *string
	var origin string
	s := &c.chain
	err := conn.QueryRow(ctx, `
		SELECT p.seeded_at IS NOT NULL, p.acked_lsn::text, p.system_id, c.origin
		FROM audit.chain c JOIN audit.position p ON p.chain = c.chain WHERE c.name = $1`, c.cfg.Audit.Chain).
		Scan(&s.seeded, &acked, &systemID, &origin)
	if errors.Is(err, pgx.ErrNoRows) {
		c.add(finding{severityError, "audit-chain", "the audit database has no chain " + c.cfg.Audit.Chain,
			"The daemon has nowhere to append to.", setupAudit, nil})
		return nil
	}
	if err != nil {
		return err
	}
	s.found = true
	if origin != c.cfg.Ledger.Origin {
		c.add(finding{severityError, "audit-origin", fmt.Sprintf("chain %s has the origin %q, ledger.origin says %q", c.cfg.Audit.Chain, origin, c.cfg.Ledger.Origin),
			"The origin is in the first hash and never changes.", "Set ledger.origin back, or begin a new chain.", nil})
	}
	if acked != nil {
		if err := s.acked.Scan(*acked); err != nil {
			return fmt.Errorf("read the position of the chain: %w", err)
		}
	}
	if systemID != nil {
		s.systemID = *systemID
	}
	return nil
}

// checkPartitions: without a partition for the time of a transaction it cannot be stored.
func (c *checker) checkPartitions(ctx context.Context, conn *pgx.Conn) error {
	if !c.chain.seeded {
		return nil // the first start makes them
	}
	now := time.Now().UTC()
	next := time.Date(now.Year(), now.Month()+1, 15, 0, 0, 0, 0, time.UTC)
	for _, table := range []string{"entry", "entry_also"} {
		for _, when := range []time.Time{now, next} {
			var there bool
			err := conn.QueryRow(ctx, `
				SELECT coalesce(bool_or(bound = 'DEFAULT'
				  OR $2 >= substring(bound FROM $$FROM \('([^']+)'\)$$)::timestamptz AND $2 < substring(bound FROM $$TO \('([^']+)'\)$$)::timestamptz), false)
				FROM (SELECT pg_get_expr(p.relpartbound, p.oid) AS bound
				      FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid JOIN pg_class t ON t.oid = i.inhparent
				      JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = 'audit' AND t.relname = $1) x`, table, when).Scan(&there)
			if err != nil {
				return err
			}
			if there {
				continue
			}
			level, why := severityError, "The next transaction cannot be stored: the daemon stops, and the source keeps its write-ahead log."
			if when == next {
				level, why = severityWarning, "When the month begins, nothing can be stored any more."
			}
			c.add(finding{level, "audit-partition", fmt.Sprintf("audit.%s has no partition for %s", table, when.Format("January 2006")), why,
				"SELECT audit.ensure_partitions(current_date, 3);\nThe running daemon makes them ahead: look in its log why it did not.", nil})
			break
		}
	}
	return nil
}

// checkReader connects as the endpoint does. What tenants may see is decided in the database, by row-level security: it
// binds neither superusers nor owners.
func (c *checker) checkReader(ctx context.Context, ready bool) error {
	conn, err := connectAdmin(ctx, "audit.reader_dsn", c.cfg.Audit.ReaderDSN)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	c.findings = append(c.findings, transportFinding("audit.reader_dsn", conn.PgConn().Conn())...)
	if !ready {
		return nil
	}
	m, err := readRights(ctx, conn)
	if err != nil {
		return fmt.Errorf("check the audit database as the reader: %w", err)
	}
	role := quoteIdent(conn.Config().User)
	mend := "Give the endpoint a role of its own: CREATE ROLE ... LOGIN IN ROLE casebook_audit_reader; and name it in audit.reader_dsn."
	why := "Row-level security does not bind it: a fault in a query would show one tenant another's entries."
	switch {
	case m.super:
		c.add(finding{severityError, "audit-reader-superuser", "the role of audit.reader_dsn is a superuser", why, mend, nil})
	case m.bypassRLS:
		c.add(finding{severityError, "audit-reader-bypass", "the role of audit.reader_dsn has BYPASSRLS", why, fmt.Sprintf("ALTER ROLE %s NOBYPASSRLS;", role), nil})
	case m.owner:
		c.add(finding{severityError, "audit-reader-owner", "the role of audit.reader_dsn owns the log, or may act as its owner", why, mend, nil})
	case m.insert || m.change:
		c.add(finding{severityWarning, "audit-reader-writes", "the role of audit.reader_dsn may write to the log",
			"The endpoint needs to read only; what it may not do, nobody can make it do.", mend, nil})
	}
	if !m.read {
		c.add(finding{severityError, "audit-reader-select", "the role of audit.reader_dsn may not read the log",
			"The endpoint can answer nothing.", fmt.Sprintf("GRANT casebook_audit_reader TO %s;", role), nil})
	}
	if len(m.rlsOff) > 0 {
		c.add(finding{severityError, "audit-rls", "row-level security does not cover all that the endpoint's role can read", "Every caller of the endpoint could be shown every tenant's entries.",
			"ALTER TABLE " + strings.Join(m.rlsOff, " ENABLE ROW LEVEL SECURITY;\nALTER TABLE ") + " ENABLE ROW LEVEL SECURITY;", m.rlsOff})
	}
	return nil
}

// checkFit compares the chain's position with the source: the slot must hold everything that the chain lacks.
func (c *checker) checkFit() {
	chain, slot := c.chain, c.cfg.Source.Slot
	if c.source == nil || !chain.found || !chain.seeded {
		return
	}
	if chain.systemID != "" && c.source.systemID != "" && chain.systemID != c.source.systemID {
		c.add(finding{severityError, "source-other-cluster", fmt.Sprintf("chain %s belongs to cluster %s, but source.dsn leads to cluster %s", c.cfg.Audit.Chain, chain.systemID, c.source.systemID),
			"Two histories would be mixed in one chain.", "Name the right server in source.dsn, or a new chain with an origin of its own.", nil})
		return
	}
	switch s := c.source.slot; {
	case !c.source.slotFound:
		c.add(finding{severityError, "source-slot-missing", "slot " + slot + " does not exist, though the chain has begun",
			"What is committed now is kept for nobody.", "Start the daemon: it makes a new slot and records the gap. Was source.slot changed?", nil})
	case !s.Lost() && s.ConfirmedFlush > chain.acked:
		c.add(finding{severityError, "source-slot-ahead", fmt.Sprintf("slot %s was read up to %s, the chain knows of %s", slot, s.ConfirmedFlush, chain.acked),
			"Somebody else read from the slot, or the audit database was restored from an older copy: what lies between is not in the log.",
			"Find out what else reads the slot. The daemon records the gap when it starts.", nil})
	}
}
