package stored

import (
	"errors"
	"math"

	"casebook.example/audit/ledger"
)

// RawColumns are the columns of audit.entry that DecodeRow reads. They are to be asked for in the binary format, which is that of the
// send functions of each type: https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-FORMAT-CODES.
const RawColumns = `seq, kind, prev, recorded_us, commitment, leaf_hash, entry_salt, commit_lsn, ordinal, xid, committed_at,
 tenant_id, application, record_type, record_id, record_name, resource, sub_resource, table_name, row_id, row_name, action, summary,
 initiator, user_id, user_email, user_name, db_user, db_app, client_addr, backend_pid, remark, paths, types, states, vals, salts, digests`

// NumRaw is the number of RawColumns.
const NumRaw = 38

// pgEpochUS is 2000-01-01 in microseconds since 1970.
const pgEpochUS = 946684800 * 1000000

var errBinary = errors.New("read an entry: this is not the binary format of its columns")

// DecodeRow reads a row of RawColumns in the binary format. A value that is NULL has null set. The strings of the row are parts of
// values, which cost no copy. What cannot have been written by us is a *ledger.BrokenError, as with ScanRow.
func DecodeRow(values *[NumRaw]string, null *[NumRaw]bool) (*ledger.Row, error) {
	r := &ledger.Row{}
	e := &r.Entry
	var numbers [NumRaw]int64
	for _, c := range [...]struct{ at, size int }{{0, 8}, {1, 2}, {3, 8}, {7, 8}, {8, 8}, {9, 8}, {10, 8}, {30, 8}} {
		if null[c.at] {
			continue
		}
		v := values[c.at]
		switch {
		case len(v) != c.size:
			return nil, errBinary
		case c.size == 2:
			numbers[c.at] = int64(int16(uint16(v[0])<<8 | uint16(v[1])))
		default:
			numbers[c.at] = int64(be64(v))
		}
	}
	if null[0] || null[1] || null[3] || null[10] {
		return nil, &ledger.BrokenError{Seq: uint64(numbers[0]), Detector: ledger.DetectLeaf, Reason: "a column of the leaf is NULL"}
	}
	r.Seq, r.RecordedUS = uint64(numbers[0]), numbers[3]
	broken := func(reason string) error {
		return &ledger.BrokenError{Seq: r.Seq, Detector: ledger.DetectCommitment, Reason: reason}
	}
	for _, h := range [...]struct {
		at int
		to *ledger.Hash
	}{{2, &r.Prev}, {4, &r.Commitment}, {5, &r.LeafHash}, {6, &r.Salt}} {
		if h.at == 6 && null[6] && !null[37] {
			continue // something was removed
		}
		if null[h.at] || len(values[h.at]) != len(h.to) {
			return nil, broken("a hash or the salt is missing or of the wrong length")
		}
		copy(h.to[:], values[h.at])
	}
	if numbers[1] < 0 || numbers[1] > math.MaxUint8 || numbers[10] == math.MaxInt64 || numbers[10] == math.MinInt64 {
		return nil, broken("the kind or the time is none that we would have written")
	}
	if numbers[9] < 0 || numbers[9] > math.MaxUint32 || numbers[30] < 0 || numbers[30] > math.MaxUint32 || !null[8] && numbers[8] < 0 {
		return nil, broken("a number is out of its range")
	}
	for _, at := range [...]int{7, 9, 30} {
		if !null[at] && numbers[at] == 0 {
			return nil, broken("a column is 0 that we would have written as NULL")
		}
	}
	e.Kind, e.CommittedAt, e.Ordinal = ledger.Kind(numbers[1]), numbers[10]+pgEpochUS, -1
	e.CommitLSN, e.XID, e.BackendPID = ledger.LSN(numbers[7]), uint32(numbers[9]), uint32(numbers[30])
	if !null[8] {
		e.Ordinal = numbers[8]
	}
	for i, to := range [...]*string{
		&e.TenantID, &e.Application, &e.RecordType, &e.RecordID, &e.RecordName, &e.Resource, &e.SubResource, &e.Table, &e.RowID, &e.RowName,
		&e.Action, &e.Summary, &e.Initiator, &e.UserID, &e.UserEmail, &e.UserName, &e.DBUser, &e.DBApp, &e.ClientAddr, &e.Remark,
	} {
		at := 11 + i
		if i == 19 {
			at = 31
		}
		if null[at] {
			continue
		}
		if values[at] == "" {
			return nil, broken("a column is empty that we would have written as NULL")
		}
		*to = values[at]
	}
	var lists [4]array
	for i := range lists {
		if null[32+i] {
			return nil, broken("the arrays of the fields are NULL")
		}
		ok := false
		if lists[i], ok = openArray(values[32+i]); !ok {
			return nil, broken("the arrays of the fields have more than one dimension")
		}
	}
	n := lists[0].n
	if lists[1].n != n || lists[2].n != n || lists[3].n != n {
		return nil, broken("the arrays of the fields are of unequal length")
	}
	if n > len(values[32])/4 {
		return nil, errBinary
	}
	e.Fields = make([]ledger.Field, n)
	for i := range e.Fields {
		f := &e.Fields[i]
		var state string
		var have [4]bool
		for j, to := range [...]*string{&f.Path, &f.Type, &state, &f.Value} {
			ok := false
			if *to, have[j], ok = lists[j].next(); !ok {
				return nil, errBinary
			}
		}
		if have[2] && len(state) != 2 {
			return nil, errBinary
		}
		if !have[0] || !have[1] || !have[2] || state[0] != 0 || (state[1] == byte(ledger.FieldValue)) != have[3] {
			return nil, broken("field " + f.Path + " has a value where its state says none, or none where it says one")
		}
		f.State = ledger.FieldState(state[1])
	}
	if null[36] && null[37] {
		return r, nil
	}
	return r, decodeKept(r, values, null, broken)
}

