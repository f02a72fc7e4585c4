package e2e

import (
	"strconv"
	"testing"

	"casebook.example/audit/ledger"
)

// entry is what the tests look at of one row of audit.entry.
type entry struct {
	seq       int64
	kind      ledger.Kind
	commit    ledger.LSN
	ordinal   int64
	xid       uint32
	table     string
	row       string // row_id
	action    string
	summary   string
	initiator string
	user      string
	dbUser    string
	remark    string
	paths     []string
	states    []int16
	values    []string
}

// field gives the value of a path; ok is false when the entry has none.
func (e *entry) field(path string) (value string, state ledger.FieldState, ok bool) {
	for i, p := range e.paths {
		if p == path {
			return e.values[i], ledger.FieldState(e.states[i]), true
		}
	}
	return "", 0, false
}

// number is field for numbers; a path that is missing fails the test.
func (e *entry) number(t *testing.T, path string) int64 {
	t.Helper()
	text, _, ok := e.field(path)
	n, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil {
		t.Fatalf("entry %d: %s is %q (%t)", e.seq, path, text, ok)
	}
	return n
}

// entries reads the whole log in its order.
func (w *world) entries(t *testing.T) []*entry {
	t.Helper()
	rows, err := w.auditConn(t).Query(t.Context(), `
		select seq, kind, coalesce(commit_lsn, '0/0')::text, coalesce(ordinal, -1), coalesce(xid, 0),
		  coalesce(table_name, ''), coalesce(row_id, ''), coalesce(action, ''), coalesce(summary, ''), coalesce(initiator, ''),
		  coalesce(user_id, ''), coalesce(db_user, ''), coalesce(remark, ''),
		  paths, states, array(select coalesce(v, '') from unnest(vals) with ordinality u (v, n) order by n)
		from audit.entry order by seq`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []*entry
	for rows.Next() {
		e := &entry{}
		var commit string
		var kind, xid int64
		if err := rows.Scan(&e.seq, &kind, &commit, &e.ordinal, &xid, &e.table, &e.row, &e.action, &e.summary,
			&e.initiator, &e.user, &e.dbUser, &e.remark, &e.paths, &e.states, &e.values); err != nil {
			t.Fatal(err)
		}
		if e.commit, err = ledger.ParseLSN(commit); err != nil {
			t.Fatal(err)
		}
		e.kind, e.xid = ledger.Kind(kind), uint32(xid)
		list = append(list, e)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// checkChain lets the program verify the log, and Postgres in plain SQL.
func (w *world) checkChain(t *testing.T) {
	t.Helper()
	r := w.mustRun(t, "verify")
	t.Logf("verify: %s", lastLines(r.stdout, 3))
	verdict := w.auditValue(t, `select format('%s of %s bad', bad, entries) from audit.verify_chain()`)
	if want := w.auditValue(t, `select format('0 of %s bad', size) from audit.position`); verdict != want {
		t.Errorf("audit.verify_chain: %s, want %s", verdict, want)
	}
}

// checkTransactions holds the log's transactions against the oracle's: the same ones, in the same order, each with all
// of its row changes, each change once.
func checkTransactions(t *testing.T, entries []*entry, oracle []sourceTx) {
	var last ledger.LSN // commit LSN of the transaction before
	var open []*entry   // entries of the transaction that is not closed yet
	n := 0
	for _, e := range entries {
		switch {
		case e.kind == ledger.KindChange || e.kind == ledger.KindTruncate:
			open = append(open, e)
			continue
		case e.kind == ledger.KindGap:
			t.Errorf("entry %d is a gap: %s", e.seq, e.remark)
			continue
		case e.kind != ledger.KindTransaction:
			continue
		}
		if n == len(oracle) {
			t.Fatalf("the log has a transaction more than the source: %s", e.commit)
		}
		want := oracle[n]
		n++
		changes := e.number(t, "changes")
		if e.commit != want.commit || changes != want.changes || e.xid != want.xid {
			t.Fatalf("transaction %d of the log is %s (%d) with %d changes, of the source %s (%d) with %d",
				n, e.commit, e.xid, changes, want.commit, want.xid, want.changes)
		}
		if e.ordinal != changes {
			t.Errorf("%s: its end has ordinal %d, with %d changes", e.commit, e.ordinal, changes)
		}
		if sum := e.number(t, "entries") + e.number(t, "noise") + e.number(t, "excluded"); sum != changes {
			t.Errorf("%s: %d of %d changes are accounted for", e.commit, sum, changes)
		}
		if e.number(t, "entries") != int64(len(open)) {
			t.Errorf("%s: its end counts %d entries, there are %d", e.commit, e.number(t, "entries"), len(open))
		}
		if previous, _, _ := e.field("prev_commit_lsn"); n > 1 && previous != last.String() {
			t.Errorf("%s: its end says that %s went before, but it was %s", e.commit, previous, last)
		}
		ordinal := int64(-1)
		for _, o := range open {
			if o.commit != e.commit || o.ordinal <= ordinal || o.ordinal >= changes {
				t.Errorf("entry %d is (%s, %d) behind ordinal %d of (%s, %d)", o.seq, o.commit, o.ordinal, ordinal, e.commit, changes)
			}
			ordinal = o.ordinal
		}
		last, open = e.commit, nil
	}
	if n != len(oracle) {
		t.Errorf("the log has %d transactions, the source %d; the first that is missing is %s", n, len(oracle), oracle[n].commit)
	}
	if len(open) > 0 {
		t.Errorf("%d entries behind the last transaction", len(open))
	}
}

// checkUsers holds each entry's user against the writer who made the change.
func checkUsers(t *testing.T, entries []*entry, tr *truth) {
	compared, signed := 0, 0
	lastTx := entries[len(entries)-1].xid // the test's own
	for _, e := range entries {
		if e.kind != ledger.KindChange || e.xid == lastTx {
			continue
		}
		compared++
		user := e.user
		if e.initiator == ledger.InitiatorSystem { // by a rule of the mapping; who was at work stands beside it
			user, _, _ = e.field("ctx.audit.user_id")
		} else if e.initiator != ledger.InitiatorUser {
			t.Fatalf("entry %d (%s %s) is by %s: %s", e.seq, e.action, e.table, e.initiator, e.remark)
		}
		if e.dbUser != appRole {
			t.Fatalf("entry %d (%s %s) is of the role %q", e.seq, e.action, e.table, e.dbUser)
		}
		if !tr.users[e.xid][user] {
			t.Fatalf("entry %d (%s %s) of transaction %d is of user %q, its writers were %v", e.seq, e.action, e.table, e.xid, user, tr.users[e.xid])
		}
		// The writers sign their notes. A signature that did not change is not in the entry.
		if by, _, ok := e.field("new.contact_method"); ok {
			signed++
			if by != user {
				t.Fatalf("entry %d (%s %s) is of user %q, but was made by %q", e.seq, e.action, e.table, user, by)
			}
		}
	}
	if compared < 1000 || signed < 20 {
		t.Errorf("only %d entries and %d signatures to compare", compared, signed)
	}
}
