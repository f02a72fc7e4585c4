package bundle_test

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"casebook.example/audit/bundle"
	"casebook.example/audit/ledger"
)

const origin = "audit.example.org/dhs/cases"

// log is a small log with all that a bundle of it needs.
type log struct {
	id     [16]byte
	rows   []*ledger.Row
	tree   ledger.Tree
	leaves []ledger.Hash
	roots  []ledger.Hash
	signer note.Signer
	policy *ledger.Policy
}

func newLog(t testing.TB, size int, id byte) *log {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	l := &log{id: [16]byte{id}}
	if l.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if l.policy, err = ledger.KeyPolicy(vkey); err != nil {
		t.Fatal(err)
	}
	chain := ledger.Chain{ID: l.id, Origin: origin, Head: ledger.Genesis(origin)}
	l.roots = append(l.roots, l.tree.Root())
	for i := range size {
		e := &ledger.Entry{Kind: ledger.KindChange, CommitLSN: ledger.LSN(i + 1), CommittedAt: 1773151323456789, Application: "Engage", RecordName: "J. <Sullivan> & Söhne\u2028", Action: "update",
			Fields: []ledger.Field{{Path: "new.a", Type: "text", State: ledger.FieldValue, Value: ""}, {Path: "old.a", Type: "text"}, {Path: "new.b", Type: "text", State: ledger.FieldMasked}}}
		s := chain.Seal(e, 1, ledger.Hash{byte(i), 1})
		l.rows = append(l.rows, &ledger.Row{Entry: *e, Seq: s.Seq, Prev: s.Prev, RecordedUS: s.RecordedUS, Commitment: s.Commitment, LeafHash: s.LeafHash, Salt: s.Salt})
		l.tree.Append(s.LeafHash, nil)
		l.leaves, l.roots = append(l.leaves, s.LeafHash), append(l.roots, l.tree.Root())
	}
	return l
}

func (l *log) at(size int) ledger.Checkpoint {
	return ledger.Checkpoint{Origin: origin, Size: uint64(size), Root: l.roots[size]}
}

