package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/mapping"
)

// sourceTest is a small source database with a role, slot and publication names of its own, as all of them but the
// publication belong to the whole cluster.
type sourceTest struct {
	db     *pgtest.DB
	conn   *pgx.Conn // superuser
	cfg    *Config
	tables []mapping.TableFate
	app    string // a plain role with all rights on the tables
}

func newSourceTest(t *testing.T, db *pgtest.DB) *sourceTest {
	t.Helper()
	s := &sourceTest{db: db, conn: db.Conn(t), cfg: &Config{}, app: "app_" + db.Name}
	s.cfg.Source = SourceConfig{DSN: db.DSN("audit_" + db.Name), Slot: "slot_" + db.Name, Publication: "pub_" + db.Name}
	// The server's WAL reaches the slot when it is flushed: the tests' servers put that off.
	s.exec(t, "SET synchronous_commit = on; ALTER DATABASE "+db.Name+" SET synchronous_commit = on")
	s.exec(t, `
		CREATE SCHEMA "Odd ""One";
		CREATE SCHEMA work;
		CREATE TABLE work.parent (id int PRIMARY KEY, name text);
		CREATE TABLE work.child (id int PRIMARY KEY, parent_id int REFERENCES work.parent ON DELETE CASCADE);
		CREATE TABLE work.mail (id int, sent_on date, body text, PRIMARY KEY (id, sent_on)) PARTITION BY RANGE (sent_on);
		CREATE TABLE work.mail_2025 PARTITION OF work.mail FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
		CREATE TABLE work.mail_2026 PARTITION OF work.mail FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY RANGE (id);
		CREATE TABLE work.mail_2026_low PARTITION OF work.mail_2026 FOR VALUES FROM (0) TO (1000);
		CREATE TABLE "Odd ""One"."The 'Table'" (id int PRIMARY KEY, "select" text);
		CREATE UNIQUE INDEX odd_key ON "Odd ""One"."The 'Table'" (id);
		ALTER TABLE "Odd ""One"."The 'Table'" REPLICA IDENTITY USING INDEX odd_key;
		CREATE TABLE work.kind (id int PRIMARY KEY, name text);
		CREATE TABLE work.noise (id int PRIMARY KEY);
		CREATE ROLE `+s.app+` LOGIN;
		GRANT USAGE ON SCHEMA work, "Odd ""One" TO `+s.app+`;
		GRANT ALL ON ALL TABLES IN SCHEMA work, "Odd ""One" TO `+s.app)
	s.tables = []mapping.TableFate{
		{Name: "work.parent", Columns: []string{"id", "name"}, Key: []string{"id"}, Published: true, Directory: []string{"name"}},
		{Name: "work.child", Columns: []string{"id", "parent_id"}, Key: []string{"id"}, Published: true},
		{Name: "work.mail", Columns: []string{"id", "sent_on", "body"}, Key: []string{"id", "sent_on"}, Published: true},
		{Name: `Odd "One.The 'Table'`, Columns: []string{"id", "select"}, Key: []string{"id"}, Published: true},
		{Name: "work.kind", Columns: []string{"id", "name"}, Key: []string{"id"}, Published: true, Directory: []string{"name"}},
		{Name: "work.noise", Fate: mapping.FateOff, Reason: "test"},
	}
	t.Cleanup(func() { // before the database goes, so that nothing depends on the roles
		for _, role := range []string{s.app, "audit_" + db.Name} {
			s.conn.Exec(context.Background(), "DROP OWNED BY "+role)
			s.conn.Exec(context.Background(), "DROP ROLE "+role)
		}
	})
	return s
}

func (s *sourceTest) exec(t testing.TB, sql string) {
	t.Helper()
	execOn(t, s.conn, sql)
}

func execOn(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(context.Background(), sql).ReadAll(); err != nil {
		t.Fatalf("%v\n%s", err, sql)
	}
}

