package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/cluster"
)

// After a working day the source is what the log says. A change that bypasses the log, and an entry that somebody took
// out of it, are named, without a value.
func TestReconcile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.start(t)
	w.streaming(t)
	for _, s := range cluster.ParseSections(reference.Scenarios) {
		user := appRole
		if strings.HasPrefix(s.ID, "E") && s.ID != "E1" {
			user = cluster.Superuser
		}
		if err := cluster.RunSQL(t.Context(), w.source.DSN(sourceDB, user), s.SQL); err != nil {
			t.Fatalf("%s: %v", s.ID, err)
		}
	}
	// Keys that change and come back, columns that come with a value for old rows, an emptied table that fills again.
	w.sourceExec(t, `begin; set local audit.user_id = '`+writerUsers[0]+`';
		insert into people.people (id, tenant_id, last_name) values ('4e000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001', 'Moving');
		insert into people.person_aliases (person_id, last_name) values ('40000000-0000-4000-8000-000000000001', 'Before');
		insert into people.person_addresses (person_id, address_id, started_on) values ('40000000-0000-4000-8000-000000000005', '45000000-0000-4000-8000-000000000001', '2026-01-01');
		insert into people.education_records (person_id, school_name) values ('40000000-0000-4000-8000-000000000001', 'P.S. 10'); commit;
		begin; update people.people set id = '4e000000-0000-4000-8000-000000000002' where id = '4e000000-0000-4000-8000-000000000001';
		update people.person_addresses set started_on = '2026-02-01' where person_id = '40000000-0000-4000-8000-000000000005'; commit;
		begin; update people.people set custom_fields = '{"tribal_enrollment_no": "x", "plain": 4}' where id = '4e000000-0000-4000-8000-000000000002'; commit;
		begin; update people.people set custom_fields = '{"plain": 5, "more": [1, 2]}', deleted_at = now() where id = '4e000000-0000-4000-8000-000000000002'; commit;
		begin; truncate people.education_records; insert into people.education_records (person_id, school_name) values ('40000000-0000-4000-8000-000000000001', 'P.S. 11'); commit;
		alter table people.person_aliases add column spelled text default 'as heard';
		begin; insert into people.person_aliases (person_id, last_name) values ('40000000-0000-4000-8000-000000000001', 'After'); commit`)
	w.caughtUp(t, time.Minute)
	resume := filepath.Join(w.dir, "done.json")
	intact := w.run(t, nil, "reconcile", "--resume", resume)
	if intact.code != exitDone || !strings.Contains(intact.stdout, ": 0 differences.") {
		t.Fatalf("after an intact day: %s", intact)
	}
	if n := w.auditValue(t, `select count(*) from audit.entry where kind = 11 and action = 'reconcile'`); n != "1" {
		t.Errorf("%s results in the log", n)
	}
	w.streaming(t) // the daemon goes on by itself
	if again := w.run(t, nil, "reconcile", "--resume", resume); again.code != exitDone || !strings.Contains(again.stdout, "0 tables with 0 rows") {
		t.Errorf("with all tables done: %s", again)
	}

	// Behind the log's back: out of the publication while it changes.
	w.sourceExec(t, `alter publication casebook_audit drop table people.relationships, services.service_enrollments, cases.case_goals;
		update services.service_enrollments set units = 99 where id = '71000000-0000-4000-8000-000000000011';
		delete from people.relationships where id = (select id from people.relationships order by started_on desc nulls last limit 1);
		alter publication casebook_audit add table people.relationships, services.service_enrollments, cases.case_goals`)
	// And an entry less: the last word of the log about that row is then an older one.
	w.auditExec(t, `delete from audit.entry where seq = (select max(seq) from audit.entry where table_name = 'content.notes' and action = 'update' and 'new.subject' = any (paths))`)
	w.caughtUp(t, time.Minute)
	r := w.run(t, nil, "reconcile", "--json")
	var report struct {
		Differences []struct{ Table, Row, Column, What string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != exitFinding {
		t.Fatalf("%v: %s", err, r)
	}
	found := map[string]bool{}
	for _, d := range report.Differences {
		found[d.Table+" "+d.Column] = true
		if strings.Contains(d.What, "99") {
			t.Errorf("a difference holds a value: %+v", d)
		}
	}
	if !found["services.service_enrollments units"] {
		t.Errorf("the enrollment's units are not named: %+v", report.Differences)
	}
	if !found["content.notes subject"] {
		t.Errorf("the row whose entry is gone is not named: %+v", report.Differences)
	}
	if len(report.Differences) > 10 {
		t.Errorf("%d differences: %+v", len(report.Differences), report.Differences)
	}
	t.Logf("%+v", report.Differences)

	if r := w.run(t, nil, "reconcile", "--table", "public.nix"); r.code != exitUsage || !strings.Contains(r.stderr, "public.nix") {
		t.Errorf("a table that is not there: %s", r)
	}
}
