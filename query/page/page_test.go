package page_test

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"casebook.example/audit/ledger"
	"casebook.example/audit/query"
)

// TestOneQuery: page, API and export list the same entries, for each filter and each caller.
func TestOneQuery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 70 {
		b.add(
			&ledger.Entry{Action: []string{"create", "update", "delete"}[i%3], UserID: fmt.Sprint("u", i%4), UserEmail: fmt.Sprint("u", i%4, "@hfs.example"),
				Fields: []ledger.Field{field("old.note", "text", fmt.Sprint("visit ", i)), also("People", "p1", "K. Sullivan")}},
			&ledger.Entry{TenantID: []string{"t1", "t2"}[i%2], RecordID: fmt.Sprint("c", i%5), RecordName: fmt.Sprint("Case ", i%5), Resource: "Tasks",
				Initiator: []string{"system", "operator", "unattributed", "application"}[i%4]},
		)
	}
	zone, _ := time.LoadLocation("America/New_York")
	evening := day.In(zone).Format(time.DateOnly)
	for _, q := range []string{
		"application=*&record=*", "from=2026-03-10&to=2026-03-10", "application=Engage&record=J.+Sullivan+Case&from=2026-03-01&to=2026-03-31",
		"record_id=c1", "record=K.+Sullivan", "application=People&record_id=p1&record=K.+Sullivan", "user=u1@hfs.example&action=delete", "user=u2",
		"resource=Tasks&initiator=system", "initiator=unattributed", "record_id=c1&q=VISIT+1", "transaction=0/1A00", "transaction=6912&order=oldest",
		"from=" + evening + "&to=" + evening + "&tz=America/New_York", "from=2026-03-10T15:10:00Z&to=2026-03-10T15:20:00%2B00:00&order=oldest",
		"record=nobody", "application=Intake",
	} {
		for _, token := range []string{"all", "one", "two"} {
			v := b.visit(token)
			// All pages, leafed through as a browser does.
			onPage, path := []string{}, "/?limit=20&"+q
			for path != "" {
				status, _, body := v.get(path)
				if status != 200 {
					t.Fatalf("%s: %d", path, status)
				}
				onPage = append(onPage, shown(body)...)
				next := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(body)
				if path = ""; next != nil {
					path = html.UnescapeString(next[1])
				}
			}
			api := strings.NewReplacer("application=*&", "", "record=*", "", "&record=K.+Sullivan", "").Replace(q)
			if q == "record=K.+Sullivan" {
				api = q
			}
			_, _, body := v.get("/v1/entries?limit=1000&" + api)
			var list query.List
			if err := json.Unmarshal([]byte(body), &list); err != nil {
				t.Fatalf("%s: %v %s", api, err, body)
			}
			inAPI := []string{}
			for _, e := range list.Entries {
				inAPI = append(inAPI, fmt.Sprint(e.Seq))
			}
			// The export by the link that stands on the page.
			_, _, first := v.get("/?" + q)
			if link := regexp.MustCompile(`href="(/v1/export\?format=csv[^"]*|/v1/export\?[^"]*format=csv[^"]*)"`).FindStringSubmatch(first); link != nil {
				_, _, file := v.get(html.UnescapeString(link[1]))
				r := csv.NewReader(strings.NewReader(file))
				r.Comment, r.FieldsPerRecord = '#', -1
				rows, err := r.ReadAll()
				if err != nil {
					t.Fatal(err)
				}
				inExport := []string{}
				for _, row := range rows[1:] {
					inExport = append(inExport, row[0])
				}
				if !slices.Equal(onPage, inExport) {
					t.Errorf("%s for %s: page %v, export %v", q, token, onPage, inExport)
				}
			} else if len(onPage) > 0 {
				t.Errorf("%s for %s: entries without a way to export them", q, token)
			}
			if !slices.Equal(onPage, inAPI) {
				t.Errorf("%s for %s: page %v, API %v", q, token, onPage, inAPI)
			}
		}
	}
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{})
	v := b.visit("")
	if status, _, body := v.get("/"); status != 401 || !strings.Contains(body, `name="token"`) || strings.Contains(body, "Sullivan") {
		t.Errorf("the page without a session: %d", status)
	}
	if got := b.take(); len(got) != 0 {
		t.Errorf("nobody asked for an entry, and %+v is recorded", got)
	}
	for _, path := range []string{"/?record=J.+Sullivan+Case", "/entries/1", "/entries/1?fragment=1"} {
		if status, _, body := v.get(path); status != 401 || strings.Contains(body, "Note updated") || !strings.Contains(html.UnescapeString(body), `value="`+path+`"`) {
			t.Errorf("%s without a session: %d", path, status)
		}
		if got := b.take(); len(got) != 1 || got[0].Refused == "" {
			t.Errorf("%s without a session: recorded %+v", path, got)
		}
	}
	if status, header, _ := v.post("/sign-in", url.Values{"token": {"wrong"}}); status != 401 || header.Get("Set-Cookie") != "" {
		t.Errorf("a wrong token: %d", status)
	}
	if got := b.take(); len(got) != 1 || got[0].Endpoint != "sign-in" || got[0].Refused == "" {
		t.Errorf("a wrong token: recorded %+v", got)
	}
	// A form of another site signs nobody in, and nobody out.
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		if status, h, _ := v.post("/sign-in", url.Values{"token": {"one"}}, header...); status != 403 || h.Get("Set-Cookie") != "" {
			t.Errorf("another site's form (%v): %d", header, status)
		}
	}
	status, header, _ := v.post("/sign-in", url.Values{"token": {" one "}, "next": {"/entries/1"}})
	if status != 303 || header.Get("Location") != "/entries/1" {
		t.Errorf("sign in: %d %v", status, header)
	}
	if got := b.take(); len(got) != 1 || got[0].Caller != "one" || got[0].Refused != "" {
		t.Errorf("sign in: recorded %+v", got)
	}
	for _, path := range []string{"/entries/1", "/?record_id=c1", "/v1/entries", "/v1/export"} {
		if status, _, body := v.get(path); status != 200 || !strings.Contains(body, "Note updated") {
			t.Errorf("%s with a session: %d", path, status)
		}
		if got := b.take(); len(got) != 1 || got[0].Caller != "one" {
			t.Errorf("%s with a session: recorded %+v", path, got)
		}
	}
	// A wrong header is not made good by a cookie.
	if status, _, _ := v.get("/v1/entries", "Authorization", "Bearer wrong"); status != 401 {
		t.Errorf("a wrong token beside a session: %d", status)
	}
	if status, _, _ := v.post("/sign-out", nil, "Sec-Fetch-Site", "cross-site"); status != 403 {
		t.Errorf("another site signs out: %d", status)
	}
	if status, _, _ := v.get("/sign-out"); status != 405 {
		t.Errorf("a link signs out: %d", status)
	}
	if status, _, _ := v.post("/sign-out", nil); status != 303 {
		t.Errorf("sign out: %d", status)
	}
	if status, _, _ := v.get("/v1/entries"); status != 401 {
		t.Errorf("after signing out: %d", status)
	}
}

