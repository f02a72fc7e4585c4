package ledger

// Sealed is an entry with its place in a chain.
type Sealed struct {
	Entry      *Entry
	Seq        uint64
	Prev       Hash
	RecordedUS int64
	Commitment Hash
	LeafHash   Hash
	Salt       Hash
}

// Chain is where a chain stands. It seals entries one after another and belongs to one goroutine.
type Chain struct {
	ID         [16]byte
	Origin     string
	Size       uint64 // number of entries; the next one gets this seq
	Head       Hash   // leaf hash of the last entry, Genesis(Origin) for an empty chain
	RecordedUS int64  // of the last entry

	hasher *Hasher
}

// Seal makes e the next entry. recordedUS, microseconds since 1970, is raised to that of the entry before where a clock
// went back. salt must be fresh random bytes.
func (c *Chain) Seal(e *Entry, recordedUS int64, salt Hash) Sealed {
	if c.hasher == nil {
		c.hasher = NewHasher()
	}
	c.RecordedUS = max(c.RecordedUS, recordedUS)
	s := Sealed{Entry: e, Seq: c.Size, Prev: c.Head, RecordedUS: c.RecordedUS, Salt: salt}
	s.Commitment = c.hasher.Commitment(e, &s.Salt)
	leaf := Leaf{Kind: e.Kind, ChainID: c.ID, Seq: s.Seq, Prev: s.Prev, RecordedUS: s.RecordedUS, Commitment: s.Commitment}
	s.LeafHash = leaf.Hash()
	c.Size++
	c.Head = s.LeafHash
	return s
}
