package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"casebook.example/audit/internal/cluster"
	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/mapping"
)

// checkSettings are what a server needs to pass; few slots and senders, so that a test can use them up.
var checkSettings = map[string]string{
	"max_slot_wal_keep_size": "4GB", "max_replication_slots": "3", "max_wal_senders": "3", "fsync": "on", "autovacuum": "off",
}

// newOwnServer is a server of its own, with one database, for tests that change settings.
func newOwnServer(t *testing.T, version int) *pgtest.DB {
	t.Helper()
	pgtest.Need(t, version)
	server, err := cluster.Start(context.Background(), cluster.Options{Version: version, Settings: checkSettings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop() })
	db := &pgtest.DB{Name: "checked", Version: version, Cluster: server}
	if err := cluster.RunSQL(context.Background(), server.DSN("postgres", cluster.Superuser), "create database "+db.Name); err != nil {
		t.Fatal(err)
	}
	return db
}

// codes makes the probes of the source and lists what they found, by code.
func (s *sourceTest) codes(t testing.TB) []string {
	t.Helper()
	c := &checker{cfg: s.cfg, tables: s.tables}
	if err := c.checkSource(context.Background()); err != nil {
		t.Fatal(err)
	}
	codes := []string{}
	for _, f := range c.findings {
		if f.What == "" || f.Why == "" || f.Mend == "" || f.Severity != severityError && f.Severity != severityWarning {
			t.Errorf("finding without a text: %+v", f)
		}
		codes = append(codes, f.Code)
	}
	return codes
}

// wantCodes waits for exactly these findings: a changed setting takes a moment to be read.
func (s *sourceTest) wantCodes(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got = s.codes(t)
		slices.Sort(got)
		if slices.Equal(got, want) {
			return
		}
	}
	t.Errorf("findings %v, want %v", got, want)
}

// Each probe: one thing is broken, exactly that is found; mended, nothing is.
func TestCheckSourceFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	for _, version := range []int{14, 15, 16, 17, 18} {
		t.Run(fmt.Sprintf("pg%d", version), func(t *testing.T) {
			t.Parallel()
			s := newSourceTest(t, newOwnServer(t, version))
			s.setup(t)
			s.wantCodes(t)
			s.breakAndMend(t, version)
			s.breakPartition(t)
			s.breakSettings(t, version)
			s.breakSlot(t)
		})
	}
}

