package capture

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgproto3"

	"casebook.example/audit/internal/pgtest"
)

var update = flag.Bool("update", false, "write testdata/frames.hex anew, from a server")

const framesFile = "testdata/frames.hex" // frames as Postgres 15 sent them, one a line

func realFrames(t testing.TB) [][]byte {
	t.Helper()
	data, err := os.ReadFile(framesFile)
	if err != nil {
		t.Fatal(err)
	}
	var frames [][]byte
	for line := range strings.Lines(string(data)) {
		frame, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
	}
	return frames
}

// decodeAny decodes a frame by its type, as Stream and Tx do together.
func decodeAny(frame []byte, rel *Relation, old, new []Value, c *Change) error {
	if len(frame) == 0 {
		return errors.New("empty")
	}
	var err error
	switch frame[0] {
	case msgBegin:
		_, err = decodeBegin(frame)
	case msgCommit:
		_, err = decodeCommit(frame)
	case msgOrigin:
		err = decodeOrigin(frame)
	case msgType:
		_, _, err = decodeType(frame)
	case msgRelation:
		_, err = decodeRelation(frame, nil)
	case msgMessage:
		_, err = decodeMessage(frame)
	case msgTruncate:
		err = decodeTruncate(frame, func(uint32) error { return nil })
	case msgInsert, msgUpdate, msgDelete:
		if _, err = relationOf(frame); err == nil {
			err = decodeChange(frame, rel, old, new, c)
		}
	default:
		err = &DecodeError{Type: frame[0]}
	}
	return err
}

