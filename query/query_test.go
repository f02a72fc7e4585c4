package query_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/routers"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
	"casebook.example/audit/query"
	"casebook.example/audit/sink"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bench is an audit database with a writer, and an endpoint on it.
type bench struct {
	t      testing.TB
	db     *pgtest.DB
	writer *sink.Writer
	url    string
	lsn    ledger.LSN

	described routers.Router
	pool      *pgxpool.Pool

	mu       sync.Mutex
	accesses []query.Access
	deny     error // what OnAccess answers
}

var day = time.Date(2026, 3, 10, 14, 0, 0, 0, time.UTC)

func setup(t testing.TB) *bench {
	t.Helper()
	db := pgtest.Audit(t)
	w, err := sink.Open(t.Context(), sink.Config{DSN: db.DSN(pgtest.Writer), Chain: pgtest.Chain}, zaptest.NewLogger(t), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	pool, err := pgxpool.New(t.Context(), db.DSN(pgtest.Reader))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	b := &bench{t: t, db: db, writer: w, lsn: 0x1000}
	_, b.described = described(t)
	b.pool = pool
	b.url = b.slow(10_000)
	return b
}

// slow serves the bench's log to callers that send so many requests a second.
func (b *bench) slow(rate float64) string {
	b.t.Helper()
	service := query.New(query.Config{
		Pool: b.pool, Chain: pgtest.Chain, Rate: rate, Tokens: loadTokens(b.t, tokensFile), Log: zaptest.NewLogger(b.t), Reg: prometheus.NewRegistry(),
		OnAccess: func(_ context.Context, a query.Access) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.accesses = append(b.accesses, a)
			return b.deny
		},
	})
	server := httptest.NewServer(service.Handler())
	b.t.Cleanup(server.Close)
	return server.URL
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

var tokensFile = "- {name: all, sha256: " + sum("all") + ", tenants: ['*']}\n- {name: one, sha256: " + sum("one") + ", tenants: [t1]}\n- {name: two, sha256: " + sum("two") + ", tenants: [t2]}\n"

func loadTokens(t testing.TB, text string) *query.Tokens {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := query.LoadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// add stores changes as one transaction; what a test doesn't say is filled in.
func (b *bench) add(entries ...*ledger.Entry) {
	b.t.Helper()
	var records []mapping.RecordName
	var users []mapping.UserName
	b.lsn += 0x100
	for i, e := range entries {
		set := func(s *string, v string) {
			if *s == "" {
				*s = v
			}
		}
		if e.Kind == 0 {
			e.Kind = ledger.KindChange
		}
		set(&e.TenantID, "t1")
		set(&e.Application, "Engage")
		set(&e.RecordType, "Case")
		set(&e.RecordID, "c1")
		set(&e.RecordName, "J. Sullivan Case")
		set(&e.Resource, "Notes")
		set(&e.Action, "update")
		set(&e.Summary, "Note updated")
		set(&e.Initiator, "user")
		set(&e.UserID, "u1")
		set(&e.UserEmail, "maria@hfs.example")
		e.CommitLSN, e.Ordinal = b.lsn, int64(i)
		if e.CommittedAt == 0 {
			e.CommittedAt = day.Add(time.Duration(b.lsn) * time.Second).UnixMicro()
		}
		records = append(records, mapping.RecordName{TenantID: e.TenantID, Application: e.Application, RecordType: e.RecordType, RecordID: e.RecordID, Name: e.RecordName})
		users = append(users, mapping.UserName{TenantID: e.TenantID, UserID: e.UserID, Email: e.UserEmail, Name: e.UserName})
	}
	batch, err := b.writer.Begin(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	defer batch.Rollback()
	if err := errors.Join(batch.Entries(b.t.Context(), entries), batch.Names(b.t.Context(), records, users),
		batch.Commit(b.t.Context(), sink.Upto{CommitLSN: b.lsn, EndLSN: b.lsn + 8, CommittedAt: entries[0].CommittedAt, CompleteAt: entries[0].CommittedAt})); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) get(token, path string) (int, http.Header, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.url+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := asDescribed(b.described, path, res.StatusCode, res.Header, string(body)); err != nil {
		b.t.Errorf("%s: the answer %d is not as openapi.json describes it: %v", path, res.StatusCode, err)
	}
	return res.StatusCode, res.Header, string(body)
}

// list gives the numbers of the entries of a query, and its cursor.
func (b *bench) list(token string, p url.Values) ([]uint64, string) {
	b.t.Helper()
	status, _, body := b.get(token, "/v1/entries?"+p.Encode())
	var list query.List
	if err := json.Unmarshal([]byte(body), &list); status != 200 || err != nil {
		b.t.Fatalf("%v: %d %v %s", p, status, err, body)
	}
	seqs := []uint64{}
	for _, e := range list.Entries {
		seqs = append(seqs, e.Seq)
	}
	return seqs, list.Next
}

func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

func also(application, id, name string) ledger.Field {
	text, _ := json.Marshal(ledger.AlsoRecord{Application: application, RecordType: "Person", RecordID: id, RecordName: name})
	return ledger.Field{Path: "also.0", Type: "record", State: ledger.FieldValue, Value: string(text)}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{})                                                                                                                                             // 1
	b.add(&ledger.Entry{Application: "People", RecordType: "Person", RecordID: "p1", RecordName: "K. Sullivan", Resource: "People", Action: "create"})                 // 2
	b.add(&ledger.Entry{Fields: []ledger.Field{also("People", "p1", "K. Sullivan")}, UserID: "u2", UserEmail: "Tanya@hfs.example", Action: "delete"})                  // 3
	b.add(&ledger.Entry{RecordName: "J. Sullivan-Lopez Case"})                                                                                                         // 4: renamed
	b.add(&ledger.Entry{RecordID: "c2", RecordName: "L. Ortega Case", Initiator: "system", UserID: "u1"}, &ledger.Entry{RecordID: "c2", RecordName: "L. Ortega Case"}) // 5, 6
	b.add(&ledger.Entry{Kind: ledger.KindTransaction})                                                                                                                 // 7: never listed
	at := func(lsn int) string { return day.Add(time.Duration(lsn) * time.Second).Format(time.RFC3339) }
	for _, c := range []struct {
		name string
		p    url.Values
		want []uint64
	}{
		{"all", values(), []uint64{6, 5, 4, 3, 2, 1}},
		{"oldest first", values("order", "oldest"), []uint64{1, 2, 3, 4, 5, 6}},
		{"application", values("application", "People"), []uint64{2}},
		{"record by name", values("record", "J. Sullivan Case"), []uint64{4, 3, 1}},
		{"record by a later name, any case", values("record", "j. sullivan-lopez CASE"), []uint64{4, 3, 1}},
		{"record by id", values("record_id", "c2"), []uint64{6, 5}},
		{"also under", values("record", "K. Sullivan"), []uint64{3, 2}},
		{"also under, in its application", values("record_id", "p1", "application", "People"), []uint64{3, 2}},
		{"also under, in another application", values("record_id", "p1", "application", "Engage"), []uint64{}},
		{"record that never was", values("record", "nobody"), []uint64{}},
		{"user by e-mail, any case", values("user", "tanya@HFS.example"), []uint64{3}},
		{"user by id", values("user", "u2"), []uint64{3}},
		{"nobody", values("user", "x@y.example"), []uint64{}},
		{"action", values("action", "create"), []uint64{2}},
		{"resource", values("resource", "People"), []uint64{2}},
		{"initiator", values("initiator", "system"), []uint64{5}},
		{"from", values("from", at(0x1300)), []uint64{6, 5, 4, 3}},
		{"to, included", values("to", at(0x1300)), []uint64{3, 2, 1}},
		{"one day", values("from", "2026-03-10", "to", "2026-03-10"), []uint64{6, 5, 4, 3, 2, 1}},
		{"another day", values("from", "2026-03-11", "to", "2026-03-12"), []uint64{}},
		{"all five", values("application", "Engage", "record", "J. Sullivan Case", "from", "2026-03-10", "to", "2026-03-10", "user", "Tanya@hfs.example", "action", "delete"), []uint64{3}},
	} {
		for _, limit := range []string{"", "1", "2"} { // in one page, and leafed through
			p := url.Values{}
			for k, v := range c.p {
				p[k] = v
			}
			if limit != "" {
				p.Set("limit", limit)
			}
			got, next := b.list("all", p)
			for next != "" {
				p.Set("cursor", next)
				var more []uint64
				more, next = b.list("all", p)
				if len(more) == 0 {
					t.Errorf("%s: an empty page after a cursor", c.name)
				}
				got = append(got, more...)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s, limit %q: %v, want %v", c.name, limit, got, c.want)
			}
		}
	}
}

// TestCursorWhileWriting: new entries neither move nor double what a reader leafs through.
func TestCursorWhileWriting(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 10 {
		b.add(&ledger.Entry{}, &ledger.Entry{}, &ledger.Entry{})
	}
	got, next := b.list("all", values("limit", "4", "record_id", "c1"))
	for next != "" {
		b.add(&ledger.Entry{})
		var more []uint64
		more, next = b.list("all", values("limit", "4", "record_id", "c1", "cursor", next))
		got = append(got, more...)
	}
	want := []uint64{}
	for seq := uint64(30); seq > 0; seq-- {
		want = append(want, seq)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{TenantID: "t1", RecordID: "shared"})
	b.add(&ledger.Entry{TenantID: "t2", RecordID: "shared", RecordName: "Other Case", UserID: "u9", UserEmail: "nine@other.example"})
	if err := b.writer.AppendEvents(t.Context(), []*ledger.Entry{{Kind: ledger.KindGap, Action: "gap", Summary: "gap"}}); err != nil { // 3, of no tenant
		t.Fatal(err)
	}
	for token, want := range map[string][]uint64{"all": {3, 2, 1}, "one": {1}, "two": {2}} {
		if got, _ := b.list(token, values()); !slices.Equal(got, want) {
			t.Errorf("%s sees %v, want %v", token, got, want)
		}
	}
	if got, _ := b.list("one", values("record", "Other Case")); len(got) != 0 {
		t.Errorf("another tenant's record by name: %v", got)
	}
	if got, _ := b.list("one", values("user", "nine@other.example")); len(got) != 0 {
		t.Errorf("another tenant's user: %v", got)
	}
	for path, want := range map[string]int{"/v1/entries/1": 200, "/v1/entries/2": 404, "/v1/entries/3": 404, "/v1/entries/99": 404, "/v1/entries/-1": 404, "/v1/entries/x": 404} {
		if status, _, body := b.get("one", path); status != want {
			t.Errorf("%s: %d, want %d: %s", path, status, want, body)
		}
	}
	for _, path := range []string{"/v1/records?q=other", "/v1/users?q=nine", "/v1/export?format=ndjson"} {
		if _, _, body := b.get("one", path); strings.Contains(body, "Other") || strings.Contains(body, "nine@") {
			t.Errorf("%s gives another tenant's: %s", path, body)
		}
	}
	// The second fence alone: the tables by themselves keep tenants apart, whatever a query forgets.
	conn := b.db.ConnAs(t, pgtest.Reader)
	for _, table := range []string{"entry", "entry_also", "record_name", "user_name"} {
		var n int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM audit."+table).Scan(&n); err != nil || n != 0 {
			t.Errorf("a reader that names no tenant sees %d rows of %s (%v)", n, table, err)
		}
	}
	for tenants, want := range map[string]int{"t1": 1, "t2": 1, "t1,t2": 2, "*": 4 /* genesis and the gap too */, "t1,*": 1, "": 0, "t": 0} {
		var n int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM audit.entry, set_config('casebook_audit.tenants', $1, false)", tenants).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM audit.entry").Scan(&n); err != nil || n != want {
			t.Errorf("a reader for %q sees %d entries, want %d (%v)", tenants, n, want, err)
		}
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{})
	for _, token := range []string{"", "wrong", "ALL", "allall"} {
		status, header, body := b.get(token, "/v1/entries?record=secret")
		if status != 401 || header.Get("Content-Type") != "application/problem+json" || header.Get("WWW-Authenticate") == "" {
			t.Errorf("token %q: %d %s", token, status, body)
		}
	}
	b.get("all", "/v1/entries?record=x")
	b.get("one", "/v1/export")
	b.mu.Lock()
	got := b.accesses
	b.accesses = nil
	b.mu.Unlock()
	last := got[len(got)-2:]
	if len(got) != 6 || got[0].Refused == "" || last[0].Caller != "all" || last[0].Query != "record=x" || last[1].Endpoint != "export" || last[1].Refused != "" {
		t.Errorf("accesses %+v", got)
	}
	// What cannot be recorded is not answered.
	b.mu.Lock()
	b.deny = errors.New("the log is away")
	b.mu.Unlock()
	if status, header, _ := b.get("all", "/v1/entries"); status != 503 || header.Get("Retry-After") == "" {
		t.Errorf("an access that cannot be recorded: %d", status)
	}
	if status, _, _ := b.get("all", "/v1/nothing"); status != 404 {
		t.Errorf("an unknown endpoint: %d", status)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url+"/v1/status", nil)
	req.Header.Set("Authorization", "Bearer all")
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 405 {
		t.Errorf("a POST: %v %v", res, err)
	}
}

