package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"casebook.example/audit/internal/pgtest"
)

func insertFrame(oid uint32, values ...string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{msgInsert}, oid)
	b = append(b, 'N')
	b = binary.BigEndian.AppendUint16(b, uint16(len(values)))
	for _, v := range values {
		b = append(b, 't')
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return b
}

func messageFrame(prefix, content string) []byte {
	b := append([]byte{msgMessage, 1}, make([]byte, 8)...)
	b = append(append(b, prefix...), 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
	return append(b, content...)
}

var twoColumns = &Relation{OID: 7, Schema: "public", Name: "t", FullName: "public.t", Identity: 'f',
	Columns: []Column{{Name: "id", Key: true}, {Name: "a", Key: true}}}

// fill makes a transaction of n rows of about size bytes, with a message before every tenth, from one reused buffer, as the
// connection's is.
func fill(t testing.TB, st *store, n, size int) *Tx {
	t.Helper()
	tx := &Tx{XID: 1, store: st, rels: []*Relation{twoColumns}}
	var buffer []byte
	for i := range n {
		if i%10 == 0 {
			buffer = append(buffer[:0], messageFrame("casebook.audit", fmt.Sprintf("user %d", i))...)
			if err := tx.addMessage(0, buffer); err != nil {
				t.Fatal(err)
			}
		}
		buffer = append(buffer[:0], insertFrame(7, fmt.Sprint(i), strings.Repeat("x", size))...)
		if err := tx.addRow(msgInsert, 0, 0, buffer); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.seal(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Close() })
	return tx
}

func TestSpill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inMemory := fill(t, &store{limit: 100 << 20}, 20_000, 50)
	st := &store{limit: 64 << 10, dir: dir}
	spilled := fill(t, st, 20_000, 50)
	if inMemory.file != nil || spilled.file == nil {
		t.Fatal("the wrong one is in a file")
	}
	if info, err := spilled.file.Stat(); err != nil || info.Mode().Perm() != 0o600 || info.Size() != int64(spilled.Size()) {
		t.Errorf("the file: %v, %v, want %d bytes", info, err, spilled.Size())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the file has a name: %v, %v", left, err)
	}
	if held := st.held.Load(); held != 0 {
		t.Errorf("%d bytes are still held in memory", held)
	}
	want := text(t, inMemory)
	for range 2 {
		if got := text(t, spilled); !slices.Equal(got, want) {
			t.Error("the file does not give what was put in")
		}
	}
	for range spilled.Changes() { // a walk that ends early disturbs none
		break
	}
	n := 0
	for range spilled.Changes() {
		if n++; n == 100 {
			if got := text(t, spilled); !slices.Equal(got, want) { // nor does one inside another
				t.Error("a walk inside a walk differs")
			}
		}
	}
	if n != len(want) {
		t.Errorf("%d changes, want %d", n, len(want))
	}
	if err := errors.Join(spilled.Close(), spilled.Close()); err != nil {
		t.Error(err)
	}
}

// Many transactions that wait together stay near the limit too.
func TestHeldTogether(t *testing.T) {
	t.Parallel()
	st := &store{limit: 1 << 20, dir: t.TempDir()}
	var open []*Tx
	for range 64 {
		open = append(open, fill(t, st, 100, 2000))
	}
	if held := st.held.Load(); held > 64*int64(st.limit)/16+int64(st.limit) {
		t.Errorf("%d bytes are held", held)
	}
	for _, tx := range open {
		tx.Close()
	}
	if held := st.held.Load(); held != 0 {
		t.Errorf("%d bytes are held after all are closed", held)
	}
}

func TestNoRoomForSpill(t *testing.T) {
	t.Parallel()
	tx := &Tx{store: &store{limit: 100, dir: "/nonexistent"}, rels: []*Relation{twoColumns}}
	err := tx.addRow(msgInsert, 0, 0, insertFrame(7, "1", strings.Repeat("secret", 100)))
	if err == nil || strings.Contains(err.Error(), "secret") || Retryable(err) {
		t.Errorf("an impossible file gives %v", err)
	}
}

