package mapping

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
)

// A small schema with every form of ownership: notes hang on notes, or on a person or a case by type and id; comments have
// a composite key and a further record; addresses are shared; rooms belong to what is shared.
const woods = `
create table people (id int primary key, name text);
create table cases (id int primary key, name text);
create table notes (id int primary key, parent_id int references notes on delete cascade, kind text, target_id int, body text);
create table comments (note_id int references notes on delete cascade, n int, person_id int, body text, primary key (note_id, n));
create table addresses (id int primary key, city text);
create table links (person_id int references people on delete cascade, address_id int references addresses on delete cascade, since int, primary key (person_id, address_id, since));
create table rooms (id int primary key, address_id int references addresses on delete cascade, size int);
create table happened (n bigserial primary key, tab text, op text, was jsonb, is_now jsonb);
create function note() returns trigger language plpgsql as $$
begin
  insert into happened (tab, op, was, is_now) values (tg_table_name, tg_op,
    case when tg_op <> 'INSERT' then to_jsonb(old) end, case when tg_op <> 'DELETE' then to_jsonb(new) end);
  return null;
end $$;
do $$ declare t text; begin
  foreach t in array array['people', 'cases', 'notes', 'comments', 'addresses', 'links', 'rooms'] loop
    execute format('alter table %I replica identity full', t);
    execute format('create trigger note after insert or update or delete on %I for each row execute function note()', t);
  end loop;
end $$;`

const woodsMapping = `
version: 1
tenant: none
tables:
  public.people: {record: {application: People, type: Person}, resource: People, name: "{name}"}
  public.cases: {record: {application: Engage, type: Case}, resource: Cases, name: "{name}"}
  public.notes:
    resource: Notes
    owner:
      - {column: parent_id, table: public.notes}
      - {type: kind, id: target_id, tables: {person: public.people, case: public.cases, note: public.notes}}
  public.comments:
    key: [note_id, n]
    resource: Comments
    owner: [{column: note_id, table: public.notes}]
    also: [{column: person_id, table: public.people}]
  public.addresses: {resource: Addresses, owner: [{from: public.links, by: address_id}]}
  public.links: {key: [person_id, address_id, since], resource: Links, owner: [{column: person_id, table: public.people}]}
  public.rooms: {resource: Rooms, owner: [{column: address_id, table: public.addresses}]}
`

// oracle knows all rows, and computes every owner anew from nothing but them.
type oracle struct {
	live map[string]map[string]any // rows that are there, by "table key"
	last map[string]map[string]any // the last state of every row that ever was
	old  map[string]map[string]any // live, before the transaction
	hit  map[string]bool           // rows that the transaction changed
}

var woodsKeys = map[string][]string{
	"people": {"id"}, "cases": {"id"}, "notes": {"id"}, "comments": {"note_id", "n"}, "addresses": {"id"},
	"links": {"person_id", "address_id", "since"}, "rooms": {"id"},
}

func woodsID(table string, row map[string]any) string {
	id := table
	for _, column := range woodsKeys[table] {
		id += " " + fmt.Sprint(row[column])
	}
	return id
}

func (o *oracle) find(id string, late bool) map[string]any {
	if row := o.old[id]; row != nil && !late && o.hit[id] {
		return row
	}
	return o.last[id]
}

// owners are the records of a row, as "table id", in their order.
func (o *oracle) owners(table string, row map[string]any, late bool, way []string) (list []string) {
	hop := func(table string, id any) {
		key := fmt.Sprintf("%s %v", table, id)
		next := o.find(key, late)
		if next == nil || slices.Contains(way, key) {
			return
		}
		list = append(list, o.owners(table, next, late, append(slices.Clone(way), key))...)
	}
	switch table {
	case "people", "cases":
		return []string{woodsID(table, row)}
	case "notes":
		if row["parent_id"] != nil {
			hop("notes", row["parent_id"])
		} else if row["target_id"] != nil {
			if to := map[string]string{"person": "people", "case": "cases", "note": "notes"}[fmt.Sprint(row["kind"])]; to != "" {
				hop(to, row["target_id"])
			}
		}
	case "comments":
		hop("notes", row["note_id"])
	case "links":
		hop("people", row["person_id"])
	case "rooms":
		if row["address_id"] != nil {
			hop("addresses", row["address_id"])
		}
	case "addresses":
		rows := o.live
		if !late {
			rows = o.old
		}
		var links []string
		for id, link := range rows {
			if strings.HasPrefix(id, "links ") && fmt.Sprint(link["address_id"]) == fmt.Sprint(row["id"]) {
				links = append(links, fmt.Sprintf("%v,%v,%v", link["person_id"], link["address_id"], link["since"]))
			}
		}
		slices.Sort(links)
		for _, link := range links {
			person, _, _ := strings.Cut(link, ",")
			if o.find("links "+strings.ReplaceAll(link, ",", " "), late) != nil {
				hop("people", person)
			}
		}
	}
	return list
}

