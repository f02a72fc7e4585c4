package sink_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
	"casebook.example/audit/sink"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func open(t *testing.T, db *pgtest.DB) *sink.Writer {
	t.Helper()
	// The server lets the lock of a writer that was closed go a moment later.
	w, err := sink.OpenWait(t.Context(), sink.Config{DSN: db.DSN(pgtest.Writer), Chain: pgtest.Chain}, zaptest.NewLogger(t), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// march is a commit time in a month that is not this one.
var march = time.Date(2026, 3, 10, 14, 2, 3, 456789000, time.UTC).UnixMicro()

// transaction makes the entries of one source transaction: n changes and the boundary.
func transaction(lsn, prev ledger.LSN, at int64, n int) []*ledger.Entry {
	var entries []*ledger.Entry
	for i := range n {
		entries = append(entries, &ledger.Entry{
			Kind: ledger.KindChange, CommitLSN: lsn, Ordinal: int64(i), XID: 77, CommittedAt: at, TenantID: "t1", Application: "Engage",
			RecordType: "Case", RecordID: "c1", RecordName: "J. Sullivan Case", Resource: "Service Enrollment", SubResource: "Service Enrollments",
			Table: "services.service_enrollments", RowID: fmt.Sprint(i), RowName: "Weekly – ümlaut", Action: ledger.ActionCreate,
			Summary: "Service Enrollment added", Initiator: ledger.InitiatorUser, UserID: "u1", UserEmail: "maria@hfs.example", UserName: "Maria",
			DBUser: "app", BackendPID: 4242,
			Fields: []ledger.Field{
				{Path: "also.0", Type: "record", State: ledger.FieldValue, Value: `{"application":"People","record_type":"Person","record_id":"p1","record_name":"J. Sullivan"}`},
				{Path: "new.units", Type: "numeric", State: ledger.FieldValue, Value: "12.00"},
				{Path: "new.comments", Type: "text", State: ledger.FieldValue, Value: ""},
				{Path: "old.units", Type: "numeric", State: ledger.FieldNull},
				{Path: "new.ssn", Type: "text", State: ledger.FieldMasked},
			},
		})
	}
	field := func(path string, n int) ledger.Field {
		return ledger.Field{Path: path, Type: "int8", State: ledger.FieldValue, Value: fmt.Sprint(n)}
	}
	link := ledger.Field{Path: "prev_commit_lsn", Type: "pg_lsn"}
	if prev != 0 {
		link.State, link.Value = ledger.FieldValue, prev.String()
	}
	return append(entries, &ledger.Entry{
		Kind: ledger.KindTransaction, CommitLSN: lsn, Ordinal: int64(n), XID: 77, CommittedAt: at, Action: "commit",
		Fields: []ledger.Field{link, field("changes", n), field("entries", n), field("noise", 0), field("excluded", 0)},
	})
}

func appendTx(t *testing.T, w *sink.Writer, lsn, prev ledger.LSN, at int64, n int) {
	t.Helper()
	b, err := w.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Rollback()
	if err := b.Entries(t.Context(), transaction(lsn, prev, at, n)); err != nil {
		t.Fatal(err)
	}
	rows := []mapping.StoredRow{{Key: mapping.Key{Table: "cases.cases", Row: "c1"}, State: []byte(`{"n":1}`)}}
	if err := b.Directory(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	if err := b.Names(t.Context(), []mapping.RecordName{{TenantID: "t1", Application: "Engage", RecordType: "Case", RecordID: "c1", Name: "J. Sullivan Case"}},
		[]mapping.UserName{{TenantID: "t1", UserID: "u1", Email: "maria@hfs.example", Name: "Maria"}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context(), sink.Upto{CommitLSN: lsn, EndLSN: lsn + 48, CommittedAt: at, CompleteAt: at}); err != nil {
		t.Fatal(err)
	}
}

// verify gives the verdicts of Go and of SQL.
func verify(t *testing.T, db *pgtest.DB) (bad int64, err error) {
	t.Helper()
	conn := db.Conn(t)
	_, err = sink.Verify(t.Context(), conn, pgtest.Chain, sink.Scope{To: -1}, nil)
	var entries int64
	if scan := conn.QueryRow(t.Context(), "SELECT entries, bad FROM audit.verify_chain()").Scan(&entries, &bad); scan != nil {
		t.Fatal(scan)
	}
	return bad, err
}

func TestAppendAndVerify(t *testing.T) {
	t.Parallel()
	pgtest.EachAudit(t, func(t *testing.T, db *pgtest.DB) {
		w := open(t, db)
		appendTx(t, w, 0x100, 0, march, 3)
		// A batch over the end of a month, in a time zone where it isn't, and a year later.
		appendTx(t, w, 0x200, 0x100, time.Date(2026, 3, 31, 23, 59, 59, 999999000, time.UTC).UnixMicro(), 2)
		appendTx(t, w, 0x300, 0x200, time.Date(2027, 4, 1, 0, 0, 0, 0, time.UTC).UnixMicro(), 1)
		if at := w.Position(); at.Size != 1+4+3+2 || at.CommitLSN != 0x300 || at.EndLSN != 0x330 || at.AckedLSN != 0x330 {
			t.Errorf("position %+v", at)
		}
		if bad, err := verify(t, db); err != nil || bad != 0 {
			t.Errorf("an honest chain: %v, SQL finds %d bad", err, bad)
		}
		rows, err := w.Load(t.Context(), []mapping.Key{{Table: "cases.cases", Row: "c1"}, {Table: "cases.cases", Row: "nobody"}})
		if err != nil || len(rows) != 1 || string(rows[0].State) != `{"n": 1}` {
			t.Errorf("directory: %v %v", rows, err)
		}
		// Opened again it stands where it stood.
		before := w.Position()
		w.Close()
		if again := open(t, db).Position(); again != before {
			t.Errorf("opened again at %+v, was at %+v", again, before)
		}
	})
}

func TestTampering(t *testing.T) {
	t.Parallel()
	for _, attack := range []struct {
		name, sql string
		detector  string
		sqlSees   bool // the chain check in SQL does not look at contents
	}{
		{"edit a value", `UPDATE audit.entry SET vals[2] = '13.00' WHERE seq = 2`, ledger.DetectCommitment, false},
		{"edit a name", `UPDATE audit.entry SET user_name = 'Tanya' WHERE seq = 2`, ledger.DetectCommitment, false},
		{"name to nothing", `UPDATE audit.entry SET user_name = NULL WHERE seq = 2`, ledger.DetectCommitment, false},
		{"NULL to empty", `UPDATE audit.entry SET remark = '' WHERE seq = 2`, ledger.DetectCommitment, false},
		{"masked to NULL", `UPDATE audit.entry SET states[5] = 0 WHERE seq = 2`, ledger.DetectCommitment, false},
		{"empty to NULL", `UPDATE audit.entry SET vals[3] = NULL WHERE seq = 2`, ledger.DetectCommitment, false},
		{"swap two fields", `UPDATE audit.entry SET vals = vals[1:1] || vals[3:3] || vals[2:2] || vals[4:] WHERE seq = 2`, ledger.DetectCommitment, false},
		{"move in time", `UPDATE audit.entry SET committed_at = committed_at + interval '1 microsecond' WHERE seq = 2`, ledger.DetectCommitment, false},
		{"another commitment", `UPDATE audit.entry SET commitment = sha256('x') WHERE seq = 2`, ledger.DetectLeaf, true},
		{"recorded earlier", `UPDATE audit.entry SET recorded_us = recorded_us - 1 WHERE seq = 2`, ledger.DetectLeaf, true},
		{"another leaf hash", `UPDATE audit.entry SET leaf_hash = sha256('x') WHERE seq = 2`, ledger.DetectLeaf, true},
		{"rehash a leaf", `UPDATE audit.entry e SET commitment = sha256('x'), leaf_hash = sha256('\x00414c4501'::bytea || substr(int2send(kind), 2) || uuid_send(c.chain_id) || int8send(seq) || prev || int8send(recorded_us) || sha256('x')) FROM audit.chain c WHERE seq = 2`, ledger.DetectCommitment, true},
		{"remove from the middle", `DELETE FROM audit.entry WHERE seq = 2`, ledger.DetectDensity, true},
		{"remove the first", `DELETE FROM audit.entry WHERE seq = 0`, ledger.DetectDensity, true},
		{"remove the tail", `DELETE FROM audit.entry WHERE seq >= 6`, ledger.DetectPosition, true},
		{"remove everything", `DELETE FROM audit.entry`, ledger.DetectPosition, true},
		{"swap two entries", `ALTER TABLE audit.entry DROP CONSTRAINT entry_pkey; UPDATE audit.entry SET seq = 5 - seq WHERE seq IN (2, 3)`, ledger.DetectChain, true},
		{"double an entry", `ALTER TABLE audit.entry DROP CONSTRAINT entry_pkey; INSERT INTO audit.entry SELECT * FROM audit.entry WHERE seq = 2`, ledger.DetectDensity, true},
		{"hash to NULL", `ALTER TABLE audit.entry ALTER commitment DROP NOT NULL; UPDATE audit.entry SET commitment = NULL WHERE seq = 2`, ledger.DetectCommitment, true},
		{"remove a further record", `DELETE FROM audit.entry_also WHERE seq = 2`, ledger.DetectDerived, false},
		{"another further record", `UPDATE audit.entry_also SET record_id = 'p2' WHERE seq = 2`, ledger.DetectDerived, false},
		{"another origin", `UPDATE audit.chain SET origin = 'audit.example/other'`, ledger.DetectChain, true},
	} {
		t.Run(attack.name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.Audit(t)
			w := open(t, db)
			appendTx(t, w, 0x100, 0, march, 3)
			appendTx(t, w, 0x200, 0x100, march+1, 2)
			w.Close()
			db.Exec(t, attack.sql)
			bad, err := verify(t, db)
			var broken *ledger.BrokenError
			if !errors.As(err, &broken) || broken.Detector != attack.detector {
				t.Errorf("Go says %v, want the detector %s", err, attack.detector)
			}
			if (bad > 0) != attack.sqlSees {
				t.Errorf("SQL finds %d bad", bad)
			}
		})
	}
}

// TestRights: what the writer and the reader must not be able to do is refused by the server.
func TestRights(t *testing.T) {
	t.Parallel()
	db := pgtest.Audit(t)
	w := open(t, db)
	appendTx(t, w, 0x100, 0, march, 2)
	for _, user := range []string{pgtest.Writer, pgtest.Reader} {
		conn := db.ConnAs(t, user)
		for _, statement := range []string{
			"UPDATE audit.entry SET summary = 'x'", "DELETE FROM audit.entry", "TRUNCATE audit.entry", "ALTER TABLE audit.entry DISABLE ROW LEVEL SECURITY",
			"DROP TABLE audit.entry_2026_03", "UPDATE audit.entry_2026_03 SET summary = 'x'", "DELETE FROM audit.entry_2026_03", "SELECT FROM audit.entry_2026_03",
			"UPDATE audit.chain SET origin = 'x'", "DELETE FROM audit.position", "CREATE TABLE audit.x ()", "SET ROLE casebook_audit_owner",
			"DELETE FROM audit.record_name", "UPDATE " + "public.casebook_audit_schema SET version = 9",
		} {
			_, err := conn.Exec(t.Context(), statement)
			var pgErr *pgconn.PgError
			if !errors.As(err, &pgErr) || pgErr.Code != "42501" {
				t.Errorf("%s as %s: %v, want it refused", statement, user, err)
			}
		}
	}
	reader := db.ConnAs(t, pgtest.Reader)
	for _, statement := range []string{"INSERT INTO audit.entry_2026_03 DEFAULT VALUES", "UPDATE audit.position SET size = 0", "SELECT FROM audit.directory", "SELECT audit.ensure_partitions('2026-01-01', 1)"} {
		if _, err := reader.Exec(t.Context(), statement); err == nil {
			t.Errorf("%s as the reader went through", statement)
		}
	}
	for tenants, want := range map[string]int{"": 0, "t1": 2, "t2": 0, "t2,t1": 2, "*": 4} {
		var n int
		if _, err := reader.Exec(t.Context(), "SELECT set_config('casebook_audit.tenants', $1, false)", tenants); err != nil {
			t.Fatal(err)
		}
		if err := reader.QueryRow(t.Context(), "SELECT count(*) FROM audit.entry").Scan(&n); err != nil || n != want {
			t.Errorf("for tenants %q the reader sees %d entries (%v), want %d", tenants, n, err, want)
		}
	}
}

func TestOneWriter(t *testing.T) {
	t.Parallel()
	db := pgtest.Audit(t)
	first := open(t, db)
	cfg := sink.Config{DSN: db.DSN(pgtest.Writer), Chain: pgtest.Chain}
	if _, err := sink.Open(t.Context(), cfg, zaptest.NewLogger(t), prometheus.NewRegistry()); !errors.Is(err, sink.ErrHeld) {
		t.Fatalf("a second writer: %v", err)
	}
	// A standby takes over when the first is gone.
	took := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() {
		w, err := sink.OpenWait(ctx, cfg, zaptest.NewLogger(t), prometheus.NewRegistry())
		if err == nil {
			w.Close()
		}
		took <- err
	}()
	appendTx(t, first, 0x100, 0, march, 1)
	first.Close()
	if err := <-took; err != nil {
		t.Fatalf("the standby: %v", err)
	}
}

// TestFenced: a writer whose chain was moved under it (its lock was lost, say) stores nothing.
func TestFenced(t *testing.T) {
	t.Parallel()
	db := pgtest.Audit(t)
	w := open(t, db)
	db.Exec(t, "UPDATE audit.position SET size = size + 1")
	b, err := w.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Rollback()
	if err := b.Entries(t.Context(), transaction(0x100, 0, march, 1)); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context(), sink.Upto{CommitLSN: 0x100, EndLSN: 0x130}); !errors.Is(err, sink.ErrMoved) {
		t.Fatalf("commit: %v", err)
	}
	b.Rollback()
	var n int
	if err := db.Conn(t).QueryRow(t.Context(), "SELECT count(*) FROM audit.entry").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d entries (%v), want the genesis alone", n, err)
	}
}

// TestRollback: after a batch that was given up the chain goes on where it stood.
func TestRollback(t *testing.T) {
	t.Parallel()
	db := pgtest.Audit(t)
	w := open(t, db)
	b, err := w.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Entries(t.Context(), transaction(0x100, 0, march, 5)); err != nil {
		t.Fatal(err)
	}
	b.Rollback()
	appendTx(t, w, 0x100, 0, march, 2)
	if bad, err := verify(t, db); err != nil || bad != 0 {
		t.Errorf("%v, SQL finds %d bad", err, bad)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	try := func(db *pgtest.DB, chain string) error {
		w, err := sink.Open(t.Context(), sink.Config{DSN: db.DSN(pgtest.Writer), Chain: chain}, zaptest.NewLogger(t), prometheus.NewRegistry())
		if err == nil {
			w.Close()
		}
		return err
	}
	db := pgtest.Audit(t)
	if err := try(db, "no such chain"); !errors.Is(err, sink.ErrNotOurs) {
		t.Errorf("another chain: %v", err)
	}
	if err := try(pgtest.New(t), pgtest.Chain); !errors.Is(err, sink.ErrNotOurs) {
		t.Errorf("an empty database: %v", err)
	}
	db.Exec(t, "UPDATE public.casebook_audit_schema SET version = 99")
	if err := try(db, pgtest.Chain); !errors.Is(err, sink.ErrVersion) {
		t.Errorf("a newer version: %v", err)
	}
	db.Exec(t, "UPDATE public.casebook_audit_schema SET version = 0")
	if err := try(db, pgtest.Chain); !errors.Is(err, sink.ErrVersion) {
		t.Errorf("an older version: %v", err)
	}
}