// TestLinkFromElsewhere: a browser that follows a link of another site withholds a strict cookie. It is asked again, from
// here, and gets the page.
func TestLinkFromElsewhere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{})
	b.take()
	status, _, body := b.visit("").get("/entries/1", "Sec-Fetch-Site", "cross-site")
	if status != 200 || !strings.Contains(body, `http-equiv="refresh"`) || strings.Contains(body, "Note updated") {
		t.Errorf("%d %s", status, body)
	}
	if got := b.take(); len(got) != 0 {
		t.Errorf("recorded %+v", got)
	}
	if status, _, body := b.visit("").get("/entries/1", "Sec-Fetch-Site", "same-origin"); status != 401 || strings.Contains(body, "refresh") {
		t.Errorf("the second time: %d", status)
	}
}

// TestRecordedFirst: what cannot be recorded is not shown, nor is anybody signed in.
func TestRecordedFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{})
	v := b.visit("all")
	b.mu.Lock()
	b.deny = errors.New("the log is away")
	b.mu.Unlock()
	for _, path := range []string{"/?record_id=c1", "/entries/1", "/entries/1?fragment=1"} {
		if status, _, body := v.get(path); status != 503 || strings.Contains(body, "Note updated") {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, header, _ := b.visit("").post("/sign-in", url.Values{"token": {"one"}}); status != 503 || header.Get("Set-Cookie") != "" {
		t.Errorf("sign in: %d %v", status, header)
	}
}

func TestTenantsOnThePage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{TenantID: "t1"}, &ledger.Entry{TenantID: "t2", RecordID: "x2", RecordName: "Secret Case", Summary: "Hidden", UserID: "u7", UserEmail: "seven@other.example"})
	v := b.visit("one")
	for _, path := range []string{
		"/?application=*&record=*", "/?record=Secret+Case", "/?record_id=x2", "/?record_id=x2&record=Secret+Case", "/?user=seven@other.example", "/entries/1",
		"/entries/1?fragment=1", "/entries/2", "/?record=Secret+Cas", "/?transaction=0/1100",
	} {
		_, _, body := v.get(path)
		for _, secret := range []string{"Hidden", "other.example&gt;", "· x2", "u7"} {
			if strings.Contains(body, secret) {
				t.Errorf("%s gives another tenant's %q", path, secret)
			}
		}
	}
}

