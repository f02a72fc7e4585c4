package query_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"casebook.example/audit/ledger"
	"casebook.example/audit/query"
)

// TestOrderOfTheChain: whoever follows the chain gets each entry once, in its order, also those that belong to an earlier
// time than what has been given.
func TestOrderOfTheChain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at := func(minutes int) int64 { return day.Add(time.Duration(minutes) * time.Minute).UnixMicro() }
	b.add(&ledger.Entry{CommittedAt: at(10)}, &ledger.Entry{CommittedAt: at(10), Fields: []ledger.Field{also("People", "p1", "K")}})
	b.add(&ledger.Entry{CommittedAt: at(5), Fields: []ledger.Field{also("People", "p1", "K")}}) // stored later, of an earlier time
	for _, p := range []url.Values{values("order", "seq"), values("order", "seq", "limit", "1"), values("order", "seq", "record_id", "c1"), values("order", "seq", "record_id", "c1", "limit", "2")} {
		got, next := b.list("all", p)
		for range 3 {
			p.Set("cursor", next)
			var more []uint64
			more, next = b.list("all", p)
			got = append(got, more...)
		}
		if !slices.Equal(got, []uint64{1, 2, 3}) || next == "" {
			t.Errorf("%v: %v, then %q", p, got, next)
		}
	}
	if got, _ := b.list("all", values("order", "seq", "record_id", "p1")); !slices.Equal(got, []uint64{2, 3}) {
		t.Errorf("also under: %v", got)
	}
	// From where there was nothing more, on to what comes.
	_, next := b.list("all", values("order", "seq", "resource", "Tasks"))
	b.add(&ledger.Entry{}, &ledger.Entry{Resource: "Tasks"})
	if got, _ := b.list("all", values("order", "seq", "resource", "Tasks", "cursor", next)); !slices.Equal(got, []uint64{5}) {
		t.Errorf("what came: %v", got)
	}
}

// TestWait: a request that waits is answered when an entry of its filter comes, and not by one that it leaves out.
func TestWait(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{})
	_, next := b.list("one", values("order", "seq", "record_id", "c1"))
	var wg sync.WaitGroup
	wg.Add(1)
	var got []uint64
	go func() {
		defer wg.Done()
		got, _ = b.list("one", values("order", "seq", "record_id", "c1", "cursor", next, "wait", "30"))
	}()
	b.add(&ledger.Entry{RecordID: "c2"})
	b.add(&ledger.Entry{TenantID: "t2"})
	b.add(&ledger.Entry{})
	wg.Wait()
	if !slices.Equal(got, []uint64{4}) {
		t.Errorf("got %v", got)
	}
	if got, again := b.list("all", values("order", "seq", "record_id", "nobody", "wait", "1")); len(got) != 0 || again == "" {
		t.Errorf("nothing came: %v, and %q to go on", got, again)
	}
	for _, q := range []string{"wait=1", "order=oldest&wait=1", "order=seq&wait=0", "order=seq&wait=31", "order=seq&wait=x"} {
		if status, _, body := b.get("all", "/v1/entries?"+q); status != 400 || !strings.Contains(body, `"wait"`) {
			t.Errorf("%s: %d", q, status)
		}
	}
}

func (b *bench) conditional(path, tag string) (int, http.Header) {
	b.t.Helper()
	req, _ := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.url+path, nil)
	req.Header.Set("Authorization", "Bearer all")
	req.Header.Set("If-None-Match", tag)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode, res.Header
}

// TestTags: a range that can get no more entries has a tag, an open one has none.
func TestTags(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{}, &ledger.Entry{})
	b.add(&ledger.Entry{CommittedAt: day.AddDate(0, 0, 3).UnixMicro()})
	closed, open := "/v1/entries?from=2026-03-10&to=2026-03-11", "/v1/entries?from=2026-03-10&to=2026-03-14"
	for path, want := range map[string]bool{closed: true, open: false, "/v1/entries": false, "/v1/entries/1": true} {
		_, header, _ := b.get("all", path)
		tag := header.Get("ETag")
		if (tag != "") != want {
			t.Errorf("%s has the tag %q", path, tag)
		}
		if !want {
			continue
		}
		if status, _ := b.conditional(path, `"other", W/`+tag); status != 304 {
			t.Errorf("%s again: %d", path, status)
		}
		if status, _ := b.conditional(path, `"other"`); status != 200 {
			t.Errorf("%s with another tag: %d", path, status)
		}
	}
	_, one, _ := b.get("all", closed+"&limit=1")
	_, two, _ := b.get("all", closed)
	if one.Get("ETag") == two.Get("ETag") {
		t.Error("two answers have one tag")
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 12 {
		b.add(&ledger.Entry{UserID: fmt.Sprint("u", i%3), UserEmail: fmt.Sprint("u", i%3, "@hfs.example"), Action: []string{"create", "update"}[i%2],
			CommittedAt: time.Date(2026, 3, 8+i/6, 4, 30, 0, 0, time.UTC).UnixMicro(), Fields: []ledger.Field{also("People", "p1", "K")}})
	}
	b.add(&ledger.Entry{TenantID: "t2", Initiator: "system"})
	for _, c := range []struct{ token, q, want string }{
		{"all", "by=day", "2026-03-08:6 2026-03-09:6 2026-03-10:1"},
		{"all", "by=day&tz=America/New_York", "2026-03-07:6 2026-03-09:6 2026-03-10:1"}, // EST, then EDT
		{"one", "by=user", "u0:4 u1:4 u2:4"},
		{"all", "by=action&record_id=c1", "update:7 create:6"},
		{"one", "by=initiator", "user:12"},
		{"two", "by=initiator", "system:1"},
		{"all", "by=resource&record_id=p1&user=u1@hfs.example", "Notes:4"},
		{"all", "by=day&record=nobody", ""},
	} {
		_, _, body := b.get(c.token, "/v1/summary?"+c.q)
		var s query.Summary
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			t.Fatalf("%s: %v %s", c.q, err, body)
		}
		got := []string{}
		for _, g := range s.Groups {
			got = append(got, fmt.Sprint(g.Key, ":", g.Count))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.q, got, c.want)
		}
	}
}

// TestRate: who asks too often is told when to come again, and the others are not. What is turned away is not recorded.
func TestRate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := b.slow(1) // 1 a second: 10 at once
	ask := func(token string) (int, string) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s+"/v1/status", nil)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode, res.Header.Get("Retry-After")
	}
	turned := 0
	for range 40 {
		if status, after := ask("all"); status == 429 {
			if turned++; after == "" || after == "0" {
				t.Fatalf("come again after %q", after)
			}
		} else if status != 200 {
			t.Fatal(status)
		}
	}
	if turned == 0 {
		t.Error("40 requests at once pass")
	}
	if status, _ := ask("one"); status != 200 {
		t.Errorf("another caller: %d", status)
	}
	refused := 0
	for range 40 {
		if status, _ := ask("nobody"); status == 429 {
			refused++
		}
	}
	if refused == 0 {
		t.Error("40 strangers at once pass")
	}
	if status, _ := ask("one"); status != 200 {
		t.Errorf("a caller beside strangers: %d", status)
	}
}