// A transaction far over the limit, from a server: in constant memory.
func TestLargeTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t, pgtest.New(t), `create table l (id int primary key, a text)`)
	cfg := b.cfg
	cfg.SpillBytes = 1 << 20
	const rows = 100_000
	s := b.run(t, cfg, 0, 1)
	b.exec(t, fmt.Sprintf("insert into l select g, repeat(md5(g::text), 8) from generate_series(1, %d) g", rows))
	tx := s.tx(t)
	if tx.Rows != rows || tx.file == nil || tx.Size() < rows*256 {
		t.Fatalf("%d rows, %d bytes, file %v", tx.Rows, tx.Size(), tx.file != nil)
	}
	var first, second []byte
	allocated := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.TotalAlloc
	}
	before := allocated()
	for _, last := range []*[]byte{&first, &second} {
		n := 0
		for c, err := range tx.Changes() {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == rows {
				*last = bytes.Clone(c.New[1].Bytes)
			}
		}
		if n != rows {
			t.Fatalf("%d of %d rows", n, rows)
		}
	}
	if !bytes.Equal(first, second) || len(first) != 256 {
		t.Errorf("the last rows are %q and %q", first, second)
	}
	// Other tests run beside this one and allocate too; the data are 2 x 27 MB.
	t.Logf("two walks over %d bytes, %d bytes allocated in the whole process meanwhile", tx.Size(), allocated()-before)
}

func TestWalkAllocatesNothing(t *testing.T) {
	for name, limit := range map[string]int{"memory": 10 << 20, "file": 64 << 10} {
		tx := fill(t, &store{limit: limit, dir: t.TempDir()}, 5000, 100)
		walk := func() {
			for _, err := range tx.Changes() {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		walk()
		if n := testing.AllocsPerRun(5, walk); n > 10 {
			t.Errorf("%s: %v allocations in a walk over 5500 changes", name, n)
		}
	}
}

// A message that comes too late goes in before the rows that begin where it ends, and before no other.
func TestLateMessage(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int{"in memory": 1 << 20, "in a file": 64} {
		for _, size := range []int{1, firstChunk} { // the rows lie in one chunk or in several
			tx := &Tx{XID: 1, store: &store{limit: limit, dir: t.TempDir()}, rels: []*Relation{twoColumns}}
			row := func(lsn LSN, id string) error {
				return tx.addRow(msgInsert, 0, lsn, insertFrame(7, id, strings.Repeat("x", size)))
			}
			for _, err := range []error{
				tx.addMessage(10, messageFrame("p", "in time")), row(10, "1"), row(20, "2"), row(30, "3"), row(30, "4"),
				tx.addMessage(30, messageFrame("p", "late")), row(30, "5"), row(40, "6"),
				tx.addMessage(40, messageFrame("p", "late too")), tx.addMessage(50, messageFrame("p", "last")), row(50, "7"),
				tx.seal(),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			var order []string
			for c, err := range tx.Changes() {
				if err != nil {
					t.Fatal(err)
				}
				if c.Op == OpMessage {
					order = append(order, string(c.Content))
				} else {
					order = append(order, string(c.New[0].Bytes))
				}
			}
			want := []string{"in time", "1", "2", "late", "3", "4", "5", "late too", "6", "last", "7"}
			if !slices.Equal(order, want) || tx.Rows != 7 || (tx.file != nil) != (limit == 64) {
				t.Errorf("%s, rows of %d bytes: %d rows %q", name, size, tx.Rows, order)
			}
			held := tx.store.held.Load()
			if err := tx.Close(); err != nil || tx.store.held.Load() != 0 {
				t.Errorf("%s: %d bytes were held, %d are left: %v", name, held, tx.store.held.Load(), err)
			}
		}
	}
}
