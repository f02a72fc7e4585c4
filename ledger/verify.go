package ledger

import "fmt"

// BrokenError says that a chain is not what it was: the first entry that does not hold, and what noticed. It is evidence
// of tampering or of a fault in the writer, never of trouble with a connection.
type BrokenError struct {
	Seq      uint64
	Detector string // one of the detectors below
	Reason   string
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("entry %d: %s (%s)", e.Seq, e.Reason, e.Detector)
}

// The detectors of BrokenError.
const (
	DetectDensity    = "density"    // a sequence number is missing or doubled
	DetectChain      = "chain"      // prev is not the leaf hash before
	DetectLeaf       = "leaf"       // the leaf hash is not that of the leaf
	DetectCommitment = "commitment" // the commitment is not that of the fields
	DetectTime       = "time"       // the time of recording goes back
	DetectOrder      = "order"      // commit LSN and ordinal do not rise
	DetectBoundary   = "boundary"   // a transaction boundary's counts or links do not fit
	DetectPosition   = "position"   // the chain does not end where the stored position says
	DetectDerived    = "derived"    // a derived row says something else than the entry
	DetectTree       = "tree"       // a stored tile is not that of the entries
	DetectCheckpoint = "checkpoint" // a signed checkpoint says something else than the entries
	DetectUnfinished = "unfinished" // an approved removal was begun and is not recorded as done: it runs, or was broken off
	DetectRemoval    = "removal"    // something was removed without an order, or ordered away and is still there
	DetectCopy       = "copy"       // a copy that was kept outside says something else than the entries
)

// Row is an entry as it is stored, with what its leaf says.
type Row struct {
	Entry      Entry
	Seq        uint64
	Prev       Hash
	RecordedUS int64
	Commitment Hash
	LeafHash   Hash
	Salt       Hash   // not there where Kept is
	Kept       []Kept // of an entry that something was removed from: one for each field; nil: nothing was
}

// Verifier checks rows one after another, in the order of their sequence numbers. It keeps nothing but the state of the
// chain, and belongs to one goroutine.
type Verifier struct {
	id     [16]byte
	next   uint64
	head   Hash
	linked bool // head is known: from the origin, or from the row before
	hasher *Hasher

	recordedUS int64
	commit     LSN   // of the last entry of the stream
	ordinal    int64 // of the same
	boundary   LSN   // commit LSN of the last boundary; 0: none seen yet
	changes    int64 // entries of row changes since then
	whole      bool  // everything since the last boundary was seen
	start      bool  // everything since the first entry was seen
}

// NewVerifier starts at the first entry of the chain.
func NewVerifier(id [16]byte, origin string) *Verifier {
	return &Verifier{id: id, head: Genesis(origin), linked: true, hasher: NewHasher(), ordinal: -1, whole: true, start: true}
}

// NewVerifierAt starts at a later entry. What that one links to is taken as it is: only a trusted leaf hash, checked by
// the caller, says more.
func NewVerifierAt(id [16]byte, seq uint64) *Verifier {
	return &Verifier{id: id, next: seq, hasher: NewHasher(), ordinal: -1}
}

// NewVerifierAfter starts behind a trusted leaf hash, that of entry seq-1.
func NewVerifierAfter(id [16]byte, seq uint64, head Hash) *Verifier {
	v := NewVerifierAt(id, seq)
	v.head, v.linked = head, true
	return v
}

// Size is the number of the next entry.
func (v *Verifier) Size() uint64 { return v.next }

// Head is the leaf hash of the last row.
func (v *Verifier) Head() Hash { return v.head }

// Check takes the next row. Its error is a *BrokenError; the verifier can't be used after it.
func (v *Verifier) Check(r *Row) error {
	content, err := v.hasher.Content(r)
	if err != nil {
		return err
	}
	return v.CheckWith(r, content)
}

// CheckWith is Check for a row whose commitment, as its content gives it, was computed elsewhere.
func (v *Verifier) CheckWith(r *Row, content Hash) error {
	broken := func(detector, format string, args ...any) error {
		return &BrokenError{r.Seq, detector, fmt.Sprintf(format, args...)}
	}
	leaf := Leaf{Kind: r.Entry.Kind, Seq: r.Seq, Prev: r.Prev, RecordedUS: r.RecordedUS, Commitment: r.Commitment}
	if err := v.checkLeaf(&leaf, r.LeafHash); err != nil {
		return err
	}
	if content != r.Commitment {
		return broken(DetectCommitment, "the content is not what the commitment says")
	}
	if err := v.checkTime(&leaf); err != nil {
		return err
	}
	if err := v.stream(r, broken); err != nil {
		return err
	}
	v.advance(&leaf, r.LeafHash)
	return nil
}

