package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"unicode"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is what is signed of a tree: https://c2sp.org/tlog-checkpoint with exactly three lines.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   Hash
}

// Text is the body that is signed.
func (c Checkpoint) Text() string {
	return torchwood.Checkpoint{Origin: c.Origin, Tree: tlog.Tree{N: int64(c.Size), Hash: tlog.Hash(c.Root)}}.String()
}

// ParseCheckpoint reads the body of a checkpoint. Further lines are refused: no checkpoint of ours has them, and not
// every cosignature covers them.
func ParseCheckpoint(text string) (Checkpoint, error) {
	c, err := torchwood.ParseCheckpoint(text)
	switch {
	case err != nil:
		return Checkpoint{}, errors.New("this is not a checkpoint: three lines with origin, size and root are wanted")
	case c.Extension != "":
		return Checkpoint{}, errors.New("the checkpoint has further lines, which no checkpoint of this log has")
	case c.Origin == "":
		return Checkpoint{}, errors.New("the checkpoint has no origin")
	}
	return Checkpoint{c.Origin, uint64(c.N), Hash(c.Hash)}, nil
}

// ReadCheckpoint reads a signed checkpoint without asking who signed it.
func ReadCheckpoint(signed []byte) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		n, err = unverified.Note, nil
	}
	if err != nil {
		return Checkpoint{}, errors.New("this is not a signed note: it is cut off, or no signature stands below the text")
	}
	return ParseCheckpoint(n.Text)
}

// Policy says whose signatures a checkpoint must have. It comes from who verifies, never from what is verified.
type Policy struct {
	rules torchwood.Policy
}

// ParsePolicy reads a policy file: lines "log VKEY", "witness NAME VKEY", "group NAME N MEMBER...", "quorum NAME" or
// "quorum none", as torchwood and Tessera read them. All log lines must have signed; the name of each key is the origin.
func ParsePolicy(text []byte) (*Policy, error) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	for _, r := range string(text) {
		// torchwood v0.9.0 panics on a line of white space that is neither space nor tab.
		if r != ' ' && r != '\t' && r != '\n' && !unicode.IsGraphic(r) || r > unicode.MaxASCII && unicode.IsSpace(r) {
			return nil, fmt.Errorf("policy: the character %q has no place in it", r)
		}
	}
	rules, err := torchwood.ParsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if rules.Check("check.invalid", nil) == nil {
		return nil, errors.New(`policy: no log is named: add a line "log " and the key that keygen printed`)
	}
	return &Policy{rules}, nil
}

// KeyPolicy wants the signature of one key, whose name is the origin.
func KeyPolicy(vkey string) (*Policy, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, errors.New("this is not a verifier key like audit.agency.example/casebook+1a2b3c4d+AR...: keygen prints it")
	}
	return &Policy{torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(v.Name()), torchwood.SingleVerifierPolicy(v))}, nil
}

// Open reads a signed checkpoint and refuses one that is not signed as the policy wants.
func (p *Policy) Open(signed []byte) (Checkpoint, error) {
	c, err := ReadCheckpoint(signed)
	if err != nil {
		return Checkpoint{}, err
	}
	if _, _, err := torchwood.VerifyCheckpoint(signed, p.rules); err != nil {
		return Checkpoint{}, fmt.Errorf("the checkpoint of %q is not signed as the policy wants: %w", c.Origin, err)
	}
	return c, nil
}
