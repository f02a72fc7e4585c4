package capture

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"casebook.example/audit/internal/pgtest"
)

const changesDDL = `
create schema app;
create type app.status as enum ('open', 'closed');
create domain app.code as varchar(8);
create table d (id int primary key, a text, big text);
alter table d alter big set storage external;
create table f (id int primary key, a text, big text);
alter table f alter big set storage external;
alter table f replica identity full;
create table parent (id int primary key);
create table child (id int primary key, parent int references parent on delete cascade);
alter table parent replica identity full;
alter table child replica identity full;
create table part (id int, day int, a text, primary key (id, day)) partition by range (day);
create table part_1 partition of part for values from (0) to (10);
create table part_2 partition of part for values from (10) to (20);
alter table part replica identity full;
alter table part_1 replica identity full;
create table app."Odd ""name""" ("Col.umn" app.status primary key, c app.code, n numeric(8,2), l app.status[]);
create table shape (id int primary key, a int);
alter table shape replica identity full;
`

// Each case is one transaction and what must come of it.
var changesCases = []struct {
	name string
	sql  []string
	want []string
}{
	{
		"four states, default identity",
		[]string{
			`insert into d values (1, null, repeat('x', 9000)), (2, 'b', '')`,
			`update d set a = 'new' where id = 1`, `update d set id = 3 where id = 2`, `delete from d where id = 3`,
		},
		[]string{
			"insert public.d new(id=1 a=NULL big=xxx[9000])",
			"insert public.d new(id=2 a=b big=)",
			"update public.d new(id=1 a=new big=~)",
			"update public.d key(id=2 a=- big=-) new(id=3 a=b big=)",
			"delete public.d key(id=3 a=- big=-)",
		},
	},
	{
		"four states, full identity",
		[]string{
			`insert into f values (1, null, repeat('x', 9000))`,
			`update f set a = 'new'`, `update f set big = null`, `update f set a = a`, `delete from f`,
		},
		[]string{
			"insert public.f new(id=1 a=NULL big=xxx[9000])",
			"update public.f old(id=1 a=NULL big=xxx[9000]) new(id=1 a=new big=~)",
			"update public.f old(id=1 a=new big=xxx[9000]) new(id=1 a=new big=NULL)",
			"update public.f old(id=1 a=new big=NULL) new(id=1 a=new big=NULL)",
			"delete public.f old(id=1 a=new big=NULL)",
		},
	},
	{
		// The server itself sends the row first: the message ends where the row begins, and they have different savepoints.
		"a message of a released savepoint without a row, and a row right behind it",
		[]string{
			`insert into d values (90)`,
			`savepoint s`, `select pg_logical_emit_message(true, 'casebook.audit', 'user=alice')`, `release savepoint s`,
			`insert into d values (91)`,
		},
		[]string{
			"insert public.d new(id=90 a=NULL big=NULL)",
			"message casebook.audit user=alice",
			"insert public.d new(id=91 a=NULL big=NULL)",
		},
	},
	{
		"messages stand where they were made; two users",
		[]string{
			`select pg_logical_emit_message(true, 'casebook.audit', 'user=alice')`, `insert into d values (10, 'ZZZZZZZZZZZZZZZZ')`,
			`select pg_logical_emit_message(false, 'casebook.audit', 'not of this transaction')`,
			`select pg_logical_emit_message(true, 'casebook.audit', 'user=bob')`, `insert into d values (11)`,
			`select pg_logical_emit_message(true, '_bemi', '')`,
		},
		[]string{
			"message casebook.audit user=alice",
			"insert public.d new(id=10 a=ZZZZZZZZZZZZZZZZ big=NULL)",
			"message casebook.audit user=bob",
			"insert public.d new(id=11 a=NULL big=NULL)",
			"message _bemi ",
		},
	},
	{
		"a savepoint takes its rows and its messages with it",
		[]string{
			`select pg_logical_emit_message(true, 'casebook.audit', 'user=alice')`, `insert into d values (20)`,
			`savepoint s`, `select pg_logical_emit_message(true, 'casebook.audit', 'user=mallory')`, `insert into d values (21)`,
			`rollback to s`, `insert into d values (22)`,
		},
		[]string{
			"message casebook.audit user=alice",
			"insert public.d new(id=20 a=NULL big=NULL)",
			"insert public.d new(id=22 a=NULL big=NULL)",
		},
	},
	{
		"a cascade: the parent first",
		[]string{`insert into parent values (1)`, `insert into child values (7, 1), (8, 1)`, `delete from parent`},
		[]string{
			"insert public.parent new(id=1)",
			"insert public.child new(id=7 parent=1)",
			"insert public.child new(id=8 parent=1)",
			"delete public.parent old(id=1)",
			"delete public.child old(id=7 parent=1)",
			"delete public.child old(id=8 parent=1)",
		},
	},
	{
		"truncate of several",
		[]string{`insert into f values (5)`, `truncate parent, child, f`},
		[]string{
			"insert public.f new(id=5 a=NULL big=NULL)",
			"truncate public.parent", "truncate public.child", "truncate public.f",
		},
	},
	{
		"partitions under their root; one that is not full",
		[]string{
			`insert into part values (1, 1, 'a'), (2, 11, 'b')`, `update part set a = 'c' where id = 1`,
			`update part set a = 'd' where id = 2`, `update part set day = 12 where id = 1`, `delete from part_2 where id = 2`,
		},
		[]string{
			"insert public.part new(id=1 day=1 a=a)",
			"insert public.part new(id=2 day=11 a=b)",
			"update public.part old(id=1 day=1 a=a) new(id=1 day=1 a=c)",
			"update public.part new(id=2 day=11 a=d)",
			"delete public.part old(id=1 day=1 a=c)", // moved to the other partition
			"insert public.part new(id=1 day=12 a=c)",
			"delete public.part old(id=2 day=11 a=NULL)", // says that it is whole, and is not: see doc.go
		},
	},
	{
		"a table that changes between two changes",
		[]string{
			`insert into shape values (1, 1)`, `alter table shape add b text default 'new'`, `update shape set a = 2`,
			`alter table shape rename a to c`, `alter table shape drop b`, `update shape set c = 3`, `alter table shape rename to shape2`,
			`delete from shape2`, `alter table shape2 rename to shape`, `alter table shape rename c to a`,
		},
		[]string{
			"insert public.shape new(id=1 a=1)",
			"update public.shape old(id=1 a=1 b=new) new(id=1 a=2 b=new)",
			"update public.shape old(id=1 c=2) new(id=1 c=3)",
			"delete public.shape2 old(id=1 c=3)",
		},
	},
	{
		"odd names",
		[]string{`insert into app."Odd ""name""" values ('open', 'x', 1.5, '{open,closed}')`},
		[]string{`insert app.Odd "name" new(Col.umn=open c=x n=1.50 l={open,closed})`},
	},
}

