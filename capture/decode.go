package capture

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// pgoutput, protocol version 1: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
//
// Nothing here allocates, except for relations and types, which come once. What a decoded message points to is the frame.

// The types of message that the protocol's version 1 has.
const (
	msgBegin    = 'B'
	msgCommit   = 'C'
	msgOrigin   = 'O'
	msgRelation = 'R'
	msgType     = 'Y'
	msgInsert   = 'I'
	msgUpdate   = 'U'
	msgDelete   = 'D'
	msgTruncate = 'T'
	msgMessage  = 'M'
)

// DecodeError says where a message of the stream is not what the protocol says. It never holds a value.
type DecodeError struct {
	Type   byte // of the message, as received
	Offset int  // in the message, the type byte being 0
	What   string
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("replication message of type %q is malformed at byte %d: %s", e.Type, e.Offset, e.What)
}

// reader walks over one frame. After the first error it gives zeros; the caller asks err once, at the end.
type reader struct {
	b    []byte
	off  int
	what string // of the first error, at off
}

func newReader(frame []byte) reader { return reader{b: frame, off: 1} } // after the type byte

func (r *reader) fail(what string) {
	if r.what == "" {
		r.what = what
		r.b = r.b[:min(1, len(r.b))] // keeps the type; nothing more can be read
	}
}

// err also refuses bytes after the end of the message: then the message is not the one that we think it is.
func (r *reader) err() error {
	if r.what == "" {
		if r.off == len(r.b) {
			return nil
		}
		r.fail("bytes left over")
	}
	e := &DecodeError{Offset: r.off, What: r.what}
	if len(r.b) > 0 {
		e.Type = r.b[0]
	}
	return e
}

func (r *reader) take(n int) []byte {
	if r.what != "" {
		return nil
	}
	if n < 0 || len(r.b)-r.off < n {
		r.fail("it ends too early")
		return nil
	}
	p := r.b[r.off : r.off+n : r.off+n]
	r.off += n
	return p
}

func (r *reader) u8() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// cstring reads up to a NUL byte, which it consumes.
func (r *reader) cstring() []byte {
	if r.what != "" {
		return nil
	}
	for i := r.off; i < len(r.b); i++ {
		if r.b[i] == 0 {
			p := r.b[r.off:i:i]
			r.off = i + 1
			return p
		}
	}
	r.fail("a string without an end")
	return nil
}

// microseconds from 1970 to 2000, where Postgres' clock starts.
const pgEpoch = 946684800 * 1000000

func (r *reader) time() int64 { return int64(r.u64()) + pgEpoch }

type begin struct {
	commitLSN LSN
	time      int64
	xid       uint32
}

func decodeBegin(frame []byte) (begin, error) {
	r := newReader(frame)
	m := begin{commitLSN: LSN(r.u64()), time: r.time(), xid: r.u32()}
	return m, r.err()
}

type commit struct {
	commitLSN, endLSN LSN
	time              int64
}

func decodeCommit(frame []byte) (commit, error) {
	r := newReader(frame)
	r.u8() // flags, none is defined
	m := commit{commitLSN: LSN(r.u64()), endLSN: LSN(r.u64()), time: r.time()}
	return m, r.err()
}

// decodeOrigin only checks: where a transaction was first made does not change what it did here.
func decodeOrigin(frame []byte) error {
	r := newReader(frame)
	r.u64()
	r.cstring()
	return r.err()
}

// decodeType gives a type's OID and its name as Column.TypeName has it. For a domain the server sends its base type.
func decodeType(frame []byte) (uint32, string, error) {
	r := newReader(frame)
	oid, schema, name := r.u32(), string(r.cstring()), string(r.cstring())
	return oid, qualified(schema, name), r.err()
}

// qualified joins schema and name. The server writes pg_catalog as an empty string.
func qualified(schema, name string) string {
	if schema == "" {
		return name
	}
	return schema + "." + name
}