// TestEmpty: why there is nothing is told apart.
func TestEmpty(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v, nobody := b.visit("all"), b.visit("empty")
	kind := func(v *browser, path string) string {
		_, _, body := v.get(path)
		m := regexp.MustCompile(`<section class="empty (\w+)"`).FindStringSubmatch(body)
		if m == nil {
			return ""
		}
		return m[1]
	}
	if got := kind(v, "/?record=*"); got != "begun" {
		t.Errorf("an empty log: %q", got)
	}
	b.add(&ledger.Entry{})
	for path, want := range map[string]string{
		"/?record=*&from=2026-03-01&to=2026-03-02":     "range",
		"/?record=J.+Sullivan+Case&action=delete":      "range",
		"/?record=J.+Sulivan":                          "record",
		"/?record_id=c99":                              "record",
		"/?application=People&record=J.+Sullivan+Case": "record",
		"/?user=nobody@hfs.example":                    "user",
		"/?user=maria@hfs.example&action=delete":       "range",
		"/?from=2026-03-11&to=2026-03-12":              "later",
		"/?from=2026-03-12&to=2026-03-11":              "impossible",
		"/?from=yesterday":                             "impossible",
		"/?q=text":                                     "impossible",
		"/?initiator=god":                              "impossible",
		"/?transaction=x":                              "impossible",
		"/?tz=Mars/Olympus":                            "impossible",
		"/?nonsense=1":                                 "impossible",
		"/?limit=201":                                  "impossible",
		"/?cursor=abc":                                 "impossible",
		"/?record=*":                                   "",
	} {
		if got := kind(v, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := kind(nobody, "/?record=*"); got != "access" {
		t.Errorf("a caller of whom nothing is in the log: %q", got)
	}
	if _, _, body := v.get("/?record=Sullivan"); !strings.Contains(body, "record_id=c1") {
		t.Error("a part of a name leads to nothing")
	}
	if status, _, body := v.get("/?from=2026-03-12&to=2026-03-11"); status != 400 || !strings.Contains(body, `id="e-to"`) {
		t.Errorf("a reversed range: %d, and the field is not marked", status)
	}
}

// TestStrangers: who acted is told apart in words.
func TestStrangers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{}, &ledger.Entry{Initiator: "system"}, &ledger.Entry{Initiator: "operator", DBUser: "casebook_dba"}, &ledger.Entry{Initiator: "unattributed"},
		&ledger.Entry{Initiator: "application", UserName: "Nightly import"})
	_, _, body := b.visit("all").get("/?record=*&order=oldest")
	rows := strings.Split(body, `<tr class="entry`)[1:]
	for i, want := range []string{"Maria Alvarez", ">System<", ">Database operator<", ">Unattributed<", ">Integration<"} {
		if !strings.Contains(rows[i], want) {
			t.Errorf("row %d does not say %q: %s", i, want, rows[i])
		}
	}
	if strings.Contains(rows[0], `class="tag"`) || !strings.Contains(rows[2], "casebook_dba") || !strings.Contains(rows[4], "Nightly import") {
		t.Error("a user has a tag, or a name is missing")
	}
}

