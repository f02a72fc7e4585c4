package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/cluster"
)

const demoDatabase = "casebook"

// The roles that the demo's work is done with: the application's, and a database administrator's at a prompt.
const (
	demoAppRole = "casebook_app"
	demoDBARole = "casebook_dba"
)

// demoRoles gives the application what an application has. It runs after the schema is loaded.
const demoRoles = `
create role casebook_app login;
create role casebook_dba login superuser;
do $$
declare s text;
begin
  for s in select nspname from pg_namespace where nspname !~ '^(pg_|information_schema)' loop
    execute format('grant usage on schema %I to casebook_app', s);
    execute format('grant select, insert, update, delete on all tables in schema %I to casebook_app', s);
    execute format('grant usage on all sequences in schema %I to casebook_app', s);
  end loop;
end $$`

// scenario is one section of the day, and how many entries it must give: one for each row change with audit meaning.
type scenario struct {
	cluster.Section
	want   int
	before string // LSN ahead of its first change
	after  string // LSN behind its last commit
}

// demoWant is what the description of the day says of each section.
var demoWant = map[string]int{
	"S01": 8,     // a report, its people, incident, allegation, two resource e-mails
	"S02": 8,     // 10 row changes, of which the status history and a notification are not audited
	"S03": 1,     //
	"S04": 2,     // the same row twice in one transaction
	"S06": 5,     // a meeting, three attendees, one answer
	"S07": 1,     // the sync that stamps only itself is noise
	"S08": 5,     // 7 changes; the case's last activity and an autosave without a change are noise
	"S09": 2,     //
	"S10": 6,     //
	"S11": 2,     //
	"S13": 7,     //
	"S14": 20000, // one transaction
	"S16": 14,    // 15 changes; the status history is a derived copy
	"S17": 4,     //
	"S18": 460,   // 400 notes in 400 transactions, 60 attachments; the export job is a signal, no entry
	"S20": 2,     // what was rolled back is not there
	"S23": 2,     //
	"S25": 20,    // 500 changes, of which 480 changed nothing
	"E1":  3,     // administration: no record
	"E2":  1,     // configuration: no record
	"E3":  1,     // a TRUNCATE is one entry; the other table is not audited
}

// demoDay is the day, in order.
func demoDay() ([]*scenario, error) {
	var day []*scenario
	for _, s := range cluster.ParseSections(reference.Scenarios) {
		want, ok := demoWant[s.ID]
		if !ok {
			return nil, fmt.Errorf("nothing is known of what scenario %s must give", s.ID)
		}
		day = append(day, &scenario{Section: s, want: want})
	}
	return day, nil
}

// dsn is how the section's session connects: schema changes and TRUNCATE come from a prompt, the rest from the
// application.
func (s *scenario) dsn(source *cluster.Cluster) string {
	if strings.HasPrefix(s.ID, "E") && s.ID != "E1" {
		return withAppName(source.DSN(demoDatabase, demoDBARole), "psql")
	}
	return withAppName(source.DSN(demoDatabase, demoAppRole), "casebook-web")
}

func withAppName(dsn, name string) string { return dsn + "&application_name=" + name }

// play runs the section in a session of its own and notes where in the WAL it lies. No other work may go on meanwhile.
func (s *scenario) play(ctx context.Context, source *cluster.Cluster, admin *pgx.Conn) error {
	const here = `select pg_current_wal_insert_lsn()::text`
	if err := admin.QueryRow(ctx, here).Scan(&s.before); err != nil {
		return err
	}
	if err := cluster.RunSQL(ctx, s.dsn(source), s.SQL); err != nil {
		return fmt.Errorf("scenario %s: %w", s.ID, err)
	}
	return admin.QueryRow(ctx, here).Scan(&s.after)
}

var userSetting = regexp.MustCompile(`audit\.user_id(?: = |',)'([0-9a-f-]{36})'`)

