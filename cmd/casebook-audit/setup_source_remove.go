package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/sql/source"
)

// planRemoveSource lists the SQL that takes away what setup source made, and puts back what it changed. It follows the
// catalog and the notes in casebook_audit.made, not the mapping, which may have changed since.
func planRemoveSource(ctx context.Context, conn *pgx.Conn, cfg *Config) (*sqlPlan, error) {
	role, err := sourceRole(cfg)
	if err != nil {
		return nil, err
	}
	cat, err := readSourceCatalog(ctx, conn, role.User, cfg.Source.Publication)
	if err != nil {
		return nil, err
	}
	p := &sqlPlan{}
	if cat.event.exists {
		p.add("The event trigger first: what follows must not wake it", "DROP EVENT TRIGGER "+source.EventTrigger)
	}
	if cat.publication.exists && cat.schemaOwner != "" {
		p.add("The publication", "DROP PUBLICATION "+quoteIdent(cfg.Source.Publication))
	}
	if cat.schemaOwner == "" {
		return p, noteSlot(ctx, conn, cfg, p)
	}
	if err := planRemoveTables(ctx, conn, p); err != nil {
		return nil, err
	}
	if err := planRemoveNoted(ctx, conn, p, cat); err != nil {
		return nil, err
	}
	return p, noteSlot(ctx, conn, cfg, p)
}

// planRemoveTables takes away the triggers, wherever they are, and policies.
func planRemoveTables(ctx context.Context, conn *pgx.Conn, p *sqlPlan) error {
	return eachRow(ctx, conn, `
		SELECT 'The stamp triggers', format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass)
		FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
		WHERE f.proname = 'stamp' AND f.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = '`+source.Schema+`')
		UNION ALL
		SELECT 'The policies that let the role read', format('DROP POLICY %I ON %s', polname, polrelid::regclass)
		FROM pg_policy WHERE polname = '`+source.Policy+`'
		ORDER BY 1 DESC, 2`, p.add)
}

// planRemoveNoted puts back what casebook_audit.made says, where it is still as setup left it, and ends with the schema
// and the role.
func planRemoveNoted(ctx context.Context, conn *pgx.Conn, p *sqlPlan, cat *sourceCatalog) error {
	var noted bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('casebook_audit.made') IS NOT NULL`).Scan(&noted); err != nil {
		return err
	}
	role := quoteIdent(cat.role.name)
	if noted {
		err := eachRow(ctx, conn, `
			SELECT 'The replica identity as it was', format('ALTER TABLE %s REPLICA IDENTITY %s', m.rel, m.before)
			FROM casebook_audit.made m JOIN pg_class c ON c.oid = m.rel
			WHERE m.what = 'identity' AND c.relreplident = 'f' ORDER BY m.rel::text`, p.add)
		if err != nil {
			return err
		}
		err = eachRow(ctx, conn, `
			SELECT 'The message functions as they were', format('GRANT EXECUTE ON FUNCTION pg_catalog.%s TO PUBLIC', f.oid::regprocedure)
			FROM casebook_audit.made m JOIN pg_proc f ON f.oid = to_regprocedure(m.object)
			WHERE m.what = 'execute' ORDER BY m.object`, p.add)
		if err != nil {
			return err
		}
		if cat.role.exists {
			err = eachRow(ctx, conn, `
				SELECT DISTINCT 'The rights of the daemon''s role', CASE m.what
				  WHEN 'select' THEN format('REVOKE SELECT ON TABLE %s FROM %I', c.oid::regclass, r.rolname)
				  WHEN 'usage' THEN format('REVOKE USAGE ON SCHEMA %I FROM %I', n.nspname, r.rolname)
				  WHEN 'connect' THEN format('REVOKE CONNECT ON DATABASE %I FROM %I', current_database(), r.rolname)
				  WHEN 'login' THEN format('ALTER ROLE %I NOLOGIN', r.rolname)
				  WHEN 'replication' THEN CASE WHEN $2 = '' THEN format('ALTER ROLE %I NOREPLICATION', r.rolname)
				                               ELSE format('REVOKE %I FROM %I', $2, r.rolname) END
				  END
				FROM casebook_audit.made m
				JOIN pg_roles r ON r.rolname = $1
				LEFT JOIN pg_class c ON c.oid = m.rel
				LEFT JOIN pg_namespace n ON n.nspname = m.object
				WHERE m.what IN ('login', 'replication', 'connect') AND NOT EXISTS (
				        SELECT FROM casebook_audit.made x WHERE x.what = 'role' AND x.object = r.rolname)
				   OR m.what = 'select' AND c.oid IS NOT NULL OR m.what = 'usage' AND n.oid IS NOT NULL
				ORDER BY 2`, p.add, cat.role.name, cat.role.providerGroup)
			if err != nil {
				return err
			}
		}
	}
	why := "The functions, the notes and their schema"
	for _, signature := range []string{"stamp()", "unstamped()", "viewed(text, text, text)", "cover(regclass)", "cover_new()"} {
		name, _, _ := strings.Cut(signature, "(")
		if _, ok := cat.functions[name]; ok {
			p.add(why, "DROP FUNCTION casebook_audit."+signature)
		}
	}
	if noted {
		p.add(why, "DROP TABLE casebook_audit.made")
	}
	p.add(why, "DROP SCHEMA casebook_audit")
	if !noted || !cat.role.exists {
		return nil
	}
	var ours, elsewhere bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM casebook_audit.made WHERE what = 'role' AND object = $1),
		EXISTS (SELECT FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid AND d.refclassid = 'pg_authid'::regclass
		        WHERE r.rolname = $1 AND d.dbid NOT IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))`,
		cat.role.name).Scan(&ours, &elsewhere)
	switch {
	case err != nil:
		return err
	case !ours:
		p.note("role %s was there before setup and stays", role)
	case elsewhere:
		p.note("role %s has rights in other databases of this server and stays; afterwards: DROP ROLE %s;", role, role)
	default:
		p.add("The role that setup made", "DROP ROLE "+role)
	}
	return nil
}

// noteSlot leaves the slot to the operator: dropping it forgets what the daemon has not read.
func noteSlot(ctx context.Context, conn *pgx.Conn, cfg *Config, p *sqlPlan) error {
	var active bool
	err := conn.QueryRow(ctx, `SELECT active FROM pg_replication_slots WHERE slot_name = $1`, cfg.Source.Slot).Scan(&active)
	if err == pgx.ErrNoRows {
		return nil
	}
	if err != nil {
		return err
	}
	p.note("replication slot %s stays, and keeps write-ahead log until it is dropped. When the daemon is stopped for good:\n"+
		"SELECT pg_drop_replication_slot(%s);", cfg.Source.Slot, quoteLiteral(cfg.Source.Slot))
	return nil
}

// eachRow calls add with the two text columns of each row.
func eachRow(ctx context.Context, conn *pgx.Conn, query string, add func(why, sql string), args ...any) error {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("plan the removal: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var why, sql string
		if err := rows.Scan(&why, &sql); err != nil {
			return fmt.Errorf("plan the removal: %w", err)
		}
		add(why, sql)
	}
	return rows.Err()
}
