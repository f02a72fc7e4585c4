package mapping

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"casebook.example/audit/capture"
	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const patience = 3 * time.Minute

// bed is the reference database with stamps, a stream of it, and a mapper over a store in memory that was seeded from the
// slot's snapshot, as the daemon does it.
type bed struct {
	db     *pgtest.DB
	mapper *Mapper
	store  *store
	rules  *Rules
	out    chan capture.Event
	stream *capture.Stream
	prev   ledger.LSN
	seeded ledger.LSN
	names  map[string]bool // names of records that were told
	conn   *pgx.Conn
}

// store stands for the audit database's table directory.
type store struct {
	rows  map[Key][]byte
	loads int
	asked int
}

func (s *store) load(_ context.Context, keys []Key) ([]StoredRow, error) {
	s.loads++
	s.asked += len(keys)
	var found []StoredRow
	for _, k := range keys {
		if state, ok := s.rows[k]; ok {
			found = append(found, StoredRow{k, state})
		}
	}
	return found, nil
}

func (s *store) save(rows []StoredRow) {
	for _, r := range rows {
		s.rows[r.Key] = r.State
	}
}

// stampSQL is the least that stamps: who is not at stake here, only what the mapping makes of it.
const stampSQL = `
create function public.test_stamp() returns trigger language plpgsql as $$
begin
  perform pg_logical_emit_message(true, 'casebook.audit', json_build_object('v', 1,
    'ctx', json_strip_nulls(json_build_object('audit.user_id', nullif(current_setting('audit.user_id', true), ''),
      'audit.user_unique_name', nullif(current_setting('audit.user_unique_name', true), ''))),
    'role', session_user, 'app', 'casebook-web', 'addr', null, 'pid', pg_backend_pid(), 'xid', '1')::text);
  return null;
end $$;
do $$
declare t record;
begin
  for t in select c.oid::regclass as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where c.relkind in ('r', 'p') and n.nspname in ('membership','people','intake','cases','providers','services','content','tasks','config','ops') loop
    execute format('alter table %s replica identity full', t.name);
    execute format('create trigger a_stamp before insert or update or delete on %s for each statement execute function public.test_stamp()', t.name);
  end loop;
end $$;`

func newBed(t testing.TB) *bed {
	t.Helper()
	rules, err := Parse("mapping.yaml", []byte(reference.Mapping))
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{db: pgtest.Reference(t), rules: rules, store: &store{rows: map[Key][]byte{}}, names: map[string]bool{}}
	b.db.Exec(t, stampSQL)
	var tables []string
	for _, f := range rules.Tables() {
		if f.Published {
			tables = append(tables, f.Name)
		}
	}
	b.db.Exec(t, "create publication casebook_audit for table "+strings.Join(tables, ", ")+" with (publish_via_partition_root = true)")
	b.begin(t)
	return b
}

