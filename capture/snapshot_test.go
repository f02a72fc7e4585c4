package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"casebook.example/audit/internal/pgtest"
)

// Values whose text depends on settings, or on how it is asked for.
const zoo = `true, 'ab', 1.10, 'NaN', 0.1::float8 + 0.2::float8, '2026-03-01 12:00:00+02', '2026-03-01', '1 day 02:00', '\x00ff',
	'{"b": 1e400, "a":  1}', '{1,NULL,3}', 12.5, E'line\n\\tab\t', '', null, 'pg_class', '24:00:00', '-infinity'`

const zooDDL = `create table zoo (id int primary key, b bool, c char(5), n numeric(8,2), nn numeric, f float8, ts timestamptz, d date, i interval,
	by bytea, j jsonb, l int[], m money, t text, e text, nu text, rc regclass, tm time, inf timestamptz)`

// Snapshot and stream meet without a hole or an overlap, and say the same text for the same value, whatever the settings
// of database and role.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		t.Parallel()
		db.Exec(t, zooDDL+`; insert into zoo values (1, `+zoo+`);
			create table part (id int, a text) partition by range (id);
			create table part_1 partition of part for values from (0) to (10);
			create table part_2 partition of part for values from (10) to (20);
			insert into part values (1, 'one'), (11, 'eleven');
			create table base (id int); create table heir () inherits (base);
			insert into base values (1); insert into heir values (2);
			create publication casebook_audit for all tables with (publish_via_partition_root = true);
			alter database `+db.Name+` set datestyle = 'German'; alter database `+db.Name+` set intervalstyle = 'iso_8601';
			alter database `+db.Name+` set timezone = 'Asia/Tokyo'; alter database `+db.Name+` set bytea_output = 'escape';
			alter database `+db.Name+` set extra_float_digits = -5; alter database `+db.Name+` set search_path = pg_catalog, public;
			alter database `+db.Name+` set statement_timeout = '1ms'; alter database `+db.Name+` set default_transaction_read_only = on`)
		cfg := Config{DSN: db.DSN(""), Slot: "s_" + db.Name, Publication: "casebook_audit"}
		slot, err := CreateSlot(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer slot.Close()
		if slot.ConsistentPoint == 0 || slot.SnapshotName == "" || len(slot.SystemID) < 10 || slot.Timeline != 1 {
			t.Errorf("the new slot is %+v", slot)
		}
		db.Exec(t, `set default_transaction_read_only = off; set statement_timeout = 0; insert into zoo values (2, `+zoo+`); insert into part values (2, 'two')`)

		tables := []TableColumns{
			{Schema: "public", Table: "zoo", Columns: strings.Split("b c n nn f ts d i by j l m t e nu rc tm inf", " ")},
			{Schema: "public", Table: "part", Columns: []string{"a", "id"}, OrderBy: "a"},
			{Schema: "public", Table: "base", Columns: []string{"id"}}, {Schema: "public", Table: "heir"},
		}
		var mu sync.Mutex
		var rows, done []string
		err = ReadSnapshot(t.Context(), cfg, slot.SnapshotName, tables, 3, SnapshotReader{Row: func(table int, values []Value) error {
			mu.Lock()
			defer mu.Unlock()
			var cols []Column
			for _, c := range tables[table].Columns {
				cols = append(cols, Column{Name: c})
			}
			rows = append(rows, tables[table].Table+tuple(&Relation{Columns: cols}, values))
			return nil
		}, Done: func(table int, n int64) error {
			mu.Lock()
			defer mu.Unlock()
			done = append(done, fmt.Sprint(table, " ", n))
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		order := func(table string) int { return strings.Index("zoo part base heir", table) }
		slices.SortStableFunc(rows, func(a, b string) int {
			return order(a[:strings.IndexByte(a, '(')]) - order(b[:strings.IndexByte(b, '(')])
		})
		slices.Sort(done)
		sameLines(t, rows[1:], "part(a=eleven id=11)", "part(a=one id=1)", "base(id=1)", "heir()")
		sameLines(t, done, "0 1", "1 2", "2 1", "3 1")

		s, err := Open(t.Context(), cfg, 0, zap.NewNop(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r := runStream(t, s, 4)
		lines := text(t, r.tx(t))
		got := strings.Replace(lines[0], "insert public.zoo new(id=2 ", "zoo(", 1)
		if got != rows[0] {
			t.Errorf("the stream says\n%s\nthe snapshot\n%s", got, rows[0])
		}
		for _, part := range []string{"b=t ", "c=ab    ", "ts=2026-03-01 10:00:00+00", "by=\\x00ff", "f=0.30000000000000004 ", "i=1 day 02:00:00", "rc=pg_class", "nu=NULL", "e= "} {
			if !strings.Contains(got, part) {
				t.Errorf("%q is not in %s", part, got)
			}
		}
		lines = append(lines, text(t, r.tx(t))...)
		sameLines(t, lines[1:], "insert public.part new(id=2 a=two)")

		estimates, err := EstimateRows(t.Context(), cfg, tables[:2])
		if err != nil || len(estimates) != 2 || estimates[0] <= 0 || estimates[1] <= 0 {
			t.Errorf("estimates %v, %v", estimates, err)
		}

		failed := errors.New("enough")
		err = ReadSnapshot(t.Context(), cfg, slot.SnapshotName, tables, 2, SnapshotReader{Row: func(int, []Value) error { return failed }})
		if !errors.Is(err, failed) {
			t.Errorf("a reader that fails gives %v", err)
		}
		missing := []TableColumns{{Schema: "public", Table: "nix"}}
		if err := ReadSnapshot(t.Context(), cfg, slot.SnapshotName, missing, 1, SnapshotReader{}); err == nil || !strings.Contains(err.Error(), "public.nix") {
			t.Errorf("a missing table gives %v", err)
		}
		slot.Close()
		eventually(t, "a snapshot that is over is not taken", func() bool { // the server ends the session in its own time
			return ReadSnapshot(t.Context(), cfg, slot.SnapshotName, nil, 1, SnapshotReader{}) != nil
		})
	})
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		sys, err := Identify(t.Context(), Config{DSN: db.DSN("")})
		if err != nil || sys.Version != db.Version || sys.Timeline != 1 || sys.XLogPos == 0 || len(sys.ID) < 10 {
			t.Errorf("%+v, %v", sys, err)
		}
	})
}

func TestFailoverSlot(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		t.Parallel()
		db.Exec(t, `create publication casebook_audit for all tables`)
		cfg := Config{DSN: db.DSN(""), Slot: "s_" + db.Name, Publication: "casebook_audit", Failover: true}
		slot, err := CreateSlot(t.Context(), cfg)
		if db.Version < 17 {
			if err == nil || !strings.Contains(err.Error(), "17") {
				t.Errorf("on %d: %v", db.Version, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		slot.Close()
		var failover bool
		if err := db.Conn(t).QueryRow(t.Context(), "select failover from pg_replication_slots where slot_name = $1", cfg.Slot).Scan(&failover); err != nil || !failover {
			t.Errorf("failover %v, %v", failover, err)
		}
	})
}

func TestWatchSlot(t *testing.T) {
	t.Parallel()
	b := setup(t, pgtest.New(t), `create table r (id int primary key)`)
	b.exec(t, "insert into r values (1)")
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { WatchSlot(ctx, b.cfg, 20*time.Millisecond, zap.NewNop(), reg); close(done) }()
	eventually(t, "the gauges are set", func() bool {
		return testutil.ToFloat64(m.retained) > 0 && testutil.ToFloat64(m.lagBytes) > 0 && testutil.ToFloat64(m.safe) > 1e18
	})
	b.exec(t, "select pg_drop_replication_slot('"+b.cfg.Slot+"')")
	eventually(t, "a missing slot has nothing safe", func() bool { return testutil.ToFloat64(m.safe) == 0 })
	cancel()
	<-done
	var names []string
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		names = append(names, f.GetName())
	}
	sameLines(t, names, "capture_lag_bytes", "capture_lag_seconds", "slot_retained_bytes", "slot_safe_bytes", "transactions_total")
}
