package capture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"
	"sync/atomic"
)

// Tx is one committed transaction with at least one row change, or one of the messages that the configuration names.
//
// It holds the frames as they came, in memory or, when it is large, in an unlinked temporary file that only we can read.
// So it can be walked over several times in constant memory, and a crash leaves nothing behind. One goroutine at a time
// may use it; whoever received it owes a Close.
type Tx struct {
	XID        uint32
	CommitLSN  LSN   // start of the commit record: what to skip by
	EndLSN     LSN   // end of the commit record: what to confirm
	CommitTime int64 // microseconds since 1970
	Rows       int   // row changes; TRUNCATE counts one for each table

	told   bool        // has such a message
	rels   []*Relation // that the frames refer to by index
	chunks [][]byte    // records, none of which is cut; empty once spilled
	size   int         // bytes of all records
	file   *os.File    // nil: all is in chunks
	w      *bufio.Writer
	store  *store
	free   *walk // left by the last walk, for the next

	// The frames at the end that the server sent with one and the same position; see addMessage.
	runLSN  LSN
	runFrom int // bytes before the first of them
}

// store is what the transactions of one stream share. Only the count of held bytes is touched by two goroutines: the
// stream adds, the consumer's Close takes away.
type store struct {
	limit int    // bytes of one transaction, and about that of all together, before files are used
	dir   string // "" is the system's
	held  atomic.Int64
}

// A record is a header and the frame. The header's relation is an index into Tx.rels; a TRUNCATE of n tables makes n
// records of kind msgTruncate without a frame.
const (
	recordHeader = 9 // kind u8, relation u32, length of the frame u32
	firstChunk   = 2 << 10
	lastChunk    = 1 << 20
	fileBuffer   = 256 << 10
)

func appendHeader(b []byte, kind byte, rel, n int) []byte {
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(rel))
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// addRow adds a row change that stands at lsn in the WAL.
func (t *Tx) addRow(kind byte, rel int, lsn LSN, frame []byte) error {
	if lsn != t.runLSN || lsn == 0 {
		t.runLSN, t.runFrom = lsn, t.size
	}
	t.Rows++
	return t.add(kind, rel, frame)
}

// addMessage adds a message that ends at lsn in the WAL.
//
// The server puts the parts of a transaction in order by the start of a row change, but by the end of a message. Where a
// message was written inside a savepoint and the next record is a row change outside of it, both are the same, and the
// server may send the rows first, all that the record holds. A row change that starts where a message ends was made after
// it: so the message goes in before them. It is rare, so it may cost something.
func (t *Tx) addMessage(lsn LSN, frame []byte) error {
	if lsn != t.runLSN || lsn == 0 {
		t.runLSN = 0
		return t.add(msgMessage, 0, frame)
	}
	after, err := t.cut(t.runFrom)
	if err != nil {
		return fmt.Errorf("put a message in its place: %w", err)
	}
	if err := t.add(msgMessage, 0, frame); err != nil {
		return err
	}
	t.runFrom = t.size
	for len(after) > 0 {
		kind, rel, n := splitHeader(after)
		if err := t.add(kind, rel, after[recordHeader:recordHeader+n]); err != nil {
			return err
		}
		after = after[recordHeader+n:]
	}
	return nil
}

// cut takes the records from an offset on away and returns them.
func (t *Tx) cut(from int) (records []byte, err error) {
	if t.file != nil {
		if err := t.w.Flush(); err != nil {
			return nil, err
		}
		records = make([]byte, t.size-from)
		if _, err := t.file.ReadAt(records, int64(from)); err != nil {
			return nil, err
		}
		if err := t.file.Truncate(int64(from)); err != nil {
			return nil, err
		}
		if _, err := t.file.Seek(int64(from), io.SeekStart); err != nil {
			return nil, err
		}
		t.size = from
		return records, nil
	}
	for t.size > from {
		last := len(t.chunks) - 1
		n := min(t.size-from, len(t.chunks[last]))
		keep := len(t.chunks[last]) - n
		records = append(bytes.Clone(t.chunks[last][keep:]), records...)
		t.chunks[last] = t.chunks[last][:keep]
		t.size -= n
		t.store.held.Add(-int64(n))
		if keep == 0 {
			t.chunks = t.chunks[:last]
		}
	}
	return records, nil
}

// add copies a frame: the caller's is the connection's buffer, which the next receive overwrites.
func (t *Tx) add(kind byte, rel int, frame []byte) error {
	n := recordHeader + len(frame)
	t.size += n
	if t.file == nil && t.mustSpill(n) {
		if err := t.spill(); err != nil {
			return fmt.Errorf("put a large transaction into a temporary file: %w", err)
		}
	}
	if t.file != nil {
		var room [recordHeader]byte
		if _, err := t.w.Write(appendHeader(room[:0], kind, rel, len(frame))); err != nil {
			return fmt.Errorf("write the temporary file of a large transaction: %w", err)
		}
		if _, err := t.w.Write(frame); err != nil {
			return fmt.Errorf("write the temporary file of a large transaction: %w", err)
		}
		return nil
	}
	t.store.held.Add(int64(n))
	last := len(t.chunks) - 1
	if last < 0 || cap(t.chunks[last])-len(t.chunks[last]) < n {
		room := firstChunk
		if last >= 0 {
			room = min(4*cap(t.chunks[last]), lastChunk)
		}
		t.chunks = append(t.chunks, make([]byte, 0, max(room, n)))
		last++
	}
	t.chunks[last] = append(appendHeader(t.chunks[last], kind, rel, len(frame)), frame...)
	return nil
}