// rows decodes real frames in their order and gives the row changes as text.
func decodeAll(t testing.TB, frames [][]byte) []string {
	t.Helper()
	rels := map[uint32]*Relation{}
	var lines []string
	for _, frame := range frames {
		var c Change
		switch frame[0] {
		case msgRelation:
			rel, err := decodeRelation(frame, nil)
			if err != nil {
				t.Fatal(err)
			}
			rels[rel.OID] = rel
		case msgInsert, msgUpdate, msgDelete:
			oid, err := relationOf(frame)
			if err != nil {
				t.Fatal(err)
			}
			n := len(rels[oid].Columns)
			if err := decodeChange(frame, rels[oid], make([]Value, n), make([]Value, n), &c); err != nil {
				t.Fatal(err)
			}
			line := string(frame[0]) + " " + c.Rel.FullName
			if c.Old != nil {
				line += " " + tuple(c.Rel, c.Old)
			}
			if c.New != nil {
				line += " " + tuple(c.Rel, c.New)
			}
			lines = append(lines, line)
		default:
			if err := decodeAny(frame, nil, nil, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	return lines
}

func TestRealFrames(t *testing.T) {
	t.Parallel()
	if *update {
		writeFrames(t)
	}
	frames := realFrames(t)
	kinds := map[byte]bool{}
	for _, f := range frames {
		kinds[f[0]] = true
	}
	for _, kind := range "BCORYIUDTM" {
		if !kinds[byte(kind)] {
			t.Errorf("no real frame of type %c", kind)
		}
	}
	sameLines(t, decodeAll(t, frames),
		"I public.f (id=1 a=NULL s=open big=xxx[3000])",
		"U public.f (id=1 a=NULL s=open big=xxx[3000]) (id=1 a=new s=open big=~)",
		"I public.d (id=1 a=b)",
		"U public.d (id=1 a=-) (id=2 a=b)",
		"D public.d (id=2 a=-)",
	)
}

// Cut at every byte, a frame is an error, never a panic and never a shorter truth; the error names type and offset.
func TestTruncatedFrames(t *testing.T) {
	t.Parallel()
	rels := map[uint32]*Relation{}
	for _, frame := range realFrames(t) {
		rel, old, new := &Relation{}, []Value(nil), []Value(nil)
		if frame[0] == msgRelation {
			r, err := decodeRelation(frame, nil)
			if err != nil {
				t.Fatal(err)
			}
			rels[r.OID] = r
		}
		if oid, err := relationOf(frame); err == nil && rels[oid] != nil {
			rel = rels[oid]
			old, new = make([]Value, len(rel.Columns)), make([]Value, len(rel.Columns))
		}
		for n := range len(frame) {
			var c Change
			err := decodeAny(frame[:n], rel, old, new, &c)
			if err == nil {
				t.Fatalf("%q cut to %d of %d bytes is taken", frame[0], n, len(frame))
			}
			if decodeErr := (*DecodeError)(nil); n > 0 && (!errors.As(err, &decodeErr) || decodeErr.Type != frame[0] || decodeErr.Offset > n) {
				t.Fatalf("%q cut to %d: %v", frame[0], n, err)
			}
		}
		var c Change
		if err := decodeAny(append(bytes.Clone(frame), 0), rel, old, new, &c); err == nil {
			t.Fatalf("%q with a byte too many is taken", frame[0])
		}
	}
}

func TestWrongFrames(t *testing.T) {
	t.Parallel()
	room := func() []Value { return make([]Value, 2) }
	whole := insertFrame(7, "secret1", "secret2")
	edit := func(at int, b byte) []byte { f := bytes.Clone(whole); f[at] = b; return f }
	for name, frame := range map[string][]byte{
		"three columns for two":  insertFrame(7, "secret1", "b", "c"),
		"binary column":          edit(8, 'b'),
		"length beyond the end":  edit(9, 0x7f),
		"negative length":        edit(9, 0xff),
		"old row in an insert":   edit(5, 'O'),
		"neither old nor new":    edit(5, 'X'),
		"update without new row": edit(0, msgUpdate)[:6],
		"delete with a new row":  edit(0, msgDelete),
		"no row change":          edit(0, msgBegin),
	} {
		var c Change
		err := decodeChange(frame, twoColumns, room(), room(), &c)
		if err == nil {
			t.Errorf("%s is taken", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells a value: %v", name, err)
		}
	}
	many := []byte{msgTruncate, 0x7f, 0xff, 0xff, 0xff, 0, 1, 2, 3, 4}
	if err := decodeTruncate(many, func(uint32) error { return nil }); err == nil {
		t.Error("a truncate of two thousand million tables is taken")
	}
}

// What the stream refuses as a whole: order, unknown types, tables without description.
func TestStreamRefuses(t *testing.T) {
	t.Parallel()
	begin := append([]byte{msgBegin}, make([]byte, 20)...)
	begin[8] = 5
	commit := append([]byte{msgCommit}, make([]byte, 25)...)
	commit[9], commit[17] = 5, 9
	for name, frames := range map[string][][]byte{
		"unknown type":            {{'S', 0, 0, 0, 1}},
		"two-phase":               {{'b'}},
		"row outside":             {insertFrame(7, "1")},
		"row of an unknown table": {begin, insertFrame(7, "1")},
		"message outside":         {messageFrame("p", "c")},
		"begin in begin":          {begin, begin},
		"commit without begin":    {commit},
		"commit LSN again":        {begin, commit, begin},
		"another commit LSN":      {begin, append([]byte{msgCommit}, make([]byte, 25)...)},
	} {
		s := &Stream{relations: map[uint32]*relation{}, metrics: newMetrics(nil)}
		s.setDefaults()
		var err error
		for i, frame := range frames {
			if err = s.message(t.Context(), 0, frame, 0, make(chan Event, 9)); err != nil && i < len(frames)-1 {
				t.Fatalf("%s: already at frame %d: %v", name, i, err)
			}
		}
		if err == nil || Retryable(err) {
			t.Errorf("%s gives %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, frame := range realFrames(f) {
		f.Add(frame)
	}
	f.Add(insertFrame(7, "a", "b"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var c Change
		before := bytes.Clone(frame)
		err := decodeAny(frame, twoColumns, make([]Value, 2), make([]Value, 2), &c)
		if !bytes.Equal(before, frame) {
			t.Fatal("the decoder wrote into the frame")
		}
		if err != nil || len(frame) == 0 {
			return
		}
		total := 0
		for _, v := range append(c.Old, c.New...) {
			total += len(v.Bytes)
			if v.State != Text && v.Bytes != nil {
				t.Fatal("bytes without a text")
			}
		}
		if total > len(frame) {
			t.Fatalf("%d bytes of values from a frame of %d", total, len(frame))
		}
	})
}

func BenchmarkDecodeUpdateFull(b *testing.B) {
	rel := &Relation{Columns: make([]Column, 12)}
	values := make([]string, 12)
	for i := range values {
		values[i] = strings.Repeat("v", 30)
	}
	row := insertFrame(7, values...)[6:]
	frame := append([]byte{msgUpdate, 0, 0, 0, 7, 'O'}, row...)
	frame = append(append(frame, 'N'), row...)
	old, new := make([]Value, 12), make([]Value, 12)
	var c Change
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		if err := decodeChange(frame, rel, old, new, &c); err != nil {
			b.Fatal(err)
		}
	}
}

// writeFrames records what a server sends, with pglogrepl alone.
func writeFrames(t *testing.T) {
	b := setup(t, pgtest.New(t), `
		create type status as enum ('open');
		create table f (id int primary key, a text, s status, big text);
		alter table f replica identity full; alter table f alter big set storage external;
		create table d (id int primary key, a text)`)
	b.exec(t, "select pg_replication_origin_create('o_"+b.db.Name+"'), pg_replication_origin_session_setup('o_"+b.db.Name+"')")
	for _, sql := range []string{
		"begin", "select pg_replication_origin_xact_setup('0/1234', now())",
		"select pg_logical_emit_message(true, 'casebook.audit', '{\"v\":1}')",
		"insert into f values (1, null, 'open', repeat('x', 3000))", "update f set a = 'new'", "truncate f, d",
		"insert into d values (1, 'b')", "update d set id = 2", "delete from d", "commit",
	} {
		b.exec(t, sql)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := dial(ctx, b.cfg.DSN, true)
	if err != nil {
		t.Fatal(err)
	}
	defer hangUp(conn)
	err = pglogrepl.StartReplication(ctx, conn, b.cfg.Slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'casebook_audit'", "messages 'true'"}})
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for done := false; !done; {
		msg, err := conn.ReceiveMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := msg.(*pgproto3.CopyData); ok && data.Data[0] == 'w' {
			frame := data.Data[25:]
			lines.WriteString(hex.EncodeToString(frame) + "\n")
			done = frame[0] == msgCommit
		}
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(framesFile, []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	b.exec(t, "select pg_replication_origin_session_reset()")
	eventually(t, "the origin is dropped", func() bool {
		_, err := b.sql.Exec(t.Context(), "select pg_replication_origin_drop('o_"+b.db.Name+"')")
		return err == nil
	})
}
