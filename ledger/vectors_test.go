package ledger_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"casebook.example/audit/ledger"
)

// treeVectors are testdata/tree.json, for those who write the format anew. Leaf i is H(00 || u64 i).
type treeVectors struct {
	What        string              `json:"what"`
	Roots       map[string]string   `json:"roots"` // by size
	Inclusion   []proofVector       `json:"inclusion"`
	Consistency []proofVector       `json:"consistency"`
	Tiles       map[string]string   `json:"tiles_sha256"` // of 65,537 leaves, by path
	Checkpoint  checkpointVector    `json:"checkpoint"`
	Refused     []refusedCheckpoint `json:"refused_checkpoints"`
}

type proofVector struct {
	Size  uint64   `json:"size"`
	Seq   uint64   `json:"seq"` // the smaller size, of a consistency proof
	Proof []string `json:"proof"`
}

type checkpointVector struct {
	Seed        string `json:"ed25519_seed"`
	VerifierKey string `json:"verifier_key"`
	Note        string `json:"note"`
	TLogProof   string `json:"tlog_proof"` // of entry 256
}

type refusedCheckpoint struct {
	Why  string `json:"why"`
	Note string `json:"note"`
}

func TestTreeVectors(t *testing.T) {
	const origin = "audit.example.org/dhs/cases"
	f := &forest{tiles: map[[2]int64]ledger.Tile{}}
	roots := []ledger.Hash{f.tree.Root()}
	for i := range 65537 {
		leaf := ledger.Hash(tlog.RecordHash([]byte{0, 0, 0, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}))
		f.leaves = append(f.leaves, leaf)
		for _, tile := range f.tree.Append(leaf, nil) {
			f.tiles[[2]int64{int64(tile.Level), tile.Index}] = tile
		}
		roots = append(roots, f.tree.Root())
	}
	got := treeVectors{What: "leaf i is SHA-256(00 || u64 i), big-endian; hashes in hexadecimal; tiles as the SHA-256 of their bytes", Roots: map[string]string{}, Tiles: map[string]string{}}
	text := func(list []ledger.Hash) []string {
		out := []string{}
		for _, h := range list {
			out = append(out, hex.EncodeToString(h[:]))
		}
		return out
	}
	for _, size := range edgeSizes {
		root := roots[size]
		got.Roots[fmt.Sprint(size)] = hex.EncodeToString(root[:])
		prover := ledger.NewProver(uint64(size), root, f.read)
		for _, seq := range []int{0, 1, 255, 256, size - 1} {
			if seq < 0 || seq >= size {
				continue
			}
			proof, err := prover.Inclusion(uint64(seq))
			if err != nil {
				t.Fatal(err)
			}
			got.Inclusion = append(got.Inclusion, proofVector{uint64(size), uint64(seq), text(proof)})
		}
		for _, old := range edgeSizes {
			if old == 0 || old > size {
				continue
			}
			proof, err := prover.Consistency(uint64(old))
			if err != nil {
				t.Fatal(err)
			}
			got.Consistency = append(got.Consistency, proofVector{uint64(size), uint64(old), text(proof)})
		}
	}
	for _, id := range []ledger.TileID{{Level: 0, Index: 0, Width: 256}, {Level: 0, Index: 256, Width: 1}, {Level: 1, Index: 0, Width: 256}, {Level: 2, Index: 0, Width: 1}} {
		data, err := f.read(id.Level, id.Index, id.Width)
		if err != nil {
			t.Fatal(err)
		}
		got.Tiles[id.Path()] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(i)
	}
	vkey, err := note.NewEd25519VerifierKey(origin, ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner("PRIVATE+KEY+" + vkey[:len(origin)+10] + base64.StdEncoding.EncodeToString(append([]byte{1}, seed...)))
	if err != nil {
		t.Fatal(err)
	}
	c := ledger.Checkpoint{Origin: origin, Size: 257, Root: roots[257]}
	signed := signNote(t, c.Text(), signer)
	inclusion, err := ledger.NewProver(257, roots[257], f.read).Inclusion(256)
	if err != nil {
		t.Fatal(err)
	}
	got.Checkpoint = checkpointVector{hex.EncodeToString(seed), vkey, signed, string(ledger.FormatProof(256, inclusion, []byte(signed)))}
	policy, err := ledger.KeyPolicy(vkey)
	if err != nil {
		t.Fatal(err)
	}
	root64 := base64.StdEncoding.EncodeToString(roots[257][:])
	for _, bad := range []struct{ why, body string }{
		{"the size has a leading zero", origin + "\n0257\n" + root64 + "\n"}, {"the size has a sign", origin + "\n+257\n" + root64 + "\n"}, {"the root is short", origin + "\n257\nAQID\n"},
		{"there is a further line", c.Text() + "extension\n"}, {"it is of another log", "audit.example.org/dhs/other\n257\n" + root64 + "\n"},
	} {
		note := signNote(t, bad.body, signer)
		if _, err := policy.Open([]byte(note)); err == nil {
			t.Errorf("%s: taken", bad.why)
		}
		got.Refused = append(got.Refused, refusedCheckpoint{bad.why, note})
	}
	out, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/tree.json"
	if *update {
		if err := os.WriteFile(file, append(out, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != string(out)+"\n" {
		t.Error("the tree, its proofs or checkpoints are not those of the vectors any more")
	}
}