func (s *sourceTest) plan(t testing.TB) *sqlPlan {
	t.Helper()
	plan, err := planSource(context.Background(), s.conn, s.cfg, s.tables)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func (s *sourceTest) setup(t testing.TB) {
	t.Helper()
	if err := s.plan(t).apply(context.Background(), s.conn); err != nil {
		t.Fatal(err)
	}
}

func (s *sourceTest) createSlot(t testing.TB) {
	t.Helper()
	s.exec(t, fmt.Sprintf("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", s.cfg.Source.Slot))
}

// stream reads what the slot delivers since the last call: row changes as "insert work.parent", messages as "stamp USER".
func (s *sourceTest) stream(t testing.TB) []string {
	t.Helper()
	rows, err := s.conn.Query(context.Background(), `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', $2, 'messages', 'true')`, s.cfg.Source.Slot, s.cfg.Source.Publication)
	if err != nil {
		t.Fatal(err)
	}
	frames, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	events := []string{}
	relations := map[uint32]string{}
	for _, frame := range frames {
		message, err := pglogrepl.Parse(frame)
		if err != nil {
			t.Fatal(err)
		}
		switch m := message.(type) {
		case *pglogrepl.RelationMessage:
			relations[m.RelationID] = m.Namespace + "." + m.RelationName
		case *pglogrepl.InsertMessage:
			events = append(events, "insert "+relations[m.RelationID])
		case *pglogrepl.UpdateMessage:
			events = append(events, "update "+relations[m.RelationID])
		case *pglogrepl.DeleteMessage:
			events = append(events, "delete "+relations[m.RelationID])
		case *pglogrepl.TruncateMessage:
			for _, id := range m.RelationIDs {
				events = append(events, "truncate "+relations[id])
			}
		case *pglogrepl.LogicalDecodingMessage:
			events = append(events, "stamp "+s.readStamp(t, m))
		}
	}
	return events
}

type stampMessage struct {
	V    int
	Ctx  map[string]string
	Role string
	App  string
	Addr *string
	PID  int
	XID  string
}

// readStamp gives the user of a stamp, "nobody" without one, and its role when that is not the superuser.
func (s *sourceTest) readStamp(t testing.TB, m *pglogrepl.LogicalDecodingMessage) string {
	t.Helper()
	var stamp stampMessage
	decoder := json.NewDecoder(bytes.NewReader(m.Content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&stamp); err != nil {
		t.Fatalf("stamp %s: %v", m.Content, err)
	}
	if !m.Transactional || m.Prefix != "casebook.audit" || stamp.V != 1 || stamp.PID == 0 || stamp.XID == "" || stamp.Addr == nil || *stamp.Addr != "127.0.0.1" {
		t.Fatalf("stamp %+v: %s", m, m.Content)
	}
	user := stamp.Ctx["audit.user_id"]
	if user == "" {
		user = "nobody"
	}
	if stamp.Role != "postgres" {
		user += " as " + stamp.Role
	}
	return user
}

func wantEvents(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// snapshot lists what setup may touch, in a form that is the same when it is the same.
func (s *sourceTest) snapshot(t testing.TB) []string {
	t.Helper()
	rows, err := s.conn.Query(context.Background(), `
		SELECT 'trigger ' || tgrelid::regclass || ' ' || pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger
		UNION ALL SELECT 'publication ' || to_jsonb(p)::text FROM pg_publication p
		UNION ALL SELECT 'published ' || prrelid::regclass FROM pg_publication_rel
		UNION ALL SELECT 'identity ' || oid::regclass || ' ' || relreplident::text || ' ' || coalesce((SELECT string_agg(indexrelid::regclass::text, ' ')
		  FROM pg_index WHERE indrelid = pg_class.oid AND indisreplident), '') FROM pg_class WHERE relkind IN ('r', 'p')
		UNION ALL SELECT 'acl ' || c.oid::regclass || ' ' || a::text FROM pg_class c, aclexplode(coalesce(relacl, acldefault('r', relowner))) a WHERE relkind IN ('r', 'p')
		UNION ALL SELECT 'acl ' || nspname || ' ' || a::text FROM pg_namespace n, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) a
		UNION ALL SELECT 'acl ' || p.oid::regprocedure || ' ' || a::text FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
		UNION ALL SELECT 'function ' || oid::regprocedure || md5(prosrc) FROM pg_proc
		UNION ALL SELECT 'event trigger ' || to_jsonb(e)::text FROM pg_event_trigger e
		UNION ALL SELECT 'policy ' || to_jsonb(p)::text FROM pg_policy p
		UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_'
		UNION ALL SELECT 'role ' || to_jsonb(r)::text FROM pg_roles r WHERE rolname IN ($1, $2)
		ORDER BY 1`, s.app, "audit_"+s.db.Name)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func wantSame(t *testing.T, before, after []string) {
	t.Helper()
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("left behind: %s", line)
		}
	}
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("gone: %s", line)
		}
	}
	if !t.Failed() && len(before) != len(after) {
		t.Errorf("%d lines before, %d after", len(before), len(after))
	}
}

