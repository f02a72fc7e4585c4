package signer

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/mod/sumdb/note"
)

// Key signs, and says how its signatures are verified.
type Key struct {
	note.Signer
	Verifier note.Verifier
	VKey     string // for policies: ORIGIN+HASH+BASE64
}

// ErrPassphrase: the key file wants a passphrase, or another one.
var ErrPassphrase = errors.New("the passphrase does not open the key file")

// Generate makes an Ed25519 key for a log. private is what a key file holds.
func Generate(origin string) (private string, key *Key, err error) {
	if err := checkOrigin(origin); err != nil {
		return "", nil, err
	}
	private, _, err = note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return "", nil, err
	}
	key, err = parseKey(private)
	return private, key, err
}

func checkOrigin(origin string) error {
	if origin == "" || strings.ContainsAny(origin, " +\n\t") || strings.Contains(origin, "://") {
		return fmt.Errorf("origin %q: use a schema-less name without spaces or +, such as audit.agency.example/casebook", origin)
	}
	return nil
}

func parseKey(private string) (*Key, error) {
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, errors.New("this is not a signing key as keygen writes it")
	}
	parts := strings.Split(private, "+") // PRIVATE, KEY, origin, hash, base64; NewSigner has looked at them
	seed, err := base64.StdEncoding.DecodeString(strings.Join(parts[4:], "+"))
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, errors.New("this is not a signing key as keygen writes it")
	}
	public, _ := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	return newKey(signer, public)
}

func newKey(signer note.Signer, public ed25519.PublicKey) (*Key, error) {
	vkey, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	return &Key{signer, verifier, vkey}, nil
}

// WriteKeyFile writes a new key file with mode 0600, encrypted when passphrase is not empty. A file that is there is left
// alone and is an error.
func WriteKeyFile(path, private, passphrase string) error {
	text := private + "\n"
	if passphrase != "" {
		var err error
		if text, err = encrypt(text, passphrase); err != nil {
			return fmt.Errorf("key file %s: %w", path, err)
		}
	}
	return writeNew(path, text)
}

func encrypt(text, passphrase string) (string, error) {
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, recipient)
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return "", err
	}
	if err := errors.Join(w.Close(), armored.Close()); err != nil {
		return "", err
	}
	return out.String(), nil
}

// maxKeyFile is more than any key file has.
const maxKeyFile = 16 << 10

// OpenKeyFile reads a key file. One that others than its owner may read or write is refused; passphrase is not used where
// the file is not encrypted.
func OpenKeyFile(path, passphrase string) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s may be read or written by others than its owner: chmod 600 %s", path, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	key, err := readKey(text, passphrase)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return key, nil
}

// readKey takes what a key file holds. No error holds any of it.
func readKey(text []byte, passphrase string) (*Key, error) {
	if len(text) > maxKeyFile {
		return nil, errors.New("this is not a signing key as keygen writes it")
	}
	if bytes.HasPrefix(text, []byte(armor.Header)) {
		if passphrase == "" {
			return nil, fmt.Errorf("%w: none was given", ErrPassphrase)
		}
		identity, err := age.NewScryptIdentity(passphrase)
		if err != nil {
			return nil, fmt.Errorf("%w: none was given", ErrPassphrase)
		}
		r, err := age.Decrypt(armor.NewReader(bytes.NewReader(text)), identity)
		var wrong *age.NoIdentityMatchError
		if errors.As(err, &wrong) {
			return nil, ErrPassphrase
		}
		if err != nil {
			return nil, errors.New("this is not an age file that is whole")
		}
		if text, err = io.ReadAll(io.LimitReader(r, maxKeyFile)); err != nil {
			return nil, errors.New("this is not an age file that is whole")
		}
	}
	return parseKey(strings.TrimSuffix(string(text), "\n"))
}

// writeNew writes a file that must not be there yet, durably.
func writeNew(path, text string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already and is left alone: name another file", path)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(path) // half a file is worse than none
		}
	}()
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(path)
}
