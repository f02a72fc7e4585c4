package removal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
	"casebook.example/audit/removal"
	"casebook.example/audit/signer"
	"casebook.example/audit/sink"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bench is a log with a record that somebody wants gone.
type bench struct {
	db   *pgtest.DB
	cfg  removal.Config
	keys []*signer.Key // anna, ben: approvers; eve: none
}

func newBench(t *testing.T, db *pgtest.DB) *bench {
	t.Helper()
	b := &bench{db: db}
	for _, name := range []string{"anna.example", "ben.example", "eve.example"} {
		_, key, err := signer.Generate(name)
		if err != nil {
			t.Fatal(err)
		}
		b.keys = append(b.keys, key)
	}
	days := func(n int) func(time.Time) time.Time {
		return func(at time.Time) time.Time { return at.AddDate(0, 0, n) }
	}
	b.cfg = removal.Config{
		Sink: sink.Config{DSN: db.DSN(pgtest.Writer), Chain: pgtest.Chain}, DSN: db.DSN(""),
		Approvers: []string{b.keys[0].VKey, b.keys[1].VKey}, WALUntil: days(1), BackupsUntil: days(35),
	}
	return b
}

const (
	secret  = "XqDoomedNoteXq"
	name    = "XqSullivanXq Case"
	visible = "XqVisibleXq"
)

var march = time.Date(2026, 3, 10, 14, 2, 3, 456789000, time.UTC).UnixMicro()

