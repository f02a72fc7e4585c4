package anchor

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"casebook.example/audit/ledger"
)

const origin = "audit.example/test"

// published is a signed checkpoint of some tree.
func published(t *testing.T, size uint64) *Published {
	t.Helper()
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	c := ledger.Checkpoint{Origin: origin, Size: size, Root: ledger.Hash{byte(size), 7}}
	signed, err := note.Sign(&note.Note{Text: c.Text()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return &Published{Checkpoint: c, Signed: signed, Prove: func(context.Context, uint64) ([]ledger.Hash, error) { return []ledger.Hash{{1}}, nil }}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "anchor")
	f := NewFile(path)
	if _, ok, err := f.Last(); ok || err != nil {
		t.Fatalf("no file: %t %v", ok, err)
	}
	want := func(size uint64) {
		t.Helper()
		if c, ok, err := f.Last(); !ok || err != nil || c.Size != size || c.Origin != origin {
			t.Errorf("%+v %t %v, want size %d", c, ok, err, size)
		}
	}
	publish := func(size uint64) {
		t.Helper()
		if _, err := f.Publish(t.Context(), published(t, size)); err != nil {
			t.Fatal(err)
		}
	}
	publish(3)
	publish(900)
	want(900)
	before, err := os.ReadFile(path)
	if err != nil || strings.Count(string(before), "\n") != 2 {
		t.Fatalf("%q %v", before, err)
	}
	// A line that was cut off is none, stays as it is, and the next one stands by itself.
	if err := os.WriteFile(path, append(before, `{"time":"2026`...), 0o600); err != nil {
		t.Fatal(err)
	}
	want(900)
	publish(901)
	want(901)
	after, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(after), string(before)+`{"time":"2026`+"\n") {
		t.Errorf("%q %v", after, err)
	}
	if err := os.WriteFile(path, []byte("a shopping list\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := f.Last(); ok || err == nil {
		t.Error("a file of something else was taken")
	}
	if _, err := os.Stat("/dev/full"); err == nil {
		if _, err := NewFile("/dev/full").Publish(t.Context(), published(t, 1)); err == nil {
			t.Error("a full disk took a checkpoint")
		}
	}
}

func TestHTTP(t *testing.T) {
	p := published(t, 5)
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == "/redirect":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case r.URL.Path == "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case string(body) != string(p.Signed) || r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusBadRequest)
		default:
			fmt.Fprintf(w, "receipt\x00 7\n%s", strings.Repeat("x", 1<<20))
		}
	}))
	defer server.Close()
	for path, ok := range map[string]bool{"/": true, "/redirect": false, "/broken": false} {
		h, err := NewHTTP(server.URL+path, "Authorization: Bearer secret\n\nX-Log: a\n")
		if err != nil {
			t.Fatal(err)
		}
		receipt, err := h.Publish(t.Context(), p)
		if (err == nil) != ok || ok && (!strings.HasPrefix(receipt, "200 receipt  7 ") || len(receipt) > 5000) {
			t.Errorf("%s: %.60q %v", path, receipt, err)
		}
	}
	if elsewhere > 0 {
		t.Error("a redirect was followed")
	}
	for _, address := range []string{"http://anchor.example/", "ftp://127.0.0.1/", "https://u:p@anchor.example/", "https://", "x"} {
		if _, err := NewHTTP(address, ""); err == nil {
			t.Errorf("%s was taken", address)
		}
	}
	if _, err := NewHTTP("https://anchor.example/", "top secret\n"); err == nil || strings.Contains(err.Error(), "top") {
		t.Errorf("a wrong header: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h, _ := NewHTTP(server.URL, "")
	if _, err := h.Publish(ctx, p); err == nil {
		t.Error("published after the end")
	}
}

// TestWitnessThatLies: nothing counts but a cosignature of this checkpoint by the key that was configured.
func TestWitnessThatLies(t *testing.T) {
	key := func(name string) *torchwood.CosignatureSigner {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s, err := torchwood.NewCosignatureSigner(name, private)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ours, another := key("witness.example/w"), key("witness.example/w")
	p := published(t, 700)
	forged := p.Checkpoint
	forged.Root[0] ^= 1
	cosign := func(by note.Signer, c ledger.Checkpoint) string {
		signed, err := note.Sign(&note.Note{Text: c.Text()}, by)
		if err != nil {
			t.Fatal(err)
		}
		_, lines, _ := strings.Cut(string(signed), "\n\n")
		return lines
	}
	for _, c := range []struct {
		name    string
		answers []string // status and body; the last one again and again
		say     string   // of the error; "": it is taken
	}{
		{"honest", []string{"200 " + cosign(ours, p.Checkpoint)}, ""},
		{"honest, and further signatures", []string{"200 " + cosign(another, p.Checkpoint) + cosign(ours, p.Checkpoint)}, ""},
		{"knows an older size", []string{"409 600\n", "200 " + cosign(ours, p.Checkpoint)}, ""},
		{"another root", []string{"200 " + cosign(ours, forged)}, "no cosignature"},
		{"another key", []string{"200 " + cosign(another, p.Checkpoint)}, "no cosignature"},
		{"nothing", []string{"200 "}, "no cosignature"},
		{"noise", []string{"200 — witness.example/w AAAA\n"}, "no cosignature"},
		{"409 for ever", []string{"409 600\n", "409 601\n"}, "409 again"},
		{"409 with the same size", []string{"409 0\n"}, "409 again"},
		{"409 without a size", []string{"409 x\n"}, "without the size"},
		{"409 with 0600", []string{"409 0600\n"}, "without the size"},
		{"more than there is", []string{"409 701\n"}, "shortened"},
		{"does not know us", []string{"404 no such log"}, "404"},
		{"422", []string{"422 bad proof"}, "422"},
	} {
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a := c.answers[min(asked, len(c.answers)-1)]
			if asked++; asked > 5 {
				t.Errorf("%s: asked %d times", c.name, asked)
			}
			var status int
			fmt.Sscan(a[:3], &status)
			w.WriteHeader(status)
			io.WriteString(w, a[4:])
		}))
		w, err := NewWitness(server.URL, ours.Verifier().String())
		if err != nil {
			t.Fatal(err)
		}
		receipt, err := w.Publish(t.Context(), p)
		server.Close()
		switch {
		case c.say == "" && (err != nil || !strings.HasPrefix(receipt, "— witness.example/w ") || w.old != 700):
			t.Errorf("%s: %q %v", c.name, receipt, err)
		case c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say) || w.old == 700):
			t.Errorf("%s: %q %v, want %q", c.name, receipt, err, c.say)
		}
	}
	if _, err := NewWitness("https://witness.example", "audit.example/test+00000000+AAAA"); err == nil {
		t.Error("a wrong key was taken")
	}
}