// The second run has nothing to do, whatever the version; --remove leaves the catalog as it was.
func TestSetupSourceTwiceAndRemove(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		s := newSourceTest(t, db)
		before := s.snapshot(t)
		s.setup(t)
		if second := s.plan(t); !second.empty() || len(second.notes) > 0 {
			var b strings.Builder
			second.print(&b)
			t.Fatalf("the second run is not empty:\n%s", b.String())
		}
		remove, err := planRemoveSource(context.Background(), s.conn, s.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := remove.apply(context.Background(), s.conn); err != nil {
			t.Fatal(err)
		}
		if len(remove.notes) > 0 {
			t.Errorf("notes of the removal: %q", remove.notes)
		}
		wantSame(t, before, s.snapshot(t))
		again, err := planRemoveSource(context.Background(), s.conn, s.cfg)
		if err != nil || !again.empty() {
			t.Errorf("the second removal has %v, %v", again, err)
		}
	})
}

// What is printed is what is run: psql must take it. (Run here by the simple protocol, as psql would.)
func TestSetupSourcePrintedTextRuns(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, pgtest.New(t))
	var b strings.Builder
	if err := s.plan(t).print(&b); err != nil {
		t.Fatal(err)
	}
	s.exec(t, b.String())
	s.exec(t, "RESET ALL")
	if !s.plan(t).empty() {
		t.Error("something is missing after the printed text was run")
	}
}

