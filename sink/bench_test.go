package sink_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/sink"
)

// BenchmarkAppend stores batches of 8,192 entries as a service enrollment makes them.
func BenchmarkAppend(b *testing.B) {
	db := pgtest.Audit(b)
	w, err := sink.Open(context.Background(), sink.Config{DSN: db.DSN(pgtest.Writer), Chain: pgtest.Chain}, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	const size = 8192
	at := time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC).UnixMicro()
	lsn, n := ledger.LSN(0x1000), 0
	for b.Loop() {
		lsn += 0x1000
		entries := enrollments(lsn, at, n, size)
		n += size
		batch, err := w.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := batch.Entries(b.Context(), entries); err != nil {
			b.Fatal(err)
		}
		if err := batch.Commit(b.Context(), sink.Upto{CommitLSN: lsn, EndLSN: lsn + 8}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/entry")
	var bytes, indexes int64
	if err := db.Conn(b).QueryRow(context.Background(), "SELECT pg_table_size('audit.entry_2026_03'), pg_indexes_size('audit.entry_2026_03')").Scan(&bytes, &indexes); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(bytes)/float64(n), "table-bytes/entry")
	b.ReportMetric(float64(indexes)/float64(n), "index-bytes/entry")
}

// enrollments are size entries as service enrollments make them.
func enrollments(lsn ledger.LSN, at int64, n, size int) []*ledger.Entry {
	entries := make([]*ledger.Entry, size)
	for i := range entries {
		n++
		entries[i] = &ledger.Entry{
			Kind: ledger.KindChange, CommitLSN: lsn, Ordinal: int64(i), XID: 77, CommittedAt: at, TenantID: "10000000-0000-4000-8000-000000000001", Application: "Engage",
			RecordType: "Case", RecordID: fmt.Sprintf("50000000-0000-4000-8000-%012d", n%5000), RecordName: "J. Sullivan Case", Resource: "Service Enrollment",
			SubResource: "Service Enrollments", Table: "services.service_enrollments", RowID: fmt.Sprintf("71000000-0000-4000-8000-%012d", n),
			RowName: "Weekly family counseling - J. Sullivan", Action: ledger.ActionCreate, Summary: "Service Enrollment added", Initiator: ledger.InitiatorUser,
			UserID: fmt.Sprintf("20000000-0000-4000-8000-%012d", n%300), UserEmail: "maria.alvarez@hfs.example", UserName: "Maria Alvarez", DBUser: "app", DBApp: "web",
			BackendPID: 4242,
		}
		e := entries[i]
		field := func(path, typ, value string) {
			e.Fields = append(e.Fields, ledger.Field{Path: path, Type: typ, State: ledger.FieldValue, Value: value})
		}
		field("also.1", "record", `{"application":"People","record_type":"Person","record_id":"40000000-0000-4000-8000-000000000001","record_name":"J. Sullivan"}`)
		field("new.kind", "app.enrollment_kind", "provider_offering")
		field("new.case_id", "uuid", e.RecordID)
		field("newname.case_id", "text", "J. Sullivan")
		field("new.person_id", "uuid", "40000000-0000-4000-8000-000000000001")
		field("newname.person_id", "text", "J. Sullivan")
		field("new.service_type_id", "int8", "1")
		field("newname.service_type_id", "text", "Family Counseling")
		field("new.status", "app.enrollment_status", "pending")
		field("new.starts_on", "date", "2026-03-16")
		field("new.ends_on", "date", "2026-06-15")
		field("new.units", "numeric", "12.00")
		field("new.unit_cost", "numeric", "85.00")
		field("new.total_cost", "numeric", "1020.00")
	}
	return entries
}

// BenchmarkVerify verifies one chain as often as it is asked to: all of it, and chain and tree alone.
func BenchmarkVerify(b *testing.B) {
	db := pgtest.Audit(b)
	w, err := sink.Open(context.Background(), sink.Config{DSN: db.DSN(pgtest.Writer), Chain: pgtest.Chain}, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	const size = 8192
	at := time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC).UnixMicro()
	for n := 0; n < 40*size; n += size {
		lsn := ledger.LSN(0x1000 * (n + 1))
		batch, err := w.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := batch.Entries(b.Context(), enrollments(lsn, at, n, size)); err != nil {
			b.Fatal(err)
		}
		if err := batch.Commit(b.Context(), sink.Upto{CommitLSN: lsn, EndLSN: lsn + 8}); err != nil {
			b.Fatal(err)
		}
	}
	db.Exec(b, "VACUUM (FREEZE, ANALYZE) audit.entry")
	conn := db.ConnAs(b, pgtest.Reader)
	for _, c := range []struct {
		name  string
		scope sink.Scope
		unit  string
	}{{"all", sink.Scope{To: -1}, "entries/s"}, {"leaves", sink.Scope{To: -1, Leaves: true}, "leaves/s"}} {
		b.Run(c.name, func(b *testing.B) {
			entries := uint64(0)
			var before, after syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
			for b.Loop() {
				found, err := sink.Verify(b.Context(), conn, pgtest.Chain, c.scope, nil)
				if err != nil {
					b.Fatal(err)
				}
				entries += found.Entries
			}
			b.ReportMetric(float64(entries)/b.Elapsed().Seconds(), c.unit)
			// What it takes on a machine where others work too; the server's part comes on top.
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			b.ReportMetric(float64(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano())/float64(entries), "cpu-ns/entry")
		})
	}
}