// TestViews: reads that the application reports stand in the timeline, reads of the log do not.
func TestViews(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{}, &ledger.Entry{Kind: ledger.KindAccess, Action: ledger.ActionView, RecordID: "r1"}, &ledger.Entry{Kind: ledger.KindAccess, Action: "query"},
		&ledger.Entry{Kind: ledger.KindDirectory, Action: "directory"}, &ledger.Entry{Kind: ledger.KindRelation, Action: "relation"})
	if got, _ := b.list("all", values("order", "oldest")); !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("the timeline is %v", got)
	}
	if got, _ := b.list("all", values("action", "view")); !slices.Equal(got, []uint64{2}) {
		t.Errorf("the views are %v", got)
	}
	for _, action := range []string{"directory", "relation"} {
		if status, _, _ := b.get("all", "/v1/entries?action="+action); status == 200 {
			if got, _ := b.list("all", values("action", action)); len(got) > 0 {
				t.Errorf("a listing shows what is for verifiers: %v", got)
			}
		}
	}
}

// TestForms: how values read where their type does not say it, and hashes of what is withheld, stand with their columns.
func TestForms(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := func(path, typ string, state ledger.FieldState, value string) ledger.Field {
		return ledger.Field{Path: path, Type: typ, State: state, Value: value}
	}
	b.add(&ledger.Entry{Fields: []ledger.Field{
		f("old.status", "text", ledger.FieldValue, "in_progress"), f("new.status", "text", ledger.FieldValue, "done"), f("form.status", "text", ledger.FieldValue, "enum"),
		f("old.ssn", "text", ledger.FieldMasked, ""), f("new.ssn", "text", ledger.FieldMasked, ""), f("hash.new.ssn", "hmac-sha256", ledger.FieldValue, "abc"),
		f("hash.new.gone", "hmac-sha256", ledger.FieldValue, "def"), f("soft", "text", ledger.FieldValue, "deleted_at"),
	}})
	_, _, body := b.get("all", "/v1/entries/1")
	var e query.Entry
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatal(err)
	}
	if len(e.Changes) != 2 || e.Changes[0].Form != "enum" || e.Changes[1].New == nil || e.Changes[1].New.Hash != "abc" || e.Changes[1].Old.Hash != "" {
		t.Errorf("changes %s", body)
	}
	if len(e.Fields) != 2 || e.Fields[0].Path != "hash.new.gone" || e.Fields[1].Path != "soft" {
		t.Errorf("other fields %+v", e.Fields)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{}, &ledger.Entry{})
	_, other := b.list("all", values("limit", "1"))
	for _, c := range []struct{ query, parameter string }{
		{"applicatio=Engage", "applicatio"}, {"user=a&user=b", "user"}, {"limit=0", "limit"}, {"limit=1001", "limit"}, {"limit=x", "limit"},
		{"from=yesterday", "from"}, {"from=2026-02-30", "from"}, {"from=2026-03-02&to=2026-03-01", "to"}, {"to=99999-01-01", "to"},
		{"order=up", "order"}, {"initiator=god", "initiator"}, {"cursor=%21", "cursor"}, {"cursor=e30", "cursor"}, {"record=a&record_id=b", "record"},
		{"user=a%00b", "user"}, {"record=%ff", "record"}, {"record=a%0d%0aSet-Cookie:x", "record"}, {"record=" + strings.Repeat("x", 501), "record"},
		{"user=nobody&cursor=" + other, "cursor"},
	} {
		status, header, body := b.get("all", "/v1/entries?"+c.query)
		var p struct {
			Errors []struct{ Parameter, Message string }
		}
		err := json.Unmarshal([]byte(body), &p)
		if status != 400 || err != nil || header.Get("Content-Type") != "application/problem+json" || len(p.Errors) == 0 || p.Errors[0].Parameter != c.parameter || p.Errors[0].Message == "" {
			t.Errorf("%s: %d %s", c.query, status, body)
		}
	}
	// Injection in each parameter that takes free text is just a text that nothing equals.
	for _, name := range []string{"application", "record", "record_id", "user", "action", "resource"} {
		for _, attack := range []string{"'; DROP TABLE audit.entry; --", "' OR '1'='1", `\`, "%", "$1", "{}", "<script>", "\u202e"} {
			if got, _ := b.list("all", values(name, attack)); len(got) != 0 {
				t.Errorf("%s=%s gives %v", name, attack, got)
			}
		}
	}
	for _, q := range []string{"%", "_", `\`, "'"} {
		if _, _, body := b.get("all", "/v1/records?"+values("q", q).Encode()); body != "{\"more\":false,\"records\":[]}\n" {
			t.Errorf("type-ahead of %q: %s", q, body)
		}
	}
}

func TestEntryJSON(t *testing.T) {
	t.Parallel()
	b := setup(t)
	field := func(path, typ string, state ledger.FieldState, value string) ledger.Field {
		return ledger.Field{Path: path, Type: typ, State: state, Value: value}
	}
	b.add(&ledger.Entry{
		XID: 7, RowID: "r1", RowName: "Call", SubResource: "Notes", Table: "content.notes", UserName: "Maria", DBUser: "app", BackendPID: 42,
		CommittedAt: day.Add(123456 * time.Microsecond).UnixMicro(),
		Fields: []ledger.Field{
			also("People", "p1", "K. Sullivan"), field("old.status_id", "uuid", ledger.FieldValue, "s1"), field("new.status_id", "uuid", ledger.FieldValue, "s2"),
			field("oldname.status_id", "text", ledger.FieldValue, "Open"), field("newname.status_id", "text", ledger.FieldValue, "Closed"),
			field("label.status_id", "text", ledger.FieldValue, "Case Status"), field("old.body", "text", ledger.FieldUnknown, ""), field("new.body", "text", ledger.FieldValue, "<b>"),
			field("class.body", "text", ledger.FieldValue, "restricted"), field("new.ssn", "text", ledger.FieldMasked, ""), field("new.custom_fields.risk_level", "text", ledger.FieldNull, ""),
			field("ctx.request", "text", ledger.FieldValue, "r-9"),
		},
	})
	_, _, body := b.get("all", "/v1/entries/1")
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "recorded_at")
	delete(got, "leaf_hash")
	text, _ := json.MarshalIndent(got, "", "  ")
	golden := filepath.Join("testdata", "entry.json")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || strings.TrimSpace(string(want)) != string(text) {
		t.Errorf("%v; got\n%s", err, text)
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	formulas := []string{"=1+1", "+1", "-1", "@x", "\t=1", "＝1", "plain \"quoted\", with\nlines"}
	for _, f := range formulas {
		b.add(&ledger.Entry{RecordName: f, RecordID: "c2"})
	}
	b.add(&ledger.Entry{RecordID: "c3"})
	_, header, body := b.get("all", "/v1/export?record_id=c2&order=oldest")
	lines := strings.SplitAfter(strings.TrimSuffix(body, "\r\n"), "\r\n")
	last := lines[len(lines)-1]
	data := strings.TrimSuffix(body, last+"\r\n")
	if want := fmt.Sprintf("# rows=%d sha256=%s complete", len(formulas), sum(data)); last != want {
		t.Errorf("last line %q, want %q", last, want)
	}
	if !strings.HasPrefix(header.Get("Content-Disposition"), "attachment; filename=") {
		t.Errorf("headers %v", header)
	}
	rows, err := csv.NewReader(strings.NewReader(data)).ReadAll()
	if err != nil || len(rows) != len(formulas)+1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	column := slices.Index(rows[0], "record_name")
	for i, f := range formulas {
		want := f
		if i < 6 {
			want = "'" + f
		}
		if got := rows[i+1][column]; got != want {
			t.Errorf("formula %q is exported as %q", f, got)
		}
	}
	// Screen and export are one query.
	screen, _ := b.list("all", values("record_id", "c2", "order", "oldest"))
	for i, seq := range screen {
		if rows[i+1][0] != fmt.Sprint(seq) {
			t.Errorf("row %d is entry %s, on the screen %d", i, rows[i+1][0], seq)
		}
	}
	_, _, body = b.get("all", "/v1/export?format=ndjson&record_id=c2")
	scanner, n := bufio.NewScanner(strings.NewReader(body)), 0
	var trailer query.Trailer
	for scanner.Scan() {
		n++
		if err := json.Unmarshal(scanner.Bytes(), &trailer); err != nil {
			t.Fatal(err)
		}
	}
	if n != len(formulas)+1 || !trailer.Complete || trailer.Rows != int64(len(formulas)) || trailer.SHA256 != sum(body[:strings.LastIndex(strings.TrimSuffix(body, "\n"), "\n")+1]) {
		t.Errorf("ndjson: %d lines, trailer %+v", n, trailer)
	}
	if status, _, _ := b.get("all", "/v1/export?format=pdf"); status != 400 {
		t.Errorf("an unknown format: %d", status)
	}
	if _, _, body := b.get("two", "/v1/export"); !strings.HasPrefix(body, "seq,") || !strings.Contains(body, "# rows=0 ") {
		t.Errorf("an empty export: %q", body)
	}
}

// failing breaks off after a while, as a client does that goes away.
type failing struct {
	bytes.Buffer
	left int
}

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errors.New("gone")
	}
	return f.Buffer.Write(p)
}

func TestBrokenExport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 30 {
		b.add(&ledger.Entry{})
	}
	out := &failing{left: 5000}
	conn := b.db.ConnAs(t, pgtest.Reader)
	trailer, err := query.Export(t.Context(), conn, pgtest.Chain, &query.Caller{Tenants: []string{"*"}}, query.Filter{}, query.FormatCSV, out, nil)
	if err == nil || trailer != nil || strings.Contains(out.String(), "complete") {
		t.Errorf("a broken export looks whole: %+v %v", trailer, err)
	}
}

// TestPlans: with many entries the main questions are answered from indexes.
func TestPlans(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var entries []*ledger.Entry
	for i := range 20000 {
		entries = append(entries, &ledger.Entry{RecordID: fmt.Sprint("c", i%2000), UserID: fmt.Sprint("u", i%200), UserEmail: fmt.Sprint("u", i%200, "@x.example"),
			CommittedAt: day.Add(time.Duration(i) * time.Second).UnixMicro(), Fields: []ledger.Field{also("People", fmt.Sprint("p", i%3000), "P")}})
	}
	b.add(entries...)
	b.db.Exec(t, "ANALYZE audit.entry; ANALYZE audit.entry_also; ANALYZE audit.record_name; ANALYZE audit.user_name")
	conn := b.db.ConnAs(t, pgtest.Reader)
	for name, p := range map[string]map[string]string{
		"first page":     {},
		"record":         {"record_id": "c7"},
		"person":         {"record_id": "p7", "application": "People"},
		"record and day": {"record_id": "c7", "from": "2026-03-10", "to": "2026-03-10"},
		"user":           {"user": "u7@x.example"},
		"user, oldest":   {"user": "u7@x.example", "order": "oldest"},
	} {
		f, errs := query.ParseFilter(p)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		for _, tenants := range [][]string{{"*"}, {"t1"}} {
			plan, err := query.Explain(t.Context(), conn, pgtest.Chain, &query.Caller{Tenants: tenants}, f, query.Page{Limit: 50})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(plan, "Seq Scan on audit.entry_2026_03") || strings.Contains(plan, "Seq Scan on entry_2026_03") || strings.Contains(plan, "Seq Scan on entry_also_2026_03") {
				t.Errorf("%s for %v is answered by reading everything:\n%s", name, tenants, plan)
			}
		}
	}
}

func TestTokensFile(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"- {name: a, sha256: abc, tenants: [t]}":                                                                   "64 hexadecimal digits",
		"- {name: a, sha256: " + sum("a") + "}":                                                                    "no tenants",
		"- {sha256: " + sum("a") + ", tenants: [t]}":                                                               "no name",
		"- {name: a, sha256: " + sum("a") + ", tenants: ['*', t]}":                                                 `"*" beside other tenants`,
		"- {name: a, sha256: " + sum("a") + ", tenants: ['a,b']}":                                                  "comma",
		"- {name: a, token: x, tenants: [t]}":                                                                      "unknown field",
		"- {name: a, sha256: " + sum("a") + ", tenants: [t]}\n- {name: b, sha256: " + sum("a") + ", tenants: [t]}": "same token",
		"name: a": "tokens file",
	} {
		path := filepath.Join(t.TempDir(), "tokens.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := query.LoadTokens(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(path, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := query.LoadTokens(path); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a file that anybody may write: %v", err)
	}
}