// Each line of want is what a consumer of the stream sees, in its order.
func TestStamps(t *testing.T) {
	t.Parallel()
	scenarios := []struct {
		name, sql string
		want      []string
	}{
		{"once for a transaction and user", `BEGIN; SET LOCAL audit.user_id = 'ann';
			INSERT INTO work.parent VALUES (1, 'a'); INSERT INTO work.parent VALUES (2, 'b'); UPDATE work.parent SET name = 'c' WHERE id = 1; COMMIT`,
			[]string{"stamp ann", "insert work.parent", "insert work.parent", "update work.parent"}},
		{"the next transaction of a pooled connection has no user", `INSERT INTO work.parent VALUES (3, 'a')`,
			[]string{"stamp nobody", "insert work.parent"}},
		{"the marker does not outlive its transaction", `BEGIN; SET LOCAL audit.user_id = 'ann'; UPDATE work.parent SET name = 'x' WHERE id = 3; COMMIT;
			BEGIN; SET LOCAL audit.user_id = 'ann'; UPDATE work.parent SET name = 'y' WHERE id = 3; COMMIT`,
			[]string{"stamp ann", "update work.parent", "stamp ann", "update work.parent"}},
		{"rollback to a savepoint", `BEGIN; SET LOCAL audit.user_id = 'ann'; SAVEPOINT s; INSERT INTO work.parent VALUES (4, 'a');
			ROLLBACK TO s; INSERT INTO work.parent VALUES (4, 'b'); COMMIT`,
			[]string{"stamp ann", "insert work.parent"}},
		{"a user set in a savepoint that is rolled back", `BEGIN; SET LOCAL audit.user_id = 'ann'; INSERT INTO work.parent VALUES (5, 'a');
			SAVEPOINT s; SET LOCAL audit.user_id = 'bob'; INSERT INTO work.parent VALUES (6, 'b'); ROLLBACK TO s; INSERT INTO work.parent VALUES (7, 'c'); COMMIT`,
			[]string{"stamp ann", "insert work.parent", "insert work.parent"}},
		{"two users in one transaction", `BEGIN; SET LOCAL audit.user_id = 'ann'; UPDATE work.parent SET name = '1' WHERE id = 1;
			SET LOCAL audit.user_id = 'bob'; UPDATE work.parent SET name = '2' WHERE id = 1; SET LOCAL audit.user_id = 'ann'; UPDATE work.parent SET name = '3' WHERE id = 1; COMMIT`,
			[]string{"stamp ann", "update work.parent", "stamp bob", "update work.parent", "stamp ann", "update work.parent"}},
		{"hostile text in a variable", `BEGIN; SELECT set_config('audit.user_id', E'","role":"root\\\t''"', true); UPDATE work.parent SET name = '1' WHERE id = 1; COMMIT`,
			[]string{"stamp \",\"role\":\"root\\\t'\"", "update work.parent"}},
		{"cascade", `BEGIN; SET LOCAL audit.user_id = 'ann'; INSERT INTO work.child VALUES (1, 1), (2, 1); COMMIT;
			BEGIN; SET LOCAL audit.user_id = 'bob'; DELETE FROM work.parent WHERE id = 1; COMMIT`,
			[]string{"stamp ann", "insert work.child", "insert work.child", "stamp bob", "delete work.parent", "delete work.child", "delete work.child"}},
		{"root of a partitioned table", `BEGIN; SET LOCAL audit.user_id = 'ann'; INSERT INTO work.mail VALUES (1, '2025-05-01'), (1, '2026-05-01'); COMMIT`,
			[]string{"stamp ann", "insert work.mail", "insert work.mail"}},
		{"leaf by its own name", `BEGIN; SET LOCAL audit.user_id = 'ann'; UPDATE work.mail_2026_low SET body = 'x'; COMMIT`,
			[]string{"stamp ann", "update work.mail"}},
		{"middle level by its own name", `BEGIN; SET LOCAL audit.user_id = 'ann'; DELETE FROM work.mail_2026; COMMIT`,
			[]string{"stamp ann", "delete work.mail"}},
		{"truncate", `BEGIN; SET LOCAL audit.user_id = 'ann'; TRUNCATE work.parent, work.child; COMMIT`,
			[]string{"stamp ann", "truncate work.parent", "truncate work.child"}},
		{"truncate of a leaf", `BEGIN; SET LOCAL audit.user_id = 'ann'; TRUNCATE work.mail_2025; COMMIT`, []string{"stamp ann"}},
		{"replica sessions", `BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL audit.user_id = 'ann'; INSERT INTO work.parent VALUES (9, 'a'); COMMIT`,
			[]string{"stamp ann", "insert work.parent"}},
		{"session authorization within a transaction", `BEGIN; INSERT INTO work.parent VALUES (10, 'a'); SET LOCAL SESSION AUTHORIZATION APP;
			INSERT INTO work.parent VALUES (11, 'a'); COMMIT`,
			[]string{"stamp nobody", "insert work.parent", "stamp nobody as APP", "insert work.parent"}},
		{"an aborted transaction, and a statement that changes nothing", `BEGIN; SET LOCAL audit.user_id = 'ann'; INSERT INTO work.parent VALUES (12, 'a'); ROLLBACK;
			UPDATE work.parent SET name = 'x' WHERE id = 404`,
			[]string{"stamp nobody"}},
		{"a function with a user of its own, and one that catches its error", `
			CREATE FUNCTION work.as_bob(fail boolean) RETURNS void LANGUAGE plpgsql SET audit.user_id = 'bob' AS $$
			BEGIN
			  UPDATE work.kind SET name = 'bob' WHERE id = 1;
			  IF fail THEN RAISE 'no'; END IF;
			END $$;
			BEGIN; SET LOCAL audit.user_id = 'ann'; INSERT INTO work.kind VALUES (1); SELECT work.as_bob(false);
			DO $$ BEGIN PERFORM work.as_bob(true); EXCEPTION WHEN OTHERS THEN NULL; END $$;
			UPDATE work.kind SET name = 'ann' WHERE id = 1; RESET ALL; UPDATE work.kind SET name = '' WHERE id = 1; COMMIT`,
			[]string{"stamp ann", "insert work.kind", "stamp bob", "update work.kind", "stamp ann", "update work.kind", "stamp nobody", "update work.kind"}},
		{"odd names", `BEGIN; SET LOCAL audit.user_id = 'ann'; INSERT INTO "Odd ""One"."The 'Table'" VALUES (1, 'a'); COMMIT`,
			[]string{"stamp ann", `insert Odd "One.The 'Table'`}},
	}
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		s := newSourceTest(t, db)
		s.setup(t)
		s.createSlot(t)
		session := db.Conn(t) // one connection for all: a pool's
		for _, scenario := range scenarios {
			execOn(t, session, strings.ReplaceAll(scenario.sql, "APP", s.app))
			got := s.stream(t)
			for i := range scenario.want {
				scenario.want[i] = strings.ReplaceAll(scenario.want[i], "APP", s.app)
			}
			t.Run(scenario.name, func(t *testing.T) { wantEvents(t, got, scenario.want...) })
			for i := range scenario.want {
				scenario.want[i] = strings.ReplaceAll(scenario.want[i], s.app, "APP")
			}
		}
		if _, err := session.PgConn().CopyFrom(context.Background(), strings.NewReader("20\tcopied\n21\tcopied\n"), "COPY work.parent FROM STDIN"); err != nil {
			t.Fatal(err)
		}
		wantEvents(t, s.stream(t), "stamp nobody", "insert work.parent", "insert work.parent")
	})
}

