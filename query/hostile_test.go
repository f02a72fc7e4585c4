package query_test

import (
	"bufio"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/query"
)

// raw sends a request line as it stands: clients of net/http would escape it.
func (b *bench) raw(target, token string) int {
	b.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n", target, token)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

// TestAccessIsText: what is recorded of a request can be stored as text, whatever the request holds. An access that the
// audit database refuses would stop the chain, and this one needs no token.
func TestAccessIsText(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for target, want := range map[string]int{"/v1/entries?record=\xff\xfe": 400, "/v1/export?\xc3=1": 400, "/v1/entries/1?" + strings.Repeat("\xe2\x82\xac", 900): 400} {
		if got := b.raw(target, "all"); got != want {
			t.Errorf("%q: %d, want %d", target, got, want)
		}
		if got := b.raw(target, "nobody"); got != 401 {
			t.Errorf("%q without a token: %d", target, got)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.accesses) != 6 {
		t.Errorf("%d accesses", len(b.accesses))
	}
	for _, a := range b.accesses {
		if !utf8.ValidString(a.Query) || len(a.Query) > 2000 {
			t.Errorf("not text: %q", a.Query)
		}
	}
}

// TestNothingDropped: a parameter that cannot be read is refused. Dropping it would answer another question.
func TestNothingDropped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{})
	for _, target := range []string{"/v1/entries?user=%zz", "/v1/entries?user=a;action=create", "/v1/export?user=%zz", "/v1/records?q=%zz", "/v1/users?application=Engage", "/v1/entries/1?x=%zz", "/v1/status?%zz"} {
		if status := b.raw(target, "all"); status != 400 {
			t.Errorf("%s: %d", target, status)
		}
	}
}

func TestForgedCursors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{}, &ledger.Entry{})
	_, next := b.list("all", values("limit", "1"))
	text, err := base64.RawURLEncoding.DecodeString(next)
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{`"t":9223372036854775807`, `"t":-9223372036854775808`, `"t":-210866803200000001`, `"t":1e3`, `"t":"x"`} {
		i, j := strings.Index(string(text), `"t":`), strings.Index(string(text), `,"s"`)
		forged := base64.RawURLEncoding.EncodeToString([]byte(string(text)[:i] + place + string(text)[j:]))
		if status, _, body := b.get("all", "/v1/entries?cursor="+forged); status != 200 && status != 400 {
			t.Errorf("%s: %d %s", place, status, body)
		}
	}
	_, next = b.list("all", values("limit", "1", "to", "9999-12-31"))
	if status, _, _ := b.get("all", "/v1/entries?to=9999-12-31&user=u1&cursor="+next); status != 400 {
		t.Errorf("a cursor of another query: %d", status)
	}
}

// TestCSVKeepsValues: what a cell held comes back byte for byte.
func TestCSVKeepsValues(t *testing.T) {
	t.Parallel()
	b := setup(t)
	names := []string{"a\rb", "a\nb", "a\r\nb", " lead", "trail ", `"`, `a"b`, "a,b", `\.`, "ünï\u202e😀", "# rows=1 sha256=0 complete"}
	for _, n := range names {
		b.add(&ledger.Entry{RecordName: n})
	}
	_, _, body := b.get("all", "/v1/export?order=oldest")
	for i, n := range names {
		if !strings.Contains(body, ","+n+",Notes,") && !strings.Contains(body, `,"`+strings.ReplaceAll(n, `"`, `""`)+`",Notes,`) {
			t.Errorf("%d: %q is not in the export as it is", i, n)
		}
	}
	r := csv.NewReader(strings.NewReader(body))
	r.Comment = '#'
	if rows, err := r.ReadAll(); err != nil || len(rows) != len(names)+1 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

func TestManyOfOneName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var entries []*ledger.Entry
	for i := range 1001 {
		entries = append(entries, &ledger.Entry{RecordID: fmt.Sprint("r", i), RecordName: "Unknown"})
	}
	b.add(entries...)
	status, _, body := b.get("all", "/v1/entries?record=unknown&limit=1000")
	var p struct{ Errors []struct{ Parameter string } }
	_ = json.Unmarshal([]byte(body), &p)
	if status != 400 || len(p.Errors) != 1 || p.Errors[0].Parameter != "record" {
		t.Errorf("more records than are looked through: %d %.200s", status, body)
	}
}

