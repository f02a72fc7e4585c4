package e2e

import (
	"testing"
	"time"

	"casebook.example/audit/internal/cluster"
)

// What the application says that a user looked at stands in the record's timeline, among the changes; what was rolled back
// does not. The application's role may call the function, and cannot write the message itself.
func TestViewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.start(t)
	w.streaming(t)
	app := func(sql string) error {
		return cluster.RunSQL(t.Context(), w.source.DSN(sourceDB, appRole), sql)
	}
	view := func(purpose string) string {
		return `set local audit.user_id = '` + writerUsers[0] + `'; select casebook_audit.viewed('case', '` + seededCase + `', '` + purpose + `');`
	}
	for _, sql := range []string{
		`begin; ` + view("alone") + ` commit`,
		`begin; ` + view("undone") + ` rollback`,
		`begin; savepoint s; ` + view("undone too") + ` rollback to s; insert into cases.case_goals (case_id, description) values ('` + seededCase + `', 'a goal'); ` + view("beside") + ` commit`,
	} {
		if err := app(sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, sql := range []string{
		`select casebook_audit.viewed('', 'x')`, `select casebook_audit.viewed('case', null)`,
		`select pg_logical_emit_message(true, 'casebook.audit.viewed', '{}')`,
	} {
		if app(sql) == nil {
			t.Errorf("the application may run %s", sql)
		}
	}
	w.caughtUp(t, time.Minute)
	got := w.auditValue(t, `select string_agg(format('%s %s %s %s', record_name, user_email, initiator, (select v from unnest(paths, vals) f (p, v) where p = 'view.purpose')), e'\n' order by seq)
		from audit.entry where kind = 15 and action = 'view'`)
	want := "J. Sullivan Case maria.alvarez@hfs.example user alone\nJ. Sullivan Case maria.alvarez@hfs.example user beside"
	if got != want {
		t.Errorf("the log says\n%s\nwant\n%s", got, want)
	}
	w.checkChain(t)
}