// All seven variables travel verbatim; empty ones do not.
func TestStampCarriesEachVariable(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, pgtest.New(t))
	s.setup(t)
	s.createSlot(t)
	variables := []string{"audit.user_id", "audit.user_unique_name", "app.current_user_id", "request.jwt.claims", "hasura.user",
		"pghistory.context_metadata", "logidze.meta"}
	for i, name := range variables {
		s.exec(t, fmt.Sprintf(`BEGIN; SELECT set_config('%s', '{"a": "%d"}', true); INSERT INTO work.parent VALUES (%d); COMMIT`, name, i, i))
	}
	rows, _ := s.conn.Query(context.Background(), `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', $2, 'messages', 'true')`, s.cfg.Source.Slot, s.cfg.Source.Publication)
	frames, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, frame := range frames {
		message, err := pglogrepl.Parse(frame)
		if err != nil {
			t.Fatal(err)
		}
		m, ok := message.(*pglogrepl.LogicalDecodingMessage)
		if !ok {
			continue
		}
		var stamp stampMessage
		if err := json.Unmarshal(m.Content, &stamp); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`{"a": "%d"}`, seen); len(stamp.Ctx) != 1 || stamp.Ctx[variables[seen]] != want {
			t.Errorf("stamp %d carries %v, want %s = %s", seen, stamp.Ctx, variables[seen], want)
		}
		seen++
	}
	if seen != len(variables) {
		t.Errorf("%d stamps, want %d", seen, len(variables))
	}
}

