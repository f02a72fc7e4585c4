package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"casebook.example/audit/ledger"
)

// Verification is what Verify found.
type Verification struct {
	Chain   string `json:"chain"`
	From    uint64 `json:"from"`
	Entries uint64 `json:"entries"`
	Head    string `json:"head"` // leaf hash of the last entry, hexadecimal
}

// Verify recomputes a chain from what is stored, from entry from on up to entry to, or to the end when to is negative. A
// chain that does not hold is a *ledger.BrokenError; every other error says that nothing was decided. conn may be the
// writer's or a reader's; progress is called now and then with the number of entries done and of all.
func Verify(ctx context.Context, conn *pgx.Conn, chain string, from uint64, to int64, progress func(done, all uint64)) (*Verification, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog; SET LOCAL casebook_audit.tenants = '*'; SET LOCAL TimeZone = 'UTC'"); err != nil {
		return nil, err
	}
	var number int32
	var size int64
	var id pgtype.UUID
	var origin string
	var head []byte
	err = tx.QueryRow(ctx, `SELECT c.chain, c.chain_id, c.origin, p.size, p.head FROM audit.chain c JOIN audit.position p USING (chain) WHERE c.name = $1`, chain).
		Scan(&number, &id, &origin, &size, &head)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, newFault(ErrNotOurs, "the audit database has no chain named %q", chain)
	}
	if err != nil {
		return nil, explain(err)
	}
	v := ledger.NewVerifier(id.Bytes, origin)
	if from > 0 {
		v = ledger.NewVerifierAt(id.Bytes, from)
	}
	end := uint64(max(size, 0))
	if to >= 0 {
		end = min(end, uint64(to)+1)
	}
	further := &alsoChecker{}
	if err := verifyRows(ctx, tx, number, v, from, to, further, func(done uint64) {
		if progress != nil {
			progress(done, end-min(from, end))
		}
	}); err != nil {
		return nil, err
	}
	if to < 0 {
		last := v.Head()
		switch {
		case v.Size() != uint64(size) && !(from > uint64(size)):
			return nil, &ledger.BrokenError{Seq: min(v.Size(), uint64(size)), Detector: ledger.DetectPosition, Reason: fmt.Sprintf("the chain has %d entries, the position says %d", v.Size(), size)}
		case v.Size() > from && string(head) != string(last[:]):
			return nil, &ledger.BrokenError{Seq: v.Size() - 1, Detector: ledger.DetectPosition, Reason: "the last leaf hash is not the one of the position"}
		}
	}
	if err := further.check(ctx, tx, number, from, to); err != nil {
		return nil, err
	}
	result := &Verification{Chain: chain, From: from, Entries: v.Size() - from}
	if result.Entries > 0 {
		last := v.Head()
		result.Head = fmt.Sprintf("%x", last[:])
	}
	return result, nil
}

const verifyQuery = `SELECT seq, kind, prev, recorded_us, commitment, leaf_hash, entry_salt, commit_lsn - '0/0', ordinal, xid, committed_at,
 tenant_id, application, record_type, record_id, record_name, resource, sub_resource, table_name, row_id, row_name, action, summary,
 initiator, user_id, user_email, user_name, db_user, db_app, client_addr, backend_pid, remark, paths, types, states, vals
 FROM audit.entry WHERE chain = $1 AND seq >= $2 AND ($3 < 0 OR seq <= $3) ORDER BY seq`

// verifyRows reads through a cursor: a result of any size in constant memory.
func verifyRows(ctx context.Context, tx pgx.Tx, chain int32, v *ledger.Verifier, from uint64, to int64, further *alsoChecker, progress func(done uint64)) error {
	rows, err := tx.Query(ctx, verifyQuery, chain, int64(from), to)
	if err != nil {
		return explain(err)
	}
	defer rows.Close()
	for rows.Next() {
		row, err := scanRow(rows)
		if err != nil {
			return err
		}
		if err := v.Check(row); err != nil {
			return err
		}
		if err := further.add(row); err != nil {
			return err
		}
		if done := v.Size() - from; done%4096 == 0 {
			progress(done)
		}
	}
	return rows.Err()
}

// scanRow reads one row. What cannot have been written by us (an empty string, arrays of unequal length, a hash of another
// size) is broken, not an error of reading.
func scanRow(rows pgx.Rows) (*ledger.Row, error) {
	var r ledger.Row
	var seq int64
	var kind int16
	var prev, commitment, leafHash, salt []byte
	var lsn, ordinal, xid, pid *int64
	var committed time.Time
	var text [20]*string
	var paths, types []string
	var states []int16
	var vals []*string
	dest := []any{&seq, &kind, &prev, &r.RecordedUS, &commitment, &leafHash, &salt, &lsn, &ordinal, &xid, &committed}
	for i := range 19 {
		dest = append(dest, &text[i])
	}
	dest = append(dest, &pid, &text[19], &paths, &types, &states, &vals)
	if err := rows.Scan(dest...); err != nil {
		return nil, fmt.Errorf("read an entry: %w", err)
	}
	r.Seq = uint64(seq)
	broken := func(reason string) error {
		return &ledger.BrokenError{Seq: r.Seq, Detector: ledger.DetectCommitment, Reason: reason}
	}
	for _, h := range []struct {
		from []byte
		to   *ledger.Hash
	}{{prev, &r.Prev}, {commitment, &r.Commitment}, {leafHash, &r.LeafHash}, {salt, &r.Salt}} {
		if len(h.from) != len(h.to) {
			return nil, broken("a hash or the salt is missing or of the wrong length")
		}
		copy(h.to[:], h.from)
	}
	e := &r.Entry
	e.Kind, e.CommittedAt, e.Ordinal = ledger.Kind(kind), committed.UnixMicro(), -1
	if lsn != nil {
		e.CommitLSN = ledger.LSN(*lsn)
	}
	if ordinal != nil {
		e.Ordinal = *ordinal
	}
	if xid != nil {
		e.XID = uint32(*xid)
	}
	if pid != nil {
		e.BackendPID = uint32(*pid)
	}
	for i, to := range []*string{
		&e.TenantID, &e.Application, &e.RecordType, &e.RecordID, &e.RecordName, &e.Resource, &e.SubResource, &e.Table, &e.RowID, &e.RowName,
		&e.Action, &e.Summary, &e.Initiator, &e.UserID, &e.UserEmail, &e.UserName, &e.DBUser, &e.DBApp, &e.ClientAddr, &e.Remark,
	} {
		if text[i] == nil {
			continue
		}
		if *text[i] == "" {
			return nil, broken("a column is empty that we would have written as NULL")
		}
		*to = *text[i]
	}
	if len(types) != len(paths) || len(states) != len(paths) || len(vals) != len(paths) {
		return nil, broken("the arrays of the fields are of unequal length")
	}
	e.Fields = make([]ledger.Field, len(paths))
	for i := range paths {
		f := ledger.Field{Path: paths[i], Type: types[i], State: ledger.FieldState(states[i])}
		if states[i] < 0 || states[i] > 255 || (f.State == ledger.FieldValue) != (vals[i] != nil) {
			return nil, broken("field " + paths[i] + " has a value where its state says none, or none where it says one")
		}
		if vals[i] != nil {
			f.Value = *vals[i]
		}
		e.Fields[i] = f
	}
	return &r, nil
}

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
