package ledger_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"casebook.example/audit/ledger"
)

func sampleOrder() *ledger.Order {
	return &ledger.Order{
		Origin: "audit.example/test", Level: ledger.LevelFields, RequestedBy: "dba", Authority: "County Court", Reason: "12/3 – ümlaut",
		Targets: []ledger.Target{{Seq: 3, Leaf: ledger.Hash{1}, Fields: []ledger.OrderField{{Index: 8, Path: "record_name"}, {Index: 27, Path: "new.a b"}}}, {Seq: 9, Leaf: ledger.Hash{2}, Fields: []ledger.OrderField{{Index: 25, Path: "row"}}}},
	}
}

// TestOrder: one spelling, and no order that says something else than it shows.
func TestOrder(t *testing.T) {
	t.Parallel()
	text, err := sampleOrder().Text()
	if err != nil {
		t.Fatal(err)
	}
	if o, err := ledger.ParseOrder(text); err != nil || len(o.Targets) != 2 || o.Targets[0].Fields[1].Path != "new.a b" {
		t.Errorf("%+v, %v", o, err)
	}
	for name, spoil := range map[string]func(o *ledger.Order){
		"a line in the reason":      func(o *ledger.Order) { o.Reason = "x\nentry 4 " + strings.Repeat("0", 64) },
		"a line in a path":          func(o *ledger.Order) { o.Targets[0].Fields[0].Path = "x\ny" },
		"no authority":              func(o *ledger.Order) { o.Authority = "" },
		"no such level":             func(o *ledger.Order) { o.Level = "all" },
		"a recipient of no seal":    func(o *ledger.Order) { o.Recipient = "age1x" },
		"nothing":                   func(o *ledger.Order) { o.Targets = nil },
		"an entry twice":            func(o *ledger.Order) { o.Targets[1].Seq = 3 },
		"the commit time":           func(o *ledger.Order) { o.Targets[0].Fields[0].Index = 3 },
		"fields without any":        func(o *ledger.Order) { o.Targets[0].Fields = nil },
		"text that is not UTF-8":    func(o *ledger.Order) { o.Reason = "\xff" },
		"more than a note can hold": func(o *ledger.Order) { o.Reason = strings.Repeat("x", 1_000_000) },
	} {
		o := sampleOrder()
		spoil(o)
		if text, err := o.Text(); err == nil {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// TestApproval: a signature counts for its order, its number, its leaf and its key alone.
func TestApproval(t *testing.T) {
	t.Parallel()
	key := func(name string) (note.Signer, string) {
		private, public, err := note.GenerateKey(rand.Reader, name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := note.NewSigner(private)
		if err != nil {
			t.Fatal(err)
		}
		return s, public
	}
	anna, annaKey := key("anna.example")
	_, benKey := key("ben.example")
	o, leaf := sampleOrder(), ledger.Hash{7}
	signature, err := ledger.Approve(o, 12, leaf, anna)
	if err != nil {
		t.Fatal(err)
	}
	if err := ledger.CheckApproval(o, 12, leaf, annaKey, signature); err != nil {
		t.Fatal(err)
	}
	other := sampleOrder()
	other.Targets[0].Fields[0].Index = 9
	for name, err := range map[string]error{
		"another number":  ledger.CheckApproval(o, 13, leaf, annaKey, signature),
		"another leaf":    ledger.CheckApproval(o, 12, ledger.Hash{8}, annaKey, signature),
		"another order":   ledger.CheckApproval(other, 12, leaf, annaKey, signature),
		"another key":     ledger.CheckApproval(o, 12, leaf, benKey, signature),
		"no key":          ledger.CheckApproval(o, 12, leaf, "x", signature),
		"no signature":    ledger.CheckApproval(o, 12, leaf, annaKey, ""),
		"twice":           ledger.CheckApproval(o, 12, leaf, annaKey, signature+signature),
		"something added": ledger.CheckApproval(o, 12, leaf, annaKey, "x\n\n"+signature),
	} {
		if err == nil {
			t.Errorf("%s: it counts", name)
		}
	}
}

// TestRemove: whatever fields go, the commitment stays.
func TestRemove(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := fullEntry()
		e.Fields = append([]ledger.Field(nil), e.Fields...)
		salt := ledger.Hash{3}
		want := ledger.NewHasher().Commitment(e, &salt)
		row := &ledger.Row{Entry: *e, Seq: 5, Commitment: want, Salt: salt}
		target := &ledger.Target{Seq: 5}
		for i := range ledger.NumFixed + len(e.Fields) {
			if ledger.Removable(i) && rapid.Bool().Draw(t, "remove") {
				target.Fields = append(target.Fields, ledger.OrderField{Index: i, Path: "x"})
			}
		}
		kept, err := row.Remove(target)
		if err != nil {
			t.Fatal(err)
		}
		left := &ledger.Row{Entry: ledger.Entry{Kind: e.Kind, CommitLSN: e.CommitLSN, Ordinal: e.Ordinal, CommittedAt: e.CommittedAt}, Seq: 5, Kept: kept}
		fields := ledger.Disclose(e, salt)
		for i := range fields {
			if kept[i].Removed {
				fields[i] = ledger.Disclosed{Withheld: true, Digest: kept[i].Hash}
			} else if fields[i].Salt != kept[i].Hash {
				t.Fatalf("field %d has another salt", i)
			}
		}
		if got, err := ledger.Commit(fields); err != nil || got != want {
			t.Fatalf("%x, want %x (%v)", got, want, err)
		}
		for i, f := range e.Fields {
			if kept[ledger.NumFixed+i].Removed {
				f = ledger.Field{Path: f.Path, Type: f.Type, State: ledger.FieldRemoved}
			}
			left.Entry.Fields = append(left.Entry.Fields, f)
		}
		// With a fixed field of the entry gone that was not to go, it does not hold.
		if len(target.Fields) == 0 {
			if got, err := ledger.NewHasher().Content(left); err == nil && got == want {
				t.Fatal("an entry without its columns holds")
			}
		}
	})
}

func FuzzParseOrder(f *testing.F) {
	text, err := sampleOrder().Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("casebook-audit removal order, version 1\norigin o\nlevel entry\n")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ledger.ParseOrder(text)
		if err != nil {
			return
		}
		if again, err := o.Text(); err != nil || again != text {
			t.Fatalf("%q was read as %q (%v)", text, again, err)
		}
	})
}
