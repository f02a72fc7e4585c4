package sink

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"casebook.example/audit/ledger"
)

// COPY ... (FORMAT binary): https://www.postgresql.org/docs/current/sql-copy.html. Ours is an encoder of its own because
// the general one spends more on a row of forty columns than hashing it costs.

const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

const (
	oidInt2 = 21
	oidText = 25
)

// pgEpochUS is 2000-01-01 in microseconds since 1970.
const pgEpochUS = 946684800 * 1000000

// chunkSize is how much of a COPY is sent at once.
const chunkSize = 64 << 10

// rows encodes one item after another while the connection reads: the server stores the first rows while we seal the
// later ones.
type rows struct {
	next func(b []byte) ([]byte, bool) // appends one row; false: there is none left
	buf  []byte
	off  int
	done bool
}

func newRows(next func(b []byte) ([]byte, bool)) *rows {
	return &rows{next: next, buf: append(make([]byte, 0, 2*chunkSize), copyHeader...)}
}

// Read implements io.Reader for pgconn.CopyFrom.
func (r *rows) Read(p []byte) (int, error) {
	if r.off == len(r.buf) {
		if r.done {
			return 0, io.EOF
		}
		r.buf, r.off = r.buf[:0], 0
	}
	for !r.done && len(r.buf) < chunkSize {
		var more bool
		if r.buf, more = r.next(r.buf); !more {
			r.buf = binary.BigEndian.AppendUint16(r.buf, 0xffff) // trailer
			r.done = true
		}
	}
	n := copy(p, r.buf[r.off:])
	r.off += n
	return n, nil
}

func appendNull(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }

func appendBytes[T string | []byte](b []byte, v T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}

// appendText writes "" as NULL, as the ledger hashes it.
func appendText(b []byte, s string) []byte {
	if s == "" {
		return appendNull(b)
	}
	return appendBytes(b, s)
}

func appendInt2(b []byte, v int16) []byte {
	return binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 2), uint16(v))
}

func appendInt4(b []byte, v int32) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0, 0, 0, 4), uint32(v))
}

func appendInt8(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0, 0, 0, 8), uint64(v))
}

func appendInt8OrNull(b []byte, v int64, ok bool) []byte {
	if !ok {
		return appendNull(b)
	}
	return appendInt8(b, v)
}

func appendTime(b []byte, us int64) []byte { return appendInt8(b, us-pgEpochUS) }

