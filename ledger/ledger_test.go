package ledger_test

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"casebook.example/audit/ledger"
)

var update = flag.Bool("update", false, "rewrite the vectors")

func fullEntry() *ledger.Entry {
	return &ledger.Entry{
		Kind: ledger.KindChange, CommitLSN: 0x16B374D848, Ordinal: 2, XID: 771, CommittedAt: 1773151323456789, TenantID: "t1", Application: "Engage",
		RecordType: "Case", RecordID: "50000000-0000-4000-8000-000000000001", RecordName: "J. Sullivan Case", Resource: "Service Enrollment",
		SubResource: "Service Enrollments", Table: "services.service_enrollments", RowID: "71000000-0000-4000-8000-000000000011",
		RowName: "Weekly family counseling - J. Sullivan", Action: ledger.ActionCreate, Summary: "Service Enrollment added", Initiator: ledger.InitiatorUser,
		UserID: "u1", UserEmail: "maria.alvarez@hfs.example", UserName: "Maria Álvarez", DBUser: "app", DBApp: "web", ClientAddr: "10.0.0.7", BackendPID: 4242,
		Remark: "updated_by_id names another user",
		Fields: []ledger.Field{
			{Path: "also.0", Type: "record", State: ledger.FieldValue, Value: `{"application":"People","record_type":"Person","record_id":"p1","record_name":"J. Sullivan"}`},
			{Path: "new.units", Type: "numeric", State: ledger.FieldValue, Value: "12.00"},
			{Path: "old.units", Type: "numeric", State: ledger.FieldNull},
			{Path: "new.comments", Type: "text", State: ledger.FieldValue, Value: ""},
			{Path: "new.body", Type: "text", State: ledger.FieldUnchanged},
			{Path: "old.body", Type: "text", State: ledger.FieldUnknown},
			{Path: "new.ssn", Type: "app.ssn", State: ledger.FieldMasked},
		},
	}
}

// vector is one entry of testdata/v1.json, for those who write the format anew.
type vector struct {
	What       string        `json:"what"`
	Entry      *ledger.Entry `json:"entry"`
	EntrySalt  string        `json:"entry_salt"`
	Seq        uint64        `json:"seq"`
	RecordedUS int64         `json:"recorded_us"`
	Prev       string        `json:"prev"`
	Commitment string        `json:"commitment"`
	Leaf       string        `json:"leaf"`
	LeafHash   string        `json:"leaf_hash"`
}

type vectors struct {
	Origin  string   `json:"origin"`
	ChainID string   `json:"chain_id"`
	Genesis string   `json:"genesis"`
	Entries []vector `json:"entries"`
}

func TestVectors(t *testing.T) {
	const origin = "audit.example.org/dhs/cases"
	chain := ledger.Chain{ID: [16]byte([]byte("0123456789abcdef")), Origin: origin, Head: ledger.Genesis(origin)}
	genesis := ledger.Genesis(origin)
	got := vectors{Origin: origin, ChainID: hex.EncodeToString(chain.ID[:]), Genesis: hex.EncodeToString(genesis[:])}
	for i, c := range []struct {
		what  string
		entry *ledger.Entry
		at    int64
	}{
		{"nothing but the kind and a time", &ledger.Entry{Kind: ledger.KindGenesis, Ordinal: -1, CommittedAt: 1}, 1},
		{"every fixed field, every state", fullEntry(), 1773151323500000},
		{"a boundary, recorded when the clock had gone back", &ledger.Entry{Kind: ledger.KindTransaction, CommitLSN: 0x16B374D848, Ordinal: 3, XID: 771, CommittedAt: 1773151323456789,
			Fields: []ledger.Field{{Path: "prev_commit_lsn", Type: "pg_lsn", State: ledger.FieldNull}, {Path: "changes", Type: "int8", State: ledger.FieldValue, Value: "3"}}}, 5},
	} {
		var salt ledger.Hash
		for j := range salt {
			salt[j] = byte(32*i + j)
		}
		s := chain.Seal(c.entry, c.at, salt)
		leaf := ledger.Leaf{Kind: s.Entry.Kind, ChainID: chain.ID, Seq: s.Seq, Prev: s.Prev, RecordedUS: s.RecordedUS, Commitment: s.Commitment}
		got.Entries = append(got.Entries, vector{
			c.what, c.entry, hex.EncodeToString(salt[:]), s.Seq, s.RecordedUS, hex.EncodeToString(s.Prev[:]), hex.EncodeToString(s.Commitment[:]),
			hex.EncodeToString(leaf.Append(nil)), hex.EncodeToString(s.LeafHash[:]),
		})
	}
	text, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/v1.json"
	if *update {
		if err := os.WriteFile(file, append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(want)) != string(text) {
		t.Errorf("the format has changed: that is a new version, not an edit of this one\n%s", text)
	}
	if size := len(got.Entries[0].Leaf) / 2; size != ledger.LeafSize {
		t.Errorf("a leaf of %d bytes", size)
	}
}

func TestLSN(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := ledger.LSN(rapid.Uint64().Draw(t, "lsn"))
		if want := fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)); l.String() != want {
			t.Fatalf("%s, want %s", l, want)
		}
		if back, err := ledger.ParseLSN(l.String()); err != nil || back != l {
			t.Fatalf("%s read back as %s (%v)", l, back, err)
		}
	})
	for _, bad := range []string{"", "/", "0", "0/", "/0", "0/123456789", "g/0", "0/-1", " 0/0", "0/0 ", "0x1/0"} {
		if l, err := ledger.ParseLSN(bad); err == nil {
			t.Errorf("%q was read as %s", bad, l)
		}
	}
}