// decodeKept reads what is left of the secrets of a row that something was removed from.
func decodeKept(r *ledger.Row, values *[NumRaw]string, null *[NumRaw]bool, broken func(string) error) error {
	n := ledger.NumFixed + len(r.Entry.Fields)
	salts, isSalts := openArray(values[36])
	digests, isDigests := openArray(values[37])
	if !null[6] || null[36] || null[37] || !isSalts || !isDigests || salts.n != n || digests.n != n {
		return broken("salts and digests do not fit the fields")
	}
	r.Kept = make([]ledger.Kept, n)
	for i := range r.Kept {
		salt, hasSalt, ok1 := salts.next()
		digest, hasDigest, ok2 := digests.next()
		if !ok1 || !ok2 {
			return errBinary
		}
		if hasSalt == hasDigest || len(salt)+len(digest) != len(ledger.Hash{}) {
			return broken("a field has both a salt and a digest, or neither")
		}
		r.Kept[i].Removed = hasDigest
		copy(r.Kept[i].Hash[:], salt+digest)
	}
	return nil
}

func be64(s string) uint64 {
	_ = s[7]
	return uint64(s[0])<<56 | uint64(s[1])<<48 | uint64(s[2])<<40 | uint64(s[3])<<32 | uint64(s[4])<<24 | uint64(s[5])<<16 | uint64(s[6])<<8 | uint64(s[7])
}

// array is what is left of the elements of a one-dimensional array, as array_send writes it: dimensions, a flag, the type, then for
// each dimension its length and lower bound, then each element behind its length.
type array struct {
	n    int
	rest string
}

func openArray(s string) (array, bool) {
	if len(s) < 12 {
		return array{}, false
	}
	switch be32(s) {
	case 0:
		return array{}, len(s) == 12
	case 1:
		if len(s) < 20 {
			return array{}, false
		}
		n := be32(s[12:])
		return array{int(n), s[20:]}, n <= uint32(len(s))
	}
	return array{}, false
}

// next is one element; have is false for NULL.
func (a *array) next() (v string, have, ok bool) {
	if len(a.rest) < 4 {
		return "", false, false
	}
	size := int32(be32(a.rest))
	a.rest = a.rest[4:]
	switch {
	case size == -1:
		return "", false, true
	case size < 0 || int(size) > len(a.rest):
		return "", false, false
	}
	v, a.rest = a.rest[:size], a.rest[size:]
	return v, true, true
}

func be32(s string) uint32 {
	_ = s[3]
	return uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
}