// Whatever bytes a database without an encoding takes, its changes go through; a Latin one's stamps are UTF-8.
func TestStampsInOtherEncodings(t *testing.T) {
	t.Parallel()
	for encoding, want := range map[string]string{"SQL_ASCII": "", "LATIN1": "\u00fc"} {
		t.Run(encoding, func(t *testing.T) {
			db := pgtest.New(t)
			other := &pgtest.DB{Name: db.Name + "_" + strings.ToLower(encoding), Version: db.Version, Cluster: db.Cluster}
			db.Exec(t, "CREATE DATABASE "+other.Name+" ENCODING '"+encoding+"' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
			t.Cleanup(func() { db.Exec(t, "DROP DATABASE "+other.Name+" WITH (FORCE)") })
			s := newSourceTest(t, other)
			s.setup(t)
			s.createSlot(t)
			s.exec(t, `BEGIN; SELECT set_config('audit.user_id', convert_from('\xfc', getdatabaseencoding()), true);
				INSERT INTO work.parent VALUES (1, 'a'); COMMIT`)
			var rows int
			if err := s.conn.QueryRow(context.Background(), "SELECT count(*) FROM work.parent").Scan(&rows); err != nil || rows != 1 {
				t.Errorf("%d rows, %v", rows, err)
			}
			if want != "" {
				wantEvents(t, s.stream(t), "stamp "+want, "insert work.parent")
			}
			s.exec(t, "SELECT pg_drop_replication_slot('"+s.cfg.Source.Slot+"')")
		})
	}
}

// A plain role can neither write a message of its own, nor get at the functions, nor put its own in the way of theirs.
func TestStampsCannotBeForged(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		s := newSourceTest(t, db)
		s.setup(t)
		s.createSlot(t)
		app := db.ConnAs(t, s.app)
		for _, forbidden := range []string{
			`SELECT pg_logical_emit_message(true, 'casebook.audit', '{"v":1}')`,
			`SELECT pg_logical_emit_message(true, 'casebook.audit', '{"v":1}'::bytea)`,
			`SELECT pg_logical_emit_message(false, 'casebook.audit', '{"v":1}')`,
			`SELECT casebook_audit.cover('work.noise')`,
			`SELECT * FROM casebook_audit.made`,
			`CREATE TEMP TABLE mine (a int); CREATE TRIGGER x BEFORE INSERT ON mine EXECUTE FUNCTION casebook_audit.stamp()`,
		} {
			if _, err := app.PgConn().Exec(context.Background(), forbidden).ReadAll(); err == nil || !strings.Contains(err.Error(), "42501") {
				t.Errorf("%s: %v, want a refusal", forbidden, err)
			}
		}
		// Functions with better matching arguments, in front of pg_catalog and in pg_temp.
		execOn(t, app, `
			CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS 'SELECT ''forged''';
			CREATE FUNCTION pg_temp.format(text, text, text, text, text, text, text, text, text, text) RETURNS text LANGUAGE sql AS 'SELECT ''forged''';
			CREATE FUNCTION pg_temp.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 0';
			SET search_path = pg_temp, pg_catalog, work;
			BEGIN; SET LOCAL audit.user_id = 'ann'; INSERT INTO parent VALUES (1, 'a'); COMMIT`)
		wantEvents(t, s.stream(t), "stamp ann as "+s.app, "insert work.parent")
	})
}

// The role of the daemon can read what is mapped, and nothing else.
func TestSetupSourceGrantsNoMoreThanNeeded(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, pgtest.New(t))
	s.exec(t, `ALTER TABLE work.child ENABLE ROW LEVEL SECURITY; INSERT INTO work.parent VALUES (1); INSERT INTO work.child VALUES (1, 1)`)
	s.setup(t)
	audit := s.db.ConnAs(t, "audit_"+s.db.Name)
	var n int
	if err := audit.QueryRow(context.Background(), `SELECT count(*) FROM work.child, work.parent, work.kind k RIGHT JOIN work.mail ON true
		RIGHT JOIN "Odd ""One"."The 'Table'" ON true RIGHT JOIN work.child c ON true`).Scan(&n); err != nil {
		t.Errorf("read the mapped tables: %v", err)
	}
	if err := audit.QueryRow(context.Background(), `SELECT count(*) FROM work.child`).Scan(&n); err != nil || n != 1 {
		t.Errorf("a table with row-level security shows %d rows, %v; want 1", n, err)
	}
	for _, forbidden := range []string{"SELECT * FROM work.noise", "UPDATE work.parent SET name = ''", "DELETE FROM work.parent",
		"TRUNCATE work.parent", "CREATE TABLE work.x ()", "SELECT casebook_audit.cover('work.parent')"} {
		if _, err := audit.Exec(context.Background(), forbidden); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v, want a refusal", forbidden, err)
		}
	}
	replication, err := pgx.Connect(context.Background(), s.cfg.Source.DSN+"&replication=database")
	if err != nil {
		t.Fatalf("a replication connection: %v", err)
	}
	replication.Close(context.Background())
}

// uncovered lists the tables of the schema work that lack trigger or identity.
func (s *sourceTest) uncovered(t testing.TB) []string {
	t.Helper()
	cat, err := readSourceCatalog(context.Background(), s.conn, "", s.cfg.Source.Publication)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for _, r := range cat.rels {
		if r.schema == "work" && (r.identity != "f" || r.stampFault() != "") {
			list = append(list, r.table)
		}
	}
	slices.Sort(list)
	return list
}

