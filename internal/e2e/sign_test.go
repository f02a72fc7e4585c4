package e2e

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"casebook.example/audit/ledger"
)

// keygen makes a key by the program's own command and gives its verifier key.
func (w *world) keygen(t *testing.T, name string) (file, vkey string) {
	t.Helper()
	file = filepath.Join(w.dir, name)
	r := w.mustRun(t, "keygen", "--origin", "audit.invalid/casebook", "--key", file)
	return file, strings.TrimSpace(r.stdout)
}

// signedUpTo is what the metric of a running daemon says.
func (w *world) signedUpTo() int {
	signed, _ := w.metric("ledger_signed_size")
	return int(signed)
}

// allSigned waits until everything that is stored is signed.
func (w *world) allSigned(t *testing.T) {
	t.Helper()
	eventually(t, 20*time.Second, "all entries are signed", func() bool {
		size, ok := w.metric("ledger_size")
		oldest, _ := w.metric("oldest_unanchored_seconds")
		return ok && w.signedUpTo() == int(size) && oldest == 0
	})
}

func (w *world) policyFile(t *testing.T, vkeys ...string) string {
	t.Helper()
	w.write(t, "policy.txt", "log "+strings.Join(vkeys, "\nlog ")+"\nquorum none\n")
	return filepath.Join(w.dir, "policy.txt")
}

// TestSignedLog: a key in a file; kills; a log that was rolled back; keys that change; heartbeats.
func TestSignedLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	key, vkey := w.keygen(t, "signing.key")
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", info.Mode(), err)
	}
	if r := w.run(t, nil, "keygen", "--origin", "audit.invalid/casebook", "--key", key); r.code != 2 || !strings.Contains(r.stderr, "left alone") {
		t.Errorf("keygen over a key: %s", r)
	}
	w.configure(t, "mapping: mapping.yaml", "mapping: mapping.yaml\nledger: {signing_key_file: signing.key, heartbeat_interval: 1s, checkpoint_interval: 100ms}")

	daemon := w.start(t)
	w.streaming(t)
	for i := range 6 { // at any point of signing
		w.work(t, "round "+strconv.Itoa(i))
		time.Sleep(time.Duration(7*i) * time.Millisecond)
		daemon.kill()
		daemon = w.start(t)
		w.streaming(t)
	}
	w.caughtUp(t, 30*time.Second)
	w.allSigned(t)
	// Nothing happens, and yet the log goes on.
	before := w.signedUpTo()
	eventually(t, 30*time.Second, "heartbeats are signed", func() bool { return w.signedUpTo() >= before+2 })
	policy := w.policyFile(t, vkey)
	if r := w.mustRun(t, "verify", "--policy", policy); !strings.Contains(r.stdout, "Checkpoints that hold") {
		t.Errorf("%s", r)
	}
	if n := w.auditValue(t, "select count(*) from audit.entry where kind = 5"); n != "1" {
		t.Errorf("%s key events", n)
	}

	// The key changes: both sign, then the new one alone. The old one goes on verifying what it has signed.
	daemon.kill()
	_, second := w.keygen(t, "second.key")
	w.configure(t, "mapping: mapping.yaml", "mapping: mapping.yaml\nledger: {signing_key_file: signing.key, second_key_file: second.key}")
	daemon = w.start(t)
	w.streaming(t)
	w.work(t, "both keys")
	w.caughtUp(t, 30*time.Second)
	w.allSigned(t)
	overlap := w.signedUpTo()
	daemon.kill()
	w.configure(t, "mapping: mapping.yaml", "mapping: mapping.yaml\nledger: {signing_key_file: second.key, signing_state_file: signing.key.state}")
	daemon = w.start(t)
	w.streaming(t)
	w.work(t, "the second key")
	w.caughtUp(t, 30*time.Second)
	w.allSigned(t)
	daemon.kill()
	w.mustRun(t, "verify")
	for size, keys := range map[string][]string{strconv.Itoa(before): {vkey}, strconv.Itoa(overlap): {vkey, second}, "(select max(size) from audit.checkpoint)": {second}} {
		note := w.auditValue(t, "select note from audit.checkpoint where size <= "+size+" order by size desc limit 1")
		for _, k := range []string{vkey, second} {
			p, err := ledger.KeyPolicy(k)
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Open([]byte(note))
			if want := strings.Contains(strings.Join(keys, " "), k); (err == nil) != want {
				t.Errorf("checkpoint of size %s and key %s: %v", size, k, err)
			}
		}
	}

	// The audit database comes back from an old backup: nothing is appended to it.
	state := filepath.Join(w.dir, "signing.key.state")
	kept, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	w.auditExec(t, `delete from audit.checkpoint; delete from audit.entry where seq >= 5; delete from audit.entry_also where seq >= 5;
		update audit.position set size = 5, head = (select leaf_hash from audit.entry where seq = 4), recorded_us = (select recorded_us from audit.entry where seq = 4)`)
	w.mustRun(t, "verify") // it holds by itself
	if r := w.run(t, nil, "verify", "--checkpoint", state); r.code != 1 || !strings.Contains(r.stdout, "checkpoint") {
		t.Errorf("verify with a checkpoint from outside: %s", r)
	}
	daemon = w.start(t)
	if code := daemon.wait(t, time.Minute); code != 2 || !strings.Contains(daemon.log(), "old backup") {
		t.Errorf("a rolled back database: exit %d\n%s", code, daemon.log())
	}
	if size := w.auditValue(t, "select size from audit.position"); size != "5" {
		t.Errorf("something was appended: %s entries", size)
	}
	if after, _ := os.ReadFile(state); !bytes.Equal(kept, after) {
		t.Error("the signer's state has changed")
	}
	// A state that was lost does not help.
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	daemon = w.start(t)
	if code := daemon.wait(t, time.Minute); code != 2 || !strings.Contains(daemon.log(), "state file") {
		t.Errorf("a lost state: exit %d\n%s", code, daemon.log())
	}
}