// people names the users of the section, in order of appearance.
func (s *scenario) people(names map[string]string) string {
	var people []string
	for _, m := range userSetting.FindAllStringSubmatch(s.SQL, -1) {
		if name := names[m[1]]; name != "" && !slices.Contains(people, name) {
			people = append(people, name)
		}
	}
	if len(people) == 0 {
		return "nobody"
	}
	return strings.Join(people, ", ")
}

// demoUsers reads the names of the users.
func demoUsers(ctx context.Context, admin *pgx.Conn) (map[string]string, error) {
	rows, err := admin.Query(ctx, `select id::text, display_name from membership.users`)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	var id, name string
	_, err = pgx.ForEachRow(rows, []any{&id, &name}, func() error {
		names[id] = name
		return nil
	})
	return names, err
}

// act is one piece of everyday work. $1 is the user, also as audit.user_id of the transaction.
type act struct {
	user string
	sql  string
}

const (
	maria = "20000000-0000-4000-8000-000000000001"
	david = "20000000-0000-4000-8000-000000000002"
	tanya = "20000000-0000-4000-8000-000000000003"
	omar  = "20000000-0000-4000-8000-000000000004"
)

// everydayWork goes on after the day, over and over.
var everydayWork = []act{
	{maria, `insert into content.notes (tenant_id, notable_type, notable_id, note_type, subject, body, contact_at, created_by_id)
		select tenant_id, 'case', id, 'contact', (array['Phone call with the mother','Visit at school','Talk with the therapist'])[1 + floor(random() * 3)::int],
			'Short note of a contact.', now(), $1 from cases.cases where name in ('J. Sullivan', 'L. Ortega', 'D. Pratt', 'E. Reyes') order by random() limit 1`},
	{maria, `update content.notes set subject = subject || ' (added to)', lock_version = lock_version + 1, updated_by_id = $1
		where id = (select id from content.notes where created_by_id = $1 and locked_at is null and deleted_at is null order by created_at desc limit 1)`},
	{tanya, `insert into tasks.tasks (tenant_id, case_id, title, assignee_user_id)
		select tenant_id, id, (array['Call the landlord','Prepare the review','Send the letter to the school'])[1 + floor(random() * 3)::int], $1
		from cases.cases where name in ('J. Sullivan', 'L. Ortega', 'E. Reyes') order by random() limit 1`},
	{maria, `update services.service_enrollments set units = units + 1, total_cost = (units + 1) * unit_cost, lock_version = lock_version + 1, updated_by_id = $1
		where id = (select id from services.service_enrollments where case_id is not null order by random() limit 1)`},
	{david, `update intake.reports set narrative = narrative || ' Caller rang again.', lock_version = lock_version + 1, updated_by_id = $1
		where id = 'a0000000-0000-4000-8000-000000000001'`},
	{omar, `update providers.licenses set capacity = 2 + (capacity + 1) % 4, updated_by_id = $1 where id = '62000000-0000-4000-8000-000000000001'`},
	{tanya, `update content.event_attendees set response = (case response::text when 'accepted' then 'tentative' else 'accepted' end)::app.attendee_response
		where event_id = '90000000-0000-4000-8000-000000000011' and attendee_no = 1 and $1::text is not null`},
}

// trickle does a piece of work every second or two until ctx is done.
func trickle(ctx context.Context, source *cluster.Cluster) error {
	conn, err := pgx.Connect(ctx, withAppName(source.DSN(demoDatabase, demoAppRole), "casebook-web"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		work := everydayWork[rand.IntN(len(everydayWork))]
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `select set_config('audit.user_id', $1, true)`, work.user); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, work.sql, work.user)
			return err
		})
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second + rand.N(time.Second)):
		}
	}
}

// loadSource makes the reference database and the roles that work with it.
func loadSource(ctx context.Context, source *cluster.Cluster) error {
	for _, step := range []struct{ db, sql string }{
		{"postgres", "create database " + demoDatabase},
		{demoDatabase, reference.Schema},
		{demoDatabase, reference.Seed},
		{demoDatabase, demoRoles},
		{demoDatabase, "analyze"},
	} {
		if err := cluster.RunSQL(ctx, source.DSN(step.db, cluster.Superuser), step.sql); err != nil {
			return err
		}
	}
	return nil
}