func TestChanges(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		t.Parallel()
		b := setup(t, db, changesDDL)
		s := b.run(t, b.cfg, 0, 4)
		var last LSN
		for _, c := range changesCases {
			t.Run(c.name, func(t *testing.T) {
				b.exec(t, "begin")
				for _, sql := range c.sql {
					b.exec(t, sql)
				}
				b.exec(t, "commit")
				tx := s.tx(t)
				sameLines(t, text(t, tx), c.want...)
				sameLines(t, text(t, tx), c.want...) // a second walk gives the same
				if tx.CommitLSN <= last || tx.EndLSN <= tx.CommitLSN || tx.XID == 0 || tx.CommitTime < 1e15 {
					t.Errorf("commit %s after %s, end %s, xid %d, time %d", tx.CommitLSN, last, tx.EndLSN, tx.XID, tx.CommitTime)
				}
				last = tx.CommitLSN
				if strings.HasPrefix(c.name, "odd") {
					checkOddTypes(t, tx)
				}
			})
		}
	})
}

func checkOddTypes(t *testing.T, tx *Tx) {
	for c, err := range tx.Changes() {
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, col := range c.Rel.Columns {
			got = append(got, fmt.Sprintf("%s %v", col.TypeName, col.Key))
		}
		sameLines(t, got, "app.status true", "varchar false", "numeric false", "app._status false")
		if c.Rel.Identity != 'd' || c.Rel.Schema != "app" || c.Rel.Columns[2].TypeMod != 8<<16+2+4 {
			t.Errorf("identity %c, schema %q, typmod %d", c.Rel.Identity, c.Rel.Schema, c.Rel.Columns[2].TypeMod)
		}
	}
}

// Every row of a COPY may share one LSN; none may be taken for another.
func TestCopy(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		t.Parallel()
		b := setup(t, db, `create table c (id int primary key, a text)`)
		s := b.run(t, b.cfg, 0, 4)
		var rows strings.Builder
		const n = 5000
		for i := range n {
			fmt.Fprintf(&rows, "%d\ttext of row %d\n", i, i)
		}
		if _, err := b.sql.PgConn().CopyFrom(context.Background(), strings.NewReader(rows.String()), "copy c from stdin"); err != nil {
			t.Fatal(err)
		}
		lines := text(t, s.tx(t))
		if len(lines) != n {
			t.Fatalf("%d of %d rows", len(lines), n)
		}
		for i, line := range lines {
			if want := fmt.Sprintf("insert public.c new(id=%d a=text of row %d)", i, i); line != want {
				t.Fatalf("row %d is %q", i, line)
			}
		}
	})
}

// The same table gives the same *Relation, across transactions and after the server described it again.
func TestRelationPointer(t *testing.T) {
	t.Parallel()
	b := setup(t, pgtest.New(t), `create table c (id int primary key)`)
	s := b.run(t, b.cfg, 0, 4)
	var rels []*Relation
	for i, sql := range []string{"", "alter table c replica identity default", "alter table c replica identity full"} {
		if sql != "" {
			b.exec(t, sql)
		}
		b.exec(t, fmt.Sprintf("insert into c values (%d)", i))
		for c, err := range s.tx(t).Changes() {
			if err != nil {
				t.Fatal(err)
			}
			rels = append(rels, c.Rel)
		}
	}
	if rels[0] != rels[1] || rels[1] == rels[2] {
		t.Errorf("relations %p %p %p", rels[0], rels[1], rels[2])
	}
}
