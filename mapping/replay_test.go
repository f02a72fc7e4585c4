package mapping

import (
	"maps"
	"strings"
	"testing"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// edges are changes that the day does not have.
const edges = `
-- a note moves to another case, and back to a person
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
update content.notes set notable_id = '50000000-0000-4000-8000-000000000002' where id = '80000000-0000-4000-8000-000000000001';
update content.notes set notable_type = 'person', notable_id = '40000000-0000-4000-8000-000000000001' where id = '80000000-0000-4000-8000-000000000001';
commit;
-- parent and children made and removed in one transaction
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
insert into content.notes (id, tenant_id, notable_type, notable_id, subject, body) values ('8e000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001', 'case', '50000000-0000-4000-8000-000000000001', 'Short life', 'x');
insert into content.note_people values ('8e000000-0000-4000-8000-000000000001', '40000000-0000-4000-8000-000000000001');
delete from content.notes where id = '8e000000-0000-4000-8000-000000000001';
commit;
-- the record gets another name, and its child changes before and after it in the same transaction
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
update cases.case_involvements set end_reason = 'moved' where id = '51000000-0000-4000-8000-000000000001';
update cases.cases set name = 'John Sullivan' where id = '50000000-0000-4000-8000-000000000001';
delete from cases.case_involvements where id = '51000000-0000-4000-8000-000000000002';
insert into cases.case_goals (case_id, description) values ('50000000-0000-4000-8000-000000000001', 'A goal whose description is longer than forty letters by a few');
commit;
-- a row's key changes; then a user changes in mid-transaction; then one that nobody knows, and one who is nobody
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
insert into people.people (id, tenant_id, last_name) values ('4e000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001', 'Mononym');
update people.people set id = '4e000000-0000-4000-8000-000000000002' where id = '4e000000-0000-4000-8000-000000000001';
set local audit.user_id = '20000000-0000-4000-8000-000000000003';
update people.people set ssn = '111-22-3333', primary_language = 'Latin' where id = '4e000000-0000-4000-8000-000000000002';
set local audit.user_id = '2e000000-0000-4000-8000-00000000dead';
update people.people set primary_language = 'Greek' where id = '4e000000-0000-4000-8000-000000000002';
set local audit.user_id = '-1';
update people.people set primary_language = null where id = '4e000000-0000-4000-8000-000000000002';
commit;
-- a merge is not a deletion
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
update people.people set merged_into_id = '40000000-0000-4000-8000-000000000001', deleted_at = now(), deleted_by_id = '20000000-0000-4000-8000-000000000001' where id = '40000000-0000-4000-8000-000000000003';
commit;
-- a user changes the e-mail, secrets too, and goes on working
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000004';
update membership.users set email = 'omar.h@hfs.example', password_digest = 'hunter2-digest' where id = '20000000-0000-4000-8000-000000000004';
commit;
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000004';
update providers.providers set ein = '12-3456789', custom_fields = '{"beds": 4, "note": "quiet", "gone": null}' where id = '60000000-0000-4000-8000-000000000002';
update people.people set custom_fields = '{"tribal_enrollment_no": "T-4711"}' where id = '40000000-0000-4000-8000-000000000006';
commit;
-- an enrollment without a case belongs to the offering's provider; an offering of the house to nobody
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
update services.service_enrollments set units = 9 where id = '71000000-0000-4000-8000-000000000003';
update services.service_offerings set provider_id = null where id = '70000000-0000-4000-8000-000000000002';
update services.service_enrollments set units = 10 where id = '71000000-0000-4000-8000-000000000003';
commit;
-- a message through a partition
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
insert into content.sms_messages (id, sent_at, tenant_id, record_type, record_id, person_id, direction, from_number, to_number, body)
values (1, '2026-03-03 10:05Z', '10000000-0000-4000-8000-000000000001', 'case', '50000000-0000-4000-8000-000000000002', '40000000-0000-4000-8000-000000000006', 'outbound', '+13175550100', '+13175550101', 'See you on Friday');
commit;
begin;
update content.sms_messages set status = 'delivered', delivered_at = '2026-03-03 10:06Z', carrier_cost = 0.01 where id = 1;
commit;
-- a record changes twice, far apart: what was before the transaction stays what it was
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
update cases.cases set name = 'First try' where id = '50000000-0000-4000-8000-000000000003';
update cases.programs set name = 'Another name';
update content.form_templates set name = 'Another form';
update cases.cases set name = 'Second try' where id = '50000000-0000-4000-8000-000000000003';
delete from cases.case_involvements where case_id = '50000000-0000-4000-8000-000000000003';
commit;
-- a key is used again after its row was deleted
begin; insert into content.notes (id, tenant_id, notable_type, notable_id, subject, body) values ('8e000000-0000-4000-8000-000000000002', '10000000-0000-4000-8000-000000000001', 'case', '50000000-0000-4000-8000-000000000001', 'First life', 'x'); commit;
begin; delete from content.notes where id = '8e000000-0000-4000-8000-000000000002'; commit;
begin;
insert into content.notes (id, tenant_id, notable_type, notable_id, subject, body) values ('8e000000-0000-4000-8000-000000000002', '10000000-0000-4000-8000-000000000001', 'case', '50000000-0000-4000-8000-000000000002', 'Second life', 'x');
insert into content.note_people values ('8e000000-0000-4000-8000-000000000002', '40000000-0000-4000-8000-000000000001');
delete from content.note_people where note_id = '8e000000-0000-4000-8000-000000000002';
commit;
-- an old tuple with less than all columns: a table without FULL, and a partition without FULL
alter table people.education_records replica identity default;
alter table content.sms_messages_2026_03 replica identity default;
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
insert into people.education_records (person_id, school_name) values ('40000000-0000-4000-8000-000000000001', 'P.S. 10');
update people.education_records set grade_level = '6';
delete from people.education_records;
update content.sms_messages set body = 'See you on Monday' where id = 1;
delete from content.sms_messages where id = 1;
commit;
-- a table that nobody mapped
create table public.surprise (id int primary key, secret text);
alter table public.surprise replica identity full;
alter publication casebook_audit add table public.surprise;
begin;
insert into public.surprise values (7, 'nobody said what this is');
update public.surprise set secret = 'still' where id = 7;
delete from public.surprise;
truncate public.surprise;
commit;
-- the parent was never seen: the trigger that would find it is off
begin; set local session_replication_role = replica;
insert into cases.case_goals (case_id, description) values ('5e000000-0000-4000-8000-00000000dead', 'Goal of nobody');
commit;
-- a family shares an address with a provider and a report: what changes in it stands under all of them
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
insert into people.addresses (id, tenant_id, city) values ('ae000000-0000-4000-8000-000000000001', '10000000-0000-4000-8000-000000000001', 'Salem'), ('ae000000-0000-4000-8000-000000000002', '10000000-0000-4000-8000-000000000001', 'Lima');
insert into people.person_addresses (person_id, address_id, started_on) values
 ('40000000-0000-4000-8000-000000000001', 'ae000000-0000-4000-8000-000000000001', '2026-01-01'), ('40000000-0000-4000-8000-000000000005', 'ae000000-0000-4000-8000-000000000001', '2026-01-01');
insert into providers.locations (id, provider_id, address_id) values ('ae000000-0000-4000-8000-00000000000a', '60000000-0000-4000-8000-000000000001', 'ae000000-0000-4000-8000-000000000001');
insert into intake.incidents (report_id, address_id, description) values ('a0000000-0000-4000-8000-000000000001', 'ae000000-0000-4000-8000-000000000001', 'x');
commit;
-- the key of a link changes, and with it nothing
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
update people.addresses set city = 'Gary' where id = 'ae000000-0000-4000-8000-000000000001';
update people.person_addresses set started_on = '2026-02-01' where person_id = '40000000-0000-4000-8000-000000000005' and address_id = 'ae000000-0000-4000-8000-000000000001';
update people.addresses set state = 'IN' where id = 'ae000000-0000-4000-8000-000000000001';
commit;
-- one moves to the other address, and the report loses it: both addresses change before and after
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
update people.addresses set city = 'Peru' where id = 'ae000000-0000-4000-8000-000000000002';
update people.person_addresses set address_id = 'ae000000-0000-4000-8000-000000000002' where person_id = '40000000-0000-4000-8000-000000000005' and address_id = 'ae000000-0000-4000-8000-000000000001';
update intake.incidents set address_id = null where address_id = 'ae000000-0000-4000-8000-000000000001';
update people.addresses set country = 'CA' where id = 'ae000000-0000-4000-8000-000000000001';
commit;
begin; update people.addresses set city = 'Rome' where id in ('ae000000-0000-4000-8000-000000000001', 'ae000000-0000-4000-8000-000000000002'); commit;
-- all goes, links first; a link that comes and goes in one transaction was never there
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
delete from people.person_addresses where address_id = 'ae000000-0000-4000-8000-000000000001';
delete from providers.locations where address_id = 'ae000000-0000-4000-8000-000000000001';
delete from people.addresses where id = 'ae000000-0000-4000-8000-000000000001';
insert into people.person_addresses (person_id, address_id, started_on) values ('40000000-0000-4000-8000-000000000006', 'ae000000-0000-4000-8000-000000000002', '2026-01-01');
delete from people.person_addresses where person_id = '40000000-0000-4000-8000-000000000006' and address_id = 'ae000000-0000-4000-8000-000000000002';
update people.addresses set city = 'Oslo' where id = 'ae000000-0000-4000-8000-000000000002';
commit;
-- an address that nobody has yet
begin; insert into people.addresses (id, tenant_id, city) values ('ae000000-0000-4000-8000-000000000003', '10000000-0000-4000-8000-000000000001', 'Bern'); commit;
-- an address of the seed, which the directory knows from the snapshot
begin; update people.addresses set city = 'Nome' where city = 'Indianapolis'; commit;
-- all links of people go at once; so a row that they led to a person is found under the person before, and under nobody after
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
truncate people.person_addresses;
update people.addresses set city = 'Bonn' where id = '45000000-0000-4000-8000-000000000001';
commit;
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
update people.addresses set city = 'Kiel' where id = '45000000-0000-4000-8000-000000000001';
insert into people.person_addresses (person_id, address_id, started_on) values ('40000000-0000-4000-8000-000000000006', '45000000-0000-4000-8000-000000000001', '2026-04-01');
commit;
-- a user by address; by a message of Bemi's, with no stamp after it, and then against what the row says
begin; set local audit.user_unique_name = 'tanya.brooks@hfs.example';
insert into cases.case_goals (case_id, description) values ('50000000-0000-4000-8000-000000000002', 'By address');
commit;
begin; set local session_replication_role = replica;
select pg_logical_emit_message(true, '_bemi', '{"userId": "20000000-0000-4000-8000-000000000003", "endpoint": "/goals"}');
insert into cases.case_goals (case_id, description) values ('50000000-0000-4000-8000-000000000002', 'By message');
commit;
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
insert into people.people (id, tenant_id, last_name, created_by_id) values ('4e000000-0000-4000-8000-000000000009', '10000000-0000-4000-8000-000000000001', 'Doubtful', '20000000-0000-4000-8000-000000000003');
update people.people set last_name = 'Twice', updated_by_id = '20000000-0000-4000-8000-000000000005' where id = '4e000000-0000-4000-8000-000000000009';
update people.people set last_name = 'Thrice' where id = '4e000000-0000-4000-8000-000000000009';
update people.people set deleted_at = now(), deleted_by_id = '20000000-0000-4000-8000-000000000002' where id = '4e000000-0000-4000-8000-000000000009';
commit;
-- a record is looked at, in a transaction that does nothing else; then more, between changes; then what nobody can find
begin; select pg_logical_emit_message(true, 'casebook.audit.viewed', '{"v":1,"resource":"case","id":"50000000-0000-4000-8000-000000000002","purpose":"handover","ctx":{"audit.user_id":"20000000-0000-4000-8000-000000000003"},"role":"app","app":"web","addr":"10.0.0.7","pid":7,"xid":"1"}'); commit;
begin; set local audit.user_id = '20000000-0000-4000-8000-000000000001';
insert into cases.case_goals (case_id, description) values ('50000000-0000-4000-8000-000000000002', 'Looked at');
select pg_logical_emit_message(true, 'casebook.audit.viewed', '{"v":1,"resource":"content.notes","id":"80000000-0000-4000-8000-000000000001","purpose":null,"ctx":{},"role":"app","app":"web","addr":null,"pid":7,"xid":"1"}');
update cases.case_goals set description = 'Looked at twice' where description = 'Looked at';
select pg_logical_emit_message(true, 'casebook.audit.viewed', '{"v":1,"resource":"moon","id":"1","purpose":null,"ctx":{},"role":"app","app":"web","addr":null,"pid":7,"xid":"1"}');
select pg_logical_emit_message(true, 'casebook.audit.viewed', '{"v":1,"resource":"person","id":"4fffffff-0000-4000-8000-000000000001","purpose":null,"ctx":{},"role":"app","app":"web","addr":null,"pid":7,"xid":"1"}');
select pg_logical_emit_message(true, 'casebook.audit.viewed', 'nonsense');
commit;
-- columns come and go, change their type and their name; a table changes its name and is then another one
alter table people.person_aliases add column spelled text; alter table people.person_aliases add column note2 int default 7;
begin; insert into people.person_aliases (person_id, last_name, spelled) values ('40000000-0000-4000-8000-000000000001', 'Alias', 'A-l'); commit;
alter table people.person_aliases drop column note2; alter table people.person_aliases rename column spelled to spoken; alter table people.person_aliases alter column spoken type varchar(99);
begin; update people.person_aliases set spoken = 'B-l' where last_name = 'Alias'; commit;
alter table people.person_aliases rename to person_other_names;
begin; update people.person_other_names set spoken = 'C-l' where last_name = 'Alias'; commit;
`

// TestReplay maps everything twice: once as it comes, with all rows at hand, and once by a mapper that forgets everything
// between transactions, keeps next to no rows, and writes every transaction in small parts. Both must give the same.
func TestReplay(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var txs []*capture.Tx
	t.Cleanup(func() {
		for _, tx := range txs {
			tx.Close()
		}
	})
	seeded := maps.Clone(b.store.rows)
	for _, id := range []string{"S01", "S02", "S03", "S04", "S06", "S07", "S08", "S10", "S11", "S13", "S16", "S17", "S20", "S23"} {
		b.db.Section(t, id)
	}
	b.db.Exec(t, edges)
	txs = b.transactions(t)

	loads := 0
	type result struct{ text, names string }
	play := func(limit, window, spillAt int, restart bool) []result {
		s := &store{rows: maps.Clone(seeded)}
		m := b.newMapper(s)
		defer func() { loads = s.loads }()
		var prev ledger.LSN
		var results []result
		for _, tx := range txs {
			if restart {
				m = b.newMapper(s)
			}
			m.dir.limit, m.window, m.spillAt = limit, window, spillAt
			var entries []*ledger.Entry
			var names string
			spill := func(rows []StoredRow) error {
				s.save(rows)
				records, _ := m.TakeNames()
				for _, r := range records {
					names += r.Name + "\n"
				}
				return nil
			}
			if err := m.MapHuge(t.Context(), tx, prev, spill, func(e *ledger.Entry) error {
				entries = append(entries, e)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			prev = ledger.LSN(tx.CommitLSN)
			_ = spill(m.TakeDirty())
			m.Stored()
			m.dir.trim()
			if m.dir.bytes > limit {
				t.Errorf("%d bytes are in a cache for %d", m.dir.bytes, limit)
			}
			weight := 0
			for _, rows := range m.dir.rows {
				for _, r := range rows {
					m.dir.weigh(r)
					weight += r.bytes
				}
			}
			if weight != m.dir.bytes {
				t.Errorf("the rows of the cache weigh %d, it counts %d", weight, m.dir.bytes)
			}
			results = append(results, result{dump(entries), names})
		}
		return results
	}
	want := play(cacheBytes, windowBytes, spillBytes, false)
	if loads > 2*len(txs) {
		t.Errorf("%d transactions asked the audit database %d times", len(txs), loads)
	}
	for name, got := range map[string][]result{
		"cold":        play(cacheBytes, windowBytes, spillBytes, true),
		"small":       play(2000, 1500, 1000, false),
		"small, cold": play(1, 1, 1, true),
	} {
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%s, transaction %d: got\n%s\n%s\nwant\n%s\n%s", name, i, got[i].text, got[i].names, want[i].text, want[i].names)
			}
		}
	}
	rebuilt(t, b, seeded, txs)
	text := ""
	for _, r := range want[len(want)-numEdges:] {
		text += r.text
	}
	told := ""
	for _, r := range want {
		told += r.text + r.names
	}
	for key, state := range b.store.rows {
		told += key.Row + string(state) + "\n"
	}
	for _, secret := range []string{
		"123-45-6789", "111-22-3333", "12-3456789", "hunter2", "t/hfs/81", "k/scratch", "T-4711", "2017-05-02", "+1317555",
		"achen@brightpath", "nobody said what",
	} {
		if strings.Contains(told, secret) {
			t.Errorf("%q is told", secret)
		}
	}
	golden(t, "edges", text)
}

// rebuilt makes the directory from the entries alone, and compares it with the one that the daemon would have stored.
func rebuilt(t *testing.T, b *bed, seeded map[Key][]byte, txs []*capture.Tx) {
	live := &store{rows: maps.Clone(seeded)}
	m := b.newMapper(live)
	var rows []StoredRow
	for key, state := range seeded {
		rows = append(rows, StoredRow{key, state})
	}
	log := []*ledger.Entry{b.rules.Entry(nil), {Kind: ledger.KindConfiguration, Fields: []ledger.Field{
		{Path: PathSeededAt, Type: "pg_lsn", State: ledger.FieldValue, Value: b.seeded.String()},
	}}}
	log = append(log, b.rules.SeedEntries(rows)...)
	for _, tx := range txs {
		if err := m.Map(t.Context(), tx, 0, func(e *ledger.Entry) error { log = append(log, e); return nil }); err != nil {
			t.Fatal(err)
		}
		live.save(m.TakeDirty())
		m.Stored()
	}
	live.save([]StoredRow{b.rules.Stored()})
	again := &store{rows: map[Key][]byte{}}
	r := NewRebuilder(again.load)
	for _, e := range log {
		if err := r.Apply(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		again.save(r.TakeDirty())
	}
	for key, want := range live.rows {
		if got := again.rows[key]; string(got) != string(want) {
			t.Errorf("%s %s: rebuilt from the log it is\n%s\nthe daemon stored\n%s", key.Table, key.Row, got, want)
		}
	}
	for key := range again.rows {
		if _, ok := live.rows[key]; !ok {
			t.Errorf("%s %s: the daemon never stored it", key.Table, key.Row)
		}
	}
}

const numEdges = 34
