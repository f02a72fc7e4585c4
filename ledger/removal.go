package ledger

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// FieldRemoved is how a field is stored that an order has removed. It is never hashed: the field's digest stands for it.
const FieldRemoved FieldState = 5

// Kept is what is left of a field's secrets in an entry that something was removed from: the field's own salt, or of a
// removed field the digest.
type Kept struct {
	Removed bool
	Hash    Hash
}

// Disclose gives all fields of a stored entry, the removed ones withheld.
func (r *Row) Disclose() ([]Disclosed, error) {
	if r.Kept == nil {
		return Disclose(&r.Entry, r.Salt), nil
	}
	if len(r.Kept) != NumFixed+len(r.Entry.Fields) {
		return nil, errors.New("salts and digests are not as many as the fields")
	}
	out := Disclose(&r.Entry, Hash{})
	for i, k := range r.Kept {
		f := &out[i]
		if !k.Removed {
			f.Salt = k.Hash
			continue
		}
		if !Removable(i) || f.Value != "" || i < NumFixed && f.State != FieldNull || i >= NumFixed && f.State != FieldRemoved {
			return nil, fmt.Errorf("field %d counts as removed and is there", i)
		}
		*f = Disclosed{Withheld: true, Digest: k.Hash}
	}
	return out, nil
}

// Content is the commitment that a stored row gives: by its fields, and the digests of those that were removed. A row whose
// parts do not fit is a *BrokenError.
func (h *Hasher) Content(r *Row) (Hash, error) {
	if r.Kept == nil {
		return h.Commitment(&r.Entry, &r.Salt), nil
	}
	fields, err := r.Disclose()
	if err != nil {
		return Hash{}, &BrokenError{r.Seq, DetectRemoval, err.Error()}
	}
	content, err := Commit(fields)
	if err != nil {
		return Hash{}, &BrokenError{r.Seq, DetectRemoval, err.Error()}
	}
	return content, nil
}

// FieldDigest is d_i, which stands for the field in the commitment.
func (d *Disclosed) FieldDigest(index int) Hash {
	if d.Withheld {
		return d.Digest
	}
	return fieldDigest(d, index)
}

// Remove gives what is kept of a row when the target's fields go.
func (r *Row) Remove(t *Target) ([]Kept, error) {
	fields, err := r.Disclose()
	if err != nil {
		return nil, err
	}
	kept := make([]Kept, len(fields))
	for i := range fields {
		if fields[i].Withheld || t.Removes(i) {
			kept[i] = Kept{true, fields[i].FieldDigest(i)}
		} else {
			kept[i] = Kept{false, fields[i].Salt}
		}
	}
	return kept, nil
}

// The actions of entries of kind 6, and of kind 7.
const (
	ActionOrder   = "order"
	ActionApprove = "approve"
	ActionHold    = "hold"    // the record is not to be removed or pruned
	ActionRelease = "release" // it may be again
	ActionUnseal  = "unseal"
	ActionRemoved = "removed"
)

// ErrNoApprovers: something was removed, and whose approvals count was not said. It is no verdict.
var ErrNoApprovers = errors.New("the log holds removals, and no keys of approvers are named: whether they were approved cannot be decided; set redaction.approvers")

// Approvals is how many different keys must approve an order.
const Approvals = 2

// OrderState is an order and what became of it.
type OrderState struct {
	Order    *Order
	Seq      uint64
	Leaf     Hash
	Approved []string // ids of the keys that approve it
	Last     uint64   // last entry about it
	Done     bool
}

// Removals follows orders, approvals, holds and removals along the chain. It belongs to one goroutine.
type Removals struct {
	approvers map[string]bool // by key; nil: nobody said
	origin    string
	orders    map[uint64]*OrderState
	targets   map[uint64][]*OrderState
	held      map[string]bool
}

