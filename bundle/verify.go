package bundle

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"casebook.example/audit/ledger"
)

// Result is what a bundle proves.
type Result struct {
	Manifest   *Manifest
	Name       ledger.Hash
	Checkpoint ledger.Checkpoint
	Entries    int
	Withheld   int // fields of them that show nothing
	Trusted    int // earlier checkpoints that the log still begins with
}

// Verify checks a bundle of size bytes. Whose signature counts comes from policy; trusted are checkpoints that the verifier
// had before, opened under the policy, each of which the bundle's log must begin with. fact is called for every entry that
// is proven, and must not be believed before Verify has returned without an error. Nothing is written anywhere.
func Verify(r io.ReaderAt, size int64, policy *ledger.Policy, trusted []ledger.Checkpoint, fact func(*Fact) error) (*Result, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, errors.New("this is not a bundle that is whole: it cannot be opened as a zip archive")
	}
	if len(z.File) < 2 || z.File[len(z.File)-1].Name != manifestName || z.File[0].Name != checkpointName {
		return nil, errors.New("this is not a bundle: it does not begin with a checkpoint and end with a manifest")
	}
	v := &verifier{files: z.File, policy: policy, trusted: trusted, fact: fact, result: &Result{}}
	if err := v.manifest(); err != nil {
		return nil, err
	}
	// What the archive holds beside its members (in front of them, between, behind, in their headers) is found by writing
	// it anew.
	same := &comparer{with: io.NewSectionReader(r, 0, size)}
	again := zip.NewWriter(same)
	for i := range v.result.Manifest.Files {
		content, err := v.read(i)
		if err != nil {
			return nil, err
		}
		if err := member(again, z.File[i].Name, content); err != nil {
			return nil, same.explain(err)
		}
		if err := v.member(z.File[i].Name, content); err != nil {
			return nil, fmt.Errorf("%s: %w", z.File[i].Name, err)
		}
	}
	if err := member(again, manifestName, []byte(v.result.Manifest.Text())); err != nil {
		return nil, same.explain(err)
	}
	if err := again.Close(); err != nil {
		return nil, same.explain(err)
	}
	if same.n != size {
		return nil, errDifferent
	}
	if v.waiting != nil {
		return nil, fmt.Errorf("entry %d has no proof", v.waiting.Seq)
	}
	return v.result, v.allTrusted()
}

// verifier goes over the members in their order.
type verifier struct {
	files   []*zip.File
	policy  *ledger.Policy
	trusted []ledger.Checkpoint
	fact    func(*Fact) error
	result  *Result

	checkpoint  []byte
	chainID     *[16]byte
	waiting     *Entry // whose proof comes next
	consistency map[uint64][]ledger.Hash
}

// manifest reads the manifest and compares it with the list of members.
func (v *verifier) manifest() error {
	last := v.files[len(v.files)-1]
	text, err := readMember(last, maxMember)
	if err != nil {
		return err
	}
	if v.result.Manifest, err = ParseManifest(string(text)); err != nil {
		return err
	}
	v.result.Name = ledger.ManifestHash(text)
	listed := v.result.Manifest.Files
	for i, f := range v.files[:len(v.files)-1] {
		if i >= len(listed) || f.Name != listed[i].Name {
			return fmt.Errorf("the archive holds %q, which the manifest does not list there", f.Name)
		}
	}
	if len(listed) != len(v.files)-1 {
		return fmt.Errorf("the manifest lists %s, which the archive does not hold", listed[len(v.files)-1].Name)
	}
	return nil
}

func (v *verifier) read(i int) ([]byte, error) {
	listed := v.result.Manifest.Files[i]
	content, err := readMember(v.files[i], listed.Bytes)
	if err != nil {
		return nil, err
	}
	if int64(len(content)) != listed.Bytes || ledger.Hash(sha256.Sum256(content)) != listed.SHA256 {
		return nil, fmt.Errorf("%s is not what the manifest says", listed.Name)
	}
	return content, nil
}

// readMember reads at most limit bytes, whatever the archive says of itself.
func readMember(f *zip.File, limit int64) ([]byte, error) {
	if f.Method != zip.Store || f.UncompressedSize64 > uint64(limit) {
		return nil, fmt.Errorf("%q is compressed, or larger than the manifest says: no bundle has such a member", f.Name)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%q cannot be read", f.Name)
	}
	defer r.Close()
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%q cannot be read: the archive is cut off or altered", f.Name)
	}
	return content, nil
}

