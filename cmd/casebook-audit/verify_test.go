package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"
	"golang.org/x/mod/sumdb/note"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mirror"
	"casebook.example/audit/sink"
)

// signedLog is a chain of entries, with a checkpoint over all but the last ones.
type signedLog struct {
	db     *pgtest.DB
	dir    string
	writer *sink.Writer
	signer note.Signer
	vkey   string
}

func newSignedLog(t *testing.T) *signedLog {
	t.Helper()
	l := &signedLog{db: pgtest.Audit(t), dir: t.TempDir()}
	var err error
	if l.writer, err = sink.OpenWait(t.Context(), sink.Config{DSN: l.db.DSN(pgtest.Writer), Chain: pgtest.Chain}, zaptest.NewLogger(t), prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.writer.Close)
	skey, vkey, err := note.GenerateKey(rand.Reader, pgtest.Origin)
	if err != nil {
		t.Fatal(err)
	}
	l.vkey = vkey
	if l.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	l.append(t, sink.KeyEvent([]string{vkey}, nil))
	return l
}

func (l *signedLog) append(t *testing.T, entries ...*ledger.Entry) {
	t.Helper()
	if err := l.writer.AppendEvents(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
}

// grow appends n entries that say nothing.
func (l *signedLog) grow(t *testing.T, n int) {
	t.Helper()
	list := make([]*ledger.Entry, n)
	for i := range list {
		list[i] = &ledger.Entry{Kind: ledger.KindHeartbeat, Action: "heartbeat", Ordinal: -1, CommittedAt: time.Now().UnixMicro()}
	}
	l.append(t, list...)
}

func (l *signedLog) sign(t *testing.T) []byte {
	t.Helper()
	at := l.writer.Position()
	signed, err := note.Sign(&note.Note{Text: ledger.Checkpoint{Origin: pgtest.Origin, Size: at.Size, Root: at.Root}.Text()}, l.signer)
	if err != nil {
		t.Fatal(err)
	}
	l.db.Exec(t, fmt.Sprintf("INSERT INTO audit.checkpoint (chain, size, root, note) VALUES (1, %d, '\\x%x', '%s')", at.Size, at.Root, signed))
	return signed
}

func (l *signedLog) file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestVerifyModes: what each way of looking says of a log that holds, and of one that does not.
func TestVerifyModes(t *testing.T) {
	t.Parallel()
	l := newSignedLog(t)
	l.grow(t, 298)
	kept := l.file(t, "kept", string(l.sign(t)))
	l.grow(t, 250)
	l.sign(t)
	copyOf := filepath.Join(l.dir, "mirror")
	if _, err := mirror.Export(t.Context(), l.db.ConnAs(t, pgtest.Reader), pgtest.Chain, copyOf, nil); err != nil {
		t.Fatal(err)
	}
	l.grow(t, 20)
	policy := l.file(t, "policy", "log "+l.vkey+"\nquorum none\n")
	_, foreign, err := note.GenerateKey(rand.Reader, pgtest.Origin)
	if err != nil {
		t.Fatal(err)
	}
	otherPolicy := l.file(t, "other-policy", "log "+foreign+"\nquorum none\n")
	config := l.file(t, "c.yaml", fmt.Sprintf("source: {dsn: %q}\naudit: {dsn: %q, reader_dsn: %q, chain: %s}\n", l.db.DSN(""), l.db.DSN(pgtest.Writer), l.db.DSN(pgtest.Reader), pgtest.Chain))
	server := httptest.NewServer(http.FileServer(http.Dir(copyOf)))
	defer server.Close()
	damaged := filepath.Join(l.dir, "damaged")
	if err := os.CopyFS(damaged, os.DirFS(copyOf)); err != nil {
		t.Fatal(err)
	}
	tile := filepath.Join(damaged, "tile", "0", "000")
	data, err := os.ReadFile(tile)
	if err != nil {
		t.Fatal(err)
	}
	data[40] ^= 1
	if err := os.WriteFile(tile, data, 0o644); err != nil {
		t.Fatal(err)
	}
	verify := func(t *testing.T, want int, say string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"verify", "--config", config}, args...), &stdout, &stderr)
		if code != want || !strings.Contains(stdout.String()+stderr.String(), say) {
			t.Errorf("verify %v: %d, want %d and %q\n%s%s", args, code, want, say, &stdout, &stderr)
		}
		if code != exitUsage && stderr.Len() > 0 {
			t.Errorf("verify %v: no terminal, and on stderr stands %q", args, &stderr)
		}
	}
	verify(t, exitDone, "570 entries from 0 on")
	verify(t, exitDone, "570 leaves from 0 on", "--leaves")
	verify(t, exitDone, "270 entries from 300 on", "--since", kept, "--policy", policy)
	verify(t, exitUsage, "is a directory", "--since", copyOf)
	verify(t, exitUsage, "signed", "--since", kept, "--policy", otherPolicy)
	verify(t, exitUsage, "none of the others can be", "--since", kept, "--from", "3")
	verify(t, exitDone, "stands under the checkpoint over 550 entries", "--entry", "300", "--policy", policy)
	verify(t, exitFinding, "checkpoint", "--entry", "300", "--policy", otherPolicy)
	verify(t, exitUsage, "nothing is decided", "--entry", "560")
	verify(t, exitDone, "1 from outside", "--compare", copyOf, "--policy", policy)
	verify(t, exitDone, "1 from outside", "--compare", server.URL, "--leaves")
	verify(t, exitUsage, "the mirror is damaged", "--compare", damaged)
	verify(t, exitUsage, "nothing is decided", "--compare", server.URL+"/nothing")
	verify(t, exitUsage, "nothing is decided", "--compare", l.dir)
	verify(t, exitDone, `\set chain 'test'`, "--sql")

	// The owner of the database forges an entry, and makes all after it fit: what is in the database holds again.
	l.writer.Close()
	l.db.Exec(t, "DELETE FROM audit.entry WHERE seq >= 400; DELETE FROM audit.tile; DELETE FROM audit.checkpoint WHERE size > 400; UPDATE audit.position SET size = 400, head = (SELECT leaf_hash FROM audit.entry WHERE seq = 399)")
	if l.writer, err = sink.OpenWait(t.Context(), sink.Config{DSN: l.db.DSN(pgtest.Writer), Chain: pgtest.Chain}, zaptest.NewLogger(t), prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	l.grow(t, 180)
	verify(t, exitDone, "580 entries")
	verify(t, exitDone, "280 entries from 300 on", "--since", kept)
	verify(t, exitFinding, "First bad entry: 400", "--compare", copyOf)
	verify(t, exitFinding, `"detector":"copy"`, "--compare", server.URL, "--leaves", "--json")
	verify(t, exitFinding, `"seq":549`, "--checkpoint", filepath.Join(copyOf, "checkpoint"), "--json")
}