// TestExportsLeaveRoom: clients that take an export slowly don't keep others from asking, and are cut off in the end.
func TestExportsLeaveRoom(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var entries []*ledger.Entry
	for range 3000 { // more than the sockets hold
		entries = append(entries, &ledger.Entry{Fields: []ledger.Field{{Path: "new.body", Type: "text", State: ledger.FieldValue, Value: strings.Repeat("x", 8000)}}})
	}
	b.add(entries...)
	var slow []net.Conn
	defer func() {
		for _, c := range slow {
			c.Close()
		}
	}()
	status := func(path string) int { s, _, _ := b.get("all", path); return s }
	for range 2 { // half of the pool's four
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
		fmt.Fprint(conn, "GET /v1/export HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer all\r\n\r\n")
		if _, err := bufio.NewReaderSize(conn, 16).ReadByte(); err != nil { // it has begun
			t.Fatal(err)
		}
	}
	if got := status("/v1/export?limit=1"); got != 400 { // a wrong one is told so all the same
		t.Errorf("export with a limit: %d", got)
	}
	if got := status("/v1/export"); got != 503 {
		t.Errorf("a third export: %d", got)
	}
	if got := status("/v1/entries?limit=1"); got != 200 {
		t.Errorf("a page beside slow exports: %d", got)
	}
	for _, c := range slow { // half-closed and gone: their places come free
		c.Close()
	}
	for deadline := time.Now().Add(20 * time.Second); status("/v1/export?record_id=none") != 200; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the places of exports whose clients have gone stay taken")
		}
	}
}

// TestPageOfLongTexts: a page ends early rather than fill the memory, and the next one goes on where it ended.
func TestPageOfLongTexts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 5 {
		b.add(&ledger.Entry{Fields: []ledger.Field{{Path: "new.body", Type: "text", State: ledger.FieldValue, Value: strings.Repeat("x", 6<<20)}}})
	}
	got, next := b.list("all", values("order", "oldest"))
	if len(got) != 2 || next == "" {
		t.Fatalf("a page of %v, cursor %q", got, next)
	}
	for next != "" {
		var more []uint64
		more, next = b.list("all", values("order", "oldest", "cursor", next))
		got = append(got, more...)
	}
	if !slices.Equal(got, []uint64{1, 2, 3, 4, 5}) {
		t.Errorf("pages give %v", got)
	}
}

// TestLargeExport: memory does not grow with the number of rows.
func TestLargeExport(t *testing.T) {
	if testing.Short() {
		t.Skip("200,000 rows")
	}
	b := setup(t)
	const rows = 200_000
	for n := 0; n < rows; n += 20_000 {
		entries := make([]*ledger.Entry, 20_000)
		for i := range entries {
			entries[i] = &ledger.Entry{CommittedAt: day.Add(time.Duration(n+i) * time.Second).UnixMicro()}
		}
		b.add(entries...)
	}
	conn := b.db.ConnAs(t, pgtest.Reader)
	for _, format := range []query.Format{query.FormatCSV, query.FormatNDJSON} {
		var highest uint64
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		before := m.HeapAlloc
		tail := &lastLine{}
		trailer, err := query.Export(t.Context(), conn, pgtest.Chain, &query.Caller{Tenants: []string{"*"}}, query.Filter{}, format, tail, func(n int64) {
			if n%20_000 == 0 {
				runtime.GC()
				runtime.ReadMemStats(&m)
				highest = max(highest, m.HeapAlloc)
			}
		})
		if err != nil || trailer.Rows != rows || !trailer.Complete {
			t.Fatalf("%s: %+v %v", format, trailer, err)
		}
		if grown := int64(highest) - int64(before); grown > 8<<20 {
			t.Errorf("%s: the heap grew by %d bytes", format, grown)
		}
		if !strings.Contains(string(tail.line), trailer.SHA256) {
			t.Errorf("%s: last line %q", format, tail.line)
		}
	}
}

// lastLine keeps the last line of what is written, a write at a time.
type lastLine struct{ line []byte }

func (l *lastLine) Write(p []byte) (int, error) {
	l.line = append(l.line[:0], p...)
	return len(p), nil
}