// mustSpill: when this transaction alone is too large, or when all that wait for the consumer are and this one is large
// enough for a file to be worth it. The second bounds the memory of a full queue.
func (t *Tx) mustSpill(n int) bool {
	return t.size > t.store.limit ||
		t.size > t.store.limit/16 && t.store.held.Load()+int64(n) > int64(t.store.limit)
}

// spill moves what there is to a file.
func (t *Tx) spill() error {
	f, err := os.CreateTemp(t.store.dir, "casebook-audit-*") // mode 0600
	if err != nil {
		return err
	}
	t.file = f
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	t.w = bufio.NewWriterSize(f, fileBuffer)
	for _, chunk := range t.chunks {
		if _, err := t.w.Write(chunk); err != nil {
			return err
		}
	}
	t.release()
	return nil
}

// release gives the memory of the chunks back.
func (t *Tx) release() {
	held := 0
	for _, chunk := range t.chunks {
		held += len(chunk)
	}
	t.store.held.Add(-int64(held))
	t.chunks = nil
}

// seal ends the adding.
func (t *Tx) seal() error {
	if t.w == nil {
		return nil
	}
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("write the temporary file of a large transaction: %w", err)
	}
	t.w = nil
	return nil
}

// Size is the bytes of the transaction as it came, about.
func (t *Tx) Size() int { return t.size }

// Close frees memory and file. It may be called twice.
func (t *Tx) Close() error {
	t.release()
	if t.file == nil {
		return nil
	}
	f := t.file
	t.file, t.w = nil, nil
	return f.Close()
}

// walk is the memory that one iteration needs.
type walk struct {
	change   Change
	old, new []Value
	prefix   string // of the last message
	frame    []byte // of the file's records
	r        *bufio.Reader
}

// Changes walks over messages and row changes in the order in which they were made. It may be called again and again,
// not after Close. What it yields is valid until the next step. An error ends the walk.
func (t *Tx) Changes() iter.Seq2[*Change, error] {
	return func(yield func(*Change, error) bool) {
		w := t.free
		if w == nil {
			w = new(walk)
		}
		t.free = nil // so that a walk inside a walk gets its own
		defer func() { t.free = w }()

		ordinal := 0
		step := func(kind byte, rel int, frame []byte) bool {
			if err := t.decode(w, kind, rel, frame); err != nil {
				yield(nil, fmt.Errorf("transaction %d, commit LSN %s, change %d: %w", t.XID, t.CommitLSN, ordinal, err))
				return false
			}
			w.change.Ordinal = -1
			if kind != msgMessage {
				w.change.Ordinal = ordinal
				ordinal++
			}
			return yield(&w.change, nil)
		}
		if t.file == nil {
			t.walkMemory(step)
			return
		}
		if err := t.walkFile(w, step); err != nil {
			yield(nil, fmt.Errorf("read the temporary file of transaction %d, commit LSN %s: %w", t.XID, t.CommitLSN, err))
		}
	}
}

func (t *Tx) walkMemory(step func(kind byte, rel int, frame []byte) bool) {
	for _, b := range t.chunks {
		for len(b) > 0 {
			kind, rel, n := splitHeader(b)
			frame := b[recordHeader : recordHeader+n]
			b = b[recordHeader+n:]
			if !step(kind, rel, frame) {
				return
			}
		}
	}
}

// walkFile reads with one buffer and room for the largest frame. The file's own position is not used, so that walks do
// not disturb each other.
func (t *Tx) walkFile(w *walk, step func(kind byte, rel int, frame []byte) bool) error {
	section := io.NewSectionReader(t.file, 0, int64(t.size))
	if w.r == nil {
		w.r = bufio.NewReaderSize(section, fileBuffer)
	} else {
		w.r.Reset(section)
	}
	for {
		header, err := w.r.Peek(recordHeader)
		if err == io.EOF && len(header) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		kind, rel, n := splitHeader(header)
		if _, err := w.r.Discard(recordHeader); err != nil {
			return err
		}
		if cap(w.frame) < n {
			w.frame = make([]byte, n)
		}
		w.frame = w.frame[:n]
		if _, err := io.ReadFull(w.r, w.frame); err != nil {
			return err
		}
		if !step(kind, rel, w.frame) {
			return nil
		}
	}
}

func splitHeader(b []byte) (kind byte, rel, n int) {
	return b[0], int(binary.BigEndian.Uint32(b[1:])), int(binary.BigEndian.Uint32(b[5:]))
}

func (t *Tx) decode(w *walk, kind byte, rel int, frame []byte) error {
	switch kind {
	case msgMessage:
		m, err := decodeMessage(frame)
		if w.prefix != string(m.prefix) { // nearly always the same one: no allocation
			w.prefix = string(m.prefix)
		}
		w.change = Change{Op: OpMessage, Prefix: w.prefix, Content: m.content}
		return err
	case msgTruncate:
		w.change = Change{Op: OpTruncate, Rel: t.rels[rel]}
		return nil
	default:
		n := len(t.rels[rel].Columns)
		if cap(w.old) < n {
			w.old, w.new = make([]Value, n), make([]Value, n)
		}
		return decodeChange(frame, t.rels[rel], w.old[:n], w.new[:n], &w.change)
	}
}
