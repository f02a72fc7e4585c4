package signer_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"go.uber.org/zap/zaptest"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"casebook.example/audit/ledger"
	"casebook.example/audit/signer"
)

const origin = "audit.example.org/dhs/cases"

// log is a tree that remembers all of itself.
type log struct {
	leaves []ledger.Hash
	root   []ledger.Hash
}

func newLog(size int, salt byte) *log {
	l := &log{}
	var tree ledger.Tree
	l.root = append(l.root, tree.Root())
	for i := range size {
		leaf := ledger.Hash{byte(i), byte(i >> 8), salt}
		tree.Append(leaf, nil)
		l.leaves, l.root = append(l.leaves, leaf), append(l.root, tree.Root())
	}
	return l
}

func (l *log) at(size int) ledger.Checkpoint {
	return ledger.Checkpoint{Origin: origin, Size: uint64(size), Root: l.root[size]}
}

// request asks for a signature over size entries, with a proof that they begin with old.
func (l *log) request(t *testing.T, old, size int) signer.Request {
	t.Helper()
	prover := ledger.NewProver(uint64(size), l.root[size], func(level int, index int64, width int) (out []byte, err error) {
		if level > 0 {
			t.Fatal("a test with one level only")
		}
		for _, leaf := range l.leaves[256*index:][:width] {
			out = append(out, leaf[:]...)
		}
		return out, nil
	})
	proof, err := prover.Consistency(uint64(old))
	if err != nil {
		t.Fatal(err)
	}
	return signer.Request{Old: uint64(old), Proof: proof, Checkpoint: l.at(size)}
}

// newKey makes a key file and a state file.
func newKey(t *testing.T) (key *signer.Key, state string) {
	t.Helper()
	dir := t.TempDir()
	private, key, err := signer.Generate(origin)
	if err != nil {
		t.Fatal(err)
	}
	if err := signer.WriteKeyFile(filepath.Join(dir, "key"), private, ""); err != nil {
		t.Fatal(err)
	}
	state = filepath.Join(dir, "state")
	if err := signer.WriteState(state, key); err != nil {
		t.Fatal(err)
	}
	return key, state
}

