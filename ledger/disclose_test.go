package ledger_test

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"casebook.example/audit/ledger"
)

// TestDisclose: the disclosed fields give the commitment, whichever of them are withheld, and no other fields do.
func TestDisclose(t *testing.T) {
	hasher := ledger.NewHasher()
	salt := ledger.Hash{9, 9}
	for _, e := range []*ledger.Entry{fullEntry(), {Ordinal: -1}} {
		want := hasher.Commitment(e, &salt)
		all := ledger.Disclose(e, salt)
		if got, err := ledger.Commit(all); err != nil || got != want {
			t.Fatalf("%x, want %x (%v)", got, want, err)
		}
	}
	e := fullEntry()
	want := hasher.Commitment(e, &salt)
	digests := fieldDigests(t, e, salt)
	rapid.Check(t, func(t *rapid.T) {
		fields := ledger.Disclose(e, salt)
		for i := range fields {
			if rapid.Bool().Draw(t, "withheld") {
				fields[i] = ledger.Disclosed{Withheld: true, Digest: digests[i]}
			}
		}
		if got, err := ledger.Commit(fields); err != nil || got != want {
			t.Fatalf("%x, want %x (%v)", got, want, err)
		}
		i := rapid.IntRange(0, len(fields)-1).Draw(t, "i")
		f := &fields[i]
		switch rapid.IntRange(0, 4).Draw(t, "lie") {
		case 0:
			f.Salt[0] ^= 1
		case 1:
			f.Value += "x"
		case 2:
			f.Path += "x"
		case 3:
			f.State = (f.State + 1) % 6
		case 4:
			f.Digest[0] ^= 1
		}
		if got, err := ledger.Commit(fields); err == nil && got == want {
			t.Fatalf("field %d was altered and the commitment stayed", i)
		}
	})
	fields := ledger.Disclose(e, salt)
	for name, bad := range map[string][]ledger.Disclosed{
		"none": nil, "too few": fields[:ledger.NumFixed-1], "too many": make([]ledger.Disclosed, 5000),
		"withheld and shown": append(append([]ledger.Disclosed(nil), fields...), ledger.Disclosed{Withheld: true, Field: ledger.Field{Value: "x"}}),
	} {
		if _, err := ledger.Commit(bad); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestParseLeaf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := ledger.Leaf{Kind: ledger.Kind(rapid.Byte().Draw(t, "kind")), Seq: rapid.Uint64().Draw(t, "seq"), RecordedUS: rapid.Int64().Draw(t, "at"),
			ChainID: [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")), Prev: ledger.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "prev")),
			Commitment: ledger.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "commitment"))}
		b := l.Append(nil)
		back, err := ledger.ParseLeaf(b)
		if err != nil || back != l {
			t.Fatalf("%+v was read back as %+v (%v)", l, back, err)
		}
		i := rapid.IntRange(0, 3).Draw(t, "i")
		b[i]++
		if _, err := ledger.ParseLeaf(b); err == nil {
			t.Fatal("another magic was taken")
		}
		b[i]--
		if _, err := ledger.ParseLeaf(b[:100]); err == nil {
			t.Fatal("100 bytes were taken")
		}
		if _, err := ledger.ParseLeaf(append(b, 0)); err == nil {
			t.Fatal("102 bytes were taken")
		}
	})
}