// step is one row change as the triggers saw it.
type step struct {
	table, op string
	was, is   map[string]any
}

// expected is the list of records of a change, the first of them the entry's own.
func (o *oracle) expected(s step) []string {
	row, late := s.is, true
	if s.op == "DELETE" {
		row, late = s.was, false
	}
	list := o.owners(s.table, row, late, nil)
	if len(list) == 0 {
		list = []string{""}
	}
	list = list[:1:1]
	all := append(list, o.owners(s.table, row, late, nil)...)
	if s.op == "UPDATE" && s.table != "people" && s.table != "cases" {
		all = append(all, o.owners(s.table, s.was, false, nil)...)
	}
	if s.table == "comments" {
		also := func(row map[string]any, late bool) {
			if id := fmt.Sprint("people ", row["person_id"]); row["person_id"] != nil && o.find(id, late) != nil {
				all = append(all, id)
			}
		}
		also(row, late)
		if s.op == "UPDATE" {
			also(s.was, false)
		}
	}
	var once []string
	for _, id := range all {
		if !slices.Contains(once, id) {
			once = append(once, id)
		}
	}
	return once
}

// apply takes in what a transaction did.
func (o *oracle) apply(steps []step) {
	o.old, o.hit = maps.Clone(o.live), map[string]bool{}
	for _, s := range steps {
		if s.was != nil {
			id := woodsID(s.table, s.was)
			o.hit[id] = true
			delete(o.live, id)
		}
		if s.is != nil {
			id := woodsID(s.table, s.is)
			o.hit[id] = true
			o.live[id], o.last[id] = s.is, s.is
		}
	}
}