// What is made later is covered by itself: partitions in every way there is, and tables that join the publication.
func TestEventTriggerCoversWhatIsMadeLater(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		s := newSourceTest(t, db)
		s.setup(t)
		if got := s.uncovered(t); !slices.Equal(got, []string{"noise"}) {
			t.Fatalf("not covered after setup: %v", got)
		}
		// The application's own role makes partitions: it owns the table, and has no right to our functions.
		s.exec(t, "ALTER TABLE work.mail OWNER TO "+s.app+"; ALTER TABLE work.mail_2026 OWNER TO "+s.app+"; GRANT CREATE ON SCHEMA work TO "+s.app)
		app := db.ConnAs(t, s.app)
		execOn(t, app, `
			CREATE TABLE work.mail_2027 PARTITION OF work.mail FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
			CREATE TABLE work.mail_2028 (LIKE work.mail INCLUDING ALL);
			ALTER TABLE work.mail ATTACH PARTITION work.mail_2028 FOR VALUES FROM ('2028-01-01') TO ('2029-01-01');
			CREATE TABLE work.mail_2026_high PARTITION OF work.mail_2026 FOR VALUES FROM (1000) TO (2000);
			CREATE TABLE work.mail_2029 (LIKE work.mail INCLUDING ALL) PARTITION BY RANGE (id);
			CREATE TABLE work.mail_2029_low PARTITION OF work.mail_2029 FOR VALUES FROM (0) TO (1000);
			ALTER TABLE work.mail ATTACH PARTITION work.mail_2029 FOR VALUES FROM ('2029-01-01') TO ('2030-01-01');
			CREATE TABLE work.unrelated (a int);
			ALTER TABLE work.unrelated ADD b int;
			CREATE TEMP TABLE t (a int)`)
		if got := s.uncovered(t); !slices.Equal(got, []string{"noise", "unrelated"}) {
			t.Errorf("not covered: %v", got)
		}
		s.exec(t, "ALTER PUBLICATION "+s.cfg.Source.Publication+" ADD TABLE work.unrelated")
		if got := s.uncovered(t); !slices.Equal(got, []string{"noise"}) {
			t.Errorf("not covered after joining the publication: %v", got)
		}
		// What an operator switches off stays off.
		s.exec(t, "ALTER TABLE work.parent REPLICA IDENTITY DEFAULT; ALTER TABLE work.child DISABLE TRIGGER casebook_audit_stamp")
		if got := s.uncovered(t); !slices.Equal(got, []string{"child", "noise", "parent"}) {
			t.Errorf("the event trigger overrules an operator: %v", got)
		}
		s.setup(t)
		if got := s.uncovered(t); !slices.Equal(got, []string{"noise"}) {
			t.Errorf("setup does not mend it: %v", got)
		}
		// The stamp of a new partition works at once.
		s.createSlot(t)
		execOn(t, app, "BEGIN; SET LOCAL audit.user_id = 'ann'; INSERT INTO work.mail_2029_low VALUES (1, '2029-01-01'); COMMIT")
		wantEvents(t, s.stream(t), "stamp ann as "+s.app, "insert work.mail")
	})
}

// On 18 generated columns make the server refuse updates of tables with REPLICA IDENTITY FULL, unless the publication has
// them or, where they are virtual, in any case. The application must go on whatever it makes.
func TestGeneratedColumns(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, newOwnServer(t, 18))
	s.exec(t, `ALTER TABLE work.parent ADD twice text GENERATED ALWAYS AS (name || name) STORED;
		ALTER TABLE work.kind ADD twice text GENERATED ALWAYS AS (name || name) VIRTUAL`)
	s.setup(t)
	if plan := s.plan(t); !plan.empty() || len(plan.notes) == 0 {
		t.Errorf("the second run has %d steps and %d notes", len(plan.steps), len(plan.notes))
	}
	work := func(table string) {
		t.Helper()
		s.exec(t, fmt.Sprintf("INSERT INTO work.%[1]s VALUES (1, 'a'); UPDATE work.%[1]s SET name = 'b'; DELETE FROM work.%[1]s", table))
	}
	work("parent")
	work("kind")
	s.wantCodes(t, "source-identity-virtual")
	s.exec(t, "ALTER TABLE work.kind DROP twice")
	s.setup(t)
	s.wantCodes(t)
	s.exec(t, "ALTER TABLE work.kind ADD twice text GENERATED ALWAYS AS (name || name) VIRTUAL")
	work("kind")
	s.exec(t, "ALTER TABLE work.kind DROP twice; ALTER PUBLICATION "+s.cfg.Source.Publication+" SET (publish_generated_columns = none)")
	s.setup(t)
	work("parent")
	work("kind")
}