func (s *sourceTest) breakAndMend(t *testing.T, version int) {
	role, pub := "audit_"+s.db.Name, s.cfg.Source.Publication
	remake := "SELECT casebook_audit.cover('work.parent')"
	options := "publish_via_partition_root = true"
	if version >= 18 {
		options += ", publish_generated_columns = stored"
	}
	cases := []struct {
		name, broken, mended string
		from                 int // version
		want                 string
	}{
		{"role without replication", "ALTER ROLE " + role + " NOREPLICATION", "ALTER ROLE " + role + " REPLICATION", 0, "source-role-replication"},
		{"role is a superuser", "ALTER ROLE " + role + " SUPERUSER", "ALTER ROLE " + role + " NOSUPERUSER", 0, "source-role-superuser"},
		{"table not readable", "REVOKE SELECT ON work.kind FROM " + role, "GRANT SELECT ON work.kind TO " + role, 0, "source-role-select"},
		{"schema not usable", "REVOKE USAGE ON SCHEMA work FROM " + role, "GRANT USAGE ON SCHEMA work TO " + role, 0, "source-role-select"},
		{"table writable", "GRANT UPDATE ON work.kind TO " + role, "REVOKE UPDATE ON work.kind FROM " + role, 0, "source-role-writes"},
		{"row-level security", "ALTER TABLE work.child ENABLE ROW LEVEL SECURITY", "ALTER TABLE work.child DISABLE ROW LEVEL SECURITY", 0, "source-role-rls"},
		{"message function public", "GRANT EXECUTE ON FUNCTION " + emit(version, "text") + " TO PUBLIC", "REVOKE EXECUTE ON FUNCTION " + emit(version, "text") + " FROM PUBLIC", 0, "source-message-public"},
		{"operations", "ALTER PUBLICATION " + pub + " SET (publish = 'insert, update, delete')", "ALTER PUBLICATION " + pub + " SET (publish = 'insert, update, delete, truncate')", 0, "source-publication-operations"},
		{"via root", "ALTER PUBLICATION " + pub + " SET (publish_via_partition_root = false)", "ALTER PUBLICATION " + pub + " SET (publish_via_partition_root = true)", 0, "source-publication-root"},
		{"generated columns", "ALTER PUBLICATION " + pub + " SET (publish_generated_columns = none)", "ALTER PUBLICATION " + pub + " SET (publish_generated_columns = stored)", 18, "source-publication-generated"},
		{"table not published", "ALTER PUBLICATION " + pub + " DROP TABLE work.child", "ALTER PUBLICATION " + pub + " ADD TABLE work.child", 0, "source-publication-tables"},
		{"row filter", "ALTER PUBLICATION " + pub + " DROP TABLE work.child; ALTER PUBLICATION " + pub + " ADD TABLE work.child WHERE (id > 1)", "", 15, "source-publication-filter"},
		{"column list", "ALTER PUBLICATION " + pub + " DROP TABLE work.child; ALTER PUBLICATION " + pub + " ADD TABLE work.child (id)", "", 15, "source-publication-filter"},
		{"published, not mapped", "ALTER PUBLICATION " + pub + " ADD TABLE work.noise", "ALTER PUBLICATION " + pub + " DROP TABLE work.noise", 0, "source-publication-unmapped"},
		{"whole schema published", "CREATE SCHEMA empty; ALTER PUBLICATION " + pub + " ADD TABLES IN SCHEMA empty", "DROP SCHEMA empty", 15, "source-publication-wide"},
		{"no publication", "DROP PUBLICATION " + pub, "", 0, "source-publication"},
		{"all tables", "DROP PUBLICATION " + pub + "; CREATE PUBLICATION " + pub + " FOR ALL TABLES WITH (" + options + ")", "DROP PUBLICATION " + pub, 0, "source-publication-wide"},
		{"identity of a leaf", "ALTER TABLE work.mail_2026_low REPLICA IDENTITY DEFAULT", "", 0, "source-identity"},
		{"identity nothing", "ALTER TABLE work.parent REPLICA IDENTITY NOTHING", "", 0, "source-identity"},
		{"trigger gone from a leaf", "DROP TRIGGER casebook_audit_stamp ON work.mail_2026_low", "", 0, "source-stamp-trigger"},
		{"trigger disabled", "ALTER TABLE work.parent DISABLE TRIGGER casebook_audit_stamp", "", 0, "source-stamp-trigger"},
		{"all triggers disabled", "ALTER TABLE work.kind DISABLE TRIGGER ALL", "ALTER TABLE work.kind ENABLE TRIGGER ALL; ALTER TABLE work.kind ENABLE ALWAYS TRIGGER casebook_audit_stamp", 0, "source-stamp-trigger"},
		{"trigger not always", "ALTER TABLE work.parent ENABLE TRIGGER casebook_audit_stamp", remake, 0, "source-stamp-trigger"},
		{"trigger never fires", "CREATE OR REPLACE TRIGGER casebook_audit_stamp BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON work.parent WHEN (false) EXECUTE FUNCTION casebook_audit.stamp(); ALTER TABLE work.parent ENABLE ALWAYS TRIGGER casebook_audit_stamp", remake, 0, "source-stamp-trigger"},
		{"trigger forgets truncate", "CREATE OR REPLACE TRIGGER casebook_audit_stamp BEFORE INSERT OR UPDATE OR DELETE ON work.parent WHEN (casebook_audit.unstamped()) EXECUTE FUNCTION casebook_audit.stamp(); ALTER TABLE work.parent ENABLE ALWAYS TRIGGER casebook_audit_stamp", "", 0, "source-stamp-trigger"},
		{"stamp function altered", "CREATE OR REPLACE FUNCTION casebook_audit.stamp() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'", "", 0, "source-stamp-function"},
		{"stamp function without its path", "ALTER FUNCTION casebook_audit.stamp() RESET search_path", "", 0, "source-stamp-function"},
		{"stamp function as invoker", "ALTER FUNCTION casebook_audit.stamp() SECURITY INVOKER", "", 0, "source-stamp-function"},
		{"stamp function's owner may not emit", "ALTER FUNCTION casebook_audit.stamp() OWNER TO " + s.app, "ALTER FUNCTION casebook_audit.stamp() OWNER TO postgres", 0, "source-stamp-rights"},
		{"not everybody may ask", "REVOKE EXECUTE ON FUNCTION casebook_audit.unstamped() FROM PUBLIC", "", 0, "source-stamp-rights"},
		{"unstamped altered", "CREATE OR REPLACE FUNCTION casebook_audit.unstamped() RETURNS boolean LANGUAGE sql AS 'SELECT false'", "", 0, "source-stamp-function"},
		{"no event trigger", "DROP EVENT TRIGGER casebook_audit_cover", "", 0, "source-event-trigger"},
		{"event trigger disabled", "ALTER EVENT TRIGGER casebook_audit_cover DISABLE", "", 0, "source-event-trigger"},
		{"event trigger's function altered", "CREATE OR REPLACE FUNCTION casebook_audit.cover_new() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'", "", 0, "source-event-trigger"},
		{"cover function altered", "CREATE OR REPLACE FUNCTION casebook_audit.cover(rel regclass) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS 'BEGIN END'", "", 0, "source-event-trigger"},
		{"a table that nobody mapped", "CREATE TABLE work.fresh (id int PRIMARY KEY)", "DROP TABLE work.fresh", 0, "mapping-table-unmapped"},
		{"no primary key", "ALTER TABLE work.kind DROP CONSTRAINT kind_pkey", "ALTER TABLE work.kind ADD PRIMARY KEY (id)", 0, "mapping-key-none"},
		{"another primary key", "ALTER TABLE work.kind DROP CONSTRAINT kind_pkey; ALTER TABLE work.kind ADD PRIMARY KEY (id, name)", "ALTER TABLE work.kind DROP CONSTRAINT kind_pkey; ALTER TABLE work.kind ADD PRIMARY KEY (id)", 0, "mapping-key"},
		{"a mapped column renamed", "ALTER TABLE work.kind RENAME name TO title", "ALTER TABLE work.kind RENAME title TO name", 0, "mapping-column-missing"},
	}
	for _, c := range cases {
		if version < c.from {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			s.exec(t, c.broken)
			s.wantCodes(t, c.want)
			if c.mended != "" {
				s.exec(t, c.mended)
			}
			s.setup(t) // an empty plan where the SQL above has mended it
			s.wantCodes(t)
		})
	}
	for _, c := range []struct {
		name  string
		table mapping.TableFate
		want  string
	}{
		{"mapped table does not exist", mapping.TableFate{Name: "work.gone", Key: []string{"id"}, Published: true}, "mapping-table-missing"},
		{"mapped table is a view", mapping.TableFate{Name: "work.seen", Key: []string{"id"}, Published: true}, "mapping-table-unusable"},
		{"mapped table is unlogged", mapping.TableFate{Name: "work.fast", Key: []string{"id"}, Published: true}, "mapping-table-unusable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tables := s.tables
			defer func() { s.tables = tables }()
			s.exec(t, "CREATE VIEW work.seen AS SELECT 1 AS id; GRANT SELECT ON work.seen TO "+role)
			if c.table.Name == "work.fast" {
				s.exec(t, "CREATE UNLOGGED TABLE work.fast (id int PRIMARY KEY); GRANT SELECT ON work.fast TO "+role)
			}
			s.tables = append(slices.Clone(tables), c.table)
			s.wantCodes(t, c.want)
			s.exec(t, "DROP VIEW work.seen; DROP TABLE IF EXISTS work.fast")
		})
	}
}

