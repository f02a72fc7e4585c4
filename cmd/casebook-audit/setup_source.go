package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"casebook.example/audit/mapping"
	"casebook.example/audit/sql/source"
)

func newSetupSourceCmd(e *env) *cobra.Command {
	var apply, remove bool
	var adminDSN string
	cmd := &cobra.Command{
		Use:   "source",
		Short: "Prepare the audited database: role, stamp triggers, publication, replica identity",
		Long: `Setup source prints the SQL that is missing in the audited database, and runs it with --apply in one transaction:
a role for the daemon that may replicate and read the mapped tables, statement triggers that copy the session's user into
the write-ahead log, a publication of the mapped tables, REPLICA IDENTITY FULL on each table and partition, and an event
trigger that covers partitions made later. Each table is locked for a moment; a busy one makes setup fail with nothing changed.

It needs a role that owns the tables, or a superuser: --admin-dsn or CASEBOOK_AUDIT_ADMIN_DSN; without it, source.dsn.
--remove takes all of it away again and leaves the replication slot to you.`,
		Example: "  casebook-audit setup source --admin-dsn 'service=casebook-admin' > setup.sql\n" +
			"  casebook-audit setup source --admin-dsn 'service=casebook-admin' --apply",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(e)
			if err != nil {
				return err
			}
			setting := "--admin-dsn"
			if adminDSN == "" {
				setting, adminDSN = envPrefix+"ADMIN_DSN", os.Getenv(envPrefix+"ADMIN_DSN")
			}
			if adminDSN == "" {
				setting, adminDSN = "source.dsn", cfg.Source.DSN
			}
			var rules *mapping.Rules
			if !remove { // what was set up is taken away whatever the mapping says today
				if rules, err = loadRules(cfg); err != nil {
					return err
				}
			}
			conn, err := connectAdmin(cmd.Context(), setting, adminDSN)
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(cmd.Context()))
			var plan *sqlPlan
			if remove {
				plan, err = planRemoveSource(cmd.Context(), conn, cfg)
			} else {
				plan, err = planSetupSource(cmd.Context(), conn, cfg, rules)
			}
			if err != nil {
				return err
			}
			return e.runPlan(cmd.Context(), conn, plan, apply)
		},
	}
	cmd.Flags().BoolVar(&apply, "apply", false, "run the SQL, in one transaction")
	cmd.Flags().BoolVar(&remove, "remove", false, "plan the undo instead")
	cmd.Flags().StringVar(&adminDSN, "admin-dsn", "", "connection of an administrator of the source (default: $CASEBOOK_AUDIT_ADMIN_DSN, then source.dsn)")
	return cmd
}

// planSetupSource compares the source's catalog with what the mapping needs and lists the SQL for the difference.
func planSetupSource(ctx context.Context, conn *pgx.Conn, cfg *Config, rules *mapping.Rules) (*sqlPlan, error) {
	return planSource(ctx, conn, cfg, rules.Tables())
}

func planSource(ctx context.Context, conn *pgx.Conn, cfg *Config, tables []mapping.TableFate) (*sqlPlan, error) {
	role, err := sourceRole(cfg)
	if err != nil {
		return nil, err
	}
	cat, err := readSourceCatalog(ctx, conn, role.User, cfg.Source.Publication)
	if err != nil {
		return nil, err
	}
	if cat.database != role.Database {
		return nil, &exitError{exitUsage, fmt.Errorf("the administrator's connection leads to database %q, source.dsn to %q: they must be the same", cat.database, role.Database)}
	}
	if cat.version < 140000 {
		return nil, &exitError{exitFinding, fmt.Errorf("the source is Postgres %d: 14 is the oldest that can be audited", cat.version/10000)}
	}
	if cat.schemaOwner != "" && cat.schemaOwner != cat.self {
		if err := checkSchemaOwner(ctx, conn, cat.schemaOwner); err != nil {
			return nil, err
		}
	}
	p := &sourcePlan{cat: cat, cfg: cfg, tables: tables}
	p.planRole()
	p.planFunctions()
	p.planPublication()
	p.planTables()
	p.planGrants()
	p.planMessages()
	if err := p.planEventTrigger(ctx, conn); err != nil {
		return nil, err
	}
	p.planMade()
	return &p.sqlPlan, nil
}

