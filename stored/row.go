package stored

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
)

// RowColumns are the columns of audit.entry that ScanRow reads.
const RowColumns = `seq, kind, prev, recorded_us, commitment, leaf_hash, entry_salt, commit_lsn - '0/0', ordinal, xid, committed_at,
 tenant_id, application, record_type, record_id, record_name, resource, sub_resource, table_name, row_id, row_name, action, summary,
 initiator, user_id, user_email, user_name, db_user, db_app, client_addr, backend_pid, remark, paths, types, states, vals, salts, digests`

// ScanRow reads a row of RowColumns. What cannot have been written by us (an empty string, arrays of unequal length, a hash of another
// size) is a *ledger.BrokenError, not an error of reading.
func ScanRow(rows pgx.Rows) (*ledger.Row, error) {
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
	var salts, digests [][]byte
	dest := []any{&seq, &kind, &prev, &r.RecordedUS, &commitment, &leafHash, &salt, &lsn, &ordinal, &xid, &committed}
	for i := range 19 {
		dest = append(dest, &text[i])
	}
	dest = append(dest, &pid, &text[19], &paths, &types, &states, &vals, &salts, &digests)
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
		if h.to == &r.Salt && salt == nil && digests != nil {
			continue // something was removed
		}
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
	if salts == nil && digests == nil {
		return &r, nil
	}
	if salt != nil || len(salts) != len(digests) || len(digests) != ledger.NumFixed+len(paths) {
		return nil, broken("salts and digests do not fit the fields")
	}
	r.Kept = make([]ledger.Kept, len(digests))
	for i := range r.Kept {
		from := salts[i]
		if r.Kept[i].Removed = digests[i] != nil; r.Kept[i].Removed {
			from = digests[i]
		}
		if salts[i] != nil && digests[i] != nil || len(from) != len(ledger.Hash{}) {
			return nil, broken(fmt.Sprintf("field %d has both a salt and a digest, or neither", i))
		}
		copy(r.Kept[i].Hash[:], from)
	}
	return &r, nil
}