// Whatever breaks in the event trigger, the application's DDL goes through, with a warning.
func TestEventTriggerNeverFailsTheDDL(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, pgtest.New(t))
	s.setup(t)
	for i, broken := range []string{
		"ALTER FUNCTION casebook_audit.unstamped() RENAME TO elsewhere",
		"DROP FUNCTION casebook_audit.cover(regclass)",
		"ALTER FUNCTION casebook_audit.stamp() RENAME TO gone",
		"DROP TABLE casebook_audit.made",
		"DROP PUBLICATION " + s.cfg.Source.Publication,
	} {
		s.exec(t, broken)
		s.exec(t, fmt.Sprintf("CREATE TABLE work.mail_%d PARTITION OF work.mail FOR VALUES FROM ('%d-01-01') TO ('%d-01-01')", 2030+i, 2030+i, 2031+i))
	}
}

// An owner of the tables who is no superuser gets as far as his rights go, and is told the rest.
func TestSetupSourceWithoutSuperuser(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		s := newSourceTest(t, db)
		s.exec(t, fmt.Sprintf(`CREATE ROLE audit_%[1]s LOGIN REPLICATION; GRANT CREATE ON DATABASE %[1]s TO %[2]s;
			ALTER SCHEMA work OWNER TO %[2]s; ALTER SCHEMA "Odd ""One" OWNER TO %[2]s;
			DO $$ DECLARE r regclass; BEGIN
			  FOR r IN SELECT oid FROM pg_class WHERE relkind IN ('r','p') AND relnamespace::regnamespace::text IN ('work', '"Odd ""One"')
			  LOOP EXECUTE format('ALTER TABLE %%s OWNER TO %[2]s', r); END LOOP; END $$`, db.Name, s.app))
		admin := db.ConnAs(t, s.app)
		execOn(t, admin, "SET search_path = pg_catalog, pg_temp")
		plan, err := planSource(context.Background(), admin, s.cfg, s.tables)
		if err != nil {
			t.Fatal(err)
		}
		if err := plan.apply(context.Background(), admin); err != nil {
			t.Fatal(err)
		}
		notes := strings.Join(plan.notes, "\n")
		for _, want := range []string{"event triggers", "pg_logical_emit_message"} {
			if !strings.Contains(notes, want) {
				t.Errorf("the notes do not speak of %s:\n%s", want, notes)
			}
		}
		s.createSlot(t)
		execOn(t, admin, "BEGIN; SET LOCAL audit.user_id = 'ann'; INSERT INTO work.parent VALUES (1, 'a'); COMMIT")
		wantEvents(t, s.stream(t), "stamp ann as "+s.app, "insert work.parent")

		// A superuser who takes the right from PUBLIC afterwards must not lock the stamps' owner out.
		s.setup(t)
		execOn(t, admin, "BEGIN; SET LOCAL audit.user_id = 'bob'; INSERT INTO work.parent VALUES (2, 'a'); COMMIT")
		wantEvents(t, s.stream(t), "stamp bob as "+s.app, "insert work.parent")
	})
}

// A stranger who makes the schema first could later swap what runs in it as somebody else.
func TestSetupSourceRefusesAForeignSchema(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, pgtest.New(t))
	s.exec(t, "CREATE SCHEMA casebook_audit AUTHORIZATION "+s.app)
	_, err := planSource(context.Background(), s.conn, s.cfg, s.tables)
	if err == nil || !strings.Contains(err.Error(), "belongs to role") {
		t.Errorf("got %v", err)
	}
}

// A failure in the middle leaves nothing behind, and says what it was.
func TestSetupSourceIsOneTransaction(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, pgtest.New(t))
	before := s.snapshot(t)
	plan := s.plan(t)
	plan.add("The last step", "SELECT 1/0")
	err := plan.apply(context.Background(), s.conn)
	if err == nil || !strings.Contains(err.Error(), "The last step") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(before, s.snapshot(t)) {
		t.Error("the failed run changed something")
	}
}