// begin makes the slot, fills the store from its snapshot, and streams from there.
func (b *bed) begin(t testing.TB) {
	t.Helper()
	cfg := capture.Config{DSN: b.db.DSN(""), Slot: "s_" + b.db.Name, Publication: "casebook_audit", Messages: []string{ViewedPrefix}, SpillDir: t.TempDir(), IdleInterval: 50 * time.Millisecond}
	slot, err := capture.CreateSlot(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.seeded = ledger.LSN(slot.ConsistentPoint)
	b.mapper = b.newMapper(b.store)
	b.seed(t, cfg, slot.SnapshotName)
	if err := slot.Close(); err != nil {
		t.Fatal(err)
	}
	b.stream, err = capture.Open(t.Context(), cfg, 0, zaptest.NewLogger(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.out = make(chan capture.Event, 8)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.stream.Run(ctx, b.out) }()
	t.Cleanup(func() {
		cancel()
		for range b.out { // closed when Run ends
		}
		<-done
		b.stream.Close()
	})
}

func (b *bed) newMapper(s *store) *Mapper {
	return NewMapper(Config{Rules: b.rules, Load: s.load, SeededAt: b.seeded, Log: zap.NewNop()})
}

func (b *bed) seed(t testing.TB, cfg capture.Config, snapshot string) {
	t.Helper()
	seeds := b.rules.SeedTables()
	tables := make([]capture.TableColumns, len(seeds))
	for i, s := range seeds {
		tables[i] = capture.TableColumns{Schema: s.Schema, Table: s.Name, Columns: s.Columns, OrderBy: s.OrderBy}
	}
	seedings := make([]*Seeding, len(seeds))
	for i := range seeds {
		seedings[i] = b.rules.Seeding(seeds[i], b.seeded)
	}
	emit := func(row StoredRow, record *RecordName, _ *UserName) error {
		if record != nil {
			b.names[record.Name] = true
		}
		b.store.save([]StoredRow{row})
		return nil
	}
	err := capture.ReadSnapshot(t.Context(), cfg, snapshot, tables, 1, capture.SnapshotReader{
		Row:  func(i int, values []capture.Value) error { return seedings[i].Row(values, emit) },
		Done: func(i int, _ int64) error { return seedings[i].End(emit) },
	})
	if err != nil {
		t.Fatal(err)
	}
}

// transactions gives all that were committed so far, unmapped.
func (b *bed) transactions(t testing.TB) []*capture.Tx {
	t.Helper()
	xid := b.mark(t)
	var txs []*capture.Tx
	deadline := time.After(patience)
	for {
		select {
		case event, ok := <-b.out:
			switch {
			case !ok:
				t.Fatal("the stream ended")
			case event.Tx == nil:
			case event.Tx.XID == xid:
				event.Tx.Close()
				return txs
			default:
				txs = append(txs, event.Tx)
			}
		case <-deadline:
			t.Fatal("no transaction comes")
		}
	}
}

// mark commits a transaction that changes nothing and gives its number.
func (b *bed) mark(t testing.TB) (xid uint32) {
	t.Helper()
	if b.conn == nil {
		b.conn = b.db.Conn(t)
	}
	const marker = `with marker as (update cases.programs set name = name returning 1) select pg_current_xact_id()::text::bigint & 4294967295 from marker`
	if err := b.conn.QueryRow(t.Context(), marker).Scan(&xid); err != nil {
		t.Fatal(err)
	}
	return xid
}

// next maps the next transaction and stores its directory rows.
func (b *bed) next(t testing.TB) []*ledger.Entry {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case event, ok := <-b.out:
			if !ok {
				t.Fatal("the stream ended")
			}
			if event.Tx == nil {
				continue
			}
			defer event.Tx.Close()
			return b.mapTx(t, event.Tx)
		case <-deadline:
			t.Fatal("no transaction comes")
		}
	}
}

