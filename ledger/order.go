package ledger

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// The levels of a removal.
const (
	LevelSeal   = "seal"   // fields are encrypted to the order's recipient and kept aside
	LevelFields = "fields" // values and salts of the fields are destroyed
	LevelEntry  = "entry"  // all fields of the entry are destroyed; its place, its commit time and its commitment stay
)

// Order is an order to remove something from a log. Its text is what approvers sign and what the log holds:
//
//	casebook-audit removal order, version 1
//	origin ORIGIN
//	level seal|fields|entry
//	recipient AGE-RECIPIENT          only for the level seal
//	requested-by WHO
//	authority WHOSE ORDER
//	reason WHY
//	entry SEQ LEAFHASH               for each entry, by seq, followed by
//	field SEQ INDEX PATH             its fields, by index; none: all that can be removed
//
// Every line ends with a newline; there is no other spelling.
type Order struct {
	Origin      string
	Level       string
	Recipient   string
	RequestedBy string
	Authority   string
	Reason      string
	Targets     []Target
}

// Target is an entry of an order.
type Target struct {
	Seq    uint64
	Leaf   Hash
	Fields []OrderField // nil: all that can be removed
}

// OrderField is a field of a target, by its index in the commitment.
type OrderField struct {
	Index int
	Path  string
}

const (
	orderHead    = "casebook-audit removal order, version 1"
	approvalHead = "casebook-audit approval of a removal, version 1"
	// maxOrder is the longest text of an order in bytes: a signed note has at most a million.
	maxOrder = 900_000
)

// Removable says whether a field of an entry can be removed: the place in the stream and the commit time stay, they hold the chain and the
// tables together.
func Removable(index int) bool {
	return index >= 0 && index < maxFields && index != fieldCommitLSN && index != fieldOrdinal && index != fieldCommittedAt
}

// Indexes among the fixed fields.
const (
	fieldCommitLSN   = 0
	fieldOrdinal     = 1
	fieldCommittedAt = 3
)

// MayRemove says whether entries of a kind can be named by an order. What the chain needs to be judged is never removed.
func MayRemove(k Kind) bool {
	return k == KindChange || k == KindDirectory || k == KindAccess
}

// Text is the one spelling of the order; an order that has none is an error.
func (o *Order) Text() (string, error) {
	for name, value := range map[string]string{"origin": o.Origin, "requester": o.RequestedBy, "authority": o.Authority, "reason": o.Reason} {
		if value == "" {
			return "", fmt.Errorf("the order has no %s", name)
		}
	}
	switch {
	case o.Level != LevelSeal && o.Level != LevelFields && o.Level != LevelEntry:
		return "", fmt.Errorf("level %q: it is %s, %s or %s", o.Level, LevelSeal, LevelFields, LevelEntry)
	case (o.Level == LevelSeal) != (o.Recipient != ""):
		return "", errors.New("a recipient belongs to the level seal, and to no other")
	case len(o.Targets) == 0:
		return "", errors.New("the order names no entry")
	}
	var b strings.Builder
	line := func(key, value string) { b.WriteString(key + " " + value + "\n") }
	b.WriteString(orderHead + "\n")
	line("origin", o.Origin)
	line("level", o.Level)
	if o.Recipient != "" {
		line("recipient", o.Recipient)
	}
	line("requested-by", o.RequestedBy)
	line("authority", o.Authority)
	line("reason", o.Reason)
	lines := 6
	if o.Recipient != "" {
		lines++
	}
	for i, t := range o.Targets {
		if i > 0 && t.Seq <= o.Targets[i-1].Seq {
			return "", fmt.Errorf("entry %d stands behind entry %d, or twice", t.Seq, o.Targets[i-1].Seq)
		}
		if o.Level == LevelFields && len(t.Fields) == 0 {
			return "", fmt.Errorf("entry %d: an order of the level fields names fields", t.Seq)
		}
		seq := strconv.FormatUint(t.Seq, 10)
		line("entry", seq+" "+hex.EncodeToString(t.Leaf[:]))
		lines++
		for j, f := range t.Fields {
			if !Removable(f.Index) || j > 0 && f.Index <= t.Fields[j-1].Index || f.Path == "" {
				return "", fmt.Errorf("entry %d: field %d (%s) cannot be removed, or stands behind a later one", t.Seq, f.Index, f.Path)
			}
			line("field", seq+" "+strconv.Itoa(f.Index)+" "+f.Path)
			lines++
		}
	}
	text := b.String()
	switch {
	case len(text) > maxOrder:
		return "", fmt.Errorf("the order is longer than %d bytes: order in parts", maxOrder)
	case strings.Count(text, "\n") != lines || strings.ContainsFunc(strings.ReplaceAll(text, "\n", ""), func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }):
		return "", errors.New("the order has a line break or a control character inside of a line")
	}
	return text, nil
}

