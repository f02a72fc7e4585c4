package mirror_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"casebook.example/audit/anchor"
	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
)

// TestWitness: litewitness, unmodified, cosigns our checkpoints as they grow, and not what does not continue them.
func TestWitness(t *testing.T) {
	t.Parallel()
	program, python := tool(t, "litewitness", "run `make deps`"), tool(t, "python3", "install Python 3")
	b := newBed(t)
	url, key := startWitness(t, program, python, b.vkey)
	add := func(old uint64, proof []ledger.Hash, checkpoint []byte) (int, string) {
		t.Helper()
		var body bytes.Buffer
		fmt.Fprintf(&body, "old %d\n", old)
		for _, h := range proof {
			fmt.Fprintf(&body, "%s\n", base64.StdEncoding.EncodeToString(h[:]))
		}
		fmt.Fprintf(&body, "\n%s", checkpoint)
		resp, err := http.Post(url+"/add-checkpoint", "text/plain", &body)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	old := uint64(0)
	for _, size := range []int{2, 255, 256, 257, 700} {
		b.grow(t, size)
		signed := b.sign(t)
		now, err := b.store.At(t.Context(), uint64(size))
		if err != nil {
			t.Fatal(err)
		}
		proof, err := b.store.Consistency(t.Context(), old, now)
		if err != nil {
			t.Fatal(err)
		}
		if old > 1 {
			bad := append([]ledger.Hash{{1}}, proof[1:]...)
			if code, text := add(old, bad, signed); code != http.StatusUnprocessableEntity {
				t.Errorf("a bad proof from %d to %d: %d %s", old, size, code, text)
			}
		}
		code, text := add(old, proof, signed)
		if code != http.StatusOK || !strings.HasPrefix(text, "— witness.example/w ") {
			t.Fatalf("from %d to %d: %d %s", old, size, code, text)
		}
		// The cosignature stands below our own, and the checkpoint is the same to us.
		policy, err := ledger.KeyPolicy(b.vkey)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := policy.Open(append(bytes.Clone(signed), text...)); err != nil || c != now {
			t.Errorf("with the cosignature: %+v %v", c, err)
		}
		if old > 0 {
			if code, _ := add(old, proof, signed); code != http.StatusConflict {
				t.Errorf("once more from %d: %d", old, code)
			}
		}
		old = uint64(size)
	}
	// Our own client does not know which size the witness has, asks, and then goes on from there.
	witness, err := anchor.NewWitness(url, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{701, 1200} {
		b.grow(t, size)
		signed := b.sign(t)
		now, err := b.store.At(t.Context(), uint64(size))
		if err != nil {
			t.Fatal(err)
		}
		bad := false
		p := &anchor.Published{Checkpoint: now, Signed: signed, Prove: func(ctx context.Context, old uint64) ([]ledger.Hash, error) {
			proof, err := b.store.Consistency(ctx, old, now)
			if bad && len(proof) > 0 {
				proof[0][0] ^= 1
			}
			return proof, err
		}}
		if bad = true; size == 1200 {
			if _, err := witness.Publish(t.Context(), p); err == nil || !strings.Contains(err.Error(), "422") {
				t.Errorf("a bad proof: %v", err)
			}
		}
		bad = false
		if receipt, err := witness.Publish(t.Context(), p); err != nil || !strings.HasPrefix(receipt, "— witness.example/w ") {
			t.Errorf("our client, size %d: %q %v", size, receipt, err)
		}
	}
}

// startWitness runs litewitness with a key of its own and tells it of our log. It ends with the test.
func startWitness(t *testing.T, program, python, vkey string) (url, key string) {
	t.Helper()
	dir := t.TempDir()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := torchwood.NewCosignatureSigner("witness.example/w", private)
	if err != nil {
		t.Fatal(err)
	}
	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: &private}); err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.List()
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keyring, conn); conn.Close() }()
		}
	}()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()

	db, said := filepath.Join(dir, "w.db"), filepath.Join(dir, "log")
	out, err := os.Create(said)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(program, "-name", "witness.example/w", "-db", db, "-ssh-agent", socket, "-key", ssh.FingerprintSHA256(keys[0]), "-listen", address)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url = "http://" + address
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get(url + "/"); err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(said)
			t.Fatalf("litewitness does not answer:\n%s", text)
		}
	}
	// witnessctl needs a newer Go than ours: what it does, done by hand.
	empty := new(ledger.Tree).Root()
	script := "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('insert into log values (?, 0, ?)', sys.argv[2:4])\nc.execute('insert into key values (?, ?)', (sys.argv[2], sys.argv[4]))\nc.commit()"
	if text, err := run(t, python, "-c", script, db, pgtest.Origin, base64.StdEncoding.EncodeToString(empty[:]), vkey); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return url, cosigner.Verifier().String()
}