// NewRemovals begins. approvers are the verifier keys whose approvals count: from who verifies, never from the log.
func NewRemovals(origin string, approvers []string) *Removals {
	r := &Removals{origin: origin, orders: map[uint64]*OrderState{}, targets: map[uint64][]*OrderState{}, held: map[string]bool{}}
	for _, key := range approvers {
		if r.approvers == nil {
			r.approvers = map[string]bool{}
		}
		r.approvers[key] = true
	}
	return r
}

// Order gives the order that is entry seq, or nil.
func (r *Removals) Order(seq uint64) *OrderState { return r.orders[seq] }

// Held says whether a record is under a legal hold.
func (r *Removals) Held(recordID string) bool { return r.held[recordID] }

// Holds are the records under a legal hold.
func (r *Removals) Holds() (ids []string) {
	for id := range r.held {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func fieldOf(e *Entry, path string) string {
	for i := range e.Fields {
		if e.Fields[i].Path == path && e.Fields[i].State == FieldValue {
			return e.Fields[i].Value
		}
	}
	return ""
}

// Take takes an entry of the kinds 6 and 7, in their order; others are left aside. A removal that was never ordered, or
// not approved, is a *BrokenError.
func (r *Removals) Take(row *Row) error {
	e := &row.Entry
	broken := func(format string, args ...any) error {
		return &BrokenError{row.Seq, DetectRemoval, fmt.Sprintf(format, args...)}
	}
	switch {
	case e.Kind == KindRedactionOrder && e.Action == ActionOrder:
		o, err := ParseOrder(fieldOf(e, "order.text"))
		if err != nil || o.Origin != r.origin {
			return broken("the order is not readable, or of another log")
		}
		s := &OrderState{Order: o, Seq: row.Seq, Leaf: row.LeafHash, Last: row.Seq}
		r.orders[row.Seq] = s
		for _, t := range o.Targets {
			r.targets[t.Seq] = append(r.targets[t.Seq], s)
		}
	case e.Kind == KindRedactionOrder && e.Action == ActionApprove:
		s := r.named(e)
		key := fieldOf(e, "approval.key")
		if s == nil || s.Done || !r.approvers[key] || CheckApproval(s.Order, s.Seq, s.Leaf, key, fieldOf(e, "approval.signature")) != nil {
			return nil // it counts for nothing
		}
		if id, err := ApproverID(key); err == nil && !slices.Contains(s.Approved, id) {
			s.Approved, s.Last = append(s.Approved, id), row.Seq
		}
	case e.Kind == KindRedactionOrder && e.Action == ActionHold:
		r.held[e.RecordID] = true
	case e.Kind == KindRedactionOrder && e.Action == ActionRelease:
		delete(r.held, e.RecordID)
	case e.Kind == KindRedactionDone:
		s := r.named(e)
		switch {
		case s == nil:
			return broken("it tells of a removal that nobody ordered")
		case r.approvers == nil:
			return ErrNoApprovers
		case len(s.Approved) < Approvals:
			return broken("order %d was carried out with %d approvals of different keys, it needs %d", s.Seq, len(s.Approved), Approvals)
		}
		s.Done, s.Last = true, row.Seq
	}
	return nil
}

// named is the order that an entry is about.
func (r *Removals) named(e *Entry) *OrderState {
	seq, err := strconv.ParseUint(fieldOf(e, "order.seq"), 10, 63)
	if s := r.orders[seq]; err == nil && s != nil && hex.EncodeToString(s.Leaf[:]) == fieldOf(e, "order.leaf") {
		return s
	}
	return nil
}

// Check compares what is missing from a row with what was ordered, once all entries of the kinds 6 and 7 were taken.
// under lists the orders that the row has lost something to.
func (r *Removals) Check(row *Row) (under []uint64, err error) {
	broken := func(format string, args ...any) error {
		return &BrokenError{row.Seq, DetectRemoval, fmt.Sprintf(format, args...)}
	}
	states := r.targets[row.Seq]
	if row.Kept == nil && states == nil {
		return nil, nil
	}
	if row.Kept != nil && r.approvers == nil {
		return nil, ErrNoApprovers
	}
	n := NumFixed + len(row.Entry.Fields)
	ordered := make([]uint64, n) // by field: the done order that removes it, plus 1
	for _, s := range states {
		i, _ := slices.BinarySearchFunc(s.Order.Targets, row.Seq, func(t Target, seq uint64) int { return int(int64(t.Seq) - int64(seq)) })
		t := &s.Order.Targets[i]
		switch {
		case t.Leaf != row.LeafHash:
			return nil, broken("order %d names another leaf hash for it", s.Seq)
		case !MayRemove(row.Entry.Kind):
			return nil, broken("order %d names it, and entries of its kind are never removed", s.Seq)
		case !s.Done:
			continue
		}
		if !slices.Contains(under, s.Seq) {
			under = append(under, s.Seq)
		}
		for field := range n {
			if t.Removes(field) {
				ordered[field] = s.Seq + 1
			}
		}
		for _, f := range t.Fields {
			if f.Index >= n {
				return nil, broken("order %d names field %d, which it does not have", s.Seq, f.Index)
			}
			if f.Index >= NumFixed && row.Entry.Fields[f.Index-NumFixed].Path != f.Path && row.Entry.Fields[f.Index-NumFixed].Path != "" {
				return nil, broken("order %d names field %d by another path", s.Seq, f.Index)
			}
		}
	}
	for field := range n {
		removed := row.Kept != nil && row.Kept[field].Removed
		switch {
		case removed && ordered[field] == 0:
			for _, s := range states {
				if !s.Done && len(s.Approved) >= Approvals {
					return nil, &BrokenError{row.Seq, DetectUnfinished, fmt.Sprintf("field %d is gone and order %d is not recorded as carried out: it runs now, or `casebook-audit redact carry-out %d` must be run again", field, s.Seq, s.Seq)}
				}
			}
			return nil, broken("field %d is gone, and no approved order that was carried out says so", field)
		case !removed && ordered[field] != 0:
			return nil, broken("order %d was carried out, and field %d is still there", ordered[field]-1, field)
		}
	}
	return under, nil
}

// OrderEntry is the entry that orders a removal.
func OrderEntry(o *Order) (*Entry, error) {
	text, err := o.Text()
	if err != nil {
		return nil, err
	}
	return &Entry{
		Kind: KindRedactionOrder, Action: ActionOrder, Initiator: InitiatorOperator, Summary: "Removal ordered", DBUser: o.RequestedBy,
		Fields: []Field{{Path: "order.text", Type: "text", State: FieldValue, Value: text}},
	}, nil
}

// about are the fields by which an entry names an order.
func (s *OrderState) about(more ...Field) []Field {
	return append([]Field{
		{Path: "order.seq", Type: "int8", State: FieldValue, Value: strconv.FormatUint(s.Seq, 10)},
		{Path: "order.leaf", Type: "hash", State: FieldValue, Value: hex.EncodeToString(s.Leaf[:])},
	}, more...)
}

// ApprovalEntry is the entry that approves an order.
func (s *OrderState) ApprovalEntry(key, signature string) *Entry {
	return &Entry{
		Kind: KindRedactionOrder, Action: ActionApprove, Initiator: InitiatorOperator, Summary: fmt.Sprintf("Removal order %d approved", s.Seq),
		Fields: s.about(Field{"approval.key", "vkey", FieldValue, key}, Field{"approval.signature", "text", FieldValue, signature}),
	}
}

// DoneEntry is the entry that tells of a removal.
func (s *OrderState) DoneEntry(details ...Field) *Entry {
	return &Entry{
		Kind: KindRedactionDone, Action: ActionRemoved, Initiator: InitiatorOperator, Summary: fmt.Sprintf("Removed under order %d", s.Seq),
		Fields: s.about(details...),
	}
}

// UnsealEntry is the entry that tells that somebody read what an order had sealed.
func (s *OrderState) UnsealEntry(by string) *Entry {
	return &Entry{Kind: KindRedactionOrder, Action: ActionUnseal, Initiator: InitiatorOperator, DBUser: by, Summary: fmt.Sprintf("Seal of order %d opened", s.Seq), Fields: s.about()}
}
