package bundle

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"casebook.example/audit/ledger"
)

// entryFormat is in every Entry.
const entryFormat = "casebook-audit-entry-1"

// Entry is one entry as evidence.
type Entry struct {
	Format string  `json:"format"`
	Origin string  `json:"origin"`
	Seq    uint64  `json:"seq"`
	Leaf   string  `json:"leaf"`
	Fields []Field `json:"fields"`

	// Of a single entry's proof; in a bundle they are members of their own.
	Inclusion  []string `json:"inclusion,omitempty"`
	Checkpoint string   `json:"checkpoint,omitempty"`
	TLogProof  string   `json:"tlog_proof,omitempty"`
}

// Field is a disclosed field, or with Digest alone a withheld one.
type Field struct {
	Path   string             `json:"path,omitempty"`
	Type   string             `json:"type,omitempty"`
	State  *ledger.FieldState `json:"state,omitempty"`
	Value  string             `json:"value,omitempty"`
	Salt   string             `json:"salt,omitempty"`
	Digest string             `json:"digest,omitempty"`
}

// NewEntry shows all that is there of a stored entry; what was removed is withheld.
func NewEntry(origin string, chainID [16]byte, r *ledger.Row) (*Entry, error) {
	leaf := ledger.Leaf{Kind: r.Entry.Kind, ChainID: chainID, Seq: r.Seq, Prev: r.Prev, RecordedUS: r.RecordedUS, Commitment: r.Commitment}
	e := &Entry{Format: entryFormat, Origin: origin, Seq: r.Seq, Leaf: hex.EncodeToString(leaf.Append(nil)), Fields: []Field{}}
	fields, err := r.Disclose()
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", r.Seq, err)
	}
	for _, f := range fields {
		if f.Withheld {
			e.Fields = append(e.Fields, Field{Digest: hex.EncodeToString(f.Digest[:])})
			continue
		}
		e.Fields = append(e.Fields, Field{Path: f.Path, Type: f.Type, State: &f.State, Value: f.Value, Salt: hex.EncodeToString(f.Salt[:])})
	}
	return e, nil
}

// Prove adds the proof that the entry is under a signed checkpoint.
func (e *Entry) Prove(inclusion []ledger.Hash, checkpoint []byte) {
	e.Inclusion = []string{}
	for _, h := range inclusion {
		e.Inclusion = append(e.Inclusion, base64.StdEncoding.EncodeToString(h[:]))
	}
	e.Checkpoint, e.TLogProof = string(checkpoint), string(ledger.FormatProof(e.Seq, inclusion, checkpoint))
}

// Marshal writes the one spelling of an entry.
func (e *Entry) Marshal() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err := enc.Encode(e)
	return b.Bytes(), err
}

// ParseEntry reads what Marshal writes, and nothing else: no unknown or doubled key, no other order, nothing behind.
func ParseEntry(text []byte) (*Entry, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("the entry is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	e := &Entry{}
	if err := dec.Decode(e); err != nil {
		return nil, fmt.Errorf("the entry is not one: %w", err)
	}
	if e.Format != entryFormat {
		return nil, fmt.Errorf("the entry is of format %q, this program knows %q", e.Format, entryFormat)
	}
	if again, err := e.Marshal(); err != nil || !bytes.Equal(again, text) {
		return nil, errors.New("the entry is not written as it must be")
	}
	return e, nil
}

// check recomputes the commitment from the fields and compares it with the leaf. withheld is how many fields show nothing.
func (e *Entry) check() (leaf ledger.Leaf, fields []ledger.Disclosed, withheld int, err error) {
	raw, err := hex.DecodeString(e.Leaf)
	if err != nil {
		return leaf, nil, 0, errors.New("the leaf is not hexadecimal")
	}
	if leaf, err = ledger.ParseLeaf(raw); err != nil {
		return leaf, nil, 0, err
	}
	if leaf.Seq != e.Seq {
		return leaf, nil, 0, fmt.Errorf("the leaf is that of entry %d", leaf.Seq)
	}
	fields = make([]ledger.Disclosed, len(e.Fields))
	for i, f := range e.Fields {
		if f.Digest != "" {
			if f != (Field{Digest: f.Digest}) {
				return leaf, nil, 0, fmt.Errorf("field %d is withheld and shown at once", i)
			}
			withheld++
			fields[i].Withheld = true
			err = hashInto(&fields[i].Digest, f.Digest)
		} else {
			if f.State == nil {
				return leaf, nil, 0, fmt.Errorf("field %d has no state", i)
			}
			fields[i].Field = ledger.Field{Path: f.Path, Type: f.Type, State: *f.State, Value: f.Value}
			err = hashInto(&fields[i].Salt, f.Salt)
		}
		if err != nil {
			return leaf, nil, 0, fmt.Errorf("field %d: %w", i, err)
		}
	}
	commitment, err := ledger.Commit(fields)
	if err != nil {
		return leaf, nil, 0, err
	}
	if commitment != leaf.Commitment {
		return leaf, nil, 0, errors.New("the fields are not those that the leaf commits to")
	}
	return leaf, fields, withheld, nil
}

func hashInto(to *ledger.Hash, text string) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(to) || hex.EncodeToString(b) != text {
		return errors.New("a salt or digest is not 64 hexadecimal digits")
	}
	copy(to[:], b)
	return nil
}