// TestProofFile: a tlog-proof holds for its own entry, leaf, checkpoint and log, and in one spelling.
func TestProofFile(t *testing.T) {
	const origin = "audit.example.org/dhs/cases"
	key, vkey := noteKey(t, origin)
	policy, err := ledger.KeyPolicy(vkey)
	if err != nil {
		t.Fatal(err)
	}
	f := grow(t, 300)
	c := ledger.Checkpoint{Origin: origin, Size: 300, Root: f.tree.Root()}
	signed := signNote(t, c.Text(), key)
	later := signNote(t, ledger.Checkpoint{Origin: origin, Size: 301, Root: ledger.Hash{1}}.Text(), key)
	inclusion, err := ledger.NewProver(300, c.Root, f.read).Inclusion(70)
	if err != nil {
		t.Fatal(err)
	}
	good := string(ledger.FormatProof(70, inclusion, []byte(signed)))
	check := func(proof string, seq uint64, leaf ledger.Hash, checkpoint string) error {
		return policy.CheckProof([]byte(proof), seq, leaf, []byte(checkpoint))
	}
	if err := check(good, 70, f.leaves[70], signed); err != nil {
		t.Fatal(err)
	}
	replace := func(old, with string) string { return replaceOnce(t, good, old, with) }
	for name, err := range map[string]error{
		"another entry":       check(good, 71, f.leaves[71], signed),
		"another index":       check(replace("index 70", "index 71"), 71, f.leaves[71], signed),
		"another leaf":        check(good, 70, f.leaves[71], signed),
		"another checkpoint":  check(good, 70, f.leaves[70], later),
		"under another one":   check(string(ledger.FormatProof(70, inclusion, []byte(later))), 70, f.leaves[70], later),
		"a hash less":         check(string(ledger.FormatProof(70, inclusion[1:], []byte(signed))), 70, f.leaves[70], signed),
		"a hash more":         check(string(ledger.FormatProof(70, append(inclusion[:len(inclusion):len(inclusion)], ledger.Hash{}), []byte(signed))), 70, f.leaves[70], signed),
		"index 070":           check(replace("index 70", "index 070"), 70, f.leaves[70], signed),
		"an extra line":       check(replace("index 70", "extra AAAA\nindex 70"), 70, f.leaves[70], signed),
		"cut off":             check(good[:len(good)-5], 70, f.leaves[70], signed),
		"padded":              check(good+"\n", 70, f.leaves[70], signed),
		"another header":      check(replace("@v1", "@v2"), 70, f.leaves[70], signed),
		"nothing":             check("", 70, f.leaves[70], signed),
		"seq beyond the tree": check(replace("index 70", "index 300"), 300, f.leaves[70], signed),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzCheckProof(f *testing.F) {
	key, vkey := noteKey(f, "audit.example.org/x")
	policy, err := ledger.KeyPolicy(vkey)
	if err != nil {
		f.Fatal(err)
	}
	var tree ledger.Tree
	leaf := ledger.Hash{1}
	tree.Append(leaf, nil)
	signed := signNote(f, ledger.Checkpoint{Origin: "audit.example.org/x", Size: 1, Root: tree.Root()}.Text(), key)
	good := ledger.FormatProof(0, nil, []byte(signed))
	if err := policy.CheckProof(good, 0, leaf, []byte(signed)); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(ledger.FormatProof(7, []ledger.Hash{{}}, []byte(signed)))
	f.Fuzz(func(t *testing.T, proof []byte) {
		if policy.CheckProof(proof, 0, leaf, []byte(signed)) == nil && string(proof) != string(good) {
			t.Fatalf("%q was taken", proof)
		}
	})
}

// fieldDigests computes the digest of each field from the words of the format.
func fieldDigests(t *testing.T, e *ledger.Entry, entrySalt ledger.Hash) (digests []ledger.Hash) {
	t.Helper()
	lp4 := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	for i, f := range ledger.Disclose(e, entrySalt) {
		salt := sha256.Sum256(binary.BigEndian.AppendUint32(append([]byte{0x10}, entrySalt[:]...), uint32(i)))
		b := binary.BigEndian.AppendUint32(append([]byte{0x11}, salt[:]...), uint32(i))
		b = lp4(append(lp4(lp4(b, f.Path), f.Type), byte(f.State)), f.Value)
		digests = append(digests, sha256.Sum256(b))
	}
	return digests
}

func replaceOnce(t *testing.T, s, old, with string) string {
	t.Helper()
	if strings.Count(s, old) != 1 {
		t.Fatalf("%q does not stand once in %q", old, s)
	}
	return strings.Replace(s, old, with, 1)
}