// ParseOrder reads what Text writes, and nothing else.
func ParseOrder(text string) (*Order, error) {
	bad := errors.New("this is not a removal order, version 1")
	rest, ok := strings.CutPrefix(text, orderHead+"\n")
	if !ok || len(text) > maxOrder {
		return nil, bad
	}
	o := &Order{}
	once := map[string]*string{"origin": &o.Origin, "level": &o.Level, "recipient": &o.Recipient, "requested-by": &o.RequestedBy, "authority": &o.Authority, "reason": &o.Reason}
	for line := range strings.Lines(rest) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if to := once[key]; to != nil {
			*to = value
			continue
		}
		number, value, _ := strings.Cut(value, " ")
		seq, err := strconv.ParseUint(number, 10, 63)
		if err != nil {
			return nil, bad
		}
		switch key {
		case "entry":
			leaf, err := hex.DecodeString(value)
			if err != nil || len(leaf) != len(Hash{}) {
				return nil, bad
			}
			o.Targets = append(o.Targets, Target{Seq: seq, Leaf: Hash(leaf)})
		case "field":
			number, path, _ := strings.Cut(value, " ")
			index, err := strconv.Atoi(number)
			if err != nil || len(o.Targets) == 0 || o.Targets[len(o.Targets)-1].Seq != seq {
				return nil, bad
			}
			t := &o.Targets[len(o.Targets)-1]
			t.Fields = append(t.Fields, OrderField{index, path})
		default:
			return nil, bad
		}
	}
	if again, err := o.Text(); err != nil || again != text {
		return nil, bad
	}
	return o, nil
}

// Removes says whether the order is about field index of a target.
func (t *Target) Removes(index int) bool {
	if t.Fields == nil {
		return Removable(index)
	}
	return slices.ContainsFunc(t.Fields, func(f OrderField) bool { return f.Index == index })
}

// approvalText is what an approver signs: the order, as entry seq of the log holds it.
func approvalText(o *Order, seq uint64, leaf Hash) (string, error) {
	text, err := o.Text()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s\norder %d\nleaf %x\n%s", approvalHead, seq, leaf, text), nil
}

// Approve signs the order that is entry seq with this leaf hash. The answer is one signature line of a note.
func Approve(o *Order, seq uint64, leaf Hash, key note.Signer) (signature string, err error) {
	text, err := approvalText(o, seq, leaf)
	if err != nil {
		return "", err
	}
	signed, err := note.Sign(&note.Note{Text: text}, key)
	if err != nil {
		return "", fmt.Errorf("sign the approval: %w", err)
	}
	return strings.TrimPrefix(string(signed), text+"\n"), nil
}

// CheckApproval says whether a signature line is that of key, a verifier key, under this very order.
func CheckApproval(o *Order, seq uint64, leaf Hash, key, signature string) error {
	v, err := note.NewVerifier(key)
	if err != nil {
		return errors.New("the approver's key is not one that keygen prints")
	}
	text, err := approvalText(o, seq, leaf)
	if err != nil {
		return err
	}
	n, err := note.Open([]byte(text+"\n"+signature), note.VerifierList(v))
	if err != nil || strings.Count(signature, "\n") != 1 || n.Text != text || len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return fmt.Errorf("the signature is not that of %s under order %d", v.Name(), seq)
	}
	return nil
}

// ApproverID tells the keys of approvers apart: two names over one key are one approver.
func ApproverID(key string) (string, error) {
	if _, err := note.NewVerifier(key); err != nil {
		return "", errors.New("this is not a verifier key as keygen prints it")
	}
	return strings.SplitN(key, "+", 3)[2], nil
}
