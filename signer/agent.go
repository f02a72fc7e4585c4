package signer

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"
)

// agentTimeout is how long an agent may take: a hardware key may want to be touched.
const agentTimeout = 30 * time.Second

// AgentKey signs by an ssh-agent, which may keep the key in hardware. vkey names the key, and with its name the log.
func AgentKey(socket, vkey string) (*Key, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, errors.New("the verifier key is not one like audit.agency.example/casebook+1a2b3c4d+AR...: keygen prints it")
	}
	encoded := strings.SplitN(vkey, "+", 3)[2]
	public, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(public) != 1+ed25519.PublicKeySize {
		return nil, errors.New("the verifier key is not one of an Ed25519 key")
	}
	signer := &agentSigner{socket: socket, verifier: verifier, public: public[1:]}
	key := &Key{signer, verifier, vkey}
	return key, signer.with(func(a agent.ExtendedAgent) error {
		_, err := findKey(a, signer.public)
		return err
	})
}

// AgentVKey gives the verifier key that an Ed25519 key of an ssh-agent has for a log. fingerprint is as ssh-add -l prints
// it: SHA256:...; "" takes the only one that the agent has.
func AgentVKey(socket, origin, fingerprint string) (vkey string, err error) {
	if err := checkOrigin(origin); err != nil {
		return "", err
	}
	err = (&agentSigner{socket: socket}).with(func(a agent.ExtendedAgent) error {
		keys, err := a.List()
		if err != nil {
			return err
		}
		var found []ed25519.PublicKey
		for _, k := range keys {
			if public, ok := ed25519Of(k); ok && (fingerprint == "" || ssh.FingerprintSHA256(k) == fingerprint) {
				found = append(found, public)
			}
		}
		if len(found) != 1 {
			return fmt.Errorf("the agent has %d Ed25519 keys that fit: name one by its fingerprint, as ssh-add -l prints it", len(found))
		}
		vkey, err = note.NewEd25519VerifierKey(origin, found[0])
		return err
	})
	return vkey, err
}

func ed25519Of(k *agent.Key) (ed25519.PublicKey, bool) {
	parsed, err := ssh.ParsePublicKey(k.Blob)
	if err != nil || parsed.Type() != ssh.KeyAlgoED25519 {
		return nil, false
	}
	crypto, ok := parsed.(ssh.CryptoPublicKey)
	if !ok {
		return nil, false
	}
	public, ok := crypto.CryptoPublicKey().(ed25519.PublicKey)
	return public, ok
}

func findKey(a agent.ExtendedAgent, public []byte) (*agent.Key, error) {
	keys, err := a.List()
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if p, ok := ed25519Of(k); ok && bytes.Equal(p, public) {
			return k, nil
		}
	}
	return nil, errors.New("the agent does not have the key: add it with ssh-add")
}

// agentSigner is a note.Signer that connects for each signature: agents come and go.
type agentSigner struct {
	socket   string
	verifier note.Verifier
	public   []byte
}

func (s *agentSigner) Name() string    { return s.verifier.Name() }
func (s *agentSigner) KeyHash() uint32 { return s.verifier.KeyHash() }

func (s *agentSigner) Sign(msg []byte) (signature []byte, err error) {
	err = s.with(func(a agent.ExtendedAgent) error {
		key, err := findKey(a, s.public)
		if err != nil {
			return err
		}
		signed, err := a.Sign(key, msg)
		if err != nil {
			return err
		}
		if signed.Format != ssh.KeyAlgoED25519 || !s.verifier.Verify(msg, signed.Blob) {
			return errors.New("what the agent gave is not a signature of the key")
		}
		signature = signed.Blob
		return nil
	})
	return signature, err
}

func (s *agentSigner) with(fn func(agent.ExtendedAgent) error) error {
	conn, err := net.DialTimeout("unix", s.socket, agentTimeout)
	if err != nil {
		return fmt.Errorf("ssh-agent: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(agentTimeout)); err != nil {
		return fmt.Errorf("ssh-agent: %w", err)
	}
	if err := fn(agent.NewClient(conn)); err != nil {
		return fmt.Errorf("ssh-agent: %w", err)
	}
	return nil
}