func TestLabel(t *testing.T) {
	for column, want := range map[string]string{
		"total_cost": "Total Cost", "status_id": "Status", "id": "Id", "custom_fields.risk_level": "Risk Level", "units": "Units", "über_id": "Über", "": "",
	} {
		if got := ledger.Label(column); got != want {
			t.Errorf("%q is labelled %q, want %q", column, got, want)
		}
	}
}

func commitment(e *ledger.Entry) ledger.Hash {
	return ledger.NewHasher().Commitment(e, &ledger.Hash{7})
}

// TestEveryFieldCounts: whatever of an entry is changed, its commitment is another.
func TestEveryFieldCounts(t *testing.T) {
	original := commitment(fullEntry())
	v := reflect.TypeFor[ledger.Entry]()
	for i := range v.NumField() {
		name := v.Field(i).Name
		if name == "Kind" || name == "Fields" { // the kind is in the leaf
			continue
		}
		e := fullEntry()
		field := reflect.ValueOf(e).Elem().Field(i)
		for _, change := range []func(){
			func() { field.SetZero() },
			func() {
				switch field.Kind() {
				case reflect.String:
					field.SetString(field.String() + "x")
				case reflect.Int64:
					field.SetInt(field.Int() + 1)
				default:
					field.SetUint(field.Uint() + 1)
				}
			},
		} {
			before := field.Interface()
			change()
			if reflect.DeepEqual(before, field.Interface()) {
				continue
			}
			if commitment(e) == original {
				t.Errorf("%s does not count", name)
			}
		}
	}
}

// TestNoTwoEntriesAlike: the encoding is injective: moving bytes between the parts of fields, or between fields, or
// reordering them, is always seen.
func TestNoTwoEntriesAlike(t *testing.T) {
	short := rapid.StringOfN(rapid.RuneFrom([]rune("ab.\x00")), 0, 3, -1)
	fields := rapid.Custom(func(t *rapid.T) []ledger.Field {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ledger.Field {
			f := ledger.Field{Path: short.Draw(t, "path"), Type: short.Draw(t, "type"), State: ledger.FieldState(rapid.IntRange(0, 4).Draw(t, "state"))}
			if f.State == ledger.FieldValue {
				f.Value = short.Draw(t, "value")
			}
			return f
		}), 0, 3).Draw(t, "fields")
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := &ledger.Entry{Summary: short.Draw(t, "a")}, &ledger.Entry{Summary: short.Draw(t, "b")}
		a.Fields, b.Fields = fields.Draw(t, "fields a"), fields.Draw(t, "fields b")
		same := a.Summary == b.Summary && len(a.Fields) == len(b.Fields)
		for i := 0; same && i < len(a.Fields); i++ {
			same = a.Fields[i] == b.Fields[i]
		}
		if (commitment(a) == commitment(b)) != same {
			t.Fatalf("%+v and %+v", a, b)
		}
	})
}