// decodeRelation reads a table's shape. types gives the names of types.
func decodeRelation(frame []byte, types map[uint32]string) (*Relation, error) {
	r := newReader(frame)
	rel := &Relation{OID: r.u32(), Schema: string(r.cstring()), Name: string(r.cstring()), Identity: r.u8()}
	if rel.Schema == "" {
		rel.Schema = "pg_catalog"
	}
	rel.FullName = rel.Schema + "." + rel.Name
	n := int(r.u16())
	if n > len(frame) { // each column takes more than a byte: don't trust the number for an allocation
		r.fail("more columns than bytes")
		n = 0
	}
	rel.Columns = make([]Column, n)
	for i := range rel.Columns {
		c := &rel.Columns[i]
		c.Key = r.u8()&1 != 0
		c.Name = string(r.cstring())
		c.TypeOID = r.u32()
		c.TypeMod = int32(r.u32())
		c.TypeName = types[c.TypeOID]
		if c.TypeName == "" {
			c.TypeName = fmt.Sprintf("oid %d", c.TypeOID)
		}
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return rel, nil
}

func (r *Relation) equal(o *Relation) bool {
	return r.OID == o.OID && r.FullName == o.FullName && r.Schema == o.Schema && r.Identity == o.Identity &&
		slices.Equal(r.Columns, o.Columns)
}

// relationOf reads the OID of the table that an insert, update or delete is about.
func relationOf(frame []byte) (uint32, error) {
	r := newReader(frame)
	oid := r.u32()
	if r.what != "" {
		return 0, r.err()
	}
	return oid, nil
}

// decodeTruncate calls each with the OID of every table of a TRUNCATE.
func decodeTruncate(frame []byte, each func(oid uint32) error) error {
	r := newReader(frame)
	n := int(int32(r.u32()))
	r.u8() // CASCADE, RESTART IDENTITY: what follows from them arrives as rows or not at all
	oids := r.take(4 * max(0, min(n, len(frame))))
	if n < 0 || n > len(frame) {
		r.fail("more tables than bytes")
	}
	if err := r.err(); err != nil {
		return err
	}
	for ; len(oids) > 0; oids = oids[4:] {
		if err := each(binary.BigEndian.Uint32(oids)); err != nil {
			return err
		}
	}
	return nil
}

type message struct {
	transactional bool
	lsn           LSN // where it ends: several things share it, so it is no key
	prefix        []byte
	content       []byte
}

func decodeMessage(frame []byte) (message, error) {
	r := newReader(frame)
	m := message{transactional: r.u8()&1 != 0}
	m.lsn = LSN(r.u64())
	m.prefix = r.cstring()
	m.content = r.take(int(int32(r.u32())))
	return m, r.err()
}

// decodeChange reads an insert, update or delete of rel into c. old and new are room for one tuple each; c keeps them.
func decodeChange(frame []byte, rel *Relation, old, new []Value, c *Change) error {
	r := newReader(frame)
	r.u32() // the relation's OID: rel, as of when the frame came
	c.Rel, c.Old, c.New, c.OldKey = rel, nil, nil, false
	c.Prefix, c.Content = "", nil

	kind := r.u8()
	if kind == 'O' || kind == 'K' {
		if frame[0] == msgInsert {
			r.fail("an insert with an old row")
		}
		c.Old, c.OldKey = old, kind == 'K'
		r.tuple(rel, old, c.OldKey)
		if frame[0] == msgUpdate {
			kind = r.u8()
		}
	}
	switch frame[0] {
	case msgInsert, msgUpdate:
		c.Op = OpInsert
		if frame[0] == msgUpdate {
			c.Op = OpUpdate
		}
		if kind != 'N' {
			r.fail("no new row where one must be")
		}
		c.New = new
		r.tuple(rel, new, false)
	case msgDelete:
		c.Op = OpDelete
		if c.Old == nil {
			r.fail("a delete without an old row")
		}
	default:
		r.fail("no row change")
	}
	return r.err()
}

// tuple reads one row into values. In a key-only one the server writes NULL for what it does not know: Absent.
func (r *reader) tuple(rel *Relation, values []Value, keyOnly bool) {
	n := int(r.u16())
	if r.what != "" {
		return
	}
	if n != len(rel.Columns) || n != len(values) {
		r.fail("the row has another number of columns than its table")
		return
	}
	for i := range values {
		v := &values[i]
		switch r.u8() {
		case 't':
			v.State, v.Bytes = Text, r.take(int(int32(r.u32())))
		case 'n':
			v.State, v.Bytes = Null, nil
		case 'u':
			v.State, v.Bytes = Unchanged, nil
		default: // 'b', binary, is an option that we never ask for
			r.fail("a column of unknown form")
			return
		}
		if keyOnly && !rel.Columns[i].Key {
			v.State, v.Bytes = Absent, nil
		}
	}
}