// TestDetail: an entry in full.
func TestDetail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	long := "Ms. Sullivan was at home with both children when we came. " + strings.Repeat("Nothing else of note was seen. ", 30)
	b.add(
		&ledger.Entry{Resource: "Service Enrollment", SubResource: "Service Enrollments", Summary: "Service Enrollment updated", DBUser: "casebook_app", DBApp: "web", Remark: "a doubt",
			Fields: []ledger.Field{
				field("old.total_cost", "numeric", "1870.00"), field("new.total_cost", "numeric", "1955.00"),
				field("old.person_id", "uuid", "p-1"), field("oldname.person_id", "text", "K. Sullivan"), field("new.person_id", "uuid", "p-2"), field("newname.person_id", "text", "L. Ortega"),
				field("old.note", "text", long), field("new.note", "text", strings.Replace(long, "both children", "one child", 1)),
				{Path: "old.ssn", Type: "text", State: ledger.FieldMasked}, {Path: "new.ssn", Type: "text", State: ledger.FieldMasked},
				{Path: "old.was", Type: "text", State: ledger.FieldUnknown}, {Path: "new.was", Type: "text", State: ledger.FieldNull},
				field("new.diagnosis", "text", "x"), field("class.diagnosis", "text", "restricted"),
				field("ctx.reason", "text", "court order"), also("People", "p-2", "L. Ortega"),
			}},
		&ledger.Entry{Resource: "Tasks", Summary: "Task added", Action: "create"},
	)
	v := b.visit("all")
	status, _, body := v.get("/entries/1?tz=America/New_York")
	if status != 200 {
		t.Fatal(status, body)
	}
	text := regexp.MustCompile(`\s+`).ReplaceAllString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " "), " ")
	for _, want := range []string{
		"1,870.00 1,955.00", "K. Sullivan p-1", "L. Ortega p-2", "removed: both children added: one child", "words unchanged", "withheld withheld", "not known empty",
		"restricted", "court order", "a doubt", "Task added", "EDT", "Place in the chain 1", "casebook_app", "0/1100", "People · Person", "&#34;leaf_hash&#34;",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the entry does not say %q:\n%s", want, text)
		}
	}
	_, _, fragment := v.get("/entries/1?fragment=1")
	if strings.Contains(fragment, "<html") || !strings.Contains(fragment, "court order") {
		t.Errorf("the fragment: %s", fragment)
	}
	// The same on the list, without a script.
	if _, _, list := v.get("/?record_id=c1&open=1"); !strings.Contains(list, `id="d1"`) || !strings.Contains(list, "court order") || strings.Contains(list, `id="d2"`) {
		t.Error("the entry does not open on the list")
	}
	link := regexp.MustCompile(`href="(/\?[^"]*transaction=[^"]*)"`).FindStringSubmatch(body)
	if link == nil {
		t.Fatal("no way to the whole transaction")
	}
	if _, _, list := v.get(html.UnescapeString(link[1])); !slices.Equal(shown(list), []string{"1", "2"}) {
		t.Errorf("the transaction: %v", shown(list))
	}
	for path, want := range map[string]int{"/entries/99": 404, "/entries/x": 404, "/entries/-1": 404, "/entries/1?x=1": 400, "/entries/1?tz=x": 400, "/nothing": 404, "/assets/page.css": 404} {
		if status, _, body := v.get(path); status != want || !strings.Contains(body, "<h1") {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}

// TestWhichRecord: a name that several records had, and a form whose name and id disagree.
func TestWhichRecord(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.add(&ledger.Entry{RecordID: "c1", RecordName: "Ortega"}, &ledger.Entry{RecordID: "c2", RecordName: "Ortega"}, &ledger.Entry{RecordID: "c2", RecordName: "Lopez"})
	v := b.visit("all")
	if _, _, body := v.get("/?record=ortega"); len(shown(body)) != 3 || !strings.Contains(body, "2 records have been called") || !strings.Contains(body, "record_id=c2") {
		t.Errorf("one name, two records: %v", shown(body))
	}
	if _, _, body := v.get("/?record=lopez&record_id=c2"); !slices.Equal(shown(body), []string{"3", "2"}) {
		t.Errorf("an id with one of its names: %v", shown(body))
	}
	for path, want := range map[string]string{"/?record=Ortega+of+old&record_id=c2": "/?record=Ortega+of+old", "/?record=*&record_id=c2&action=create": "/?record=%2A&action=create"} {
		if status, header, _ := v.get(path); status != 303 || header.Get("Location") != want {
			t.Errorf("%s: %d %s", path, status, header.Get("Location"))
		}
	}
}

// TestHostileContent: what strangers wrote is text, in each place of the page.
func TestHostileContent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	attacks := []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `'--><svg/onload=alert(1)>`, "{{.Caller}}", "javascript:alert(1)", "\u202ereversed", "zero\u200bwidth",
		"=cmd|' /C calc'!A0", "😀 família 中文", "line\nbreak\ttab", strings.Repeat("<b>", 400), `</title></textarea></style>`,
	}
	for i, a := range attacks {
		b.add(&ledger.Entry{
			RecordID: fmt.Sprint("r", i), RecordName: a, Resource: a, SubResource: a + "s", RowName: a, Summary: a, Action: "update", UserID: a, UserEmail: a, UserName: a,
			DBUser: a, DBApp: a, ClientAddr: a, Remark: a, Table: a, RowID: a, Application: a, RecordType: a,
			Fields: []ledger.Field{field("old."+a, a, a), field("new."+a, a, a+"2"), field("label."+a, "text", a), field("oldname."+a, "text", a), field("ctx."+a, a, a),
				field("old.t", "text", a), field("new.t", "text", strings.Repeat(a+" ", 40)), field("new.j", "jsonb", `{"`+strings.ReplaceAll(strings.ReplaceAll(a, `"`, ""), "\n", "")+`": 1}`),
				also(a, a, a)},
		})
	}
	v := b.visit("all")
	scripts := regexp.MustCompile(`<script[^>]*>`)
	for _, path := range []string{
		"/?record=*", "/?record=*&open=3", "/entries/1", "/entries/2", "/entries/3", "/entries/6", "/entries/11", "/entries/3?fragment=1",
		"/?record=" + url.QueryEscape(attacks[1]), "/?user=" + url.QueryEscape(attacks[1]), "/?resource=" + url.QueryEscape(attacks[0]), "/?application=" + url.QueryEscape(attacks[2]),
		"/?record=" + url.QueryEscape(`"><script>alert(1)</script>`), "/?from=" + url.QueryEscape(attacks[1]), "/?" + url.QueryEscape(attacks[1]) + "=1", "/?tz=" + url.QueryEscape(attacks[0]),
		"/sign-in?next=" + url.QueryEscape(`"><script>alert(1)</script>`), "/" + url.PathEscape(attacks[0]),
	} {
		status, header, body := v.get(path)
		if status >= 500 {
			t.Errorf("%s: %d", path, status)
		}
		for _, tag := range scripts.FindAllString(body, -1) {
			if !strings.HasPrefix(tag, `<script src="/assets/page-`) {
				t.Errorf("%s holds %s", path, tag)
			}
		}
		body = regexp.MustCompile(` value="[^"]*"`).ReplaceAllString(body, "") // what a form sends back is what it was given
		for _, bad := range []string{"<img src=x", "<svg/", "onerror=alert(1)>", `href="javascript:`, "\u202e", "\u200b", "<b><b>", "</title></textarea>", "<style", " style="} {
			if strings.Contains(body, bad) {
				t.Errorf("%s holds %q", path, bad)
			}
		}
		if csp := header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Cache-Control") != "no-store" || header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: headers %v", path, header)
		}
	}
}

