package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"casebook.example/audit/ledger"
	auditsql "casebook.example/audit/sql"
)

const (
	ownerRole  = "casebook_audit_owner"
	writerRole = "casebook_audit_writer"
	readerRole = "casebook_audit_reader"

	redactorRole = "casebook_audit_redactor" // may carry out removals that the log orders, and nothing else
)

func newSetupAuditCmd(e *env) *cobra.Command {
	var apply, remove, destroy bool
	var adminDSN string
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Print, and with --apply run, the SQL that prepares the audit database",
		Long: `Setup audit prints what the audit database lacks: the group roles of owner, writer and reader, the roles that audit.dsn
and audit.reader_dsn name, the numbered migrations, and the chain. It runs it with --apply, all of it or nothing.
--remove is the undo; a log that holds more than its first entry is destroyed only with --destroy-log.`,
		Example: "  casebook-audit setup audit\n  casebook-audit setup audit --apply --admin-dsn 'postgres://postgres@audit/audit'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			cfg, err := loadConfig(e)
			if err != nil {
				return err
			}
			setting, dsn := "--admin-dsn", adminDSN
			if dsn == "" {
				setting, dsn = "CASEBOOK_AUDIT_ADMIN_DSN", os.Getenv("CASEBOOK_AUDIT_ADMIN_DSN")
			}
			if dsn == "" {
				setting, dsn = "audit.dsn", cfg.Audit.DSN
			}
			conn, err := connectAdmin(ctx, setting, dsn)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			var plan *sqlPlan
			if remove {
				plan, err = planRemoveAudit(ctx, conn, cfg, destroy)
			} else {
				plan, err = planSetupAudit(ctx, conn, cfg)
			}
			if err != nil {
				return err
			}
			return e.runPlan(ctx, conn, plan, apply)
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "run the SQL, in one transaction")
	cmd.Flags().BoolVar(&remove, "remove", false, "undo the setup")
	cmd.Flags().BoolVar(&destroy, "destroy-log", false, "with --remove: destroy a log that has entries")
	cmd.Flags().StringVar(&adminDSN, "admin-dsn", "", "connection of a role that may create roles (default $CASEBOOK_AUDIT_ADMIN_DSN, else audit.dsn)")
	return cmd
}

// auditState is what planSetupAudit finds.
type auditState struct {
	encoding string
	foreign  bool // there is a schema audit that is not ours
	version  int  // of the last migration, 0: none
	roles    map[string]bool
	members  map[string]bool // "group member"
	me       string
}

