package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/sql/source"
)

// sourceCatalog is what setup and check know of the audited database: one reading of its catalog, with the rights of
// the role that the daemon uses.
type sourceCatalog struct {
	version  int // 150018
	database string
	self     string // who reads
	super    bool

	role        roleInfo
	rels        map[string]*relInfo // tables and partitions by schema.name, unquoted
	publication publicationInfo
	schemaOwner string // of casebook_audit; "": there is none
	functions   map[string]functionInfo
	messages    []messageFunction
	event       eventTriggerInfo
}

type roleInfo struct {
	name                                       string
	exists, login, super, replication, connect bool
	bypassRLS                                  bool
	providerGroup                              string // a managed service's group that stands for REPLICATION
}

type relInfo struct {
	oid, parent                uint32
	schema, table, sql         string // sql: quoted, with schema
	kind, persistence          string
	identity                   string // relreplident
	partition, extension       bool
	rls, policy                bool
	canWrite                   bool
	canSelect, canUse          bool // by the role; canUse: its schema
	rows                       float64
	triggerEnabled, triggerDef string
	triggerType                int
	inPublication              bool // by its own row in pg_publication_rel
	filtered                   bool
	virtual                    bool     // has a virtual generated column (18): FULL would make its updates fail
	parentRel                  *relInfo // of a partition
	children                   []*relInfo
}

func (r *relInfo) name() string { return r.schema + "." + r.table }

// stampFault says what is wrong with the table's trigger, "" when nothing is.
func (r *relInfo) stampFault() string {
	switch {
	case r.triggerDef == "":
		return "missing"
	case r.triggerEnabled == "D":
		return "disabled"
	case r.triggerEnabled != "A":
		return "not enabled ALWAYS"
	case r.triggerType != source.TriggerType || r.triggerDef != source.TriggerDef:
		return "of another version, or altered"
	}
	return ""
}

func (r *relInfo) identityName() string {
	switch r.identity {
	case "f":
		return "FULL"
	case "n":
		return "NOTHING"
	case "i":
		return "an index"
	}
	return "DEFAULT"
}

type publicationInfo struct {
	exists, allTables, viaRoot       bool
	insert, update, delete, truncate bool
	schemas                          []string // FOR TABLES IN SCHEMA
	tables                           []string // FOR TABLE, schema.name
	generatedColumns                 bool     // 18: they are published too
}

// lacksGenerated: see sourceCatalog.publishOptions.
func (p *publicationInfo) lacksGenerated(c *sourceCatalog) bool {
	return c.version >= 180000 && !p.generatedColumns
}

type functionInfo struct {
	body, owner  string
	public       bool // PUBLIC may execute it
	canEmit      bool // its owner may execute pg_logical_emit_message
	definer      bool
	ownerIsSuper bool
	config       []string
}

// messageFunction is one signature of pg_logical_emit_message.
type messageFunction struct {
	signature   string
	public      bool // PUBLIC may execute it
	mayRevoke   bool // by us
	roleMayEmit bool
}

type eventTriggerInfo struct {
	exists   bool
	enabled  string
	function string
}

// readSourceCatalog reads all of it. role is the user of source.dsn, which need not exist yet.
func readSourceCatalog(ctx context.Context, conn *pgx.Conn, role, publication string) (*sourceCatalog, error) {
	c := &sourceCatalog{role: roleInfo{name: role}}
	for _, part := range []struct {
		what string
		read func() error
	}{
		{"the server", func() error { return c.readServer(ctx, conn) }},
		{"the role", func() error { return c.readRole(ctx, conn) }},
		{"the tables", func() error { return c.readTables(ctx, conn, publication) }},
		{"the publication", func() error { return c.readPublication(ctx, conn, publication) }},
		{"the functions", func() error { return c.readFunctions(ctx, conn) }},
	} {
		if err := part.read(); err != nil {
			return nil, fmt.Errorf("read the catalog of the source (%s): %w", part.what, err)
		}
	}
	return c, nil
}

