package main

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/internal/cluster"
)

// The day plays with the rights that an application has, and each piece of everyday work finds something to do after it.
func TestDemoDay(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs Postgres: not with -short")
	}
	ctx := t.Context()
	source, err := cluster.Start(ctx, cluster.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Stop()
	if err := loadSource(ctx, source); err != nil {
		t.Fatal(err)
	}
	admin, err := pgx.Connect(ctx, source.DSN(demoDatabase, cluster.Superuser))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	day, err := demoDay()
	if err != nil {
		t.Fatal(err)
	}
	names, err := demoUsers(ctx, admin)
	if err != nil {
		t.Fatal(err)
	}
	if len(day) != len(demoWant) {
		t.Errorf("%d scenarios, expectations for %d", len(day), len(demoWant))
	}
	for _, s := range day {
		if err := s.play(ctx, source, admin); err != nil {
			t.Fatal(err)
		}
		var forward bool
		if err := admin.QueryRow(ctx, `select $1::pg_lsn < $2::pg_lsn`, s.before, s.after).Scan(&forward); err != nil || !forward {
			t.Errorf("%s lies between %s and %s: %v", s.ID, s.before, s.after, err)
		}
		if who := s.people(names); s.ID == "S06" && who != "Maria Alvarez, Karen Sullivan (portal)" || s.ID == "S11" && who != "nobody" {
			t.Errorf("%s is done by %s", s.ID, who)
		}
	}
	app, err := pgx.Connect(ctx, source.DSN(demoDatabase, demoAppRole))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close(context.Background())
	for i, work := range everydayWork {
		tag, err := app.Exec(ctx, work.sql, work.user)
		if err != nil || tag.RowsAffected() != 1 {
			t.Errorf("work %d: %d rows, %v", i, tag.RowsAffected(), err)
		}
	}
}