func (l *log) sign(t testing.TB, size int) []byte {
	signed, err := note.Sign(&note.Note{Text: l.at(size).Text()}, l.signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func (l *log) prover(size int) *ledger.Prover {
	return ledger.NewProver(uint64(size), l.roots[size], func(level int, index int64, width int) (out []byte, err error) {
		for _, leaf := range l.leaves[256*index:][:width] {
			out = append(out, leaf[:]...)
		}
		return out, nil
	})
}

func (l *log) inclusion(t testing.TB, seq uint64, size int) []ledger.Hash {
	proof, err := l.prover(size).Inclusion(seq)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

// write makes a bundle over size entries; edit changes an entry before it is written.
func (l *log) write(t testing.TB, size int, since []int, seqs []uint64, edit func(*bundle.Entry)) ([]byte, ledger.Hash) {
	var out bytes.Buffer
	w, err := bundle.NewWriter(&out, l.sign(t, size), "application=Engage&q=Söhne", "t1")
	if err != nil {
		t.Fatal(err)
	}
	for _, old := range since {
		proof, err := l.prover(size).Consistency(uint64(old))
		if err == nil {
			err = w.Consistency(uint64(old), proof)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, seq := range seqs {
		e, err := bundle.NewEntry(origin, l.id, l.rows[seq])
		if err != nil {
			t.Fatal(err)
		}
		if edit != nil {
			edit(e)
		}
		if err := w.Entry(e, l.inclusion(t, seq, size)); err != nil {
			t.Fatal(err)
		}
	}
	name, err := w.Close(2)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), name
}

func (l *log) verify(file []byte, trusted ...ledger.Checkpoint) (*bundle.Result, []uint64, error) {
	var seqs []uint64
	r, err := bundle.Verify(bytes.NewReader(file), int64(len(file)), l.policy, trusted, func(f *bundle.Fact) error {
		seqs = append(seqs, f.Seq)
		return nil
	})
	return r, seqs, err
}

func TestBundle(t *testing.T) {
	l := newLog(t, 200, 1)
	want := []uint64{0, 7, 150}
	file, name := l.write(t, 180, []int{50, 100}, want, nil)
	r, seqs, err := l.verify(file, l.at(100), l.at(50), l.at(180))
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != name || r.Entries != 3 || r.Trusted != 3 || r.Withheld != 0 || r.Manifest.Newer != 2 || r.Manifest.Query != "application=Engage&q=Söhne" || !slices.Equal(seqs, want) {
		t.Errorf("%+v, %v", r, seqs)
	}
	if again, second := l.write(t, 180, []int{50, 100}, want, nil); !bytes.Equal(file, again) || second != name {
		t.Error("the same content has two spellings")
	}
	// A field is withheld: it proves as before, and says so.
	row := l.rows[7]
	hidden, _ := l.write(t, 180, nil, []uint64{7}, func(e *bundle.Entry) {
		for _, i := range []int{8, 26} {
			d := ledger.Disclose(&row.Entry, row.Salt)[i]
			e.Fields[i] = bundle.Field{Digest: fieldDigest(i, d)}
		}
	})
	if r, _, err := l.verify(hidden); err != nil || r.Withheld != 2 {
		t.Errorf("withheld fields: %+v, %v", r, err)
	}
	if empty, _ := l.write(t, 180, nil, nil, nil); len(empty) == 0 {
		t.Error("nothing")
	} else if r, _, err := l.verify(empty); err != nil || r.Entries != 0 {
		t.Errorf("no entries: %+v, %v", r, err)
	}
}

func fieldDigest(i int, d ledger.Disclosed) string {
	b := append([]byte{0x11}, d.Salt[:]...)
	b = append(b, 0, 0, 0, byte(i))
	for _, s := range []string{d.Path, d.Type} {
		b = append(append(b, 0, 0, 0, byte(len(s))), s...)
	}
	b = append(append(b, byte(d.State)), append([]byte{0, 0, 0, byte(len(d.Value))}, d.Value...)...)
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// member is a member of a zip archive that a test takes apart.
type member struct{ name, content string }

func unzip(t testing.TB, file []byte) (members []member) {
	z, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		members = append(members, member{f.Name, string(content)})
	}
	return members
}

func rezip(t testing.TB, members []member, method uint16) []byte {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, m := range members {
		w, err := z.CreateHeader(&zip.FileHeader{Name: m.name, Method: method})
		if err == nil {
			_, err = io.WriteString(w, m.content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// relist makes the manifest fit the members, as an attacker would.
func relist(members []member) []member {
	old := members[len(members)-1].content
	text := old[:strings.Index(old, "file ")]
	for _, m := range members[:len(members)-1] {
		text += fmt.Sprintf("file %x %d %s\n", sha256.Sum256([]byte(m.content)), len(m.content), m.name)
	}
	return append(members[:len(members)-1:len(members)-1], member{"MANIFEST", text})
}

// TestBundleAttacks: each is refused, with the manifest made to fit where that is in the attacker's hands.
func TestBundleAttacks(t *testing.T) {
	l, stranger, elsewhere := newLog(t, 200, 1), newLog(t, 200, 1), newLog(t, 200, 2)
	file, _ := l.write(t, 180, []int{50}, []uint64{0, 7, 150}, nil)
	members := func() []member { return unzip(t, file) }
	if !bytes.Equal(rezip(t, members(), zip.Store), file) || !bytes.Equal(rezip(t, relist(members()), zip.Store), file) {
		t.Fatal("the test does not write bundles as they are written")
	}
	find := func(ms []member, name string) *member {
		for i := range ms {
			if ms[i].name == name {
				return &ms[i]
			}
		}
		t.Fatalf("no %s", name)
		return nil
	}
	edited := func(name string, edit func(string) string) []byte {
		ms := members()
		m := find(ms, name)
		if was := m.content; edit(was) == was {
			t.Fatalf("%s is not changed", name)
		} else {
			m.content = edit(was)
		}
		return rezip(t, relist(ms), zip.Store)
	}
	replace := func(name, old, with string) []byte {
		return edited(name, func(s string) string { return strings.Replace(s, old, with, 1) })
	}
	with := func(m member) []byte {
		ms := members()
		return rezip(t, relist(slices.Insert(ms, len(ms)-1, m)), zip.Store)
	}
	without := func(name string) []byte {
		return rezip(t, relist(slices.DeleteFunc(members(), func(m member) bool { return m.name == name })), zip.Store)
	}
	unlisted := func(m member) []byte {
		ms := members()
		return rezip(t, slices.Insert(ms, len(ms)-1, m), zip.Store)
	}
	of := func(l *log) []byte {
		b, _ := l.write(t, 180, []int{50}, []uint64{0, 7, 150}, nil)
		return b
	}
	mixed, late := members(), members()
	find(mixed, "checkpoint").content = string(l.sign(t, 190))
	find(late, "entries/7.json").content = find(members(), "entries/0.json").content
	swapped := members()
	a, b := find(swapped, "proofs/0.tlog-proof"), find(swapped, "proofs/7.tlog-proof")
	a.content, b.content = b.content, a.content
	double := members()
	double = slices.Insert(double, 2, double[2], double[3])
	foreign := of(elsewhere)
	for name, bad := range map[string][]byte{
		"nothing": nil, "not a zip": []byte("hello"), "cut off": file[:len(file)-30], "cut in the middle": file[:len(file)/2], "padded": append(slices.Clone(file), 'x'),
		"a prefix": append([]byte("x"), file...), "compressed": rezip(t, members(), zip.Deflate), "a bit": flip(file, 300),
		"re-signed by another key": of(stranger), "another log": foreign,
		"an unlisted file": unlisted(member{"entries/9.json", "x"}), "a file too many": with(member{"README", "x"}), "an entry without a proof": with(member{"entries/9.json", find(members(), "entries/7.json").content}),
		"path traversal": with(member{"../../etc/passwd", "x"}), "an absolute path": with(member{"/etc/passwd", "x"}), "a folder": with(member{"entries/", ""}),
		"traversal below a known folder": with(member{"entries/../7.json", "x"}), "a backslash": with(member{`entries\7.json`, "x"}), "a name with zeroes": with(member{"entries/007.json", "x"}),
		"a member doubled": rezip(t, relist(double), zip.Store), "no checkpoint": without("checkpoint"), "no proof": without("proofs/7.tlog-proof"), "a proof without an entry": without("entries/7.json"),
		"no manifest": rezip(t, members()[:len(members())-1], zip.Store), "a listed file missing": rezip(t, slices.Delete(members(), 2, 4), zip.Store),
		"another checkpoint of the log": rezip(t, relist(mixed), zip.Store), "an entry under another's name": rezip(t, relist(late), zip.Store), "proofs swapped": rezip(t, relist(swapped), zip.Store),
		"the manifest's size": replace("MANIFEST", "size 180", "size 170"), "the manifest's origin": replace("MANIFEST", "origin audit", "origin audix"), "the manifest's header": replace("MANIFEST", "bundle 1", "bundle 2"),
		"a field's value":   replace("entries/7.json", `"value": "Engage"`, `"value": "Intake"`),
		"a field's state":   replace("entries/7.json", `"state": 4`, `"state": 0`),
		"a field's salt":    replace("entries/7.json", `"salt": "`, `"salt": "00`),
		"a field's path":    replace("entries/7.json", `"path": "new.b"`, `"path": "new.c"`),
		"a field removed":   replace("entries/7.json", `"path": "new.b",`, ``),
		"a doubled key":     replace("entries/7.json", `"seq": 7,`, "\"seq\": 7,\n \"seq\": 7,"),
		"an unknown key":    replace("entries/7.json", `"seq": 7,`, "\"seq\": 7,\n \"note\": \"x\","),
		"more behind":       edited("entries/7.json", func(s string) string { return s + "{}\n" }),
		"not UTF-8":         replace("entries/7.json", "Engage", "Enga\xff"),
		"another origin":    replace("entries/7.json", `"origin": "audit`, `"origin": "audix`),
		"a leaf altered":    replace("entries/7.json", `"leaf": "414c4501`, `"leaf": "414c4502`),
		"a leaf's kind":     replace("entries/7.json", `"leaf": "414c450101`, `"leaf": "414c450102`),
		"the key in it":     replace("entries/7.json", `"seq": 7,`, "\"seq\": 7,\n \"policy\": \"log x\","),
		"a proof's index":   replace("proofs/7.tlog-proof", "index 7", "index 8"),
		"an extra line":     replace("proofs/7.tlog-proof", "index 7", "extra AAAA\nindex 7"),
		"a checkpoint line": edited("checkpoint", func(s string) string { return strings.Replace(s, "\n\n", "\nx\n\n", 1) }),
		"consistency":       edited("consistency/50", func(s string) string { return "x" + s }),
	} {
		if r, _, err := l.verify(bad); err == nil {
			t.Errorf("%s: taken: %+v", name, r)
		}
	}
	// What only a checkpoint from before shows.
	if _, _, err := l.verify(file, l.at(190)); err == nil || !strings.Contains(err.Error(), "replayed") {
		t.Errorf("an old bundle: %v", err)
	}
	if _, _, err := l.verify(file, l.at(60)); err == nil || !strings.Contains(err.Error(), "--since 60") {
		t.Errorf("no proof of consistency: %v", err)
	}
	forked := l.at(50)
	forked.Root[0] ^= 1
	if _, _, err := l.verify(file, forked); err == nil || !strings.Contains(err.Error(), "rewritten") {
		t.Errorf("another beginning: %v", err)
	}
	forked = l.at(180)
	forked.Root[0] ^= 1
	if _, _, err := l.verify(file, forked); err == nil || !strings.Contains(err.Error(), "two trees") {
		t.Errorf("two trees: %v", err)
	}
	if _, _, err := l.verify(file, ledger.Checkpoint{Origin: "audit.example.org/other", Size: 50}); err == nil {
		t.Error("a checkpoint of another log was compared")
	}
}

func flip(file []byte, at int) []byte {
	out := slices.Clone(file)
	out[at] ^= 4
	return out
}

// TestEveryBit: no bit of a bundle can be turned unnoticed.
func TestEveryBit(t *testing.T) {
	l := newLog(t, 5, 1)
	file, _ := l.write(t, 5, []int{2}, []uint64{3}, nil)
	rapid.Check(t, func(t *rapid.T) {
		bad := slices.Clone(file)
		at := rapid.IntRange(0, len(bad)-1).Draw(t, "at")
		bad[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if r, _, err := l.verify(bad); err == nil {
			// The words of the question are nobody's claim; the bundle has another name then.
			t.Fatalf("byte %d: taken: %+v", at, r)
		}
	})
}

var update = flag.Bool("update", false, "rewrite the vectors")

// TestBundleVectors: the published bundle is what is written of the same entries, and it verifies.
func TestBundleVectors(t *testing.T) {
	const folder = "../ledger/testdata/"
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(i)
	}
	vkey, err := note.NewEd25519VerifierKey(origin, ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	l := newLog(t, 9, 1)
	if l.signer, err = note.NewSigner("PRIVATE+KEY+" + vkey[:len(origin)+10] + base64.StdEncoding.EncodeToString(append([]byte{1}, seed...))); err != nil {
		t.Fatal(err)
	}
	policy := "log " + vkey + "\nquorum none\n"
	if l.policy, err = ledger.ParsePolicy([]byte(policy)); err != nil {
		t.Fatal(err)
	}
	file, name := l.write(t, 9, []int{4}, []uint64{0, 3}, nil)
	if *update {
		for name, text := range map[string][]byte{"bundle.zip": file, "policy.txt": []byte(policy), "trusted.checkpoint": l.sign(t, 4)} {
			if err := os.WriteFile(folder+name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	published, err := os.ReadFile(folder + "bundle.zip")
	if err != nil || !bytes.Equal(published, file) {
		t.Fatalf("the bundle is not the published one any more (%v)", err)
	}
	kept, err := os.ReadFile(folder + "trusted.checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := l.policy.Open(kept)
	if err != nil {
		t.Fatal(err)
	}
	if r, _, err := l.verify(published, trusted); err != nil || r.Name != name || r.Trusted != 1 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestEntryProof(t *testing.T) {
	l, stranger := newLog(t, 20, 1), newLog(t, 20, 1)
	e, err := bundle.NewEntry(origin, l.id, l.rows[7])
	if err != nil {
		t.Fatal(err)
	}
	e.Prove(l.inclusion(t, 7, 15), l.sign(t, 15))
	text, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	fact, c, err := bundle.VerifyEntry(text, l.policy)
	if err != nil || c != l.at(15) || fact.Seq != 7 || fact.Text("application") != "Engage" || fact.Text("record_name") != "J. <Sullivan> & Söhne\u2028" {
		t.Fatalf("%+v %+v %v", fact, c, err)
	}
	if _, _, err := bundle.VerifyEntry(text, stranger.policy); err == nil {
		t.Error("another key was taken")
	}
	for name, bad := range map[string]string{
		"nothing": "", "an inclusion altered": strings.Replace(string(text), `"inclusion": [`+"\n  \"", `"inclusion": [`+"\n  \"A", 1), "cut off": string(text[:len(text)-3]),
		"a space": strings.Replace(string(text), `"seq": 7`, `"seq":  7`, 1), "another value": strings.Replace(string(text), "Engage", "Intake", 1),
	} {
		if _, _, err := bundle.VerifyEntry([]byte(bad), l.policy); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	l := newLog(f, 5, 1)
	file, _ := l.write(f, 5, []int{2}, []uint64{3}, nil)
	f.Add(file)
	f.Add(rezip(f, []member{{"checkpoint", "x"}, {"MANIFEST", "casebook-audit-bundle 1\n"}}, zip.Store))
	f.Fuzz(func(t *testing.T, bad []byte) {
		if r, _, err := l.verify(bad); err == nil && (r.Checkpoint != l.at(5) || r.Entries > 1) {
			t.Fatalf("%+v", r)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	f.Add((&bundle.Manifest{Origin: "o", Size: 3, Query: "q", Tenants: "*", Files: []bundle.File{{Name: "checkpoint"}}}).Text())
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := bundle.ParseManifest(text); err == nil && m.Text() != text {
			t.Fatalf("%q was read as %q", text, m.Text())
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	l := newLog(f, 1, 1)
	e, err := bundle.NewEntry(origin, l.id, l.rows[0])
	if err != nil {
		f.Fatal(err)
	}
	text, err := e.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := bundle.ParseEntry(text)
		if err != nil {
			return
		}
		if again, err := e.Marshal(); err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q was read as %q", text, again)
		}
	})
}