// TestWeight: a page of 50 entries, its styles, script and icon together are under 100 KB, as they are and not packed.
// A text of a megabyte stays out of it.
func TestWeight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	huge := strings.Repeat("A long report. ", 70_000)
	for i := range 50 {
		if i > 1 {
			huge = "A report."
		}
		b.add(&ledger.Entry{
			Resource: "Service Enrollment", SubResource: "Service Enrollments", RowName: "Weekly family counseling - J. Sullivan", Summary: "Service Enrollment updated",
			RecordID: "50000000-0000-4000-8000-000000000001", UserID: "20000000-0000-4000-8000-000000000001",
			Fields: []ledger.Field{field("old.total_cost", "numeric", "1870.00"), field("new.total_cost", "numeric", "1955.00"), field("old.note", "text", huge), field("new.note", "text", huge+"More.")},
		})
	}
	v := b.visit("all")
	_, _, body := v.get("/?application=Engage&record=J.+Sullivan+Case&record_id=50000000-0000-4000-8000-000000000001&from=2026-03-01&to=2026-03-31&tz=America/New_York")
	if len(shown(body)) != 50 {
		t.Fatalf("%d entries", len(shown(body)))
	}
	weight := len(body)
	for _, path := range regexp.MustCompile(`"(/assets/[^"]+)"`).FindAllStringSubmatch(body, -1) {
		status, header, file := v.get(path[1])
		if status != http.StatusOK || !strings.Contains(header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", path[1], status, header)
		}
		if strings.Contains(path[1], "icon") && strings.Count(body[:strings.Index(body, path[1])+1], path[1]) > 0 {
			continue
		}
		weight += len(file)
	}
	t.Logf("%d bytes, of which the page %d", weight, len(body))
	if weight > 100_000 {
		t.Errorf("%d bytes", weight)
	}
	if _, _, body := v.get("/entries/1"); len(body) > 100_000 || !strings.Contains(body, "too long to show here") {
		t.Errorf("an entry with a megabyte of text makes a page of %d bytes", len(body))
	}
}

