package mirror_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"
	"golang.org/x/mod/sumdb/note"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mirror"
	"casebook.example/audit/query"
	"casebook.example/audit/sink"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bed is a chain that is signed when a test says so.
type bed struct {
	db     *pgtest.DB
	writer *sink.Writer
	store  *sink.Checkpoints
	signer note.Signer
	vkey   string
	lsn    ledger.LSN
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{db: pgtest.Audit(t)}
	skey, vkey, err := note.GenerateKey(rand.Reader, pgtest.Origin)
	if err != nil {
		t.Fatal(err)
	}
	b.vkey = vkey
	if b.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	cfg := sink.Config{DSN: b.db.DSN(pgtest.Writer), Chain: pgtest.Chain}
	if b.writer, err = sink.Open(t.Context(), cfg, zaptest.NewLogger(t), prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.writer.Close)
	if b.store, err = sink.OpenCheckpoints(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.store.Close)
	if err := b.writer.AppendEvents(t.Context(), []*ledger.Entry{sink.KeyEvent([]string{vkey}, nil)}); err != nil {
		t.Fatal(err)
	}
	return b
}

// grow appends until there are size entries.
func (b *bed) grow(t *testing.T, size int) {
	t.Helper()
	for left := size - int(b.writer.Position().Size); left > 0; left = size - int(b.writer.Position().Size) {
		b.lsn += 0x100
		var entries []*ledger.Entry
		for i := range min(left, 5000) {
			entries = append(entries, &ledger.Entry{Kind: ledger.KindChange, CommitLSN: b.lsn, Ordinal: int64(i), CommittedAt: time.Date(2026, 3, 10, 0, 0, 0, 0, time.UTC).UnixMicro(), TenantID: "t1",
				RecordName: "J. Süllivan", Action: "update", Fields: []ledger.Field{{Path: "new.a", Type: "text", State: ledger.FieldValue, Value: "é\u2028<&>"}, {Path: "old.a", Type: "text"}}})
		}
		batch, err := b.writer.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(batch.Entries(t.Context(), entries), batch.Commit(t.Context(), sink.Upto{CommitLSN: b.lsn, EndLSN: b.lsn})); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bed) sign(t *testing.T) []byte {
	t.Helper()
	at := b.writer.Position()
	signed, err := note.Sign(&note.Note{Text: ledger.Checkpoint{Origin: pgtest.Origin, Size: at.Size, Root: at.Root}.Text()}, b.signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.Store(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	return signed
}

func (b *bed) export(t *testing.T, dir string) error {
	t.Helper()
	conn := b.db.ConnAs(t, pgtest.Reader)
	return pgx.BeginTxFunc(t.Context(), conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		_, err := mirror.Export(t.Context(), tx, pgtest.Chain, dir, nil)
		return err
	})
}

// tool finds a stranger's program. One that is missing is a failure where CI runs.
func tool(t *testing.T, name, hint string) string {
	t.Helper()
	path, err := filepath.Abs("../.cache/bin/" + name)
	if err == nil {
		if _, err = os.Stat(path); err == nil {
			return path
		}
	}
	if path, err = exec.LookPath(name); err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing: %s", name, hint)
	}
	t.Skipf("%s is missing: %s", name, hint)
	return ""
}

// run gives what a program printed; it must end by itself.
func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

// alter turns a bit in the middle of a file, and back.
func alter(t *testing.T, path string) (undo func()) {
	t.Helper()
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(was)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(path, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(path, was, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFsck: Tessera's fsck takes the exported tree, and not one with a bit turned.
func TestFsck(t *testing.T) {
	t.Parallel()
	fsck := tool(t, "tessera-fsck", "run `make deps`")
	b := newBed(t)
	dir := t.TempDir()
	key := filepath.Join(t.TempDir(), "vkey")
	if err := os.WriteFile(key, []byte(b.vkey), 0o600); err != nil {
		t.Fatal(err)
	}
	// Its exit code is 0 whatever it finds, and without -N it hangs on a bad tile: only its words count.
	holds := func() bool {
		out, _ := run(t, "timeout", "20", fsck, "--storage_url=file://"+dir+"/", "--public_key="+key, "--ui=false", "-N", "8")
		return strings.Contains(out, "Successfully fsck'd")
	}
	for _, size := range []int{2, 255, 256, 257, 65537} {
		b.grow(t, size)
		b.sign(t)
		if err := b.export(t, dir); err != nil {
			t.Fatal(err)
		}
		if !holds() {
			t.Fatalf("fsck does not take the tree of %d entries", size)
		}
	}
	for _, path := range []string{"tile/0/000", "tile/1/000", "tile/entries/007"} {
		undo := alter(t, filepath.Join(dir, path))
		if holds() {
			t.Errorf("fsck takes the tree with a bit of %s turned", path)
		}
		undo()
	}
	if !holds() {
		t.Error("fsck does not take the tree any more")
	}
}

// TestVerifyPy: the shipped script takes mirror, bundle and proof, and none of them with a bit turned.
func TestVerifyPy(t *testing.T) {
	t.Parallel()
	python := tool(t, "python3", "install Python 3")
	b := newBed(t)
	b.grow(t, 1000)
	signed := b.sign(t)
	dir := t.TempDir()
	if err := b.export(t, filepath.Join(dir, "mirror")); err != nil {
		t.Fatal(err)
	}
	conn := b.db.ConnAs(t, pgtest.Reader)
	caller := &query.Caller{Name: "test", Tenants: []string{query.AllTenants}}
	filter, errs := query.ParseFilter(map[string]string{})
	if errs != nil {
		t.Fatal(errs)
	}
	var zip bytes.Buffer
	if _, err := query.WriteBundle(t.Context(), conn, pgtest.Chain, caller, filter, "", nil, &zip, nil); err != nil {
		t.Fatal(err)
	}
	entry, err := query.Prove(t.Context(), conn, pgtest.Chain, caller, 700)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := entry.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"bundle.zip": zip.Bytes(), "700.json": proof} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func() (string, error) {
		return run(t, python, "../deploy/verify.py", filepath.Join(dir, "mirror"), filepath.Join(dir, "bundle.zip"), filepath.Join(dir, "700.json"))
	}
	out, err := check()
	if err != nil || !bytes.HasPrefix(signed, []byte(out)) {
		t.Fatalf("%v: %s", err, out)
	}
	if text, err := os.ReadFile("../deploy/verify.py"); err != nil || bytes.Count(text, []byte("\n")) > 60 {
		t.Errorf("the script is longer than 60 lines (%v)", err)
	}
	for _, path := range []string{"mirror/tile/entries/000", "mirror/tile/entries/003.p/232", "mirror/checkpoint", "bundle.zip", "700.json"} {
		name := filepath.Join(dir, path)
		undo := alter(t, name)
		switch path { // the middle is not always what the script looks at
		case "mirror/checkpoint":
			undo()
			undo = rewrite(t, name, "\n1000\n", "\n999\n")
		case "700.json":
			undo()
			undo = rewrite(t, name, `"value": "update"`, `"value": "delete"`)
		case "bundle.zip":
			undo()
			undo = rewrite(t, name, `"value": "update"`, `"value": "delete"`)
		}
		if out, err := check(); err == nil {
			t.Errorf("%s altered: taken\n%s", path, out)
		}
		undo()
	}
}

func rewrite(t *testing.T, path, old, with string) (undo func()) {
	t.Helper()
	was, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(was, []byte(old)) {
		t.Fatalf("%s has no %q (%v)", path, old, err)
	}
	if err := os.WriteFile(path, bytes.Replace(was, []byte(old), []byte(with), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(path, was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExportRefuses: a mirror is never made to fit another log.
func TestExportRefuses(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	dir := t.TempDir()
	if err := b.export(t, dir); err == nil {
		t.Error("a log without a checkpoint was exported")
	}
	b.grow(t, 300)
	b.sign(t)
	if err := b.export(t, dir); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	if err := b.export(t, dir); err != nil || snapshot(t, dir) != before {
		t.Errorf("the second time: %v", err)
	}
	other := newBed(t)
	other.grow(t, 400)
	other.sign(t)
	for _, l := range []*bed{other} {
		if err := l.export(t, dir); !errors.Is(err, mirror.ErrRewritten) {
			t.Errorf("a rewritten log: %v", err)
		}
	}
	short := newBed(t)
	short.grow(t, 200)
	short.sign(t)
	if err := short.export(t, dir); !errors.Is(err, mirror.ErrRewritten) {
		t.Errorf("a shortened log: %v", err)
	}
	b.grow(t, 600)
	b.sign(t)
	b.db.Exec(t, "UPDATE audit.entry SET recorded_us = recorded_us + 1 WHERE seq = 301")
	if err := b.export(t, dir); !errors.Is(err, ledger.ErrTiles) {
		t.Errorf("a leaf that was edited: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "checkpoint"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.export(t, dir); err == nil {
		t.Error("a folder with another kind of checkpoint was taken")
	}
}

func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all.WriteString(path + " " + string(text) + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestHandler: what is served is what is exported, and nothing beyond the checkpoint.
func TestHandler(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	pool, err := pgxpool.New(t.Context(), b.db.DSN(pgtest.Reader))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	server := httptest.NewServer(mirror.Handler(pool, pgtest.Chain, zaptest.NewLogger(t)))
	t.Cleanup(server.Close)
	get := func(path string) (int, string, http.Header) {
		t.Helper()
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text), resp.Header
	}
	if code, _, _ := get("/checkpoint"); code != http.StatusNotFound {
		t.Errorf("an unsigned log: %d", code)
	}
	b.grow(t, 600)
	signed := b.sign(t)
	b.grow(t, 700) // not signed yet
	dir := t.TempDir()
	if err := b.export(t, dir); err != nil {
		t.Fatal(err)
	}
	if code, text, header := get("/checkpoint"); code != http.StatusOK || text != string(signed) || header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%d %q", code, text)
	}
	for _, path := range []string{"tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2", "tile/entries/000", "tile/entries/002.p/88"} {
		want, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		code, text, header := get("/" + path)
		if code != http.StatusOK || text != string(want) || !strings.Contains(header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d, %d bytes", path, code, len(text))
		}
	}
	if code, text, _ := get("/tile/0/000.p/3"); code != http.StatusOK || len(text) != 96 {
		t.Errorf("a part of a full tile: %d, %d bytes", code, len(text))
	}
	for _, path := range []string{"/tile/0/002", "/tile/0/002.p/89", "/tile/entries/002.p/89", "/tile/2/000.p/1", "/tile/0/003.p/1", "/tile/0/0", "/tile/x", "/tile/0/000/", "/tile/entries/x999/999", "/other"} {
		if code, _, header := get(path); code != http.StatusNotFound || strings.Contains(header.Get("Cache-Control"), "public") {
			t.Errorf("%s: %d", path, code)
		}
	}
	if resp, err := http.Post(server.URL+"/checkpoint", "", nil); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v %v", resp, err)
	}
	b.db.Exec(t, "UPDATE audit.entry SET recorded_us = recorded_us + 1 WHERE seq = 7")
	if code, _, header := get("/tile/entries/000"); code != http.StatusServiceUnavailable || header.Get("Cache-Control") != "no-store" {
		t.Errorf("a leaf that was edited: %d", code)
	}
}
