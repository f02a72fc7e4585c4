package pgtest_test

import (
	"context"
	"testing"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/cluster"
	"casebook.example/audit/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// Every version must take the schema, the seed and each scenario; a decoding slot must neither hinder the work nor the
// drop.
func TestReferenceOnEachVersion(t *testing.T) {
	t.Parallel()
	pgtest.EachReference(t, func(t *testing.T, db *pgtest.DB) {
		conn := db.Conn(t)
		ctx := context.Background()
		var version int
		if err := conn.QueryRow(ctx, `select current_setting('server_version_num')::int / 10000`).Scan(&version); err != nil {
			t.Fatal(err)
		}
		if version != db.Version {
			t.Fatalf("asked for %d, got %d", db.Version, version)
		}
		db.Exec(t, `select pg_create_logical_replication_slot('pgtest_'||current_database(), 'pgoutput')`)
		for _, s := range cluster.ParseSections(reference.Scenarios) {
			if err := cluster.RunSQL(ctx, db.DSN(""), s.SQL); err != nil {
				t.Fatalf("scenario %s: %v", s.ID, err)
			}
		}
		// What the scenarios must have left: S14 moved 20,000 assignments, S18 deleted 400 notes in 400 transactions,
		// S20's e-mail was rolled back.
		var moved, notes, mails int
		err := conn.QueryRow(ctx, `select
			(select count(*) from membership.assignment_users where user_id = '20000000-0000-4000-8000-000000000001'),
			(select count(distinct xmin::text) from content.notes where deleted_at is not null),
			(select count(*) from content.emails)`).Scan(&moved, &notes, &mails)
		if err != nil {
			t.Fatal(err)
		}
		if moved != 20001 || notes != 400 || mails != 0 {
			t.Errorf("%d assignments moved, notes deleted in %d transactions, %d mails; want 20001, 400, 0", moved, notes, mails)
		}
	})
}

// Two databases of one cluster do not see each other's tables, and a name may be used again.
func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	for range 3 {
		db := pgtest.New(t)
		db.Exec(t, `create table t (a int)`)
	}
}