// planSetupAudit compares the audit database with what it must be.
func planSetupAudit(ctx context.Context, conn *pgx.Conn, cfg *Config) (*sqlPlan, error) {
	logins := map[string]string{}
	for group, dsn := range map[string]string{writerRole: cfg.Audit.DSN, readerRole: cfg.Audit.ReaderDSN} {
		parsed, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, &exitError{exitUsage, errors.New("audit.dsn or audit.reader_dsn is not a connection string that libpq takes")}
		}
		logins[group] = parsed.User
	}
	if logins[writerRole] == logins[readerRole] {
		return nil, &exitError{exitUsage, fmt.Errorf("audit.dsn and audit.reader_dsn name the same role %q: the reader must not be able to write, give it a role of its own", logins[writerRole])}
	}
	state, err := readAuditState(ctx, conn)
	if err != nil {
		return nil, err
	}
	switch {
	case state.encoding != "UTF8":
		return nil, &exitError{exitFinding, fmt.Errorf("the audit database's encoding is %s: create it with ENCODING 'UTF8' TEMPLATE template0; nothing was changed", state.encoding)}
	case state.foreign:
		return nil, &exitError{exitFinding, errors.New("the database has a schema audit that casebook-audit did not make: use another database; nothing was changed")}
	case state.version > auditsql.SchemaVersion:
		return nil, &exitError{exitFinding, fmt.Errorf("the audit database is of version %d, this program knows only up to %d: install the newer casebook-audit; nothing was changed", state.version, auditsql.SchemaVersion)}
	}

	plan := &sqlPlan{}
	for _, group := range []string{ownerRole, writerRole, readerRole, redactorRole} {
		if !state.roles[group] {
			plan.add("roles that hold the rights; nobody logs in as one of them", "CREATE ROLE "+group+" NOLOGIN")
		}
	}
	for _, group := range []string{writerRole, readerRole} {
		login := logins[group]
		if !state.roles[login] {
			plan.add("the roles of audit.dsn and audit.reader_dsn", "CREATE ROLE "+quoteIdent(login)+" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
			plan.note("%s has no password: set one with \\password %s, or let pg_hba.conf admit it by certificate or peer", login, login)
		}
		if !state.members[group+" "+login] {
			plan.add("their rights", "GRANT "+group+" TO "+quoteIdent(login))
		}
	}
	if cfg.Redaction.DSN != "" {
		parsed, err := pgx.ParseConfig(cfg.Redaction.DSN)
		switch {
		case err != nil:
			return nil, &exitError{exitUsage, errors.New("redaction.dsn is not a connection string that libpq takes")}
		case parsed.User == logins[writerRole] || parsed.User == logins[readerRole]:
			return nil, &exitError{exitUsage, fmt.Errorf("redaction.dsn names the role %q of audit.dsn or audit.reader_dsn: whoever writes or reads the log must not be able to remove, give it a role of its own", parsed.User)}
		case !state.roles[parsed.User]:
			plan.add("the role of redaction.dsn", "CREATE ROLE "+quoteIdent(parsed.User)+" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE")
			plan.note("%s has no password, and it must be able to vacuum the log's tables: make it the owner of the database, or from Postgres 17 on GRANT pg_maintain TO it", parsed.User)
		}
		if !state.members[redactorRole+" "+parsed.User] {
			plan.add("its right: to carry out what two keys have approved", "GRANT "+redactorRole+" TO "+quoteIdent(parsed.User))
		}
	}
	if err := planMigrations(ctx, conn, plan, state); err != nil {
		return nil, err
	}
	return plan, planChain(ctx, conn, plan, cfg, state)
}