// checkSchemaOwner refuses a schema that a stranger made first: its owner could swap what is in it.
func checkSchemaOwner(ctx context.Context, conn *pgx.Conn, owner string) error {
	var trusted bool
	err := conn.QueryRow(ctx, `SELECT rolsuper OR pg_has_role(current_user, oid, 'MEMBER') AND EXISTS (
		SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
		WHERE n.nspname = $2 AND p.proname = 'stamp' AND p.proowner = r.oid) FROM pg_roles r WHERE rolname = $1`,
		owner, source.Schema).Scan(&trusted)
	if err != nil {
		return fmt.Errorf("read the owner of schema %s: %w", source.Schema, err)
	}
	if !trusted {
		return &exitError{exitFinding, fmt.Errorf("schema %s exists and belongs to role %q, who could change what runs in it: drop it or give it to an administrator (ALTER SCHEMA %s OWNER TO ...)", source.Schema, owner, source.Schema)}
	}
	return nil
}

// sourceRole gives user and database of source.dsn.
func sourceRole(cfg *Config) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(cfg.Source.DSN)
	if err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("source.dsn is not a connection string that libpq takes (not shown, as it may hold a password)")}
	}
	if config.Database == "" {
		config.Database = config.User // as libpq does
	}
	return config, nil
}

// sourcePlan is a plan in the making.
type sourcePlan struct {
	sqlPlan
	cat    *sourceCatalog
	cfg    *Config
	tables []mapping.TableFate
	made   []string // rows of casebook_audit.made, as SQL
}

func (p *sourcePlan) recordMade(what, object, rel string) {
	if rel == "" {
		rel = "NULL"
	} else {
		rel = quoteLiteral(rel) + "::regclass"
	}
	p.made = append(p.made, fmt.Sprintf("(%s, %s, %s)", quoteLiteral(what), quoteLiteral(object), rel))
}

func (p *sourcePlan) planRole() {
	r, name := p.cat.role, quoteIdent(p.cat.role.name)
	grant, attribute := "", " REPLICATION"
	if r.providerGroup != "" {
		grant, attribute = fmt.Sprintf("GRANT %s TO %s", r.providerGroup, name), ""
	}
	switch {
	case !r.exists:
		why := "The role of source.dsn. It may replicate and read the mapped tables, nothing more. It has no password yet:\n" +
			`set one with \password ` + name + " in psql, and let it in in pg_hba.conf."
		p.add(why, fmt.Sprintf("CREATE ROLE %s LOGIN%s", name, attribute))
		p.recordMade("role", r.name, "")
		if grant != "" {
			p.add(why, grant)
		}
		return
	case !r.login:
		p.add("The role of source.dsn must be able to log in", fmt.Sprintf("ALTER ROLE %s LOGIN", name))
		p.recordMade("login", r.name, "")
	}
	if !r.replication {
		why := "The role of source.dsn must be able to read the replication stream"
		if grant == "" {
			grant = fmt.Sprintf("ALTER ROLE %s REPLICATION", name)
		}
		p.add(why, grant)
		p.recordMade("replication", r.name, "")
	}
}

func (p *sourcePlan) planFunctions() {
	if p.cat.schemaOwner == "" {
		why := "The schema of the functions and of the notes for --remove"
		p.add(why, "CREATE SCHEMA casebook_audit")
		p.add(why, "COMMENT ON SCHEMA casebook_audit IS 'casebook-audit: made by setup source. Not for the application.'")
		p.add(why, source.Made)
	}
	if p.functionFault("stamp", source.Stamp) {
		p.add("What each stamp trigger calls", source.Stamp)
	}
	if p.functionFault("unstamped", source.Unstamped) || !p.cat.functions["unstamped"].public {
		p.add("What tells a stamp trigger that there is nothing new to say", source.Unstamped)
	}
	if p.functionFault("viewed", source.Viewed) || !p.cat.functions["viewed"].public {
		p.add("What the application may call when it shows a record: reads are not in the write-ahead log", source.Viewed)
	}
	if p.functionFault("cover", source.Cover) {
		p.add("What sets trigger and identity on one table", source.Cover)
	}
}

// functionFault says whether the function is missing or not as this version makes it.
func (p *sourcePlan) functionFault(name, create string) bool {
	f, ok := p.cat.functions[name]
	return !ok || f.body != source.Body(create) || f.definer != strings.Contains(create, "SECURITY DEFINER") ||
		slices.Contains(f.config, "search_path=pg_catalog, pg_temp") != strings.Contains(create, "SET search_path")
}

