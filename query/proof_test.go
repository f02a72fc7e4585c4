package query_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"casebook.example/audit/bundle"
	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/query"
	"casebook.example/audit/sink"
)

// notary signs the chain of a test.
type notary struct {
	note.Signer
	policy *ledger.Policy
}

func newNotary(t *testing.T) *notary {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, pgtest.Origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := ledger.KeyPolicy(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return &notary{signer, policy}
}

func (b *bench) sign(n *notary) (signed []byte, c ledger.Checkpoint) {
	b.t.Helper()
	at := b.writer.Position()
	c = ledger.Checkpoint{Origin: pgtest.Origin, Size: at.Size, Root: at.Root}
	signed, err := note.Sign(&note.Note{Text: c.Text()}, n.Signer)
	if err != nil {
		b.t.Fatal(err)
	}
	store, err := sink.OpenCheckpoints(b.t.Context(), sink.Config{DSN: b.db.DSN(pgtest.Writer), Chain: pgtest.Chain})
	if err != nil {
		b.t.Fatal(err)
	}
	defer store.Close()
	if err := store.Store(b.t.Context(), signed); err != nil {
		b.t.Fatal(err)
	}
	return signed, c
}

// fetch gives all of an answer, trailers included.
func (b *bench) fetch(token, path string) (int, []byte, http.Header) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.url+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	for k, v := range resp.Trailer {
		resp.Header[k] = v
	}
	return resp.StatusCode, text, resp.Header
}

func TestProof(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := newNotary(t)
	b.add(&ledger.Entry{Fields: []ledger.Field{{Path: "new.body", Type: "text", State: ledger.FieldValue, Value: "hello"}}}, &ledger.Entry{TenantID: "t2", UserEmail: "two@hfs.example"})
	for _, path := range []string{"/v1/checkpoint", "/v1/entries/1/proof", "/v1/export?format=bundle"} {
		if code, text, _ := b.fetch("all", path); code != http.StatusNotFound || !strings.Contains(string(text), "no signed checkpoint") {
			t.Errorf("%s of an unsigned log: %d %s", path, code, text)
		}
	}
	signed, c := b.sign(n)
	b.add(&ledger.Entry{}) // newer than the checkpoint
	if code, text, _ := b.fetch("one", "/v1/checkpoint"); code != http.StatusOK || !bytes.Equal(text, signed) {
		t.Errorf("the checkpoint: %d %s", code, text)
	}
	code, text, _ := b.fetch("one", "/v1/entries/1/proof")
	fact, under, err := bundle.VerifyEntry(text, n.policy)
	if code != http.StatusOK || err != nil || under != c || fact.Seq != 1 || fact.Text("user_email") != "maria@hfs.example" || fact.Fields[ledger.NumFixed].Value != "hello" {
		t.Fatalf("%d %v %+v\n%s", code, err, fact, text)
	}
	var entry bundle.Entry
	if err := json.Unmarshal(text, &entry); err != nil {
		t.Fatal(err)
	}
	if code, proof, header := b.fetch("one", "/v1/entries/1/proof?format=tlog-proof"); code != http.StatusOK || string(proof) != entry.TLogProof || header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("tlog-proof: %d %s", code, proof)
	}
	for _, c := range []struct {
		token, path string
		want        int
	}{
		{"", "/v1/entries/1/proof", 401}, {"", "/v1/checkpoint", 401}, {"two", "/v1/entries/1/proof", 404}, {"one", "/v1/entries/2/proof", 404}, {"two", "/v1/entries/2/proof", 200},
		{"one", "/v1/entries/0/proof", 404}, {"all", "/v1/entries/0/proof", 200}, {"all", "/v1/entries/3/proof", 503}, {"two", "/v1/entries/3/proof", 404}, {"all", "/v1/entries/99/proof", 404},
		{"all", "/v1/entries/-1/proof", 404}, {"all", "/v1/entries/x/proof", 404}, {"all", "/v1/entries/9999999999999999999/proof", 404}, {"all", "/v1/entries/1/proof?format=xml", 400},
		{"all", "/v1/entries/1/proof?x=1", 400}, {"all", "/v1/checkpoint?x=1", 400}, {"all", "/v1/export?format=bundle&since=x", 400}, {"all", "/v1/export?format=csv&since=1", 400},
		{"all", "/v1/export?format=bundle&since=99", 422}, {"all", "/v1/export?format=bundle&since=" + strings.Repeat("1,", 20) + "1", 400},
	} {
		if code, text, _ := b.fetch(c.token, c.path); code != c.want {
			t.Errorf("%q %s: %d, want %d: %s", c.token, c.path, code, c.want, text)
		}
	}
	b.mu.Lock()
	proofs := 0
	for _, a := range b.accesses {
		if a.Endpoint == "proof" {
			proofs++
		}
	}
	b.mu.Unlock()
	if proofs < 3 {
		t.Errorf("%d accesses to proofs were recorded", proofs)
	}
	// A tile that was tampered with is an error and no proof.
	b.db.Exec(t, "ALTER TABLE audit.entry DISABLE TRIGGER ALL; UPDATE audit.entry SET leaf_hash = sha256('x') WHERE seq = 0")
	if code, _, _ := b.fetch("all", "/v1/entries/1/proof"); code != http.StatusInternalServerError {
		t.Errorf("a tampered tree: %d", code)
	}
}