// TestVerifier: an honest chain passes, and after any change to any of its rows it doesn't.
func TestVerifier(t *testing.T) {
	id := [16]byte{9}
	chain := ledger.Chain{ID: id, Head: ledger.Genesis("o")}
	var rows []ledger.Row
	seal := func(e *ledger.Entry) {
		s := chain.Seal(e, int64(1000+len(rows)), ledger.Hash{byte(len(rows))})
		rows = append(rows, ledger.Row{Entry: *e, Seq: s.Seq, Prev: s.Prev, RecordedUS: s.RecordedUS, Commitment: s.Commitment, LeafHash: s.LeafHash, Salt: s.Salt})
	}
	boundary := func(lsn, prev ledger.LSN, changes, entries, noise int64) *ledger.Entry {
		count := func(path string, n int64) ledger.Field {
			return ledger.Field{Path: path, Type: "int8", State: ledger.FieldValue, Value: fmt.Sprint(n)}
		}
		link := ledger.Field{Path: "prev_commit_lsn", Type: "pg_lsn"}
		if prev != 0 {
			link.State, link.Value = ledger.FieldValue, prev.String()
		}
		return &ledger.Entry{Kind: ledger.KindTransaction, CommitLSN: lsn, Ordinal: changes, Fields: []ledger.Field{link, count("changes", changes), count("entries", entries), count("noise", noise), count("excluded", 0)}}
	}
	change := func(lsn ledger.LSN, ordinal int64) *ledger.Entry {
		return &ledger.Entry{Kind: ledger.KindChange, CommitLSN: lsn, Ordinal: ordinal}
	}
	seal(&ledger.Entry{Kind: ledger.KindGenesis, Ordinal: -1})
	seal(change(0x10, 0))
	seal(change(0x10, 2))
	seal(boundary(0x10, 0, 3, 2, 1))
	seal(change(0x20, 0))
	seal(&ledger.Entry{Kind: ledger.KindAccess, Ordinal: -1})
	seal(boundary(0x20, 0x10, 1, 1, 0))
	verify := func(rows []ledger.Row) string {
		v := ledger.NewVerifier(id, "o")
		for i := range rows {
			if err := v.Check(&rows[i]); err != nil {
				return err.(*ledger.BrokenError).Detector
			}
		}
		return ""
	}
	if got := verify(rows); got != "" {
		t.Fatalf("an honest chain: %s", got)
	}
	// What a writer with the keys to everything may write, with every hash right, and the stream's order still tells.
	lie := func(change func(entries []*ledger.Entry) []*ledger.Entry) string {
		var entries []*ledger.Entry
		for i := range rows {
			e := rows[i].Entry
			entries = append(entries, &e)
		}
		entries = change(entries)
		rows, chain = nil, ledger.Chain{ID: id, Head: ledger.Genesis("o")}
		for _, e := range entries {
			seal(e)
		}
		return verify(rows)
	}
	honest := append([]ledger.Row(nil), rows...)
	for _, c := range []struct {
		name string
		lie  func(e []*ledger.Entry) []*ledger.Entry
		want string
	}{
		{"a change left out", func(e []*ledger.Entry) []*ledger.Entry { return append(e[:1:1], e[2:]...) }, ledger.DetectBoundary},
		{"a transaction left out", func(e []*ledger.Entry) []*ledger.Entry { return append(e[:1:1], e[4:]...) }, ledger.DetectBoundary},
		{"the second transaction's link", func(e []*ledger.Entry) []*ledger.Entry { e[6].Fields[0].Value = "0/18"; return e }, ledger.DetectBoundary},
		{"a change twice", func(e []*ledger.Entry) []*ledger.Entry { return append(e[:2:2], e[1:]...) }, ledger.DetectOrder},
		{"counts that don't add up", func(e []*ledger.Entry) []*ledger.Entry { e[3].Fields[3].Value = "7"; return e }, ledger.DetectBoundary},
		{"a count that is no number", func(e []*ledger.Entry) []*ledger.Entry { e[3].Fields[3].Value = "x"; return e }, ledger.DetectBoundary},
	} {
		rows = append([]ledger.Row(nil), honest...)
		for i := range rows { // fields are shared
			rows[i].Entry.Fields = append([]ledger.Field(nil), honest[i].Entry.Fields...)
		}
		if got := lie(c.lie); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	chain := ledger.Chain{Head: ledger.Genesis("o")}
	e := fullEntry()
	b.ReportAllocs()
	for b.Loop() {
		chain.Seal(e, 1, ledger.Hash{1})
	}
}
