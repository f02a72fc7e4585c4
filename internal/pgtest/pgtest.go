// Package pgtest gives tests a real Postgres: one throwaway cluster a test binary and major version, started when the
// first test asks for it, and a database of its own for each test. Only tests import it.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestX(t *testing.T) {
//		t.Parallel()
//		db := pgtest.New(t)
//		db.Exec(t, `create table t (a int)`)
//	}
//
// Traps. A database is dropped at the test's cleanup, its slots first; cleanups run last in, first out, so stop a stream
// in a cleanup registered after New. Making a slot waits for every open write transaction of the whole cluster, also in
// other tests' databases. LSNs are the cluster's, not the database's: compare with >=. Roles belong to the cluster too:
// give those that a test makes names of their own, or make a cluster of your own with package cluster.
package pgtest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/cluster"
)

// Wanted are the major versions that Each runs on.
var wanted = [...]int{14, 15, 16, 17, 18}

// servers are the clusters of this test binary. They are package state because TestMain and the tests share nothing
// else.
var servers struct {
	sync.Mutex
	byVersion map[int]*server
}

// server is one version's cluster. Its mutex is also the turn for CREATE DATABASE: cloning waits for every session on
// the template, so clones one after the other are quicker.
type server struct {
	mu        sync.Mutex
	cluster   *cluster.Cluster
	err       error // of the start: the next tests need not try again
	reference bool  // the template of Reference exists
	databases int
}

const referenceTemplate = "reference_template"

// DB is a database that belongs to one test.
type DB struct {
	Name    string
	Version int
	Cluster *cluster.Cluster
}

// Main runs the tests and stops the clusters that they started. It does not return.
func Main(m *testing.M) {
	code := m.Run()
	servers.Lock()
	defer servers.Unlock()
	for _, s := range servers.byVersion {
		if s.cluster == nil {
			continue
		}
		if err := s.cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// New makes an empty database on cluster.DefaultVersion.
func New(t testing.TB) *DB {
	t.Helper()
	return NewOn(t, cluster.DefaultVersion)
}

// NewOn makes an empty database on a major version.
func NewOn(t testing.TB, version int) *DB {
	t.Helper()
	return get(t, version).clone(t, "template1")
}

// Reference makes a database with the reference schema and seed on cluster.DefaultVersion.
func Reference(t testing.TB) *DB {
	t.Helper()
	return ReferenceOn(t, cluster.DefaultVersion)
}

// ReferenceOn is Reference on a major version.
func ReferenceOn(t testing.TB, version int) *DB {
	t.Helper()
	s := get(t, version)
	s.makeReference(t)
	return s.clone(t, referenceTemplate)
}

// Each runs the test on an empty database of every version, 14 to 18.
func Each(t *testing.T, test func(*testing.T, *DB)) {
	t.Helper()
	each(t, NewOn, test)
}

// EachReference runs the test on a reference database of every version, 14 to 18.
func EachReference(t *testing.T, test func(*testing.T, *DB)) {
	t.Helper()
	each(t, ReferenceOn, test)
}

func each(t *testing.T, make func(testing.TB, int) *DB, test func(*testing.T, *DB)) {
	t.Helper()
	for _, version := range wanted {
		t.Run(fmt.Sprintf("pg%d", version), func(t *testing.T) {
			test(t, make(t, version))
		})
	}
}

// get gives the running cluster of a version. A version that this machine lacks skips the test by name; with CI=true,
// where everything is to be tested, it fails it.
func get(t testing.TB, version int) *server {
	t.Helper()
	Need(t, version)
	servers.Lock()
	if servers.byVersion == nil {
		servers.byVersion = map[int]*server{}
	}
	s := servers.byVersion[version]
	if s == nil {
		s = &server{}
		servers.byVersion[version] = s
	}
	servers.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil && s.err == nil {
		s.cluster, s.err = cluster.Start(context.Background(), cluster.Options{Version: version})
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s
}

// Need is for tests that start a cluster of their own: without this version they skip by name, or fail with CI=true.
func Need(t testing.TB, version int) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Postgres: not with -short")
	}
	if slices.Contains(cluster.Versions(), version) {
		return
	}
	what := fmt.Sprintf("Postgres %d is missing: run `make deps`", version)
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func (s *server) makeReference(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reference {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// An attempt that broke in the middle leaves a database which must not be taken for the template.
	for _, step := range []struct{ db, sql string }{
		{"postgres", "drop database if exists " + referenceTemplate + " with (force); create database " + referenceTemplate},
		{referenceTemplate, reference.Schema},
		{referenceTemplate, reference.Seed},
		{referenceTemplate, "vacuum (freeze, analyze)"}, // clones begin with statistics, though autovacuum is off
	} {
		if err := cluster.RunSQL(ctx, s.cluster.DSN(step.db, cluster.Superuser), step.sql); err != nil {
			t.Fatalf("make the reference database: %v", err)
		}
	}
	s.reference = true
}

// clone copies a template and drops the copy when the test is over.
func (s *server) clone(t testing.TB, template string) *DB {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.databases++
	db := &DB{Name: fmt.Sprintf("test_%d", s.databases), Version: s.cluster.Version, Cluster: s.cluster}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := cluster.RunSQL(ctx, s.cluster.DSN("postgres", cluster.Superuser), "create database "+db.Name+" template "+template); err != nil {
		t.Fatalf("make a test's database: %v", err)
	}
	t.Cleanup(func() { db.drop(t) })
	return db
}

// drop removes the slots first: a database with one cannot be dropped, and FORCE would take an inactive one with it
// without a word. Each waits a moment for a walsender whose client has just gone.
func (db *DB) drop(t testing.TB) {
	if db.Cluster.PID() == 0 {
		return // the test killed the server and left it so
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	script := `
do $$
declare s record;
begin
  for s in select slot_name, active_pid from pg_replication_slots where database = '` + db.Name + `' loop
    if s.active_pid is not null then perform pg_terminate_backend(s.active_pid, 5000); end if;
    perform pg_drop_replication_slot(s.slot_name);
  end loop;
end $$;
drop database ` + db.Name + ` with (force)`
	if err := cluster.RunSQL(ctx, db.Cluster.DSN("postgres", cluster.Superuser), script); err != nil {
		t.Errorf("drop a test's database: %v", err)
	}
}

// DSN is the connection string of a user, "" for the superuser.
func (db *DB) DSN(user string) string {
	if user == "" {
		user = cluster.Superuser
	}
	return db.Cluster.DSN(db.Name, user)
}

// Conn is a superuser's session, closed at the test's cleanup.
func (db *DB) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	return db.ConnAs(t, "")
}

// ConnAs is a session of a user, closed at the test's cleanup.
func (db *DB) ConnAs(t testing.TB, user string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), db.DSN(user))
	if err != nil {
		t.Fatalf("connect to a test's database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	})
	return conn
}

// Exec runs a script as the superuser, in a session of its own.
func (db *DB) Exec(t testing.TB, sql string) {
	t.Helper()
	if err := cluster.RunSQL(context.Background(), db.DSN(""), sql); err != nil {
		t.Fatal(err)
	}
}

// Section runs one section of the reference scenarios, S01 for instance, as the superuser in a session of its own.
func (db *DB) Section(t testing.TB, id string) {
	t.Helper()
	for _, s := range cluster.ParseSections(reference.Scenarios) {
		if strings.EqualFold(s.ID, id) {
			db.Exec(t, s.SQL)
			return
		}
	}
	t.Fatalf("there is no scenario %s", id)
}