// TestSignerProcess: the key with a passphrase, in a process of its own; capture goes on without it.
func TestSignerProcess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	secret := "CASEBOOK_AUDIT_LEDGER_SIGNING_PASSPHRASE=correct horse"
	r := w.run(t, []string{secret}, "keygen", "--origin", "audit.invalid/casebook", "--key", filepath.Join(w.dir, "signing.key"))
	if r.code != 0 {
		t.Fatal(r)
	}
	policy := w.policyFile(t, strings.TrimSpace(r.stdout))
	if r := w.run(t, []string{secret + "!"}, "signer", "--key", filepath.Join(w.dir, "signing.key"), "--socket", filepath.Join(w.dir, "s")); r.code != 2 || !strings.Contains(r.stderr, "passphrase") {
		t.Errorf("a wrong passphrase: %s", r)
	}
	signer := func() (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		cmd := exec.CommandContext(ctx, program, "signer", "--key", filepath.Join(w.dir, "signing.key"), "--socket", filepath.Join(w.dir, "s"))
		cmd.Env = append(environment(), secret)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop = func() { cancel(); _ = cmd.Wait() }
		t.Cleanup(stop)
		return stop
	}
	stop := signer()
	w.configure(t, "mapping: mapping.yaml", "mapping: mapping.yaml\nledger: {signer_socket: s}")
	daemon := w.start(t)
	w.streaming(t)
	w.work(t, "with a signer")
	w.caughtUp(t, 30*time.Second)
	w.allSigned(t)

	stop()
	signed := w.signedUpTo()
	w.work(t, "without one")
	w.caughtUp(t, 30*time.Second)
	eventually(t, 20*time.Second, "the metric says that nothing is signed", func() bool {
		oldest, _ := w.metric("oldest_unanchored_seconds")
		return oldest > 1
	})
	if w.signedUpTo() != signed || !daemon.running() {
		t.Error("something was signed without a signer, or the daemon ended")
	}
	signer()
	w.allSigned(t)
	w.mustRun(t, "verify", "--policy", policy)

	// Somebody rewrites an entry under the running daemon, and all that hangs on it.
	w.auditExec(t, "update audit.entry set leaf_hash = sha256('x') where seq = (select max(seq) from audit.entry)")
	w.work(t, "on top of it")
	eventually(t, 30*time.Second, "the daemon stops", func() bool {
		value, _ := w.metric(`stopped{reason="chain"}`)
		return value == 1
	})
	if n := w.auditValue(t, "select count(*) from audit.checkpoint c where size > (select min(seq) from audit.entry where leaf_hash = sha256('x'))+1"); n != "0" {
		t.Error("a rewritten log was signed")
	}
}