func TestBundleOfAQuery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	n := newNotary(t)
	for i := range 300 {
		b.add(&ledger.Entry{RecordID: fmt.Sprint("c", i%3), TenantID: fmt.Sprint("t", 1+i%2)})
	}
	_, first := b.sign(n)
	for range 100 {
		b.add(&ledger.Entry{})
	}
	_, second := b.sign(n)
	b.add(&ledger.Entry{}, &ledger.Entry{})
	verify := func(file []byte, trusted ...ledger.Checkpoint) (*bundle.Result, []*bundle.Fact) {
		t.Helper()
		var facts []*bundle.Fact
		r, err := bundle.Verify(bytes.NewReader(file), int64(len(file)), n.policy, trusted, func(f *bundle.Fact) error {
			facts = append(facts, f)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return r, facts
	}
	code, file, header := b.fetch("one", fmt.Sprintf("/v1/export?format=bundle&record_id=c0&since=%d,%d", second.Size, first.Size))
	if code != http.StatusOK || header.Get("Content-Type") != "application/zip" || !strings.Contains(header.Get("Content-Disposition"), `.zip"`) {
		t.Fatalf("%d %v\n%s", code, header, file)
	}
	r, facts := verify(file, first, second)
	if r.Entries != 50 || r.Trusted != 2 || header.Get("X-Rows") != "50" || header.Get("X-Bundle") != hex.EncodeToString(r.Name[:]) || r.Manifest.Tenants != "t1" || !strings.Contains(r.Manifest.Query, "record_id=c0") {
		t.Errorf("%+v %v", r, header)
	}
	for i, f := range facts {
		if f.Text("record_id") != "c0" || f.Text("tenant_id") != "t1" || i > 0 && f.Seq <= facts[i-1].Seq {
			t.Errorf("entry %d of %s, tenant %s", f.Seq, f.Text("record_id"), f.Text("tenant_id"))
		}
	}
	// What is not signed yet is left out and counted; the command line gives the same.
	code, file, _ = b.fetch("one", "/v1/export?format=bundle&record_id=c1")
	if r, _ := verify(file); code != http.StatusOK || r.Manifest.Newer != 2 || r.Entries < 100 {
		t.Errorf("%+v", r)
	}
	filter, errs := query.ParseFilter(map[string]string{"record_id": "c1"})
	if errs != nil {
		t.Fatal(errs)
	}
	var again bytes.Buffer
	info, err := query.WriteBundle(t.Context(), b.db.ConnAs(t, pgtest.Reader), pgtest.Chain, &query.Caller{Name: "x", Tenants: []string{"t1"}}, filter, "format=bundle&record_id=c1", nil, &again, nil)
	if err != nil || !bytes.Equal(again.Bytes(), file) {
		t.Errorf("the command line's bundle is another one: %+v %v", info, err)
	}
	// Nothing found is a bundle without entries.
	_, file, _ = b.fetch("two", "/v1/export?format=bundle&record_id=nobody")
	if r, _ := verify(file); r.Entries != 0 {
		t.Errorf("%+v", r)
	}
}