// appendArray writes a one-dimensional array of n elements without NULLs; element appends one with its length.
func appendArray(b []byte, oid uint32, n int, hasNull bool, element func(b []byte, i int) []byte) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	if n == 0 {
		b = binary.BigEndian.AppendUint32(b, 0)
		b = binary.BigEndian.AppendUint32(b, 0)
		b = binary.BigEndian.AppendUint32(b, oid)
	} else {
		b = binary.BigEndian.AppendUint32(b, 1)
		flags := uint32(0)
		if hasNull {
			flags = 1
		}
		b = binary.BigEndian.AppendUint32(b, flags)
		b = binary.BigEndian.AppendUint32(b, oid)
		b = binary.BigEndian.AppendUint32(b, uint32(n))
		b = binary.BigEndian.AppendUint32(b, 1)
		for i := range n {
			b = element(b, i)
		}
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// copyEntryInto copies into a month's partition: COPY into the table itself is refused because of its row-level security,
// and routing rows would cost.
func copyEntryInto(month string) string {
	return "COPY audit.entry_" + month + copyEntry
}

const copyEntry = ` (chain, seq, kind, prev, recorded_us, commitment, leaf_hash, entry_salt,
 commit_lsn, ordinal, xid, committed_at, tenant_id, application, record_type, record_id, record_name, resource, sub_resource,
 table_name, row_id, row_name, action, summary, initiator, user_id, user_email, user_name, db_user, db_app, client_addr,
 backend_pid, remark, paths, types, states, vals) FROM STDIN (FORMAT binary)`

const entryColumns = 37

// appendEntry writes one row of audit.entry.
func appendEntry(b []byte, chain int32, s *ledger.Sealed) []byte {
	e := s.Entry
	b = binary.BigEndian.AppendUint16(b, entryColumns)
	b = appendInt4(b, chain)
	b = appendInt8(b, int64(s.Seq))
	b = appendInt2(b, int16(e.Kind))
	b = appendBytes(b, s.Prev[:])
	b = appendInt8(b, s.RecordedUS)
	b = appendBytes(b, s.Commitment[:])
	b = appendBytes(b, s.LeafHash[:])
	b = appendBytes(b, s.Salt[:])

	b = appendInt8OrNull(b, int64(e.CommitLSN), e.CommitLSN != 0)
	b = appendInt8OrNull(b, e.Ordinal, e.Ordinal >= 0)
	b = appendInt8OrNull(b, int64(e.XID), e.XID != 0)
	b = appendTime(b, e.CommittedAt)
	for _, text := range [...]string{
		e.TenantID, e.Application, e.RecordType, e.RecordID, e.RecordName, e.Resource, e.SubResource, e.Table, e.RowID,
		e.RowName, e.Action, e.Summary, e.Initiator, e.UserID, e.UserEmail, e.UserName, e.DBUser, e.DBApp, e.ClientAddr,
	} {
		b = appendText(b, text)
	}
	b = appendInt8OrNull(b, int64(e.BackendPID), e.BackendPID != 0)
	b = appendText(b, e.Remark)

	n := len(e.Fields)
	b = appendArray(b, oidText, n, false, func(b []byte, i int) []byte { return appendBytes(b, e.Fields[i].Path) })
	b = appendArray(b, oidText, n, false, func(b []byte, i int) []byte { return appendBytes(b, e.Fields[i].Type) })
	b = appendArray(b, oidInt2, n, false, func(b []byte, i int) []byte { return appendInt2(b, int16(e.Fields[i].State)) })
	hasNull := false
	for i := range e.Fields {
		hasNull = hasNull || e.Fields[i].State != ledger.FieldValue
	}
	return appendArray(b, oidText, n, hasNull, func(b []byte, i int) []byte {
		if e.Fields[i].State != ledger.FieldValue {
			return appendNull(b)
		}
		return appendBytes(b, e.Fields[i].Value)
	})
}

func copyAlsoInto(month string) string {
	return "COPY audit.entry_also_" + month + " (chain, seq, committed_at, tenant_id, application, record_id) FROM STDIN (FORMAT binary)"
}

// also is one row of audit.entry_also, derived from an also.N field.
type also struct {
	seq         uint64
	committedAt int64
	record      ledger.AlsoRecord
}

func appendAlso(b []byte, chain int32, a *also) []byte {
	b = binary.BigEndian.AppendUint16(b, 6)
	b = appendInt4(b, chain)
	b = appendInt8(b, int64(a.seq))
	b = appendTime(b, a.committedAt)
	b = appendText(b, a.record.TenantID)
	b = appendText(b, a.record.Application)
	return appendBytes(b, a.record.RecordID)
}

// alsoOf reads the further records of an entry.
func alsoOf(dst []also, s *ledger.Sealed) ([]also, error) {
	for i := range s.Entry.Fields {
		f := &s.Entry.Fields[i]
		if !strings.HasPrefix(f.Path, "also.") || f.State != ledger.FieldValue {
			continue
		}
		a := also{seq: s.Seq, committedAt: s.Entry.CommittedAt}
		if err := json.Unmarshal([]byte(f.Value), &a.record); err != nil {
			return nil, fmt.Errorf("entry %d, field %s: %w", s.Seq, f.Path, err)
		}
		if a.record.TenantID == "" {
			a.record.TenantID = s.Entry.TenantID
		}
		dst = append(dst, a)
	}
	return dst, nil
}

const copyTiles = "COPY audit.tile (chain, level, index, hashes, root) FROM STDIN (FORMAT binary)"

// appendTile writes one row of audit.tile.
func appendTile(b []byte, chain int32, t *ledger.Tile) []byte {
	b = binary.BigEndian.AppendUint16(b, 5)
	b = appendInt4(b, chain)
	b = appendInt2(b, int16(t.Level))
	b = appendInt8(b, t.Index)
	b = appendBytes(b, t.Hashes)
	return appendBytes(b, t.Root[:])
}
