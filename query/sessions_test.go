package query_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"
	"pgregory.net/rapid"

	"casebook.example/audit/query"
)

// service is one without a database: a pool connects when it is asked.
func service(t *testing.T, tokens *query.Tokens) *query.Service {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/none")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return query.New(query.Config{Pool: pool, Tokens: tokens, Log: zaptest.NewLogger(t), Reg: prometheus.NewRegistry()})
}

// who says whose session the cookies of a request are, and which cookies the answer sets.
func who(s *query.Service, host string, cookies ...*http.Cookie) (string, []*http.Cookie) {
	name := ""
	h := s.Endpoint(query.Endpoint{Name: "x", Open: true, Serve: func(_ http.ResponseWriter, r *query.Request) error {
		if r.Caller != nil {
			name = r.Caller.Name
		}
		return nil
	}})
	r := httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return name, w.Result().Cookies()
}

func signIn(s *query.Service, host, token string) []*http.Cookie {
	w := httptest.NewRecorder()
	s.SignIn(w, httptest.NewRequest(http.MethodPost, "http://"+host+"/sign-in", nil), token)
	return w.Result().Cookies()
}

func TestSessions(t *testing.T) {
	t.Parallel()
	s := service(t, loadTokens(t, tokensFile))
	now := day
	s.SetClock(func() time.Time { return now })

	if got := signIn(s, "localhost", "wrong"); len(got) != 0 {
		t.Errorf("a wrong token gives cookies: %v", got)
	}
	c := signIn(s, "127.0.0.1:8480", "one")
	if len(c) != 1 || !c[0].HttpOnly || c[0].SameSite != http.SameSiteStrictMode || c[0].Secure || c[0].Path != "/" || strings.Contains(c[0].Value, "one") {
		t.Fatalf("on this machine: %v", c)
	}
	far := signIn(s, "audit.agency.example", "one")
	if len(far) != 1 || !far[0].Secure || !strings.HasPrefix(far[0].Name, "__Host-") || !far[0].HttpOnly {
		t.Fatalf("from elsewhere: %v", far)
	}
	if name, _ := who(s, "127.0.0.1:8480", c...); name != "one" {
		t.Errorf("the session is %q", name)
	}
	if name, _ := who(s, "audit.agency.example", c...); name != "" {
		t.Error("a cookie without the prefix counts from elsewhere")
	}

	// A session in use lives on, one that is not ends, and each ends after eight hours.
	cookies := c
	for range 15 {
		now = now.Add(29 * time.Minute)
		name, renewed := who(s, "127.0.0.1:8480", cookies...)
		if name != "one" || len(renewed) != 1 {
			t.Fatalf("after %v: %q, %v", now.Sub(day), name, renewed)
		}
		cookies = renewed
	}
	if name, _ := who(s, "127.0.0.1:8480", c...); name != "" {
		t.Error("a cookie that was not used for half an hour counts")
	}
	now = day.Add(8 * time.Hour)
	if name, _ := who(s, "127.0.0.1:8480", cookies...); name != "" {
		t.Error("a session lasts longer than eight hours")
	}

	// Signing out ends the session, not only the cookie.
	now = day
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8480/sign-out", nil)
	r.AddCookie(c[0])
	s.SignOut(httptest.NewRecorder(), r)
	if name, _ := who(s, "127.0.0.1:8480", c...); name != "" {
		t.Error("a session counts after it was signed out")
	}

	// Another process has another key, and a token that is gone has no session.
	fresh := signIn(s, "localhost", "two")
	if name, _ := who(service(t, loadTokens(t, tokensFile)), "localhost", fresh...); name != "" {
		t.Error("another process takes the cookie")
	}
}

// TestForgedSessions: whatever is changed in a cookie, nobody is let in.
func TestForgedSessions(t *testing.T) {
	t.Parallel()
	s := service(t, loadTokens(t, tokensFile))
	value := signIn(s, "localhost", "one")[0].Value
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(value)
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[at] = rapid.SampledFrom([]byte("ABCabc019-_.")).Draw(t, "to")
		if string(b) == value || at == len(b)-1 { // the last character of base64 has bits that do not count
			return
		}
		if name, _ := who(s, "localhost", &http.Cookie{Name: "casebook_audit", Value: string(b)}); name != "" {
			t.Fatalf("%s is %s", b, name)
		}
	})
	for _, v := range []string{"", ".", "e30.", "e30." + strings.Split(value, ".")[1], strings.Split(value, ".")[0]} {
		if name, _ := who(s, "localhost", &http.Cookie{Name: "casebook_audit", Value: v}); name != "" {
			t.Errorf("%q is %s", v, name)
		}
	}
}