// Fact is an entry that was proven, in the fields that it shows.
type Fact struct {
	Seq        uint64             `json:"seq"`
	RecordedUS int64              `json:"recorded_us"`
	Kind       ledger.Kind        `json:"kind"`
	Fields     []ledger.Disclosed `json:"-"`
	Withheld   int                `json:"withheld"`
}

// Text gives a fixed field's value, "" where it is NULL or withheld.
func (f *Fact) Text(path string) string {
	for i := range min(len(f.Fields), ledger.NumFixed) {
		if !f.Fields[i].Withheld && f.Fields[i].Path == path {
			return f.Fields[i].Value
		}
	}
	return ""
}

// VerifyEntry checks the proof of a single entry.
func VerifyEntry(text []byte, policy *ledger.Policy) (*Fact, ledger.Checkpoint, error) {
	e, err := ParseEntry(text)
	if err != nil {
		return nil, ledger.Checkpoint{}, err
	}
	c, err := policy.Open([]byte(e.Checkpoint))
	if err != nil {
		return nil, c, err
	}
	fact, _, err := e.verify(c, []byte(e.Checkpoint), []byte(e.TLogProof), policy)
	if err != nil {
		return nil, c, fmt.Errorf("entry %d: %w", e.Seq, err)
	}
	// The same proof once more, as JSON has it.
	inclusion := make([]ledger.Hash, len(e.Inclusion))
	for i, text := range e.Inclusion {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(b) != len(inclusion[i]) {
			return nil, c, fmt.Errorf("entry %d: inclusion holds something that is no hash", e.Seq)
		}
		inclusion[i] = ledger.Hash(b)
	}
	if !bytes.Equal(ledger.FormatProof(e.Seq, inclusion, []byte(e.Checkpoint)), []byte(e.TLogProof)) {
		return nil, c, fmt.Errorf("entry %d: inclusion is not the proof of tlog_proof", e.Seq)
	}
	return fact, c, nil
}

func (e *Entry) verify(c ledger.Checkpoint, checkpoint, proof []byte, policy *ledger.Policy) (*Fact, [16]byte, error) {
	leaf, fields, withheld, err := e.check()
	if err != nil {
		return nil, leaf.ChainID, err
	}
	if e.Origin != c.Origin {
		return nil, leaf.ChainID, fmt.Errorf("it is of the log %q, the checkpoint of %q", e.Origin, c.Origin)
	}
	if err := policy.CheckProof(proof, e.Seq, leaf.Hash(), checkpoint); err != nil {
		return nil, leaf.ChainID, err
	}
	return &Fact{Seq: e.Seq, RecordedUS: leaf.RecordedUS, Kind: leaf.Kind, Fields: fields, Withheld: withheld}, leaf.ChainID, nil
}
