package sink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
)

// alsoChecker recomputes audit.entry_also. It compares the number of rows and an order-free sum of their hashes, so that
// it needs no memory for them.
type alsoChecker struct {
	rows int64
	sum  uint64
}

// furtherOf is what an entry adds to both.
func furtherOf(r *ledger.Row) (a alsoChecker, err error) {
	further, err := alsoOf(nil, &ledger.Sealed{Entry: &r.Entry, Seq: r.Seq})
	if err != nil {
		return a, &ledger.BrokenError{Seq: r.Seq, Detector: ledger.DetectDerived, Reason: "a field also.N is not JSON"}
	}
	for i := range further {
		a.rows++
		a.sum += alsoHash(&further[i])
	}
	return a, nil
}

func (a *alsoChecker) add(further alsoChecker) {
	a.rows += further.rows
	a.sum += further.sum
}

// alsoHash is FNV-1a over lengths and values: it finds differences, the chain holds the evidence.
func alsoHash(f *also) uint64 {
	h := uint64(14695981039346656037)
	number := func(n uint64) {
		for range 8 {
			h = (h ^ n&0xff) * 1099511628211
			n >>= 8
		}
	}
	number(f.seq)
	number(uint64(f.committedAt))
	for _, text := range [...]string{f.record.TenantID, f.record.Application, f.record.RecordID} {
		number(uint64(len(text)))
		for i := range len(text) {
			h = (h ^ uint64(text[i])) * 1099511628211
		}
	}
	return h
}

func (a *alsoChecker) check(ctx context.Context, tx pgx.Tx, chain int32, from uint64, to int64) error {
	var n int64
	var sum uint64
	err := binaryRows(ctx, tx, `SELECT seq, committed_at, coalesce(tenant_id, ''), coalesce(application, ''), record_id FROM audit.entry_also
		WHERE chain = $1 AND seq >= $2 AND ($3::bigint < 0 OR seq <= $3)`, func(v [][]byte) error {
		if len(v[0]) != 8 || len(v[1]) != 8 {
			return errors.New("read audit.entry_also: this is not the binary format of its columns")
		}
		f := also{seq: binary.BigEndian.Uint64(v[0]), committedAt: int64(binary.BigEndian.Uint64(v[1])) + pgEpochUS}
		f.record.TenantID, f.record.Application, f.record.RecordID = string(v[2]), string(v[3]), string(v[4])
		n++
		sum += alsoHash(&f)
		return nil
	}, int64(chain), int64(from), to)
	if err != nil {
		return explain(err)
	}
	if n != a.rows || sum != a.sum {
		return &ledger.BrokenError{Seq: from, Detector: ledger.DetectDerived, Reason: fmt.Sprintf("audit.entry_also has %d rows that are not the %d that the entries give", n, a.rows)}
	}
	return nil
}