func readAuditState(ctx context.Context, conn *pgx.Conn) (*auditState, error) {
	s := &auditState{roles: map[string]bool{}, members: map[string]bool{}}
	var schema, ours bool
	err := conn.QueryRow(ctx, `SELECT current_user, current_setting('server_encoding'), to_regnamespace('audit') IS NOT NULL, to_regclass($1) IS NOT NULL`,
		auditsql.VersionTable).Scan(&s.me, &s.encoding, &schema, &ours)
	if err != nil {
		return nil, fmt.Errorf("look at the audit database: %w", err)
	}
	s.foreign = schema && !ours
	if ours {
		if err := conn.QueryRow(ctx, "SELECT version FROM "+auditsql.VersionTable).Scan(&s.version); err != nil {
			return nil, fmt.Errorf("read the version of the audit database: %w", explainSQL(err))
		}
	}
	rows, err := conn.Query(ctx, `SELECT rolname, coalesce(g.names, '{}') FROM pg_roles r,
		LATERAL (SELECT array_agg(m.roleid::regrole::text) AS names FROM pg_auth_members m WHERE m.member = r.oid) g`)
	if err != nil {
		return nil, fmt.Errorf("read the roles: %w", err)
	}
	var role string
	var groups []string
	_, err = pgx.ForEachRow(rows, []any{&role, &groups}, func() error {
		s.roles[role] = true
		for _, group := range groups {
			s.members[group+" "+role] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the roles: %w", err)
	}
	return s, nil
}

// planMigrations adds the migrations that are newer than the database, as the owner.
func planMigrations(ctx context.Context, conn *pgx.Conn, plan *sqlPlan, state *auditState) error {
	files, err := fs.Glob(auditsql.Audit, "audit/*.sql")
	if err != nil {
		return err
	}
	const why = "the log, as its owner; nobody is the owner afterwards but superusers"
	begun := false
	for _, file := range files {
		number, err := strconv.Atoi(strings.SplitN(path.Base(file), "_", 2)[0])
		if err != nil {
			return fmt.Errorf("migration %s has no number: %w", file, err)
		}
		if number <= state.version {
			continue
		}
		text, err := fs.ReadFile(auditsql.Audit, file)
		if err != nil {
			return err
		}
		if !begun {
			begun = true
			var database string
			var super bool
			if err := conn.QueryRow(ctx, `SELECT current_database(), rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&database, &super); err != nil {
				return err
			}
			if !super && !state.members[ownerRole+" "+state.me] {
				plan.add(why, "GRANT "+ownerRole+" TO "+quoteIdent(state.me))
			}
			plan.add(why, "GRANT CREATE ON DATABASE "+quoteIdent(database)+" TO "+ownerRole)
			if state.version == 0 {
				plan.add(why, "CREATE TABLE "+auditsql.VersionTable+" (version int NOT NULL);\nINSERT INTO "+auditsql.VersionTable+" VALUES (0);\n"+
					"ALTER TABLE "+auditsql.VersionTable+" OWNER TO "+ownerRole+";\nGRANT SELECT ON "+auditsql.VersionTable+" TO "+writerRole+", "+readerRole)
			}
			plan.add(why, "SET LOCAL ROLE "+ownerRole)
		}
		plan.add("migration "+path.Base(file), string(text))
		plan.add("migration "+path.Base(file), fmt.Sprintf("UPDATE %s SET version = %d", auditsql.VersionTable, number))
	}
	if begun {
		plan.add("back to the role that runs this", "RESET ROLE")
	}
	return nil
}

// planChain adds the chain of the configuration.
func planChain(ctx context.Context, conn *pgx.Conn, plan *sqlPlan, cfg *Config, state *auditState) error {
	if state.version > 0 {
		var origin string
		err := conn.QueryRow(ctx, "SELECT origin FROM audit.chain WHERE name = $1", cfg.Audit.Chain).Scan(&origin)
		if err == nil {
			if origin != cfg.Ledger.Origin {
				return &exitError{exitFinding, fmt.Errorf("chain %q has the origin %q, the configuration says %q: an origin never changes, set ledger.origin back or begin a new chain", cfg.Audit.Chain, origin, cfg.Ledger.Origin)}
			}
			return nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("read the chain: %w", explainSQL(err))
		}
	}
	var id [16]byte
	rand.Read(id[:])
	genesis := ledger.Genesis(cfg.Ledger.Origin)
	plan.add("the chain of this source; its id and its origin are for ever", fmt.Sprintf(
		`INSERT INTO audit.chain (chain, name, chain_id, origin)
  SELECT coalesce(max(chain), 0) + 1, %s, '%x', %s FROM audit.chain;
INSERT INTO audit.position (chain, head) SELECT chain, '\x%x' FROM audit.chain WHERE name = %s`,
		quoteLiteral(cfg.Audit.Chain), id, quoteLiteral(cfg.Ledger.Origin), genesis[:], quoteLiteral(cfg.Audit.Chain)))
	return nil
}

// planRemoveAudit is the undo of setup. Roles that other databases still need stay, with a note.
func planRemoveAudit(ctx context.Context, conn *pgx.Conn, cfg *Config, destroy bool) (*sqlPlan, error) {
	state, err := readAuditState(ctx, conn)
	if err != nil {
		return nil, err
	}
	plan := &sqlPlan{}
	if state.foreign {
		return nil, &exitError{exitFinding, errors.New("schema audit was not made by casebook-audit: nothing is removed")}
	}
	if state.version > 0 {
		var entries int64
		if err := conn.QueryRow(ctx, "SELECT coalesce(sum(greatest(size - 1, 0)), 0) FROM audit.position").Scan(&entries); err != nil {
			return nil, fmt.Errorf("count the entries: %w", explainSQL(err))
		}
		if entries > 0 && !destroy {
			return nil, &exitError{exitFinding, fmt.Errorf("the log holds %d entries: removing it destroys them; add --destroy-log if that is meant", entries)}
		}
		plan.add("the log and all that hangs on it", "DROP SCHEMA audit CASCADE;\nDROP TABLE "+auditsql.VersionTable)
	}
	var names []string
	for _, dsn := range []string{cfg.Audit.DSN, cfg.Audit.ReaderDSN} {
		if parsed, err := pgx.ParseConfig(dsn); err == nil && parsed.User != state.me {
			names = append(names, parsed.User)
		}
	}
	names = append(names, writerRole, readerRole, redactorRole, ownerRole)
	for _, name := range names {
		if state.roles[name] {
			plan.add("roles that setup made; one that owns something elsewhere makes this fail, and nothing is changed",
				"DROP OWNED BY "+quoteIdent(name)+";\nDROP ROLE "+quoteIdent(name))
		}
	}
	return plan, nil
}
