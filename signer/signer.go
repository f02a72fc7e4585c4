package signer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"casebook.example/audit/ledger"
)

// Request asks for a signature.
type Request struct {
	Old        uint64        // size that the proof begins with: that of the signer's last checkpoint
	Proof      []ledger.Hash // that the tree of Checkpoint begins with that of Old
	Checkpoint ledger.Checkpoint
}

var (
	// ErrRefused: the tree does not begin with the one that was signed last. Nothing is ever signed over it.
	ErrRefused = errors.New("the signer refuses")
	// ErrOrigin: the checkpoint is not of the signer's log.
	ErrOrigin = errors.New("the signer signs for another log")
)

// StaleError says that a request was made for another last checkpoint than the signer's. The request may be made again
// from Size on.
type StaleError struct{ Size uint64 }

func (e *StaleError) Error() string {
	return fmt.Sprintf("the signer has signed %d entries, the request begins elsewhere", e.Size)
}

// Signer signs checkpoints of one log. Its methods may be called from several goroutines.
type Signer struct {
	keys []*Key

	mu    sync.Mutex
	state *state
}

// Open takes the keys and the state file. All keys bear the name of the log and all sign: more than one while keys are
// being rotated. The state must bear a signature of one of them.
func Open(keys []*Key, statePath string) (*Signer, error) {
	if len(keys) == 0 {
		return nil, errors.New("a signer needs a key")
	}
	for i, k := range keys {
		if k.Name() != keys[0].Name() {
			return nil, fmt.Errorf("the keys are of two logs, %q and %q: give each log a signer of its own", keys[0].Name(), k.Name())
		}
		for _, other := range keys[:i] {
			if other.VKey == k.VKey {
				return nil, errors.New("the same key is named twice")
			}
		}
	}
	state, err := openState(statePath, keys)
	if err != nil {
		return nil, err
	}
	return &Signer{keys: keys, state: state}, nil
}

// Close lets the state file go.
func (s *Signer) Close() { s.state.close() }

// Origin is the name of the log.
func (s *Signer) Origin() string { return s.keys[0].Name() }

// Keys are the verifier keys of all keys that sign.
func (s *Signer) Keys(context.Context) ([]string, error) {
	list := make([]string, len(s.keys))
	for i, k := range s.keys {
		list[i] = k.VKey
	}
	return list, nil
}

// Last gives the last checkpoint that was signed.
func (s *Signer) Last(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.signed, nil
}

// Sign signs a checkpoint. The signature leaves only after the state that remembers it is durable: after a crash in
// between, the same checkpoint is given again, and no other one of its size.
func (s *Signer) Sign(_ context.Context, r Request) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, c := s.state.last, r.Checkpoint
	switch {
	case c.Origin != last.Origin:
		return nil, fmt.Errorf("%w: %q, not %q", ErrOrigin, last.Origin, c.Origin)
	case c.Size < last.Size:
		return nil, fmt.Errorf("%w: it has signed %d entries, this tree has %d: the end of the log was removed, or an old backup was restored", ErrRefused, last.Size, c.Size)
	case c.Size == last.Size && c.Root != last.Root:
		return nil, fmt.Errorf("%w: it has signed another tree of %d entries: the log was rewritten, or there are two of it", ErrRefused, c.Size)
	case c.Size == last.Size:
		return s.state.signed, nil
	case r.Old != last.Size:
		return nil, &StaleError{last.Size}
	}
	if err := ledger.CheckConsistency(r.Proof, c.Size, c.Root, last.Size, last.Root); err != nil {
		return nil, fmt.Errorf("%w: there is no proof that this tree of %d entries begins with the %d that it has signed: the log was rewritten, or there are two of it", ErrRefused, c.Size, last.Size)
	}
	signers := make([]note.Signer, len(s.keys))
	verifiers := make([]note.Verifier, len(s.keys))
	for i, k := range s.keys {
		signers[i], verifiers[i] = k.Signer, k.Verifier
	}
	signed, err := note.Sign(&note.Note{Text: c.Text()}, signers...)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if opened, err := note.Open(signed, note.VerifierList(verifiers...)); err != nil || len(opened.Sigs) != len(s.keys) {
		return nil, errors.New("a signature that was made does not hold: nothing was signed")
	}
	if err := s.state.write(signed, c); err != nil {
		return nil, err
	}
	return signed, nil
}