// TestOwnership compares who owns what with an oracle, over random rows that are made, moved, merged and removed with all
// that hangs on them. The mapper forgets everything now and then, and writes in small parts.
func TestOwnership(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	db.Exec(t, woods)
	rules, err := Parse("woods.yaml", []byte(woodsMapping))
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "create publication casebook_audit for table people, cases, notes, comments, addresses, links, rooms")
	b := &bed{db: db, rules: rules, store: &store{rows: map[Key][]byte{}}, names: map[string]bool{}}
	b.begin(t)
	o := &oracle{live: map[string]map[string]any{}, last: map[string]map[string]any{}}
	conn := db.Conn(t)
	if _, err := conn.Exec(t.Context(), "set synchronous_commit = on"); err != nil { // or the stream waits for the WAL writer
		t.Fatal(err)
	}
	base, changes := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		base += 100
		id := func(what string) int { return base + rapid.IntRange(1, 4).Draw(rt, what) }
		maybe := func(what string) any {
			if rapid.IntRange(0, 3).Draw(rt, what+"?") == 0 {
				return nil
			}
			return id(what)
		}
		first := fmt.Sprintf(`insert into people select %[1]d + n, 'p' from generate_series(1, 4) n; insert into cases select %[1]d + n, 'c' from generate_series(1, 4) n;
			insert into addresses select %[1]d + n, 'a' from generate_series(1, 4) n; insert into rooms select %[1]d + n, %[1]d + n, 1 from generate_series(1, 4) n;
			insert into links select %[1]d + 1 + n / 2, %[1]d + 1 + n %% 3, 1 from generate_series(0, 5) n;
			insert into notes select %[1]d + n, nullif(%[1]d + n - 1, %[1]d + 2 * (n / 2)), (array['person', 'case'])[1 + n %% 2], %[1]d + n, 'x' from generate_series(1, 4) n`, base)
		for n := range rapid.IntRange(3, 12).Draw(rt, "transactions") {
			if rapid.IntRange(0, 5).Draw(rt, "restart") == 0 {
				b.mapper = b.newMapper(b.store)
			}
			small := rapid.IntRange(0, 3).Draw(rt, "small") == 0
			b.mapper.dir.limit, b.mapper.window, b.mapper.spillAt = cacheBytes, windowBytes, spillBytes
			if small {
				b.mapper.dir.limit, b.mapper.window, b.mapper.spillAt = 1, 1, 1
			}
			ctx := t.Context()
			tx, err := conn.Begin(ctx)
			if err != nil {
				rt.Fatal(err)
			}
			if n == 0 {
				if _, err := tx.Exec(ctx, first); err != nil {
					rt.Fatal(err)
				}
			}
			for range rapid.IntRange(n*2/3, 8).Draw(rt, "statements") {
				var sql string
				var args []any
				switch rapid.IntRange(0, 19).Draw(rt, "statement") {
				case 0:
					sql, args = "insert into people values ($1, 'p' || $2::int)", []any{id("person"), rapid.IntRange(0, 9).Draw(rt, "name")}
				case 1:
					sql, args = "insert into cases values ($1, 'c' || $2::int)", []any{id("case"), rapid.IntRange(0, 9).Draw(rt, "name")}
				case 2, 3:
					sql, args = "insert into notes values ($1, $2, $3, $4, 'x')", []any{id("note"), maybe("parent"), rapid.SampledFrom([]string{"person", "case", "note", "moon"}).Draw(rt, "kind"), maybe("target")}
				case 4:
					sql, args = "insert into comments values ($1, $2, $3, 'x')", []any{id("note"), id("n"), maybe("person")}
				case 5:
					sql, args = "insert into addresses values ($1, 'a')", []any{id("address")}
				case 6, 7:
					sql, args = "insert into links values ($1, $2, $3)", []any{id("person"), id("address"), rapid.IntRange(1, 2).Draw(rt, "since")}
				case 8:
					sql, args = "insert into rooms values ($1, $2, 1)", []any{id("room"), maybe("address")}
				case 9: // a row moves, or goes round in a circle
					sql, args = "update notes set parent_id = $2, kind = $3, target_id = $4 where id = $1", []any{id("note"), maybe("parent"), rapid.SampledFrom([]string{"person", "case", "note"}).Draw(rt, "kind"), maybe("target")}
				case 10: // a merge: all that hangs on one hangs on the other
					from, to := id("from"), id("to")
					sql = fmt.Sprintf(`with n as (update notes set target_id = %[2]d where kind = 'person' and target_id = %[1]d), c as (update comments set person_id = %[2]d where person_id = %[1]d)
						update links set person_id = %[2]d where person_id = %[1]d`, from, to)
				case 11, 14:
					sql, args = "update links set address_id = $2 where address_id = $1", []any{id("from"), id("to")}
				case 12:
					table := rapid.SampledFrom([]string{"addresses set city = city || 'x'", "rooms set size = size + 1", "people set name = name || 'x'", "comments set body = body || 'x'", "links set since = since + 2"}).Draw(rt, "change")
					key := "id"
					if strings.HasPrefix(table, "comments") {
						key = "note_id"
					} else if strings.HasPrefix(table, "links") {
						key = "person_id"
					}
					sql, args = "update "+table+" where "+key+" = $1", []any{id("which")}
				case 15, 16:
					sql, args = "update addresses set city = city || 'x' where id = $1", []any{id("address")}
				case 17:
					sql, args = "delete from links where address_id = $1 and person_id > $2", []any{id("address"), id("person")}
				case 18, 19:
					sql, args = "update links set since = since + 3 where person_id = $1", []any{id("person")}
				case 13: // with all that hangs on it
					sql, args = "delete from "+rapid.SampledFrom([]string{"people", "cases", "notes", "addresses", "links where person_id = $1 --", "comments where note_id = $1 --"}).Draw(rt, "gone")+" where id = $1", []any{id("which")}
				}
				nested, err := tx.Begin(ctx)
				if err != nil {
					rt.Fatal(err)
				}
				if _, err = nested.Exec(ctx, sql, args...); err != nil {
					err = nested.Rollback(ctx) // a key is taken or missing: it happens
				} else {
					err = nested.Commit(ctx)
				}
				if err != nil {
					rt.Fatal(err)
				}
			}
			steps := happened(t, rt, tx)
			if err := tx.Commit(ctx); err != nil {
				rt.Fatal(err)
			}
			if len(steps) == 0 {
				continue
			}
			o.apply(steps)
			got := slices.DeleteFunc(b.nextParts(t), func(e *ledger.Entry) bool { return e.Kind != ledger.KindChange })
			for _, s := range steps {
				if reflect.DeepEqual(s.was, s.is) {
					continue // no entry
				}
				changes++
				var e *ledger.Entry
				if e, got = entryOf(got, s); e == nil {
					rt.Fatalf("no entry for %s %s %v -> %v", s.op, s.table, s.was, s.is)
				}
				want := o.expected(s)
				if have := recordsOf(rt, e); !slices.Equal(have, want) {
					rt.Fatalf("%s %s %v -> %v: records %q, want %q\n%s", s.op, s.table, s.was, s.is, have, want, dump([]*ledger.Entry{e}))
				}
				if want[0] != "" {
					name := fmt.Sprint(o.find(want[0], s.op != "DELETE")["name"])
					if s.table == "people" || s.table == "cases" {
						row := s.is
						if row == nil {
							row = s.was
						}
						name = fmt.Sprint(row["name"])
					}
					if e.RecordName != name {
						rt.Fatalf("%s %s: the record is called %q, want %q", s.op, s.table, e.RecordName, name)
					}
				}
			}
			if len(got) > 0 {
				rt.Fatalf("entries of nothing that happened:\n%s", dump(got))
			}
		}
	})
	t.Logf("%d changes", changes)
}