// A table with a foreign partition cannot have a key, so this is found besides.
func (s *sourceTest) breakPartition(t *testing.T) {
	tables := s.tables
	defer func() { s.tables = tables }()
	s.tables = append(slices.Clone(tables), mapping.TableFate{Name: "work.far", Columns: []string{"id"}, Published: true})
	s.exec(t, "CREATE TABLE work.far (id int) PARTITION BY LIST (id)")
	s.setup(t)
	s.wantCodes(t, "mapping-key-none")
	s.exec(t, `CREATE FOREIGN DATA WRAPPER w; CREATE SERVER x FOREIGN DATA WRAPPER w;
		CREATE FOREIGN TABLE work.far_1 PARTITION OF work.far FOR VALUES IN (1) SERVER x`)
	s.wantCodes(t, "mapping-key-none", "source-partition-foreign")
	s.exec(t, "DROP FOREIGN DATA WRAPPER w CASCADE; DROP TABLE work.far")
}

func emit(version int, content string) string {
	if version >= 17 {
		return "pg_catalog.pg_logical_emit_message(boolean, text, " + content + ", boolean)"
	}
	return "pg_catalog.pg_logical_emit_message(boolean, text, " + content + ")"
}

func (s *sourceTest) breakSettings(t *testing.T, version int) {
	for _, c := range []struct {
		setting, value string
		from           int
		want           string
	}{
		{"max_slot_wal_keep_size", "-1", 0, "source-slot-limit"},
		{"wal_sender_timeout", "0", 0, "source-sender-timeout"},
		{"wal_sender_timeout", "2s", 0, "source-sender-timeout"},
		{"idle_replication_slot_timeout", "60", 18, "source-slot-timeout"},
	} {
		if version < c.from {
			continue
		}
		t.Run(c.setting+" "+c.value, func(t *testing.T) {
			s.exec(t, fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", c.setting, c.value))
			s.exec(t, "SELECT pg_reload_conf()")
			s.wantCodes(t, c.want)
			s.exec(t, "ALTER SYSTEM RESET "+c.setting)
			s.exec(t, "SELECT pg_reload_conf()")
			s.wantCodes(t)
		})
	}
	t.Run("no free sender", func(t *testing.T) {
		for range 3 {
			conn, err := pgconn.Connect(context.Background(), s.cfg.Source.DSN+"&replication=database")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			if _, err := pglogrepl.IdentifySystem(context.Background(), conn); err != nil {
				t.Fatal(err)
			}
		}
		s.wantCodes(t, "source-senders-free")
	})
	s.wantCodes(t)
}

func (s *sourceTest) breakSlot(t *testing.T) {
	ctx, slot := context.Background(), s.cfg.Source.Slot
	drop := func(names ...string) {
		for _, name := range names {
			s.exec(t, "SELECT pg_drop_replication_slot('"+name+"')")
		}
		s.wantCodes(t)
	}
	t.Run("no free slot", func(t *testing.T) {
		s.exec(t, "SELECT pg_create_physical_replication_slot('a'), pg_create_physical_replication_slot('b'), pg_create_physical_replication_slot('c')")
		s.wantCodes(t, "source-slots-free")
		drop("a", "b", "c")
	})
	t.Run("somebody else's slot", func(t *testing.T) {
		s.exec(t, "SELECT pg_create_physical_replication_slot('"+slot+"')")
		s.wantCodes(t, "source-slot-foreign")
		drop(slot)
	})
	t.Run("inactive and active", func(t *testing.T) {
		s.createSlot(t)
		s.wantCodes(t, "source-slot-inactive")
		conn, err := pgconn.Connect(ctx, s.cfg.Source.DSN+"&replication=database")
		if err != nil {
			t.Fatal(err)
		}
		if err := pglogrepl.StartReplication(ctx, conn, slot, 0, pglogrepl.StartReplicationOptions{
			PluginArgs: []string{"proto_version '1'", "publication_names '" + s.cfg.Source.Publication + "'"}}); err != nil {
			t.Fatal(err)
		}
		s.wantCodes(t)
		conn.Close(ctx)
		s.wantCodes(t, "source-slot-inactive")
	})
	t.Run("lost", func(t *testing.T) {
		s.exec(t, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
		s.exec(t, "SELECT pg_reload_conf()")
		for range 4 {
			s.exec(t, "INSERT INTO work.noise SELECT coalesce(max(id), 0) + 1 FROM work.noise")
			s.exec(t, "SELECT pg_switch_wal()")
			s.exec(t, "CHECKPOINT")
		}
		s.wantCodes(t, "source-slot-lost")
		s.exec(t, "ALTER SYSTEM RESET max_slot_wal_keep_size")
		s.exec(t, "SELECT pg_reload_conf()")
		drop(slot)
	})
}

// What needs another server is asked of the judgement alone.
func TestCheckSettings(t *testing.T) {
	t.Parallel()
	good := serverState{walLevel: "logical", encoding: "UTF8", maxSlots: 10, maxSenders: 10, keepSizeMB: 1024,
		senderTimeoutMS: 60000}
	for want, broken := range map[string]func(*serverState){
		"":                      func(*serverState) {},
		"source-standby":        func(s *serverState) { s.recovery = true },
		"source-wal-level":      func(s *serverState) { s.walLevel = "replica" },
		"source-encoding":       func(s *serverState) { s.encoding = "LATIN1" },
		"source-slots-free":     func(s *serverState) { s.slots = 10 },
		"source-senders-free":   func(s *serverState) { s.senders = 10 },
		"source-slot-limit":     func(s *serverState) { s.keepSizeMB = -1 },
		"source-slot-timeout":   func(s *serverState) { s.idleTimeoutS = 60 },
		"source-sender-timeout": func(s *serverState) { s.senderTimeoutMS = 0 },
	} {
		state := good
		broken(&state)
		c := &checker{cfg: &Config{}}
		c.checkSettings(&state)
		var codes []string
		for _, f := range c.findings {
			codes = append(codes, f.Code)
		}
		if got := strings.Join(codes, " "); got != want {
			t.Errorf("found %q, want %q", got, want)
		}
	}
	taken := good
	taken.slots, taken.slotFound, taken.senders, taken.slotInfo.Active = 10, true, 10, true
	c := &checker{cfg: &Config{}}
	if c.checkSettings(&taken); len(c.findings) > 0 {
		t.Errorf("our own slot and sender count as taken: %v", c.findings)
	}
}

// A server with wal_level = replica: the whole check speaks of that, and of nothing that follows from it.
func TestCheckWALLevel(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, newOwnServer(t, cluster.DefaultVersion))
	s.setup(t)
	s.exec(t, "ALTER SYSTEM SET wal_level = replica")
	if err := s.db.Cluster.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.wantCodes(t, "source-wal-level")
}

func TestClockFindings(t *testing.T) {
	t.Parallel()
	at := func(offset, unknown time.Duration) clockReading { return clockReading{"x", offset, unknown} }
	for _, c := range []struct {
		source, audit clockReading
		want          int
	}{
		{at(0, 0), at(0, 0), 0},
		{at(1900*time.Millisecond, 0), at(0, 0), 0},
		{at(3*time.Second, 0), at(0, 0), 2},
		{at(3*time.Second, 0), at(3*time.Second, 0), 2},
		{at(-1500*time.Millisecond, 0), at(1500*time.Millisecond, 0), 1},
		{at(5*time.Second, 4*time.Second), at(0, 0), 0}, // a slow network is no wrong clock
	} {
		if got := clockFindings(c.source, c.audit); len(got) != c.want {
			t.Errorf("%v and %v: %d findings, want %d: %v", c.source, c.audit, len(got), c.want, got)
		}
	}
}

type fakeAddrConn struct {
	net.Conn
	addr net.Addr
}

func (c fakeAddrConn) RemoteAddr() net.Addr { return c.addr }

func TestTransportFinding(t *testing.T) {
	t.Parallel()
	for addr, want := range map[net.Addr]int{
		&net.UnixAddr{Net: "unix", Name: "/tmp/.s.PGSQL.5432"}: 0,
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5432}:   0,
		&net.TCPAddr{IP: net.IPv6loopback, Port: 5432}:         0,
		&net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 5432}:    1,
	} {
		if got := transportFinding("source.dsn", fakeAddrConn{addr: addr}); len(got) != want {
			t.Errorf("%v: %v, want %d findings", addr, got, want)
		}
	}
}
