package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
)

// The first byte of every hash input.
const (
	tagLeaf       = 0x00
	tagSalt       = 0x10
	tagField      = 0x11
	tagCommitment = 0x12
	tagGenesis    = 0x13
	tagManifest   = 0x15
)

// Hash is a SHA-256.
type Hash [sha256.Size]byte

// LeafSize is the length of every leaf.
const LeafSize = 101

const leafMagic = "ALE\x01"

// Leaf is what the chain is made of: no name, no table, no actor, only a commitment to them.
type Leaf struct {
	Kind       Kind
	ChainID    [16]byte
	Seq        uint64
	Prev       Hash
	RecordedUS int64
	Commitment Hash
}

// Append writes the 101 bytes of the leaf behind b.
func (l *Leaf) Append(b []byte) []byte {
	b = append(b, leafMagic...)
	b = append(b, byte(l.Kind))
	b = append(b, l.ChainID[:]...)
	b = binary.BigEndian.AppendUint64(b, l.Seq)
	b = append(b, l.Prev[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(l.RecordedUS))
	return append(b, l.Commitment[:]...)
}

// Hash is the RFC 6962 leaf hash, which is the chain's hash too.
func (l *Leaf) Hash() Hash {
	var room [1 + LeafSize]byte
	b := append(room[:0], tagLeaf)
	return sha256.Sum256(l.Append(b))
}

// Genesis is prev of a chain's first leaf.
func Genesis(origin string) Hash {
	return sha256.Sum256(append([]byte{tagGenesis}, origin...))
}

// Hasher computes commitments without allocating. It belongs to one goroutine.
type Hasher struct {
	buf     []byte // of one field
	digests []byte // of the commitment's input
	number  [40]byte
}

// NewHasher makes a Hasher.
func NewHasher() *Hasher { return &Hasher{} }

// fixedField names one fixed column of an entry. number appends its text to b, false where it is NULL; text is the column
// itself where it is text.
type fixedField struct {
	path, typ string
	number    func(e *Entry, b []byte) ([]byte, bool)
	text      func(e *Entry) string
}

func textField(path string, text func(e *Entry) string) fixedField {
	return fixedField{path: path, typ: "text", text: text}
}

func numberField(path, typ string, number func(e *Entry, b []byte) ([]byte, bool)) fixedField {
	return fixedField{path: path, typ: typ, number: number}
}

// NumFixed is the number of fixed fields, which come first in every commitment.
const NumFixed = 25

// fixedFields is the order in which the fixed columns are hashed. It is part of the format.
var fixedFields = [NumFixed]fixedField{
	numberField("commit_lsn", "pg_lsn", func(e *Entry, b []byte) ([]byte, bool) {
		return e.CommitLSN.append(b), e.CommitLSN != 0
	}),
	numberField("ordinal", "int8", func(e *Entry, b []byte) ([]byte, bool) {
		return strconv.AppendInt(b, e.Ordinal, 10), e.Ordinal >= 0
	}),
	numberField("xid", "xid", func(e *Entry, b []byte) ([]byte, bool) {
		return strconv.AppendUint(b, uint64(e.XID), 10), e.XID != 0
	}),
	numberField("committed_at", "int8", func(e *Entry, b []byte) ([]byte, bool) { return strconv.AppendInt(b, e.CommittedAt, 10), true }),
	textField("tenant_id", func(e *Entry) string { return e.TenantID }),
	textField("application", func(e *Entry) string { return e.Application }),
	textField("record_type", func(e *Entry) string { return e.RecordType }),
	textField("record_id", func(e *Entry) string { return e.RecordID }),
	textField("record_name", func(e *Entry) string { return e.RecordName }),
	textField("resource", func(e *Entry) string { return e.Resource }),
	textField("sub_resource", func(e *Entry) string { return e.SubResource }),
	textField("table_name", func(e *Entry) string { return e.Table }),
	textField("row_id", func(e *Entry) string { return e.RowID }),
	textField("row_name", func(e *Entry) string { return e.RowName }),
	textField("action", func(e *Entry) string { return e.Action }),
	textField("summary", func(e *Entry) string { return e.Summary }),
	textField("initiator", func(e *Entry) string { return e.Initiator }),
	textField("user_id", func(e *Entry) string { return e.UserID }),
	textField("user_email", func(e *Entry) string { return e.UserEmail }),
	textField("user_name", func(e *Entry) string { return e.UserName }),
	textField("db_user", func(e *Entry) string { return e.DBUser }),
	textField("db_app", func(e *Entry) string { return e.DBApp }),
	textField("client_addr", func(e *Entry) string { return e.ClientAddr }),
	numberField("backend_pid", "int8", func(e *Entry, b []byte) ([]byte, bool) {
		return strconv.AppendUint(b, uint64(e.BackendPID), 10), e.BackendPID != 0
	}),
	textField("remark", func(e *Entry) string { return e.Remark }),
}

// Commitment is what the leaf says of the entry's content: every field, in order, each under a salt of its own.
func (h *Hasher) Commitment(e *Entry, salt *Hash) Hash {
	h.digests = append(h.digests[:0], tagCommitment)
	h.digests = binary.BigEndian.AppendUint32(h.digests, uint32(NumFixed+len(e.Fields)))
	for i := range fixedFields {
		f := &fixedFields[i]
		if f.text != nil {
			value, state := f.text(e), FieldValue
			if value == "" {
				state = FieldNull
			}
			appendDigest(h, salt, i, f.path, f.typ, state, value)
			continue
		}
		value, ok := f.number(e, h.number[:0])
		state := FieldValue
		if !ok {
			value, state = nil, FieldNull
		}
		appendDigest(h, salt, i, f.path, f.typ, state, value)
	}
	for i := range e.Fields {
		f := &e.Fields[i]
		appendDigest(h, salt, NumFixed+i, f.Path, f.Type, f.State, f.Value)
	}
	return sha256.Sum256(h.digests)
}

// appendDigest appends one field's digest to the commitment's input.
func appendDigest[T string | []byte](h *Hasher, salt *Hash, i int, path, typ string, state FieldState, value T) {
	b := append(h.buf[:0], tagSalt)
	b = append(b, salt[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(i))
	fieldSalt := sha256.Sum256(b)

	b = append(b[:0], tagField)
	b = append(b, fieldSalt[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(i))
	b = appendLP4(b, path)
	b = appendLP4(b, typ)
	b = append(b, byte(state))
	b = appendLP4(b, value)
	digest := sha256.Sum256(b)
	h.digests = append(h.digests, digest[:]...)
	h.buf = b
}

func appendLP4[T string | []byte](b []byte, s T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