func TestSyslog(t *testing.T) {
	p := published(t, 5)
	p.Origin = `a"]\b`
	at := time.Date(2026, 3, 10, 14, 2, 3, 456789000, time.UTC)
	want := fmt.Sprintf(`<109>1 2026-03-10T14:02:03.456789Z host casebook-audit %d checkpoint [checkpoint@32473 origin="a\"\]\\b" size="5" root="BQcAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] `, os.Getpid())
	text := message(at, "host", p)
	if !strings.HasPrefix(text, want) {
		t.Errorf("%s\nwant %s", text, want)
	}
	if f := frame("tcp", "<1>1 x"); f != "6 <1>1 x" || frame("udp", "x") != "x" {
		t.Errorf("frame %q", f)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	got := make(chan string, 1)
	go func() {
		conn, err := tcp.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		defer conn.Close()
		b, _ := io.ReadAll(conn)
		got <- string(b)
	}()
	s, err := NewSyslog("tcp://" + tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if text := <-got; !strings.Contains(text, " <109>1 ") || !strings.HasPrefix(text, fmt.Sprint(len(text)-len(fmt.Sprint(len(text)))-1, " ")) {
		t.Errorf("over TCP: %q", text)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if s, err = NewSyslog("udp://" + udp.LocalAddr().String()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	datagram := make([]byte, 64<<10)
	if n, _, err := udp.ReadFrom(datagram); err != nil || !strings.HasPrefix(string(datagram[:n]), "<109>1 ") {
		t.Errorf("over UDP: %q %v", datagram[:n], err)
	}
	for _, address := range []string{"siem:514", "http://siem:514", "tcp://siem", "tls://:6514", "tcp://siem:514/x"} {
		if _, err := NewSyslog(address); err == nil {
			t.Errorf("%s was taken", address)
		}
	}
}