// published lists the mapped tables that exist and can be in a publication; it notes those that don't.
func (p *sourcePlan) published() []*relInfo {
	var rels []*relInfo
	for _, t := range p.tables {
		if !t.Published {
			continue
		}
		switch r := p.cat.rels[t.Name]; {
		case r == nil:
			p.note("the mapping names table %s, which does not exist here", t.Name)
		case r.kind != "r" && r.kind != "p":
			p.note("the mapping names %s, which is a view or foreign table: it has no changes of its own", t.Name)
		case r.persistence != "p":
			p.note("table %s is unlogged: its changes are not in the write-ahead log", t.Name)
		default:
			rels = append(rels, r)
		}
	}
	return rels
}

const publishOptions = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"

// publishOptions are the options of the publication. From 18 on a stored generated column must be published where the
// identity is FULL: else the server refuses every UPDATE and DELETE of the table.
func (c *sourceCatalog) publishOptions() string {
	if c.version < 180000 {
		return publishOptions
	}
	return publishOptions + ", publish_generated_columns = stored"
}

func (p *sourcePlan) planPublication() {
	pub, name := p.cat.publication, quoteIdent(p.cfg.Source.Publication)
	wanted := p.published()
	if !pub.exists {
		why := "The tables that the mapping gives a meaning. A change of a partition is published as one of its table."
		list := ""
		for i, r := range wanted {
			if i > 0 {
				list += ","
			}
			list += "\n  " + r.sql
		}
		if list != "" {
			list = " FOR TABLE" + list + "\n "
		}
		p.add(why, fmt.Sprintf("CREATE PUBLICATION %s%s WITH (%s)", name, list, p.cat.publishOptions()))
		return
	}
	if pub.allTables {
		p.note("publication %s is FOR ALL TABLES: it publishes tables that the mapping does not know, and no list can be set. "+
			"Drop it and run setup again, while the daemon is stopped.", p.cfg.Source.Publication)
	}
	if !pub.viaRoot || !pub.insert || !pub.update || !pub.delete || !pub.truncate || pub.lacksGenerated(p.cat) {
		p.add("The publication leaves operations or generated columns out, or shows partitions by their own names",
			fmt.Sprintf("ALTER PUBLICATION %s SET (%s)", name, p.cat.publishOptions()))
	}
	if pub.allTables {
		return
	}
	for _, r := range wanted {
		if r.filtered {
			p.add("A row filter or column list hides changes of a mapped table",
				fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s", name, r.sql))
		}
		if !r.inPublication || r.filtered {
			p.add("Mapped tables that the publication lacks", fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s", name, r.sql))
		}
	}
	for _, t := range p.tables {
		if r := p.cat.rels[t.Name]; r != nil && r.inPublication && !t.Published {
			p.add("Tables that the mapping excludes by name", fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s", name, r.sql))
		}
	}
}

func (p *sourcePlan) planTables() {
	why := "Each table and each partition by itself: a statement on a partition does not fire its table's trigger, and a partition\n" +
		"does not inherit the identity. With REPLICA IDENTITY FULL the log knows old values."
	all := p.functionFault("cover", source.Cover) // a new version may set another trigger
	for _, root := range p.published() {
		for _, r := range root.tree() {
			if r.kind != "r" && r.kind != "p" {
				p.note("%s is a partition that lives elsewhere: its rows are not in this server's log", r.name())
				continue
			}
			if r.virtual {
				p.note("%s has a virtual generated column: Postgres refuses updates of such a table with REPLICA IDENTITY FULL, so the log "+
					"will not know its old values. Make the column STORED, or drop it.", r.name())
			}
			if r.identity == "f" == r.virtual || r.stampFault() != "" || all {
				p.add(why, fmt.Sprintf("SELECT casebook_audit.cover(%s)", quoteLiteral(r.sql)))
			}
		}
	}
}

// planGrants lets the role read what the snapshot needs: published tables and those of the directory.
func (p *sourcePlan) planGrants() {
	role := p.cat.role
	if role.super {
		return
	}
	name := quoteIdent(role.name)
	grant := func(why, what, on, object, rel string) {
		p.add(why, fmt.Sprintf("GRANT %s ON %s TO %s", strings.ToUpper(what), on, name))
		p.recordMade(what, object, rel)
	}
	if role.exists && !role.connect {
		grant("The role may not connect to this database", "connect", "DATABASE "+quoteIdent(p.cat.database), p.cat.database, "")
	}
	why := "The first start reads the tables as of the replication slot's snapshot"
	var readable []*relInfo
	schemas := map[string]bool{}
	for _, t := range p.tables {
		r := p.cat.rels[t.Name]
		if r == nil || !t.Published && len(t.Directory) == 0 {
			continue
		}
		readable = append(readable, r)
		if !r.canUse && !schemas[r.schema] {
			schemas[r.schema] = true
			grant(why, "usage", "SCHEMA "+quoteIdent(r.schema), r.schema, "")
		}
	}
	for _, r := range readable {
		if !r.canSelect {
			grant(why, "select", "TABLE "+r.sql, r.name(), r.sql)
		}
	}
	for _, r := range readable {
		if r.rls && !r.policy && !role.bypassRLS {
			p.add("Row-level security would hide rows from the role",
				fmt.Sprintf("CREATE POLICY %s ON %s FOR SELECT TO %s USING (true)", source.Policy, r.sql, name))
		}
	}
}

// planMessages takes the message functions from PUBLIC: whoever may call them can write a stamp in another's name.
func (p *sourcePlan) planMessages() {
	why := "Only the triggers may write stamps: with this right any role could write one in another's name. Other programs that\n" +
		"emit messages of their own need a GRANT EXECUTE of their own."
	owner, super := p.cat.self, p.cat.super
	if f, ok := p.cat.functions["stamp"]; ok {
		owner, super = f.owner, f.ownerIsSuper
	}
	for _, m := range p.cat.messages {
		if !m.public {
			continue
		}
		if !m.mayRevoke {
			p.note("EXECUTE on %s is PUBLIC, and this role may not revoke it: any role can write a stamp in another's name. "+
				"A superuser runs: REVOKE EXECUTE ON FUNCTION pg_catalog.%s FROM PUBLIC; after GRANT EXECUTE ... TO %s;",
				m.signature, m.signature, quoteIdent(owner))
			continue
		}
		if !super { // else the owner of stamp() would be locked out, and with him every change of a published table
			p.add(why, fmt.Sprintf("GRANT EXECUTE ON FUNCTION pg_catalog.%s TO %s", m.signature, quoteIdent(owner)))
		}
		p.add(why, fmt.Sprintf("REVOKE EXECUTE ON FUNCTION pg_catalog.%s FROM PUBLIC", m.signature))
		p.recordMade("execute", m.signature, "")
	}
}

// planEventTrigger adds the event trigger where this role may make one. Which roles may differs between managed
// services, so it is tried out, in a transaction that is rolled back.
func (p *sourcePlan) planEventTrigger(ctx context.Context, conn *pgx.Conn) error {
	create := source.CoverNew(p.cfg.Source.Publication)
	stale := p.functionFault("cover_new", create)
	if !stale && p.cat.event.exists && p.cat.event.enabled == "A" && p.cat.event.function == "casebook_audit.cover_new" {
		return nil
	}
	allowed, err := mayMakeEventTriggers(ctx, conn)
	if err != nil {
		return err
	}
	if !allowed {
		p.note("this role may not make event triggers: partitions that are made later are not covered by themselves. "+
			"Run setup source again after each new partition, or let `%s` tell", "casebook-audit check")
		return nil
	}
	why := "Covers partitions, and tables added to the publication, when they are made"
	if stale {
		p.add(why, create)
	}
	if p.cat.event.exists && p.cat.event.function != "casebook_audit.cover_new" {
		p.add(why, "DROP EVENT TRIGGER "+source.EventTrigger)
		p.cat.event.exists = false
	}
	if !p.cat.event.exists {
		p.add(why, "CREATE EVENT TRIGGER "+source.EventTrigger+" ON ddl_command_end\n"+
			"  WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE SCHEMA', 'CREATE PUBLICATION', 'ALTER PUBLICATION')\n"+
			"  EXECUTE FUNCTION casebook_audit.cover_new()")
		p.add(why, "COMMENT ON EVENT TRIGGER "+source.EventTrigger+" IS 'casebook-audit: covers partitions of published tables.'")
	}
	p.add(why, "ALTER EVENT TRIGGER "+source.EventTrigger+" ENABLE ALWAYS")
	return nil
}

func mayMakeEventTriggers(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var super bool
	if err := conn.QueryRow(ctx, `SELECT rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&super); err != nil || super {
		return super, err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return false, err
	}
	const try = `
		CREATE FUNCTION pg_temp.casebook_audit_try() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
		CREATE EVENT TRIGGER casebook_audit_try ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION pg_temp.casebook_audit_try()`
	_, refused := conn.PgConn().Exec(ctx, try).ReadAll()
	return refused == nil, tx.Rollback(ctx)
}

// planMade notes what was changed, so that --remove takes away that and no more.
func (p *sourcePlan) planMade() {
	if len(p.made) == 0 {
		return
	}
	p.add("Notes for --remove", "INSERT INTO casebook_audit.made (what, object, rel) VALUES\n  "+strings.Join(p.made, ",\n  "))
}

func quoteIdent(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoteLiteral(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