// CheckLeaf takes the next leaf with its stored hash, where only the chain is of interest: nothing is said of what the entries
// hold. Its error is a *BrokenError; the verifier can't be used after it, and only for leaves after one.
func (v *Verifier) CheckLeaf(leaf *Leaf, hash Hash) error {
	if err := v.checkLeaf(leaf, hash); err != nil {
		return err
	}
	if err := v.checkTime(leaf); err != nil {
		return err
	}
	v.advance(leaf, hash)
	return nil
}

func (v *Verifier) checkLeaf(leaf *Leaf, hash Hash) error {
	if leaf.Seq != v.next {
		return &BrokenError{v.next, DetectDensity, fmt.Sprintf("entry %d stands where %d must be", leaf.Seq, v.next)}
	}
	if v.linked && leaf.Prev != v.head {
		return &BrokenError{leaf.Seq, DetectChain, "prev is not the leaf hash of the entry before"}
	}
	leaf.ChainID = v.id
	if leaf.Hash() != hash {
		return &BrokenError{leaf.Seq, DetectLeaf, "the leaf hash is not that of the leaf"}
	}
	return nil
}

func (v *Verifier) checkTime(leaf *Leaf) error {
	if leaf.RecordedUS < v.recordedUS {
		return &BrokenError{leaf.Seq, DetectTime, "the time of recording goes back"}
	}
	return nil
}

func (v *Verifier) advance(leaf *Leaf, hash Hash) {
	v.next, v.head, v.linked, v.recordedUS = leaf.Seq+1, hash, true, leaf.RecordedUS
}

// Skip goes over entries that were pruned: the next one is seq, and head is the leaf hash before it, as the tree has it.
func (v *Verifier) Skip(seq uint64, head Hash) {
	v.next, v.head, v.linked = seq, head, true
	v.boundary, v.changes, v.whole, v.start = 0, 0, false, false
}

// stream checks the place of a row in the source's stream.
func (v *Verifier) stream(r *Row, broken func(detector, format string, args ...any) error) error {
	e := &r.Entry
	if e.CommitLSN == 0 {
		return nil
	}
	if e.attached() {
		if e.CommitLSN < v.commit || e.CommitLSN == v.commit && e.Ordinal < v.ordinal {
			return broken(DetectOrder, "commit LSN %s, ordinal %d does not follow %s, %d", e.CommitLSN, e.Ordinal, v.commit, v.ordinal)
		}
		return nil
	}
	if e.CommitLSN < v.commit || e.CommitLSN == v.commit && e.Ordinal <= v.ordinal {
		return broken(DetectOrder, "commit LSN %s, ordinal %d does not follow %s, %d", e.CommitLSN, e.Ordinal, v.commit, v.ordinal)
	}
	v.commit, v.ordinal = e.CommitLSN, e.Ordinal
	if e.Kind != KindTransaction {
		v.changes++
		return nil
	}
	var prev LSN
	var entries, noise, excluded, changes int64
	for _, f := range e.Fields {
		var err error
		switch f.Path {
		case "prev_commit_lsn":
			if f.State == FieldValue {
				prev, err = ParseLSN(f.Value)
			}
		case "entries":
			_, err = fmt.Sscan(f.Value, &entries)
		case "noise":
			_, err = fmt.Sscan(f.Value, &noise)
		case "excluded":
			_, err = fmt.Sscan(f.Value, &excluded)
		case "changes":
			_, err = fmt.Sscan(f.Value, &changes)
		}
		if err != nil {
			return broken(DetectBoundary, "field %s of the boundary cannot be read", f.Path)
		}
	}
	switch {
	case v.whole && entries != v.changes:
		return broken(DetectBoundary, "the boundary counts %d entries, the chain has %d", entries, v.changes)
	case changes != entries+noise+excluded || changes != e.Ordinal:
		return broken(DetectBoundary, "%d row changes are not %d entries, %d without meaning and %d excluded", changes, entries, noise, excluded)
	case (v.boundary != 0 || v.start) && prev != v.boundary:
		return broken(DetectBoundary, "the boundary follows a commit at %s, the chain's last is %s", prev, v.boundary)
	}
	v.boundary, v.changes, v.whole = e.CommitLSN, 0, true
	return nil
}