func (v *verifier) member(name string, content []byte) (err error) {
	folder, rest, _ := strings.Cut(name, "/")
	if v.waiting != nil && folder != "proofs" {
		return fmt.Errorf("entry %d has no proof", v.waiting.Seq)
	}
	switch folder {
	case checkpointName:
		if v.checkpoint != nil {
			return errors.New("there is one already")
		}
		v.checkpoint, v.consistency = content, map[uint64][]ledger.Hash{}
		c, err := v.policy.Open(content)
		if err != nil {
			return err
		}
		v.result.Checkpoint = c
		if m := v.result.Manifest; c.Origin != m.Origin || c.Size != m.Size {
			return errors.New("the manifest is about another checkpoint")
		}
		return nil
	case "consistency":
		size, err := strconv.ParseUint(rest, 10, 63)
		if err != nil {
			return err
		}
		v.consistency[size], err = parseHashes(content)
		return err
	case "entries":
		if v.waiting, err = ParseEntry(content); err != nil {
			return err
		}
		if e := v.waiting; rest != fmt.Sprintf("%d.json", e.Seq) || e.Inclusion != nil || e.Checkpoint != "" || e.TLogProof != "" {
			return errors.New("the entry is another one than its name says, or brings a proof of its own")
		}
		return nil
	case "proofs":
		e := v.waiting
		if e == nil || rest != fmt.Sprintf("%d.tlog-proof", e.Seq) {
			return errors.New("the proof does not stand behind its entry")
		}
		v.waiting = nil
		fact, chainID, err := e.verify(v.result.Checkpoint, v.checkpoint, content, v.policy)
		if err != nil {
			return err
		}
		if v.chainID == nil {
			v.chainID = &chainID
		}
		if chainID != *v.chainID {
			return errors.New("the entry is of another chain than those before")
		}
		v.result.Entries++
		v.result.Withheld += fact.Withheld
		if v.fact != nil {
			return v.fact(fact)
		}
		return nil
	}
	return errors.New("no bundle has such a member")
}

// allTrusted holds the checkpoint against those that the verifier had before.
func (v *verifier) allTrusted() error {
	c := v.result.Checkpoint
	for _, old := range v.trusted {
		switch proof, ok := v.consistency[old.Size]; {
		case old.Origin != c.Origin:
			return fmt.Errorf("the bundle is of the log %q, the checkpoint that you trust of %q", c.Origin, old.Origin)
		case old.Size > c.Size:
			return fmt.Errorf("the bundle is older (%d entries) than the checkpoint that you trust (%d): it may be replayed, ask for a new one", c.Size, old.Size)
		case old.Size == c.Size && old.Root != c.Root:
			return fmt.Errorf("the log has two trees of %d entries: it was rewritten, keep both checkpoints", c.Size)
		case old.Size == c.Size:
		case !ok:
			return fmt.Errorf("the bundle does not show that its log begins with the %d entries that you trust: ask for one with --since %d", old.Size, old.Size)
		default:
			if err := ledger.CheckConsistency(proof, c.Size, c.Root, old.Size, old.Root); err != nil {
				return fmt.Errorf("the log does not begin with the %d entries that you trust: it was rewritten, or the bundle was, keep both", old.Size)
			}
		}
		v.result.Trusted++
	}
	return nil
}

func parseHashes(text []byte) (list []ledger.Hash, err error) {
	for line := range strings.Lines(string(text)) {
		b, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(line, "\n"))
		if err != nil || len(b) != len(ledger.Hash{}) {
			return nil, errors.New("a line is not a hash")
		}
		list = append(list, ledger.Hash(b))
	}
	if !bytes.Equal(formatHashes(list), text) {
		return nil, errors.New("the proof is not written as it must be")
	}
	return list, nil
}

var errDifferent = errors.New("the archive holds more than its members, or is cut off: it is not one that export has written")

// comparer is written to, and compares with what it reads.
type comparer struct {
	with io.Reader
	n    int64
	buf  []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	if cap(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	c.n += int64(len(p))
	if _, err := io.ReadFull(c.with, c.buf[:len(p)]); err != nil || !bytes.Equal(c.buf[:len(p)], p) {
		return 0, errDifferent
	}
	return len(p), nil
}

func (c *comparer) explain(err error) error {
	if errors.Is(err, errDifferent) {
		return errDifferent
	}
	return err
}