// TestEvidence: what leaves the log by the commands is checked by the commands, far from the database.
func TestEvidence(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	_, vkey := w.keygen(t, "signing.key")
	policy := w.policyFile(t, vkey)
	query := freeAddress(t)
	w.configure(t, `mapping: mapping.yaml
query:
  listen: "off"`, "mapping: mapping.yaml\nledger: {signing_key_file: signing.key}\nquery:\n  listen: "+query+"\n  tiles: public")
	daemon := w.start(t)
	w.streaming(t)
	w.work(t, "evidence")
	w.caughtUp(t, 30*time.Second)
	w.allSigned(t)
	// The tree is served to everybody, the entries to nobody without a token.
	for path, want := range map[string]int{"/checkpoint": 200, "/tile/entries/000.p/1": 200, "/tile/0/000.p/1": 200, "/v1/checkpoint": 401, "/v1/entries/1/proof": 401} {
		resp, err := http.Get("http://" + query + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	daemon.kill()

	in := func(name string) string { return filepath.Join(w.dir, name) }
	seq := w.auditValue(t, "select max(seq) from audit.entry where kind = 1")
	size := w.auditValue(t, "select max(size) from audit.checkpoint")
	w.write(t, "kept.checkpoint", w.auditValue(t, "select note from audit.checkpoint order by size desc limit 1"))
	w.mustRun(t, "prove", seq, "--output", in("entry.json"))
	w.mustRun(t, "prove", seq, "--format", "tlog-proof", "--output", in("entry.tlog-proof"))
	w.mustRun(t, "export", "--format", "bundle", "--application", "Engage", "--since", size, "--output", in("bundle.zip"))
	w.mustRun(t, "export", "--format", "tiles", "--output", in("mirror"))
	w.mustRun(t, "export", "--format", "tiles", "--output", in("mirror"))
	if err := w.audit.Stop(); err != nil { // no database is needed from here on
		t.Fatal(err)
	}
	verify := func(args ...string) (int, string) {
		cmd := exec.Command(program, append([]string{"verify-bundle"}, args...)...)
		cmd.Env, cmd.Dir = environment(), t.TempDir()
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	for _, args := range [][]string{{in("entry.json")}, {in("bundle.zip")}, {in("bundle.zip"), "--trusted", in("kept.checkpoint")}, {in("bundle.zip"), "--json"}} {
		if code, out := verify(append(args, "--policy", policy)...); code != 0 || !strings.Contains(out, "roven") && !strings.Contains(out, `"ok":true`) {
			t.Errorf("%v: exit %d\n%s", args, code, out)
		}
	}
	_, stranger := w.keygen(t, "stranger.key")
	w.write(t, "stranger.txt", "log "+stranger+"\nquorum none\n")
	bad, err := os.ReadFile(in("bundle.zip"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "bad.zip", string(bad)+"x")
	for _, c := range []struct {
		code int
		args []string
	}{
		{1, []string{in("bundle.zip"), "--policy", in("stranger.txt")}}, {1, []string{in("bad.zip"), "--policy", policy}}, {1, []string{in("entry.tlog-proof"), "--policy", policy}},
		{2, []string{in("bundle.zip")}}, {2, []string{in("bundle.zip"), "--policy", in("none")}}, {2, []string{in("none.zip"), "--policy", policy}},
		{2, []string{in("bundle.zip"), "--policy", in("bundle.zip")}}, {2, []string{in("bundle.zip"), "--policy", policy, "--trusted", in("policy.txt")}},
	} {
		if code, out := verify(c.args...); code != c.code {
			t.Errorf("%v: exit %d, want %d\n%s", c.args, code, c.code, out)
		}
	}
}
