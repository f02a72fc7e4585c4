package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

// Disclosed is a field as it is shown to an outsider: with its salt, or withheld, by its digest alone.
type Disclosed struct {
	Field
	Salt     Hash
	Withheld bool
	Digest   Hash // of a withheld field
}

// Disclose gives all fields of an entry, the fixed ones first, each with its salt. Whoever has them can compute the
// commitment and no other field's secret.
func Disclose(e *Entry, salt Hash) []Disclosed {
	out := make([]Disclosed, 0, NumFixed+len(e.Fields))
	for i := range fixedFields {
		f := &fixedFields[i]
		d := Disclosed{Field: Field{Path: f.path, Type: f.typ}, Salt: fieldSalt(salt, i)}
		if f.text != nil {
			d.Value = f.text(e)
		} else if number, ok := f.number(e, nil); ok {
			d.Value = string(number)
		}
		if d.Value != "" {
			d.State = FieldValue
		}
		out = append(out, d)
	}
	for i := range e.Fields {
		out = append(out, Disclosed{Field: e.Fields[i], Salt: fieldSalt(salt, NumFixed+i)})
	}
	return out
}

func fieldSalt(salt Hash, i int) Hash {
	b := append([]byte{tagSalt}, salt[:]...)
	return sha256.Sum256(binary.BigEndian.AppendUint32(b, uint32(i)))
}

// maxFields is more than any entry has.
const maxFields = 4096

// Commit computes the commitment over disclosed fields. Fields that no entry can have are an error: a value where the
// state says that there is none, a fixed field under another name.
func Commit(fields []Disclosed) (Hash, error) {
	if len(fields) < NumFixed || len(fields) > maxFields {
		return Hash{}, fmt.Errorf("an entry does not have %d fields", len(fields))
	}
	b := binary.BigEndian.AppendUint32([]byte{tagCommitment}, uint32(len(fields)))
	for i := range fields {
		f := &fields[i]
		if f.Withheld {
			if f.Field != (Field{}) || f.Salt != (Hash{}) {
				return Hash{}, fmt.Errorf("field %d is withheld and shown at once", i)
			}
			b = append(b, f.Digest[:]...)
			continue
		}
		switch {
		case f.Digest != Hash{}:
			return Hash{}, fmt.Errorf("field %d is withheld and shown at once", i)
		case i < NumFixed && (f.Path != fixedFields[i].path || f.Type != fixedFields[i].typ):
			return Hash{}, fmt.Errorf("field %d is %q, it must be %q", i, f.Path, fixedFields[i].path)
		case f.State > FieldMasked || f.State != FieldValue && f.Value != "":
			return Hash{}, fmt.Errorf("field %d (%s) has a state that does not fit its value", i, f.Path)
		}
		digest := fieldDigest(f, i)
		b = append(b, digest[:]...)
	}
	return sha256.Sum256(b), nil
}

// fieldDigest is d_i of a field that is shown.
func fieldDigest(f *Disclosed, i int) Hash {
	digest := append([]byte{tagField}, f.Salt[:]...)
	digest = binary.BigEndian.AppendUint32(digest, uint32(i))
	digest = appendLP4(digest, f.Path)
	digest = appendLP4(digest, f.Type)
	digest = append(digest, byte(f.State))
	return sha256.Sum256(appendLP4(digest, f.Value))
}

// ParseLeaf reads the 101 bytes of a leaf.
func ParseLeaf(b []byte) (Leaf, error) {
	if len(b) != LeafSize || string(b[:len(leafMagic)]) != leafMagic {
		return Leaf{}, errors.New("this is not a leaf of a log of version 1")
	}
	l := Leaf{Kind: Kind(b[4]), ChainID: [16]byte(b[5:]), Seq: binary.BigEndian.Uint64(b[21:]), Prev: Hash(b[29:]), RecordedUS: int64(binary.BigEndian.Uint64(b[61:])), Commitment: Hash(b[69:])}
	return l, nil
}

// FormatProof writes https://c2sp.org/tlog-proof: entry seq is in the tree of a signed checkpoint.
func FormatProof(seq uint64, inclusion []Hash, checkpoint []byte) []byte {
	return torchwood.FormatProof(int64(seq), theirs(inclusion), checkpoint)
}

// CheckProof says whether a tlog-proof file shows that leaf is entry seq of the log that the policy names, under exactly
// this checkpoint. A file that is not written as FormatProof writes it is refused.
func (p *Policy) CheckProof(proof []byte, seq uint64, leaf Hash, checkpoint []byte) error {
	at, inclusion, rest, err := parseProof(proof)
	switch {
	case err != nil:
		return err
	case at != seq:
		return fmt.Errorf("the proof is for entry %d, not for %d", at, seq)
	case !bytes.Equal(rest, checkpoint):
		return errors.New("the proof is under another checkpoint")
	case !bytes.Equal(FormatProof(at, inclusion, rest), proof):
		return errors.New("the proof is not written as it must be")
	}
	if err := torchwood.VerifyProof(p.rules, tlog.Hash(leaf), proof); err != nil {
		return fmt.Errorf("the proof does not hold: %w", err)
	}
	return nil
}

func parseProof(proof []byte) (seq uint64, inclusion []Hash, checkpoint []byte, err error) {
	bad := errors.New("this is not a tlog-proof file, version 1")
	head, body, ok := strings.Cut(string(proof), "\n\n")
	lines := strings.Split(head, "\n")
	if !ok || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return 0, nil, nil, bad
	}
	number, ok := strings.CutPrefix(lines[1], "index ")
	seq, err = strconv.ParseUint(number, 10, 63)
	if !ok || err != nil {
		return 0, nil, nil, bad
	}
	for _, line := range lines[2:] {
		hash, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(hash) != len(Hash{}) {
			return 0, nil, nil, bad
		}
		inclusion = append(inclusion, Hash(hash))
	}
	return seq, inclusion, []byte(body), nil
}

// ManifestHash names a bundle: H(15 || manifest).
func ManifestHash(manifest []byte) Hash {
	return sha256.Sum256(append([]byte{tagManifest}, manifest...))
}
