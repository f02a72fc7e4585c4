package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
)

// alsoChecker recomputes audit.entry_also. It compares the number of rows and an order-free sum of their hashes, so that
// it needs no memory for them.
type alsoChecker struct {
	rows int64
	sum  uint64
}

func (a *alsoChecker) add(r *ledger.Row) error {
	sealed := &ledger.Sealed{Entry: &r.Entry, Seq: r.Seq}
	further, err := alsoOf(nil, sealed)
	if err != nil {
		return &ledger.BrokenError{Seq: r.Seq, Detector: ledger.DetectDerived, Reason: "a field also.N is not JSON"}
	}
	for _, f := range further {
		a.rows++
		a.sum += alsoHash(f)
	}
	return nil
}

func alsoHash(f also) uint64 {
	text, _ := json.Marshal([]any{f.seq, f.committedAt, f.record.TenantID, f.record.Application, f.record.RecordID})
	var h uint64 = 14695981039346656037 // FNV-1a: this finds differences, the chain holds the evidence
	for _, c := range text {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

func (a *alsoChecker) check(ctx context.Context, tx pgx.Tx, chain int32, from uint64, to int64) error {
	rows, err := tx.Query(ctx, `SELECT seq, committed_at, coalesce(tenant_id, ''), coalesce(application, ''), record_id FROM audit.entry_also
		WHERE chain = $1 AND seq >= $2 AND ($3 < 0 OR seq <= $3)`, chain, int64(from), to)
	if err != nil {
		return explain(err)
	}
	var seq int64
	var committed time.Time
	var f also
	var n int64
	var sum uint64
	_, err = pgx.ForEachRow(rows, []any{&seq, &committed, &f.record.TenantID, &f.record.Application, &f.record.RecordID}, func() error {
		f.seq, f.committedAt = uint64(seq), committed.UnixMicro()
		n++
		sum += alsoHash(f)
		return nil
	})
	if err != nil {
		return err
	}
	if n != a.rows || sum != a.sum {
		return &ledger.BrokenError{Seq: from, Detector: ledger.DetectDerived, Reason: fmt.Sprintf("audit.entry_also has %d rows that are not the %d that the entries give", n, a.rows)}
	}
	return nil
}
