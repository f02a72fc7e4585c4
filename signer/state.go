package signer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/mod/sumdb/note"

	"casebook.example/audit/ledger"
)

// ErrState: the state file is lost, or not one of these keys, or another process uses it.
var ErrState = errors.New("the signer's state cannot be used")

// state is the memory of a signer: the last checkpoint that it signed, in a file that only it writes.
type state struct {
	path   string
	lock   *os.File
	signed []byte
	last   ledger.Checkpoint
}

// maxState is more than any signed checkpoint has.
const maxState = 64 << 10

// WriteState makes the state file of a new key: a signed checkpoint over no entries. One that is there is left alone and
// is an error.
func WriteState(path string, key *Key) error {
	empty := ledger.Checkpoint{Origin: key.Name(), Root: new(ledger.Tree).Root()}
	signed, err := note.Sign(&note.Note{Text: empty.Text()}, key)
	if err != nil {
		return fmt.Errorf("sign the empty tree: %w", err)
	}
	return writeNew(path, string(signed))
}

// openState takes the state file for this process alone. keys are those whose signature it may bear.
func openState(path string, keys []*Key) (*state, error) {
	s := &state{path: path}
	var err error
	// The lock is on a file beside it: the state file itself is replaced each time.
	if s.lock, err = os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		s.close()
		return nil, fmt.Errorf("%w: another process signs with state file %s", ErrState, path)
	}
	if err := s.read(keys); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *state) read(keys []*Key) error {
	f, err := os.Open(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: state file %s is not there. Was it lost? Put the newest checkpoint that was published in its place, from an anchor, a witness or an export; never one that only the audit database has", ErrState, s.path)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	for _, key := range keys {
		policy, err := ledger.KeyPolicy(key.VKey)
		if err != nil {
			return err
		}
		if c, err := policy.Open(text); err == nil {
			s.signed, s.last = text, c
			return nil
		}
	}
	return fmt.Errorf("%w: state file %s is not a checkpoint that the key %s has signed", ErrState, s.path, keys[0].VKey)
}

// write replaces the state. If we die in it, or the disk is full, the old one is there whole.
func (s *state) write(signed []byte, c ledger.Checkpoint) error {
	next := s.path + ".next"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the signer's state: %w", err)
	}
	_, err = f.Write(signed)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(next, s.path)
	}
	if err != nil {
		os.Remove(next)
		return fmt.Errorf("write the signer's state: %w", err)
	}
	if err := syncDir(s.path); err != nil {
		return fmt.Errorf("write the signer's state: %w", err)
	}
	s.signed, s.last = signed, c
	return nil
}

func (s *state) close() { s.lock.Close() }

// syncDir makes a file's name durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