// TestClocks: days and times in a zone, also where the clocks change.
func TestClocks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, at := range []string{"2026-03-08T04:59:59Z", "2026-03-08T05:00:00Z", "2026-03-08T06:59:59Z", "2026-03-08T07:00:00Z", "2026-03-09T03:59:59Z", "2026-03-09T04:00:00Z",
		"2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"} {
		moment, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		b.add(&ledger.Entry{CommittedAt: moment.UnixMicro()})
	}
	v := b.visit("all")
	for q, want := range map[string][]string{
		"from=2026-03-08&to=2026-03-08":                     {"4", "3", "2", "1"},
		"from=2026-03-08&to=2026-03-08&tz=America/New_York": {"5", "4", "3", "2"},
		"from=2026-11-01&to=2026-11-01&tz=America/New_York": {"8", "7"},
	} {
		if _, _, body := v.get("/?" + q); !slices.Equal(shown(body), want) {
			t.Errorf("%s: %v, want %v", q, shown(body), want)
		}
	}
	_, _, body := v.get("/?from=2026-11-01&to=2026-11-01&tz=America/New_York&order=oldest")
	for _, want := range []string{"01:30:00 <small>EDT", "01:30:00 <small>EST", "the clocks change on this day", "Sunday, 1 November 2026", "Times in <b>America/New_York"} {
		if !strings.Contains(body, want) {
			t.Errorf("the day of two 01:30 does not say %q", want)
		}
	}
	_, _, body = v.get("/?from=2026-03-09&to=2026-03-09&tz=America/New_York")
	if strings.Contains(body, "<small>E") || strings.Contains(body, "clocks change") {
		t.Error("an ordinary day names the zone in each row")
	}
}