func (c *sourceCatalog) readServer(ctx context.Context, conn *pgx.Conn) error {
	return conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_database()::text, current_user::text,
		(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)`).Scan(&c.version, &c.database, &c.self, &c.super)
}

func (c *sourceCatalog) readRole(ctx context.Context, conn *pgx.Conn) error {
	r := &c.role
	// On Amazon RDS the attribute cannot be given; membership in rds_replication stands for it.
	err := conn.QueryRow(ctx, `SELECT coalesce((SELECT rolname::text FROM pg_roles WHERE rolname = 'rds_replication'), '')`).Scan(&r.providerGroup)
	if err != nil {
		return err
	}
	err = conn.QueryRow(ctx, `
		SELECT rolcanlogin, rolsuper, rolbypassrls, has_database_privilege(oid, current_database(), 'CONNECT'),
		  rolsuper OR rolreplication OR EXISTS (
		    SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
		    WHERE m.member = r.oid AND g.rolname = 'rds_replication')
		FROM pg_roles r WHERE rolname = $1`, r.name).Scan(&r.login, &r.super, &r.bypassRLS, &r.connect, &r.replication)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	r.exists = err == nil
	return err
}

func (c *sourceCatalog) readTables(ctx context.Context, conn *pgx.Conn, publication string) error {
	// prqual and prattrs exist since 15. to_jsonb makes one query of both.
	const text = `
	SELECT c.oid, coalesce(i.inhparent, 0)::oid, n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname),
	  c.relkind::text, c.relpersistence::text, c.relreplident::text, c.relispartition, c.relrowsecurity, c.reltuples::float8,
	  EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'),
	  EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = $3),
	  coalesce(r.oid IS NOT NULL AND has_table_privilege(r.oid, c.oid, 'SELECT'), false),
	  coalesce(r.oid IS NOT NULL AND has_schema_privilege(r.oid, n.oid, 'USAGE'), false),
	  coalesce(r.oid IS NOT NULL AND has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'), false),
	  coalesce(t.tgenabled::text, ''), coalesce(t.tgtype, 0)::int, coalesce(substring(pg_get_triggerdef(t.oid) FROM 'FOR EACH .*$'), ''),
	  pr.oid IS NOT NULL, coalesce(to_jsonb(pr) ->> 'prqual', to_jsonb(pr) ->> 'prattrs') IS NOT NULL,
	  EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v')
	FROM pg_class c
	JOIN pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
	LEFT JOIN pg_roles r ON r.rolname = $1
	LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgname = $4
	LEFT JOIN pg_publication p ON p.pubname = $2
	LEFT JOIN pg_publication_rel pr ON pr.prpubid = p.oid AND pr.prrelid = c.oid
	WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
	  AND n.nspname !~ '^pg_(toast|temp)'
	ORDER BY n.nspname, c.relname`
	rows, err := conn.Query(ctx, text, c.role.name, publication, source.Policy, source.Trigger)
	if err != nil {
		return err
	}
	defer rows.Close()
	c.rels = map[string]*relInfo{}
	byOID := map[uint32]*relInfo{}
	for rows.Next() {
		r := &relInfo{}
		if err := rows.Scan(&r.oid, &r.parent, &r.schema, &r.table, &r.sql, &r.kind, &r.persistence, &r.identity, &r.partition,
			&r.rls, &r.rows, &r.extension, &r.policy, &r.canSelect, &r.canUse, &r.canWrite, &r.triggerEnabled, &r.triggerType, &r.triggerDef,
			&r.inPublication, &r.filtered, &r.virtual); err != nil {
			return err
		}
		c.rels[r.name()], byOID[r.oid] = r, r
	}
	for _, name := range slices.Sorted(maps.Keys(c.rels)) {
		r := c.rels[name]
		if r.parentRel = byOID[r.parent]; r.parentRel != nil {
			r.parentRel.children = append(r.parentRel.children, r)
		}
	}
	return rows.Err()
}

func (c *sourceCatalog) readPublication(ctx context.Context, conn *pgx.Conn, publication string) error {
	p := &c.publication
	err := conn.QueryRow(ctx, `
		SELECT puballtables, pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate,
		  coalesce(to_jsonb(p) ->> 'pubgencols', 'n') NOT IN ('n', 'false')
		FROM pg_publication p WHERE pubname = $1`, publication).
		Scan(&p.allTables, &p.viaRoot, &p.insert, &p.update, &p.delete, &p.truncate, &p.generatedColumns)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	p.exists = true
	for _, name := range slices.Sorted(maps.Keys(c.rels)) {
		if c.rels[name].inPublication {
			p.tables = append(p.tables, name)
		}
	}
	if c.version < 150000 {
		return nil
	}
	return conn.QueryRow(ctx, `
		SELECT coalesce(array_agg(n.nspname::text ORDER BY 1), '{}') FROM pg_publication_namespace s
		JOIN pg_publication p ON p.oid = s.pnpubid JOIN pg_namespace n ON n.oid = s.pnnspid WHERE p.pubname = $1`,
		publication).Scan(&p.schemas)
}

func (c *sourceCatalog) readFunctions(ctx context.Context, conn *pgx.Conn) error {
	err := conn.QueryRow(ctx, `SELECT coalesce((SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = $1), '')`,
		source.Schema).Scan(&c.schemaOwner)
	if err != nil {
		return err
	}
	c.functions = map[string]functionInfo{}
	rows, err := conn.Query(ctx, `
		SELECT p.proname::text, p.prosrc, pg_get_userbyid(p.proowner)::text, p.prosecdef, coalesce(p.proconfig, '{}'),
		  (SELECT rolsuper FROM pg_roles WHERE oid = p.proowner),
		  EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE'),
		  has_function_privilege(p.proowner, 'pg_catalog.pg_logical_emit_message(boolean,text,bytea' ||
		    CASE WHEN current_setting('server_version_num')::int >= 170000 THEN ',boolean)' ELSE ')' END, 'EXECUTE')
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1`, source.Schema)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var f functionInfo
		if err := rows.Scan(&name, &f.body, &f.owner, &f.definer, &f.config, &f.ownerIsSuper, &f.public, &f.canEmit); err != nil {
			return err
		}
		c.functions[name] = f
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows, err = conn.Query(ctx, `
		SELECT p.oid::regprocedure::text,
		  EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE'),
		  (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR pg_has_role(current_user, p.proowner, 'USAGE'),
		  coalesce((SELECT has_function_privilege(r.oid, p.oid, 'EXECUTE') FROM pg_roles r WHERE r.rolname = $1), false)
		FROM pg_proc p WHERE p.proname = 'pg_logical_emit_message' AND p.pronamespace = 'pg_catalog'::regnamespace
		ORDER BY 1`, c.role.name)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var m messageFunction
		if err := rows.Scan(&m.signature, &m.public, &m.mayRevoke, &m.roleMayEmit); err != nil {
			return err
		}
		c.messages = append(c.messages, m)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	err = conn.QueryRow(ctx, `SELECT true, evtenabled::text, evtfoid::regproc::text FROM pg_event_trigger WHERE evtname = $1`,
		source.EventTrigger).Scan(&c.event.exists, &c.event.enabled, &c.event.function)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

// tree lists the table and all its partitions, in order of their names.
func (r *relInfo) tree() []*relInfo {
	all := []*relInfo{r}
	for _, child := range r.children {
		all = append(all, child.tree()...)
	}
	return all
}