// nextParts is next for a transaction that may be written in parts.
func (b *bed) nextParts(t testing.TB) []*ledger.Entry {
	t.Helper()
	var entries []*ledger.Entry
	for event := range b.out {
		if event.Tx == nil {
			continue
		}
		defer event.Tx.Close()
		spill := func(rows []StoredRow) error { b.store.save(rows); return nil }
		err := b.mapper.MapHuge(t.Context(), event.Tx, b.prev, spill, func(e *ledger.Entry) error {
			entries = append(entries, e)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		b.prev = ledger.LSN(event.Tx.CommitLSN)
		b.store.save(b.mapper.TakeDirty())
		b.mapper.Stored()
		return entries
	}
	t.Fatal("the stream ended")
	return nil
}

func (b *bed) mapTx(t testing.TB, tx *capture.Tx) []*ledger.Entry {
	t.Helper()
	var entries []*ledger.Entry
	err := b.mapper.Map(t.Context(), tx, b.prev, func(e *ledger.Entry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.prev = ledger.LSN(tx.CommitLSN)
	b.store.save(b.mapper.TakeDirty())
	b.mapper.Stored()
	records, _ := b.mapper.TakeNames()
	for _, r := range records {
		b.names[r.Name] = true
	}
	return entries
}

// section plays a scenario and gives the entries of its transactions.
func (b *bed) section(t testing.TB, id string) []*ledger.Entry {
	t.Helper()
	b.db.Section(t, id)
	return b.drain(t)
}

// drain maps what was committed so far. A transaction that changes nothing marks the end.
func (b *bed) drain(t testing.TB) []*ledger.Entry {
	t.Helper()
	xid := b.mark(t)
	var all []*ledger.Entry
	for {
		prev := b.prev
		entries := b.next(t)
		last := entries[len(entries)-1]
		if last.XID == xid {
			if field(last, "noise") != "1" || len(entries) > 2 {
				t.Fatalf("an update that changes nothing gave\n%s", dump(entries))
			}
			return all
		}
		b.check(t, entries, prev)
		all = append(all, entries...)
	}
}

// check looks at what differs from run to run, and at what must hold of every transaction.
func (b *bed) check(t testing.TB, entries []*ledger.Entry, prev ledger.LSN) {
	t.Helper()
	last := entries[len(entries)-1]
	if last.Kind != ledger.KindTransaction || field(last, "prev_commit_lsn") != prev.String() {
		t.Errorf("the last entry is of kind %d and names %s as the commit before, not %s", last.Kind, field(last, "prev_commit_lsn"), prev)
	}
	counted := 0
	for _, e := range entries {
		if e.Kind == ledger.KindChange || e.Kind == ledger.KindTruncate {
			counted++
		}
	}
	if n := field(last, "entries"); n != strconv.Itoa(counted) {
		t.Errorf("%d entries, and the boundary says %s", counted, n)
	}
	sum := 0
	for _, path := range []string{"entries", "noise", "excluded"} {
		n, err := strconv.Atoi(field(last, path))
		if err != nil {
			t.Error(err)
		}
		sum += n
	}
	if field(last, "changes") != strconv.Itoa(sum) || last.Ordinal != int64(sum) {
		t.Errorf("%s changes, ordinal %d, but they add up to %d", field(last, "changes"), last.Ordinal, sum)
	}
	for i, e := range entries {
		if e.CommitLSN == 0 || e.CommitLSN != last.CommitLSN || e.XID == 0 || e.XID != last.XID || e.CommittedAt != last.CommittedAt {
			t.Errorf("entry %d has another position than its transaction", i)
		}
		if age := time.Since(time.UnixMicro(e.CommittedAt)); age < -time.Minute || age > time.Hour {
			t.Errorf("entry %d was committed %s ago", i, age)
		}
		if e.Kind == ledger.KindChange && e.BackendPID == 0 {
			t.Errorf("entry %d has no process id", i)
		}
		for _, f := range e.Fields {
			if (f.State == ledger.FieldValue) != (f.Value != "") && f.State != ledger.FieldValue {
				t.Errorf("entry %d: %s has state %d and a value", i, f.Path, f.State)
			}
		}
	}
}

func field(e *ledger.Entry, path string) string {
	for i := range e.Fields {
		if e.Fields[i].Path == path {
			return e.Fields[i].Value
		}
	}
	return ""
}

// What the clock gave is the only kind of value that has fractions of a second.
var now = regexp.MustCompile(`20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+00`)

// dump writes entries whole: every fixed column that is not empty and every field. Only position, time and process, which
// check looks at, are left out, and the clock's values are called <now>.
func dump(entries []*ledger.Entry) string {
	var b strings.Builder
	tx := 0
	last := ledger.LSN(0)
	for _, e := range entries {
		if e.CommitLSN != last {
			last = e.CommitLSN
			tx++
			fmt.Fprintf(&b, "== transaction %d\n", tx)
		}
		fmt.Fprintf(&b, "-- %d kind %d %s\n", e.Ordinal, e.Kind, e.Action)
		for _, c := range []struct{ name, value string }{
			{"tenant", e.TenantID}, {"application", e.Application}, {"record type", e.RecordType}, {"record", e.RecordID},
			{"record name", e.RecordName}, {"resource", e.Resource}, {"sub-resource", e.SubResource}, {"table", e.Table},
			{"row", e.RowID}, {"row name", e.RowName}, {"summary", e.Summary}, {"initiator", e.Initiator}, {"user", e.UserID},
			{"email", e.UserEmail}, {"user name", e.UserName}, {"db user", e.DBUser}, {"db app", e.DBApp}, {"client", e.ClientAddr},
			{"remark", e.Remark},
		} {
			if c.value != "" {
				fmt.Fprintf(&b, "%s: %s\n", c.name, c.value)
			}
		}
		for _, f := range e.Fields {
			value := [...]string{"NULL", f.Value, "(unchanged)", "(not known)", "(masked)"}[f.State]
			switch {
			case len(value) > 1000:
				value = fmt.Sprintf("%.20s... %.20s (%d characters)", value, value[len(value)-20:], len(value))
			case f.Path == "prev_commit_lsn":
				value = "<the commit before>"
			default:
				value = now.ReplaceAllString(value, "<now>")
			}
			fmt.Fprintf(&b, "  %s (%s) = %s\n", f.Path, f.Type, value)
		}
	}
	return b.String()
}