func open(t *testing.T, state string, keys ...*signer.Key) *signer.Signer {
	t.Helper()
	s, err := signer.Open(keys, state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func policy(t *testing.T, key *signer.Key) *ledger.Policy {
	t.Helper()
	p, err := ledger.ParsePolicy([]byte("log " + key.VKey + "\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// signs is what Signer and Client have in common.
type signs interface {
	Last(ctx context.Context) ([]byte, error)
	Sign(ctx context.Context, r signer.Request) ([]byte, error)
}

// TestGatekeeper: the same rules hold in the process and over the socket.
func TestGatekeeper(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"in the process", "over the socket"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			key, state := newKey(t)
			own := open(t, state, key)
			var s signs = own
			if how == "over the socket" {
				socket := filepath.Join(t.TempDir(), "s")
				listener, err := signer.Listen(socket)
				if err != nil {
					t.Fatal(err)
				}
				if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
					t.Errorf("the socket's mode: %v %v", info.Mode(), err)
				}
				if _, err := signer.Listen(socket); err == nil {
					t.Error("a second signer listens on the same socket")
				}
				go signer.Serve(t.Context(), listener, own, zaptest.NewLogger(t))
				client := signer.NewClient(socket)
				t.Cleanup(client.Close)
				s = client
			}
			good, other := newLog(250, 0), newLog(250, 1)
			rule := policy(t, key)
			for _, step := range []struct{ old, size int }{{0, 1}, {1, 2}, {2, 100}, {100, 100}, {100, 101}, {101, 250}} {
				signed, err := s.Sign(t.Context(), good.request(t, step.old, step.size))
				if err != nil {
					t.Fatalf("%d to %d: %v", step.old, step.size, err)
				}
				c, err := rule.Open(signed)
				if err != nil || c != good.at(step.size) {
					t.Fatalf("%+v, %v", c, err)
				}
				last, err := s.Last(t.Context())
				if err != nil || !bytes.Equal(last, signed) {
					t.Fatalf("last: %q %v", last, err)
				}
				if file, err := os.ReadFile(state); err != nil || !bytes.Equal(file, signed) {
					t.Fatalf("the state file says %q, %v", file, err)
				}
			}
			before, _ := os.ReadFile(state)
			longer := newLog(255, 1)
			for _, c := range []struct {
				name    string
				request signer.Request
				want    error
			}{
				{"a smaller tree", good.request(t, 100, 200), signer.ErrRefused},
				{"no tree", signer.Request{Old: 250, Checkpoint: good.at(0)}, signer.ErrRefused},
				{"another tree of the same size", other.request(t, 250, 250), signer.ErrRefused},
				{"a longer tree that begins otherwise", longer.request(t, 250, 255), signer.ErrRefused},
				{"a longer tree without a proof", signer.Request{Old: 250, Checkpoint: longer.at(255)}, signer.ErrRefused},
				{"as if nothing had been signed", longer.request(t, 0, 255), &signer.StaleError{}},
				{"a proof from elsewhere", longer.request(t, 100, 255), &signer.StaleError{}},
				{"another log", signer.Request{Old: 250, Checkpoint: ledger.Checkpoint{Origin: "audit.example.org/dhs/other", Size: 251}}, signer.ErrOrigin},
			} {
				signed, err := s.Sign(t.Context(), c.request)
				var stale *signer.StaleError
				if _, isStale := c.want.(*signer.StaleError); isStale {
					if !errors.As(err, &stale) || stale.Size != 250 {
						t.Errorf("%s: %v", c.name, err)
					}
				} else if !errors.Is(err, c.want) {
					t.Errorf("%s: %v, want %v", c.name, err, c.want)
				}
				if signed != nil {
					t.Errorf("%s: a signature", c.name)
				}
			}
			if after, _ := os.ReadFile(state); !bytes.Equal(before, after) {
				t.Error("a refusal changed the state")
			}
		})
	}
}

// TestCrash: whatever point the process dies at, the next one neither forgets nor forks.
func TestCrash(t *testing.T) {
	t.Parallel()
	key, state := newKey(t)
	l := newLog(40, 0)
	s := open(t, state, key)
	if _, err := s.Sign(t.Context(), l.request(t, 0, 10)); err != nil {
		t.Fatal(err)
	}
	// Dead while the new state was being written: half a file beside the old one.
	if err := os.WriteFile(state+".next", []byte("audit.exam"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, state, key)
	signed, err := s.Sign(t.Context(), l.request(t, 10, 20))
	if err != nil {
		t.Fatal(err)
	}
	// Dead after the state, before anybody stored the signature: the next one has it still.
	s.Close()
	s = open(t, state, key)
	last, err := s.Last(t.Context())
	if err != nil || !bytes.Equal(last, signed) {
		t.Fatalf("%q %v", last, err)
	}
	if again, err := s.Sign(t.Context(), l.request(t, 10, 20)); err != nil || !bytes.Equal(again, signed) {
		t.Errorf("asked again: %v", err)
	}
	var stale *signer.StaleError
	if _, err := s.Sign(t.Context(), l.request(t, 10, 30)); !errors.As(err, &stale) || stale.Size != 20 {
		t.Errorf("asked from before the crash: %v", err)
	}
	// A disk that is full: nothing is signed, nothing is lost, and later it goes on.
	if err := os.Symlink("/dev/full", state+".next"); err != nil {
		t.Fatal(err)
	}
	if signed, err := s.Sign(t.Context(), l.request(t, 20, 30)); err == nil || signed != nil {
		t.Errorf("a full disk: %q, %v", signed, err)
	}
	if kept, err := os.ReadFile(state); err != nil || !bytes.Equal(kept, signed) {
		t.Errorf("after a full disk: %q, %v", kept, err)
	}
	if _, err := s.Sign(t.Context(), l.request(t, 20, 30)); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

func TestStateThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	key, state := newKey(t)
	_, stranger, err := signer.Generate(origin)
	if err != nil {
		t.Fatal(err)
	}
	_, elsewhere, err := signer.Generate("audit.example.org/other")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, state, key)
	if _, err := signer.Open([]*signer.Key{key}, state); !errors.Is(err, signer.ErrState) {
		t.Errorf("a second process on the same state: %v", err)
	}
	signed, err := s.Sign(t.Context(), newLog(9, 0).request(t, 0, 9))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for name, text := range map[string]string{
		"empty": "", "cut off": string(signed[:len(signed)-9]), "a size altered": strings.Replace(string(signed), "\n9\n", "\n8\n", 1),
		"padded": string(signed) + "\n", "not signed": newLog(9, 0).at(9).Text(), "lost": "-",
	} {
		os.Remove(state)
		if text != "-" {
			if err := os.WriteFile(state, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := signer.Open([]*signer.Key{key}, state); !errors.Is(err, signer.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(state, signed, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Open([]*signer.Key{stranger}, state); !errors.Is(err, signer.ErrState) {
		t.Errorf("another key: %v", err)
	}
	for _, keys := range [][]*signer.Key{nil, {key, key}, {key, elsewhere}} {
		if _, err := signer.Open(keys, state); err == nil {
			t.Errorf("%d keys that do not go together were taken", len(keys))
		}
	}
	// The published checkpoint put back in the place of a lost state.
	open(t, state, key)
	if err := signer.WriteState(state, key); err == nil {
		t.Error("a state was written over")
	}
}

// TestRotation: while keys overlap both sign, and the state goes over from one to the other.
func TestRotation(t *testing.T) {
	t.Parallel()
	first, state := newKey(t)
	second, _ := newKey(t)
	l := newLog(30, 0)
	for i, c := range []struct {
		keys []*signer.Key
		by   []*signer.Key
	}{{[]*signer.Key{first}, []*signer.Key{first}}, {[]*signer.Key{first, second}, []*signer.Key{first, second}}, {[]*signer.Key{second}, []*signer.Key{second}}} {
		s := open(t, state, c.keys...)
		signed, err := s.Sign(t.Context(), l.request(t, 10*i, 10*i+10))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []*signer.Key{first, second} {
			_, err := policy(t, key).Open(signed)
			want := key == c.by[0] || len(c.by) == 2
			if (err == nil) != want {
				t.Errorf("step %d: %v", i, err)
			}
		}
		s.Close()
	}
	if _, err := signer.Open([]*signer.Key{first}, state); !errors.Is(err, signer.ErrState) {
		t.Errorf("a retired key: %v", err)
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	private, key, err := signer.Generate(origin)
	if err != nil {
		t.Fatal(err)
	}
	plain, locked := filepath.Join(dir, "plain"), filepath.Join(dir, "locked")
	if err := errors.Join(signer.WriteKeyFile(plain, private, ""), signer.WriteKeyFile(locked, private, "correct horse")); err != nil {
		t.Fatal(err)
	}
	for path, passphrase := range map[string]string{plain: "", locked: "correct horse"} {
		read, err := signer.OpenKeyFile(path, passphrase)
		if err != nil || read.VKey != key.VKey {
			t.Errorf("%s: %v", path, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", path, info.Mode())
		}
		before, _ := os.ReadFile(path)
		if err := signer.WriteKeyFile(path, private, ""); err == nil {
			t.Error("a key file was written over")
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Error("a key file was changed")
		}
	}
	text, _ := os.ReadFile(locked)
	if bytes.Contains(text, []byte("PRIVATE+KEY")) {
		t.Error("the key stands in the file that is encrypted")
	}
	for _, wrong := range []string{"", "wrong"} {
		if _, err := signer.OpenKeyFile(locked, wrong); !errors.Is(err, signer.ErrPassphrase) {
			t.Errorf("passphrase %q: %v", wrong, err)
		}
	}
	for name, bad := range map[string]string{
		"empty": "", "cut off": private[:len(private)-5], "another origin": strings.Replace(private, origin, "audit.example.org/x", 1), "public": key.VKey,
		"armor cut off": string(text[:len(text)/2]), "armor padded": string(text) + "x", "long": strings.Repeat("x", 1<<20),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := signer.OpenKeyFile(path, "correct horse"); err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), private[len(private)-20:]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
	if err := os.Chmod(plain, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.OpenKeyFile(plain, ""); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that the group may read: %v", err)
	}
	for _, bad := range []string{"", "a b", "a+b", "https://x", "a\nb"} {
		if _, _, err := signer.Generate(bad); err == nil {
			t.Errorf("origin %q was taken", bad)
		}
	}
}

// TestAgent signs by an ssh-agent.
func TestAgent(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "a")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: &private}); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { agent.ServeAgent(keyring, conn); conn.Close() }()
		}
	}()
	list, err := keyring.List()
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := signer.AgentVKey(socket, origin, ssh.FingerprintSHA256(list[0]))
	if err != nil {
		t.Fatal(err)
	}
	if only, err := signer.AgentVKey(socket, origin, ""); err != nil || only != vkey {
		t.Errorf("the only key: %q %v", only, err)
	}
	if _, err := signer.AgentVKey(socket, origin, "SHA256:x"); err == nil {
		t.Error("a key that the agent does not have was named")
	}
	key, err := signer.AgentKey(socket, vkey)
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	if err := signer.WriteState(state, key); err != nil {
		t.Fatal(err)
	}
	s := open(t, state, key)
	l := newLog(5, 0)
	signed, err := s.Sign(t.Context(), l.request(t, 0, 5))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := torchwood.ParsePolicy([]byte("log " + vkey + "\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c, _, err := torchwood.VerifyCheckpoint(signed, rules); err != nil || c.N != 5 {
		t.Errorf("torchwood: %v", err)
	}
	// The key is taken out of the agent: nothing is signed, nothing is forgotten.
	if err := keyring.RemoveAll(); err != nil {
		t.Fatal(err)
	}
	if signed, err := s.Sign(t.Context(), newLog(6, 0).request(t, 5, 6)); err == nil || signed != nil {
		t.Errorf("without a key: %v", err)
	}
	if _, err := signer.AgentKey(socket, vkey); err == nil {
		t.Error("a key that the agent does not have was taken")
	}
	if _, err := signer.AgentKey(filepath.Join(t.TempDir(), "none"), vkey); err == nil {
		t.Error("an agent that is not there was taken")
	}
	if _, err := signer.AgentKey(socket, "nonsense"); err == nil {
		t.Error("nonsense was taken for a key")
	}
}

func TestListenLeavesFilesAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Listen(path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if text, _ := os.ReadFile(path); string(text) != "x" {
		t.Error("a file was removed")
	}
	// What a dead signer left is replaced.
	dead := filepath.Join(t.TempDir(), "d")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	again, err := signer.Listen(dead)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if _, err := signer.NewClient(dead).Last(t.Context()); err == nil {
		t.Error("a signer that is not there answered")
	}
}

func FuzzParseRequest(f *testing.F) {
	l := newLog(3, 0)
	f.Add(signer.Request{Old: 2, Proof: l.leaves, Checkpoint: l.at(3)}.Format())
	f.Add("old 0\n\n" + l.at(1).Text())
	f.Add("old 007\n\n" + l.at(1).Text())
	f.Add("old 18446744073709551615\n\nx\n0\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := signer.ParseRequest(text)
		if err == nil && r.Format() != text {
			t.Fatalf("%q was read as %q", text, r.Format())
		}
	})
}

func FuzzOpenKeyFile(f *testing.F) {
	private, key, err := signer.Generate(origin)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(private))
	f.Add([]byte(key.VKey))
	f.Add([]byte("-----BEGIN AGE ENCRYPTED FILE-----\n"))
	path := filepath.Join(f.TempDir(), "key")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if k, err := signer.OpenKeyFile(path, ""); err == nil && k.Name() == "" {
			t.Fatal("a key without a name")
		}
	})
}