// fill writes: 0 genesis, 1 directory of the snapshot, 2 create of c1, 3 update of a child with c1 as owner and p1 as further record, 4 another record's
// entry, 5 boundary.
func (b *bench) fill(t *testing.T) {
	t.Helper()
	w, err := sink.OpenWait(t.Context(), b.cfg.Sink, zaptest.NewLogger(t), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	state := `{"cur":{"id":"c1","case_name":"` + name + `","tenant_id":"10000000-0000-4000-8000-000000000001"}}`
	value := func(path, v string) ledger.Field {
		return ledger.Field{Path: path, Type: "text", State: ledger.FieldValue, Value: v}
	}
	rows := []mapping.StoredRow{{Key: mapping.Key{Table: "cases.cases", Row: "c1"}, State: []byte(state)}}
	names := []mapping.RecordName{{TenantID: "t1", Application: "Engage", RecordType: "Case", RecordID: "c1", Name: name}, {TenantID: "t1", Application: "Engage", RecordType: "Case", RecordID: "c2", Name: visible}}
	seed := &ledger.Entry{Kind: ledger.KindDirectory, Action: "directory", Initiator: ledger.InitiatorSystem,
		Fields: []ledger.Field{{Path: "row", Type: "directory", State: ledger.FieldValue, Value: `{"table":"cases.cases","row":"c1","state":` + state + `}`}, {Path: "row", Type: "directory", State: ledger.FieldValue, Value: `{"table":"cases.cases","row":"c2","state":{"cur":{}}}`}}}
	if err := w.SeedRows(t.Context(), []*ledger.Entry{seed}, rows, names, []mapping.UserName{{TenantID: "t1", UserID: "u1", Email: "maria@hfs.example", Name: "Maria"}}); err != nil {
		t.Fatal(err)
	}
	change := func(ordinal int64, record, recordName, table, row string, fields ...ledger.Field) *ledger.Entry {
		return &ledger.Entry{Kind: ledger.KindChange, CommitLSN: 0x100, Ordinal: ordinal, XID: 77, CommittedAt: march, TenantID: "t1", Application: "Engage", RecordType: "Case",
			RecordID: record, RecordName: recordName, Resource: "Cases", Table: table, RowID: row, Action: ledger.ActionCreate, Summary: "Case created",
			Initiator: ledger.InitiatorUser, UserID: "u1", UserEmail: "maria@hfs.example", UserName: "Maria", DBUser: "app", BackendPID: 42, Fields: fields}
	}
	count := func(path string, n int) ledger.Field {
		return ledger.Field{Path: path, Type: "int8", State: ledger.FieldValue, Value: fmt.Sprint(n)}
	}
	batch, err := w.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Rollback()
	err = batch.Entries(t.Context(), []*ledger.Entry{
		change(0, "c1", name, "cases.cases", "c1", value("new.case_name", name), ledger.Field{Path: "new.closed_on", Type: "date"}),
		change(1, "c1", name, "cases.notes", "n1", value("also.0", `{"application":"People","record_type":"Person","record_id":"p1","record_name":"P"}`), value("old.body", visible), value("new.body", secret)),
		change(2, "c2", visible, "cases.cases", "c2", value("new.body", visible)),
		{Kind: ledger.KindTransaction, CommitLSN: 0x100, Ordinal: 3, XID: 77, CommittedAt: march, Action: "commit",
			Fields: []ledger.Field{{Path: "prev_commit_lsn", Type: "pg_lsn"}, count("changes", 3), count("entries", 3), count("noise", 0), count("excluded", 0)}},
	})
	if err == nil {
		err = batch.Commit(t.Context(), sink.Upto{CommitLSN: 0x100, EndLSN: 0x130, CommittedAt: march})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) desk(t *testing.T, do func(d *removal.Desk)) {
	t.Helper()
	d, err := removal.Open(t.Context(), b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	do(d)
}

func (b *bench) order(t *testing.T, r removal.Request) (o *removal.Ordered) {
	t.Helper()
	if r.Reason == "" {
		r.Reason = "court order 12/3"
	}
	r.Authority, r.By = "County Court", "dba"
	b.desk(t, func(d *removal.Desk) {
		var err error
		if o, err = d.Order(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	})
	return o
}

func (b *bench) approve(t *testing.T, order uint64, keys ...int) {
	t.Helper()
	for _, k := range keys {
		b.desk(t, func(d *removal.Desk) {
			if _, err := d.Approve(t.Context(), order, b.keys[k].VKey, b.keys[k]); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (b *bench) carryOut(t *testing.T, order uint64) (done *removal.Done, err error) {
	t.Helper()
	b.desk(t, func(d *removal.Desk) { done, err = d.CarryOut(t.Context(), order) })
	return done, err
}

// refused wants a refusal that says this.
func refused(t *testing.T, err error, says string) {
	t.Helper()
	var r *removal.RefusedError
	if !errors.As(err, &r) || !strings.Contains(r.Reason, says) {
		t.Errorf("refused with %v, want %q", err, says)
	}
}

// verify gives the verdicts of Go and of SQL.
func (b *bench) verify(t *testing.T) (found *sink.Verification, detector string, bad, removed int64) {
	t.Helper()
	conn := b.db.Conn(t)
	found, err := sink.Verify(t.Context(), conn, pgtest.Chain, sink.Scope{To: -1, Approvers: b.cfg.Approvers}, nil)
	var broken *ledger.BrokenError
	if errors.As(err, &broken) {
		detector = broken.Detector
		t.Logf("verify: %v", err)
	} else if err != nil {
		detector = err.Error()
	}
	if err := conn.QueryRow(t.Context(), "SELECT bad, removed FROM audit.verify_chain()").Scan(&bad, &removed); err != nil {
		t.Fatal(err)
	}
	return found, detector, bad, removed
}

// holds wants a log that holds, with this many entries that lack something.
func (b *bench) holds(t *testing.T, lacking int64) *sink.Verification {
	t.Helper()
	found, detector, bad, removed := b.verify(t)
	if detector != "" || bad != 0 || removed != lacking {
		t.Fatalf("the log must hold: %q, SQL finds %d bad and %d with something removed, want %d", detector, bad, removed, lacking)
	}
	return found
}

// inFiles says which words stand in the data files of the server, without its WAL.
func (b *bench) inFiles(t *testing.T, words ...string) (found []string) {
	t.Helper()
	b.db.Exec(t, "checkpoint")
	conn := b.db.Conn(t)
	defer conn.Close(t.Context())
	var oid string
	if err := conn.QueryRow(t.Context(), "SELECT oid::text FROM pg_database WHERE datname = current_database()").Scan(&oid); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(b.db.Cluster.Dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // the server is at work: files come and go
		}
		if d.IsDir() && d.Name() == "pg_wal" {
			return filepath.SkipDir
		}
		if !d.Type().IsRegular() || !strings.Contains(path, string(filepath.Separator)+"base"+string(filepath.Separator)+oid+string(filepath.Separator)) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for _, word := range words {
			if bytes.Contains(text, []byte(word)) {
				found = append(found, word)
				t.Logf("%q stands in %s", word, path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestFields(t *testing.T) {
	t.Parallel()
	pgtest.EachAudit(t, func(t *testing.T, db *pgtest.DB) {
		b := newBench(t, db)
		b.fill(t)
		db.Exec(t, "ANALYZE") // samples of the values come into the statistics
		if got := b.inFiles(t, secret); len(got) == 0 {
			t.Fatal("the value is not found where it is: the search is worth nothing")
		}
		o := b.order(t, removal.Request{Entries: []uint64{3}, Fields: []string{"new.body"}, Level: ledger.LevelFields})
		if o.Entries != 1 || len(o.Also) != 0 {
			t.Errorf("ordered %+v", o)
		}
		_, err := b.carryOut(t, o.Seq)
		refused(t, err, "0 valid approvals")
		b.approve(t, o.Seq, 0)
		b.desk(t, func(d *removal.Desk) {
			_, err := d.Approve(t.Context(), o.Seq, b.keys[0].VKey, b.keys[0])
			refused(t, err, "by this key already")
			_, err = d.Approve(t.Context(), o.Seq, b.keys[2].VKey, b.keys[2])
			refused(t, err, "redaction.approvers")
		})
		_, err = b.carryOut(t, o.Seq)
		refused(t, err, "1 valid approvals")
		b.holds(t, 0)
		b.approve(t, o.Seq, 1)
		done, err := b.carryOut(t, o.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if done.Fields != 1 || done.WALUntil == "" || done.BackupsUntil == "" {
			t.Errorf("done %+v", done)
		}
		found := b.holds(t, 1)
		if len(found.Removed) != 1 || found.Removed[0] != (sink.Removed{Order: o.Seq, Entries: 1}) {
			t.Errorf("verify says %+v", found.Removed)
		}
		if got := b.inFiles(t, secret); len(got) != 0 {
			t.Error("the value is still in the files")
		}
		if got := b.inFiles(t, visible); len(got) == 0 {
			t.Error("what was not ordered is gone too")
		}
		_, err = b.carryOut(t, o.Seq)
		refused(t, err, "already")

		// What was removed stays removed, and only that.
		for _, attack := range []string{
			`UPDATE audit.entry SET vals[3] = 'back', states[3] = 1 WHERE seq = 3`,
			`UPDATE audit.entry SET digests[28] = sha256('x') WHERE seq = 3`,
			`UPDATE audit.entry SET digests[27] = sha256('x'), salts[27] = NULL, vals[2] = NULL, states[2] = 5 WHERE seq = 3`,
			`UPDATE audit.entry SET paths[3] = 'new.other' WHERE seq = 3`,
			`UPDATE audit.entry SET user_name = NULL WHERE seq = 3`,
		} {
			undo := b.undo(t)
			db.Exec(t, attack)
			if _, detector, _, _ := b.verify(t); detector != ledger.DetectRemoval && detector != ledger.DetectCommitment {
				t.Errorf("%s: %q", attack, detector)
			}
			undo()
		}
		b.holds(t, 1)
		// Without keys of approvers nothing is decided, and nothing is called tampering.
		if _, err := sink.Verify(t.Context(), db.Conn(t), pgtest.Chain, sink.Scope{To: -1}, nil); !errors.Is(err, ledger.ErrNoApprovers) {
			t.Errorf("without approvers: %v", err)
		}
		// Another policy of the verifier does not know eve's friend: then it is tampering.
		_, err = sink.Verify(t.Context(), db.Conn(t), pgtest.Chain, sink.Scope{To: -1, Approvers: []string{b.keys[0].VKey, b.keys[2].VKey}}, nil)
		var broken *ledger.BrokenError
		if !errors.As(err, &broken) || broken.Detector != ledger.DetectRemoval {
			t.Errorf("an approval by a key that does not count: %v", err)
		}
	})
}

// undo saves the entries and gives the way back.
func (b *bench) undo(t *testing.T) func() {
	t.Helper()
	b.db.Exec(t, "CREATE TABLE saved AS SELECT * FROM audit.entry")
	return func() {
		t.Helper()
		b.db.Exec(t, "DELETE FROM audit.entry; INSERT INTO audit.entry SELECT * FROM saved; DROP TABLE saved")
	}
}

// A whole record: entries, further records, names, the directory and its entries.
func TestEntry(t *testing.T) {
	t.Parallel()
	pgtest.EachAudit(t, func(t *testing.T, db *pgtest.DB) {
		b := newBench(t, db)
		b.fill(t)
		db.Exec(t, "ANALYZE")
		o := b.order(t, removal.Request{Record: "c1", Level: ledger.LevelEntry})
		if o.Entries != 3 || o.Directory != 1 {
			t.Errorf("ordered %+v", o)
		}
		b.approve(t, o.Seq, 0, 1)
		done, err := b.carryOut(t, o.Seq)
		if err != nil {
			t.Fatal(err)
		}
		if done.Entries != 3 || done.Also != 1 || done.Names != 1 || done.Directory != 1 {
			t.Errorf("done %+v", done)
		}
		b.holds(t, 3)
		if got := b.inFiles(t, secret, name); len(got) != 0 {
			t.Errorf("still in the files: %q", got)
		}
		if got := b.inFiles(t, visible, "maria@hfs.example"); len(got) < 2 {
			t.Errorf("only %q is left of what was not ordered", got)
		}
		var left int
		if err := db.Conn(t).QueryRow(t.Context(), `SELECT (SELECT count(*) FROM audit.entry_also) + (SELECT count(*) FROM audit.record_name WHERE record_id = 'c1')
			+ (SELECT count(*) FROM audit.directory WHERE state::text LIKE '%Xq%')`).Scan(&left); err != nil || left != 0 {
			t.Errorf("%d derived rows are left (%v)", left, err)
		}
		var tenant string
		if err := db.Conn(t).QueryRow(t.Context(), `SELECT state #>> '{cur,tenant_id}' FROM audit.directory WHERE row_id = 'c1'`).Scan(&tenant); err != nil || tenant == "" {
			t.Errorf("the way to the tenant is gone from the directory: %q, %v", tenant, err)
		}
		// The daemon goes on.
		w, err := sink.OpenWait(t.Context(), b.cfg.Sink, zaptest.NewLogger(t), prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
	})
}

func TestSeal(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Audit(t))
	b.fill(t)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b.desk(t, func(d *removal.Desk) {
		_, err := d.Order(t.Context(), removal.Request{Entries: []uint64{3}, Level: ledger.LevelSeal, Reason: "r", Authority: "a", By: "b"})
		refused(t, err, "age-keygen")
	})
	b.cfg.Recipient = identity.Recipient().String()
	o := b.order(t, removal.Request{Entries: []uint64{3}, Fields: []string{"new.body", "user_name"}, Level: ledger.LevelSeal})
	b.approve(t, o.Seq, 0, 1)
	if _, err := b.carryOut(t, o.Seq); err != nil {
		t.Fatal(err)
	}
	b.holds(t, 1)
	if got := b.inFiles(t, secret); len(got) != 0 {
		t.Error("the value is still in the files")
	}
	b.desk(t, func(d *removal.Desk) {
		other, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Unseal(t.Context(), o.Seq, "dba", other)
		refused(t, err, "does not open")
		list, err := d.Unseal(t.Context(), o.Seq, "dba", identity)
		if err != nil || len(list) != 1 || len(list[0].Fields) != 2 || list[0].Fields[0].Value != "Maria" || list[0].Fields[1].Value != secret {
			t.Errorf("unsealed %+v, %v", list, err)
		}
	})
	b.holds(t, 1)
}

// What a superuser does by hand is seen, both ways.
func TestByHand(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Audit(t))
	b.fill(t)
	// remove does what carry-out does to entry 3, field 27, with every digest right.
	const remove = `UPDATE audit.entry e SET entry_salt = NULL, salts = s.salts, digests = s.digests, states[3] = 5, vals[3] = NULL FROM (
		SELECT array_agg(CASE WHEN i = 27 THEN NULL ELSE sha256('\x10'::bytea || entry_salt || int4send(i)) END ORDER BY i) AS salts,
		  array_agg(CASE WHEN i = 27 THEN sha256('\x11'::bytea || sha256('\x10'::bytea || entry_salt || int4send(i)) || int4send(i) || int4send(8) || 'new.body'::bytea || int4send(4) || 'text'::bytea || '\x01'::bytea || int4send(14) || 'XqDoomedNoteXq'::bytea) END ORDER BY i) AS digests
		FROM audit.entry, generate_series(0, 27) i WHERE seq = 3) s WHERE e.seq = 3`
	wants := func(what, by string) {
		t.Helper()
		if _, detector, bad, _ := b.verify(t); detector != by || bad == 0 {
			t.Errorf("%s: %q, SQL finds %d bad", what, detector, bad)
		}
	}
	want := func(what string) { t.Helper(); wants(what, ledger.DetectRemoval) }
	undo := b.undo(t)
	b.db.Exec(t, remove)
	want("no order")
	undo()

	o := b.order(t, removal.Request{Entries: []uint64{3}, Fields: []string{"new.body"}, Level: ledger.LevelFields})
	undo = b.undo(t)
	b.db.Exec(t, remove)
	want("an order that nobody approved")
	undo()
	b.approve(t, o.Seq, 0)
	undo = b.undo(t)
	b.db.Exec(t, remove)
	want("one approval")
	undo()
	b.approve(t, o.Seq, 1)
	undo = b.undo(t)
	b.db.Exec(t, remove)
	wants("nobody says that it was done", ledger.DetectUnfinished)
	undo()

	// An order that claims what did not happen.
	w, err := sink.OpenWait(t.Context(), b.cfg.Sink, zaptest.NewLogger(t), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	removals, err := w.Removals(t.Context(), b.cfg.Approvers)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.AppendEvents(t.Context(), []*ledger.Entry{removals.Order(o.Seq).DoneEntry()}); err != nil {
		t.Fatal(err)
	}
	want("said to be done, and still there")
	b.db.Exec(t, remove)
	b.holds(t, 1)
}

// An approval counts for its order alone, and a writer of the log cannot make one up.
func TestApprovals(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Audit(t))
	b.fill(t)
	first := b.order(t, removal.Request{Entries: []uint64{3}, Fields: []string{"new.body"}, Level: ledger.LevelFields})
	b.approve(t, first.Seq, 0, 1)
	second := b.order(t, removal.Request{Entries: []uint64{4}, Level: ledger.LevelEntry})
	w, err := sink.OpenWait(t.Context(), b.cfg.Sink, zaptest.NewLogger(t), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	removals, err := w.Removals(t.Context(), b.cfg.Approvers)
	if err != nil {
		t.Fatal(err)
	}
	one, two := removals.Order(first.Seq), removals.Order(second.Seq)
	var forged []*ledger.Entry
	for _, key := range b.keys[:2] {
		replayed, err := ledger.Approve(one.Order, one.Seq, one.Leaf, key)
		if err != nil {
			t.Fatal(err)
		}
		forged = append(forged, two.ApprovalEntry(key.VKey, replayed))
	}
	eve, err := ledger.Approve(two.Order, two.Seq, two.Leaf, b.keys[2])
	if err != nil {
		t.Fatal(err)
	}
	forged = append(forged, two.ApprovalEntry(b.keys[2].VKey, eve), two.ApprovalEntry(b.keys[0].VKey, eve))
	if err := w.AppendEvents(t.Context(), forged); err != nil {
		t.Fatal(err)
	}
	w.Close()
	_, err = b.carryOut(t, second.Seq)
	refused(t, err, "0 valid approvals")
	b.holds(t, 0)
}

func TestHold(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Audit(t))
	b.fill(t)
	o := b.order(t, removal.Request{Entries: []uint64{3}, Fields: []string{"new.body"}, Level: ledger.LevelFields})
	b.approve(t, o.Seq, 0, 1)
	hold := func(on bool) (err error) {
		b.desk(t, func(d *removal.Desk) { _, err = d.Hold(t.Context(), "p1", on, "litigation", "dba") })
		return err
	}
	if err := hold(true); err != nil {
		t.Fatal(err)
	}
	refused(t, hold(true), "already")
	// p1 is a further record of the entry.
	_, err := b.carryOut(t, o.Seq)
	refused(t, err, "legal hold")
	b.desk(t, func(d *removal.Desk) {
		_, err := d.Order(t.Context(), removal.Request{Entries: []uint64{3}, Level: ledger.LevelEntry, Reason: "r", Authority: "a", By: "b"})
		refused(t, err, "legal hold")
	})
	// Nor does the function of the database.
	if _, err := b.db.Conn(t).Exec(t.Context(), "SELECT audit.remove_ordered(1, $1, 3, '{}', NULL)", int64(o.Seq)); err == nil || !strings.Contains(err.Error(), "legal hold") {
		t.Errorf("the database: %v", err)
	}
	if err := hold(false); err != nil {
		t.Fatal(err)
	}
	if _, err := b.carryOut(t, o.Seq); err != nil {
		t.Fatal(err)
	}
	b.holds(t, 1)
}

// Where the log is signed, nothing is destroyed before order and approvals are under a checkpoint.
func TestAnchored(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Audit(t))
	b.fill(t)
	o := b.order(t, removal.Request{Entries: []uint64{3}, Fields: []string{"new.body"}, Level: ledger.LevelFields})
	b.approve(t, o.Seq, 0, 1)
	b.cfg.Signed = true
	_, err := b.carryOut(t, o.Seq)
	refused(t, err, "signed checkpoint")

	dir := t.TempDir()
	private, key, err := signer.Generate(pgtest.Origin)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key")
	if err := errors.Join(signer.WriteKeyFile(file, private, ""), signer.WriteState(file+".state", key)); err != nil {
		t.Fatal(err)
	}
	notary, err := signer.Open([]*signer.Key{key}, file+".state")
	if err != nil {
		t.Fatal(err)
	}
	defer notary.Close()
	w, err := sink.OpenWait(t.Context(), b.cfg.Sink, zaptest.NewLogger(t), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.AppendEvents(t.Context(), []*ledger.Entry{sink.KeyEvent([]string{key.VKey}, nil)}); err != nil {
		t.Fatal(err)
	}
	size := w.Position().Size
	w.Close()
	b.cfg.Signed = false // the log itself says that it is signed
	_, err = b.carryOut(t, o.Seq)
	refused(t, err, "signed checkpoint")
	checkpoints, err := sink.OpenCheckpoints(t.Context(), b.cfg.Sink)
	if err != nil {
		t.Fatal(err)
	}
	defer checkpoints.Close()
	at, err := checkpoints.At(t.Context(), size)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := notary.Sign(t.Context(), signer.Request{Checkpoint: at})
	if err != nil {
		t.Fatal(err)
	}
	if err := checkpoints.Store(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	if _, err := b.carryOut(t, o.Seq); err != nil {
		t.Fatal(err)
	}
	b.holds(t, 1)
}

// The roles: nobody but the redactor may call the function, and it does nothing that was not ordered.
func TestRights(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Audit(t))
	b.fill(t)
	o := b.order(t, removal.Request{Entries: []uint64{3}, Fields: []string{"new.body"}, Level: ledger.LevelFields})
	for _, role := range []string{pgtest.Writer, pgtest.Reader} {
		if _, err := b.db.ConnAs(t, role).Exec(t.Context(), "SELECT audit.remove_ordered(1, $1, 3, '{}', NULL)", int64(o.Seq)); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v", role, err)
		}
	}
	redactor := b.db.ConnAs(t, pgtest.Redactor)
	for _, sql := range []string{
		fmt.Sprintf("SELECT audit.remove_ordered(1, %d, 3, '{}', NULL)", o.Seq), // not approved
		"SELECT audit.remove_ordered(1, 2, 3, '{}', NULL)",                      // no order
		"SELECT vals FROM audit.entry", "UPDATE audit.entry SET remark = 'x'", "DELETE FROM audit.entry", "SELECT audit.forget(1, '', '', '[]')", "DELETE FROM audit.sealed",
	} {
		if _, err := redactor.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	b.approve(t, o.Seq, 0, 1)
	for _, sql := range []string{
		fmt.Sprintf("SELECT audit.remove_ordered(1, %d, 4, '{}', NULL)", o.Seq), // not named
		fmt.Sprintf("SELECT audit.remove_ordered(1, %d, 3, '{}', NULL)", o.Seq), // not its digests
		fmt.Sprintf("SELECT audit.remove_ordered(1, %d, 3, array_fill(sha256('x'), ARRAY[28]), NULL)", o.Seq),
	} {
		if _, err := redactor.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s: done", sql)
		}
	}
	b.holds(t, 0)
}

// What was not vacuumed is not said to be gone: an older transaction still sees it.
func TestOldSnapshot(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Audit(t))
	b.fill(t)
	o := b.order(t, removal.Request{Entries: []uint64{3}, Fields: []string{"new.body"}, Level: ledger.LevelFields})
	b.approve(t, o.Seq, 0, 1)
	old := b.db.Conn(t)
	if _, err := old.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_sleep(0)"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	b.desk(t, func(d *removal.Desk) {
		if _, err := d.CarryOut(ctx, o.Seq); err == nil {
			t.Error("said to be done while an older transaction sees the value")
		}
	})
	if _, detector, _, _ := b.verify(t); detector != ledger.DetectUnfinished {
		t.Errorf("half way: %q", detector)
	}
	if _, err := old.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.carryOut(t, o.Seq); err != nil {
		t.Fatal(err)
	}
	b.holds(t, 1)
	if got := b.inFiles(t, secret); len(got) != 0 {
		t.Error("the value is still in the files")
	}
}

// What retention says of a month: its classes, legal holds, and the open end of the tree.
func TestMonths(t *testing.T) {
	t.Parallel()
	b := newBench(t, pgtest.Audit(t))
	b.fill(t)
	months := func(classes ...removal.Class) (m removal.Month) {
		t.Helper()
		b.desk(t, func(d *removal.Desk) {
			list, err := d.Months(t.Context(), classes)
			if err != nil || len(list) < 2 {
				t.Fatalf("%+v, %v", list, err)
			}
			for _, other := range list[1:] {
				if other.Past {
					t.Errorf("%+v", other)
				}
			}
			m = list[0]
		})
		return m
	}
	now := time.Date(2033, 5, 1, 0, 0, 0, 0, time.UTC)
	all := removal.Class{Application: removal.AnyApplication, KeptSince: now.AddDate(-7, 0, 0)}
	says := func(m removal.Month, want ...string) {
		t.Helper()
		if m.Month != "2026-03" || m.Entries != 4 || m.Past != (len(want) == 0) || strings.Join(m.Held, "; ") != strings.Join(want, "; ") {
			t.Errorf("%+v, want %q", m, want)
		}
	}
	const open = "entries that are in no full tile of the tree"
	says(months(all), open)
	// Entries until the first tile is full.
	w, err := sink.OpenWait(t.Context(), b.cfg.Sink, zaptest.NewLogger(t), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	var beats []*ledger.Entry
	for range 256 {
		beats = append(beats, &ledger.Entry{Kind: ledger.KindHeartbeat, Action: "heartbeat", Initiator: ledger.InitiatorSystem})
	}
	if err := w.AppendEvents(t.Context(), beats); err != nil {
		t.Fatal(err)
	}
	w.Close()
	says(months(all))
	says(months(), "entries without an application: kept for ever", "Engage: kept for ever")
	says(months(removal.Class{Application: "Engage", KeptSince: now}), "entries without an application: kept for ever")
	says(months(all, removal.Class{Application: "Engage", KeptSince: time.Date(2026, 3, 31, 23, 0, 0, 0, time.UTC)}), "Engage: kept since 2026-03-31")
	b.desk(t, func(d *removal.Desk) {
		if _, err := d.Hold(t.Context(), "p1", true, "litigation", "dba"); err != nil {
			t.Fatal(err)
		}
	})
	says(months(all), "legal hold of record p1")
}
