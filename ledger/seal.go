package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"strconv"
)

// The first byte of every hash input.
const (
	tagLeaf       = 0x00
	tagSalt       = 0x10
	tagField      = 0x11
	tagCommitment = 0x12
	tagGenesis    = 0x13
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
	outer hash.Hash
	buf   []byte
}

// NewHasher makes a Hasher.
func NewHasher() *Hasher { return &Hasher{outer: sha256.New()} }

// fixedField names one fixed column of an entry, and appends its text; false: the column is NULL.
type fixedField struct {
	path, typ string
	text      func(e *Entry, b []byte) ([]byte, bool)
}

func textField(path string, get func(e *Entry) string) fixedField {
	return fixedField{path, "text", func(e *Entry, b []byte) ([]byte, bool) {
		s := get(e)
		return append(b, s...), s != ""
	}}
}

// NumFixed is the number of fixed fields, which come first in every commitment.
const NumFixed = 25

// fixedFields is the order in which the fixed columns are hashed. It is part of the format.
var fixedFields = [NumFixed]fixedField{
	{"commit_lsn", "pg_lsn", func(e *Entry, b []byte) ([]byte, bool) {
		return append(b, e.CommitLSN.String()...), e.CommitLSN != 0
	}},
	{"ordinal", "int8", func(e *Entry, b []byte) ([]byte, bool) {
		return strconv.AppendInt(b, e.Ordinal, 10), e.Ordinal >= 0
	}},
	{"xid", "xid", func(e *Entry, b []byte) ([]byte, bool) {
		return strconv.AppendUint(b, uint64(e.XID), 10), e.XID != 0
	}},
	{"committed_at", "int8", func(e *Entry, b []byte) ([]byte, bool) { return strconv.AppendInt(b, e.CommittedAt, 10), true }},
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
	{"backend_pid", "int8", func(e *Entry, b []byte) ([]byte, bool) {
		return strconv.AppendUint(b, uint64(e.BackendPID), 10), e.BackendPID != 0
	}},
	textField("remark", func(e *Entry) string { return e.Remark }),
}

// Commitment is what the leaf says of the entry's content: every field, in order, each under a salt of its own.
func (h *Hasher) Commitment(e *Entry, salt *Hash) Hash {
	h.outer.Reset()
	b := append(h.buf[:0], tagCommitment)
	b = binary.BigEndian.AppendUint32(b, uint32(NumFixed+len(e.Fields)))
	h.outer.Write(b)
	var room [64]byte
	for i := range fixedFields {
		f := &fixedFields[i]
		value, ok := f.text(e, room[:0])
		state := FieldNull
		if ok {
			state = FieldValue
		} else {
			value = nil
		}
		b = appendDigest(h, b, salt, i, f.path, f.typ, state, value)
	}
	for i := range e.Fields {
		f := &e.Fields[i]
		b = appendDigest(h, b, salt, NumFixed+i, f.Path, f.Type, f.State, f.Value)
	}
	h.buf = b
	var c Hash
	h.outer.Sum(c[:0])
	return c
}

// appendDigest writes one field's digest into the commitment. b is room, which it gives back.
func appendDigest[T string | []byte](h *Hasher, b []byte, salt *Hash, i int, path, typ string, state FieldState, value T) []byte {
	b = append(b[:0], tagSalt)
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
	h.outer.Write(digest[:])
	return b
}

func appendLP4[T string | []byte](b []byte, s T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
