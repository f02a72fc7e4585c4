package page_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
	"casebook.example/audit/query"
	"casebook.example/audit/query/page"
	"casebook.example/audit/sink"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// bench is an audit database with a writer, and page and API on it as the daemon serves them.
type bench struct {
	t      *testing.T
	db     *pgtest.DB
	writer *sink.Writer
	url    string
	lsn    ledger.LSN

	mu       sync.Mutex
	accesses []query.Access
	deny     error // what OnAccess answers
}

var day = time.Date(2026, 3, 10, 14, 0, 0, 0, time.UTC)

func setup(t *testing.T) *bench {
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
	service := query.New(query.Config{
		Pool: pool, Chain: pgtest.Chain, Rate: 10_000, Tokens: loadTokens(t), Log: zaptest.NewLogger(t), Reg: prometheus.NewRegistry(),
		OnAccess: func(_ context.Context, a query.Access) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.accesses = append(b.accesses, a)
			return b.deny
		},
	})
	mux := http.NewServeMux()
	mux.Handle("/v1/", service.Handler())
	mux.Handle("/", page.New(page.Config{
		Service: service, Log: zaptest.NewLogger(t),
		Words: func() ([]string, []string) { return []string{"Engage", "Intake", "Providers", "People"}, resources },
	}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

// resources are those of the help page.
var resources = []string{
	"Assignments", "Attachments", "Calendar Events (Meetings)", "Cases", "Emails", "Forms", "Notes", "People", "Providers", "Relationships", "Reports (Intake)",
	"Resource Email", "SMS", "Service Enrollment", "Service Interaction (Service Notes)", "Tasks", "Workflows",
}

// loadTokens knows the tokens all, one and two, named like their holders.
func loadTokens(t *testing.T) *query.Tokens {
	t.Helper()
	var text strings.Builder
	for name, tenants := range map[string]string{"all": "'*'", "one": "t1", "two": "t2", "empty": "t9"} {
		sum := sha256.Sum256([]byte(name))
		text.WriteString("- {name: " + name + ", sha256: " + hex.EncodeToString(sum[:]) + ", tenants: [" + tenants + "]}\n")
	}
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
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
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	for i, e := range entries {
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
		if e.Initiator == ledger.InitiatorUser {
			set(&e.UserID, "u1")
			set(&e.UserName, "Maria Alvarez")
			set(&e.UserEmail, "maria@hfs.example")
			users = append(users, mapping.UserName{TenantID: e.TenantID, UserID: e.UserID, Email: e.UserEmail, Name: e.UserName})
		}
		e.CommitLSN, e.Ordinal, e.XID = b.lsn, int64(i), uint32(b.lsn)
		if e.CommittedAt == 0 {
			e.CommittedAt = day.Add(time.Duration(b.lsn) * time.Second).UnixMicro()
		}
		records = append(records, mapping.RecordName{TenantID: e.TenantID, Application: e.Application, RecordType: e.RecordType, RecordID: e.RecordID, Name: e.RecordName})
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

func field(path, typ, value string) ledger.Field {
	return ledger.Field{Path: path, Type: typ, State: ledger.FieldValue, Value: value}
}

func also(application, id, name string) ledger.Field {
	text, _ := json.Marshal(ledger.AlsoRecord{Application: application, RecordType: "Person", RecordID: id, RecordName: name})
	return field("also.0", "record", string(text))
}

// browser is a client with cookies that does not follow redirects.
type browser struct {
	*http.Client
	b *bench
}

// visit is a browser that has signed in; "" has not.
func (b *bench) visit(token string) *browser {
	b.t.Helper()
	jar, _ := cookiejar.New(nil) // it has no error
	v := &browser{&http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, b}
	if token != "" {
		if status, header, _ := v.post("/sign-in", url.Values{"token": {token}}); status != http.StatusSeeOther || header.Get("Location") != "/" {
			b.t.Fatalf("sign in as %s: %d", token, status)
		}
	}
	return v
}

func (v *browser) do(req *http.Request) (int, http.Header, string) {
	v.b.t.Helper()
	res, err := v.Do(req)
	if err != nil {
		v.b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		v.b.t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}

func (v *browser) get(path string, header ...string) (int, http.Header, string) {
	v.b.t.Helper()
	req, err := http.NewRequestWithContext(v.b.t.Context(), http.MethodGet, v.b.url+path, nil)
	if err != nil {
		v.b.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return v.do(req)
}

func (v *browser) post(path string, form url.Values, header ...string) (int, http.Header, string) {
	v.b.t.Helper()
	req, err := http.NewRequestWithContext(v.b.t.Context(), http.MethodPost, v.b.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return v.do(req)
}

var rowID = regexp.MustCompile(`<tr class="entry[^"]*" id="e(\d+)">`)

// shown are the numbers of the entries on a page.
func shown(body string) []string {
	list := []string{}
	for _, m := range rowID.FindAllStringSubmatch(body, -1) {
		list = append(list, m[1])
	}
	return list
}

func (b *bench) take() []query.Access {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.accesses
	b.accesses = nil
	return got
}