// happened gives what the triggers of the open transaction saw. Their order is not that of the log: a cascade fires before
// the trigger of the row that began it.
func happened(t *testing.T, rt *rapid.T, tx pgx.Tx) (steps []step) {
	rows, err := tx.Query(t.Context(), "delete from happened returning n, tab, op, was, is_now")
	if err != nil {
		rt.Fatal(err)
	}
	type numbered struct {
		n int64
		step
	}
	var list []numbered
	for rows.Next() {
		var s numbered
		if err := rows.Scan(&s.n, &s.table, &s.op, &s.was, &s.is); err != nil {
			rt.Fatal(err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		rt.Fatal(err)
	}
	slices.SortFunc(list, func(a, b numbered) int { return int(a.n - b.n) })
	for _, s := range list {
		steps = append(steps, s.step)
	}
	return steps
}

// entryOf takes the entry of a step out of the list: the first of that row and kind.
func entryOf(entries []*ledger.Entry, s step) (*ledger.Entry, []*ledger.Entry) {
	action, row := map[string]string{"INSERT": "create", "UPDATE": "update", "DELETE": "delete"}[s.op], s.is
	if row == nil {
		row = s.was
	}
	_, id, _ := strings.Cut(woodsID(s.table, row), " ")
	for i, e := range entries {
		if e.Table == "public."+s.table && e.Action == action && e.RowID == strings.ReplaceAll(id, " ", ",") {
			return e, slices.Delete(slices.Clone(entries), i, i+1)
		}
	}
	return nil, entries
}

func recordsOf(rt *rapid.T, e *ledger.Entry) []string {
	tables := map[string]string{"Person": "people", "Case": "cases"}
	list := []string{""}
	if e.RecordID != "" {
		list[0] = tables[e.RecordType] + " " + e.RecordID
	}
	for i := 1; ; i++ {
		v := field(e, "also."+strconv.Itoa(i))
		if v == "" {
			return list
		}
		var also ledger.AlsoRecord
		if err := json.Unmarshal([]byte(v), &also); err != nil {
			rt.Fatal(err)
		}
		list = append(list, tables[also.RecordType]+" "+also.RecordID)
	}
}
