package page_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	protocol "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"casebook.example/audit/ledger"
)

// tab is a real Chromium on a page of a bench. What it logs, asks of other hosts, or opens as a dialog fails the test.
type tab struct {
	t   *testing.T
	ctx context.Context
	b   *bench

	mu     sync.Mutex
	faults []string
	files  int // responses, to know how much was loaded
}

// css selects the first element that matches.
type css = chromedp.CSS

const cache = "../../.cache"

// browse starts a Chromium. Without one the test skips by name, or fails with CI=true.
func (b *bench) browse() *tab {
	t := b.t
	t.Helper()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("chromium is missing: run `make deps`")
		}
		t.Skip("chromium is missing: run `make deps`")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-quic", true), chromedp.Flag("lang", "en-US"))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancel)
	p := &tab{t: t, ctx: ctx, b: b}
	p.do(chromedp.EmulateViewport(1440, 900))
	if err := chromedp.Listen(ctx, p.heard); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	console := chromedp.Console(ctx)
	go func() {
		for m, err := range console {
			if err != nil {
				return
			}
			if m.Type == "error" && !strings.Contains(m.Text, "status of 4") || m.Type == chromedp.ConsoleException {
				p.fault("console: " + m.Text)
			}
		}
	}()
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, f := range p.faults {
			t.Error(f)
		}
	})
	return p
}

func (p *tab) fault(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, text)
}

func (p *tab) heard(ev any) {
	switch e := ev.(type) {
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, p.b.url) && !strings.HasPrefix(u, "data:") && !strings.HasPrefix(u, "about:") {
			p.fault("a request to another host: " + u)
		}
	case *network.EventResponseReceived:
		p.mu.Lock()
		p.files++
		p.mu.Unlock()
	case *protocol.EventJavascriptDialogOpening:
		p.fault("a dialog: " + e.Message)
	}
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) open(path string) {
	p.t.Helper()
	p.do(chromedp.Navigate(p.b.url + path))
}

// eval is the value of an expression in the page.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for an expression to be true.
func (p *tab) until(expression string) {
	p.t.Helper()
	for range 400 {
		v, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && v {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	p.t.Fatalf("never: %s; the page says %q", expression, eval[string](p, "document.body.innerText.slice(0, 2000)"))
}

func (p *tab) signIn(token string) {
	p.t.Helper()
	p.open("/")
	p.do(chromedp.SendKeys(css("#token"), token), chromedp.Submit(css("#token")), chromedp.WaitVisible(css(".account")))
}

func (p *tab) keys(keys string) {
	p.t.Helper()
	for _, r := range keys {
		// As a real keyboard does: a key that the page takes for itself writes nothing.
		var down, up *input.DispatchKeyEventParams
		for _, e := range kb.Encode(r) {
			switch e.Type {
			case kb.KeyChar:
				down.Text, down.UnmodifiedText = e.Text, e.UnmodifiedText
			case kb.KeyUp:
				up = e
			default:
				down = e
				down.Type = input.DispatchKeyEventTypeKeyDown
			}
		}
		for _, e := range []*input.DispatchKeyEventParams{down, up} {
			if _, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, *e); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

func (p *tab) screen(width, height int64, dark bool) {
	p.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	p.do(chromedp.EmulateViewport(width, height))
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	}); err != nil {
		p.t.Fatal(err)
	}
}

// keep writes a screenshot below .cache/screenshots, for people to look at.
func (p *tab) keep(name string, full bool) {
	p.t.Helper()
	action := chromedp.CaptureScreenshot()
	if full {
		action = chromedp.FullScreenshot(100)
	}
	png, err := chromedp.Run(p.ctx, action)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(name+".png", png)
}

func (p *tab) write(name string, content []byte) {
	p.t.Helper()
	dir := filepath.Join(cache, "screenshots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// sound runs axe-core on the page for WCAG 2.1 A and AA, and asks that nothing is wider than the screen.
func (p *tab) sound(what string) {
	p.t.Helper()
	files, _ := filepath.Glob(filepath.Join(cache, "axe", "*.js"))
	if len(files) == 0 {
		if os.Getenv("CI") == "true" {
			p.t.Fatal("axe-core is missing: run `make deps`")
		}
		p.t.Skip("axe-core is missing: run `make deps`")
	}
	script, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[any](string(script)+";undefined")); err != nil {
		p.t.Fatal(err)
	}
	violations := eval[[]string](p, `axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}).then(r =>
		r.violations.flatMap(v => v.nodes.map(n => v.id + " (" + v.help + "): " + n.html.slice(0, 160) + " " + n.failureSummary)))`)
	for _, v := range violations {
		p.t.Errorf("%s: %s", what, v)
	}
	if wide := eval[int](p, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
		p.t.Errorf("%s: %d pixels wider than the screen", what, wide)
	}
}

func (p *tab) shown() []string {
	p.t.Helper()
	return eval[[]string](p, `[...document.querySelectorAll("tr.entry")].map(r => r.id.slice(1))`)
}

func (p *tab) query() url.Values {
	p.t.Helper()
	u, err := url.Parse(eval[string](p, "location.href"))
	if err != nil {
		p.t.Fatal(err)
	}
	return u.Query()
}

// casework is what the help page tells of: a case with a service enrollment, and one entry of each main resource.
func (b *bench) casework() {
	long := "Ms. Sullivan was at home with both children when we came. The flat was tidy and warm. " + strings.Repeat("We spoke about school, money and the coming weeks. ", 12)
	b.add(
		&ledger.Entry{Action: "create", Resource: "Service Enrollment", SubResource: "Service Enrollments", Summary: "Service Enrollment added", RowName: "Weekly family counseling", DBUser: "casebook_app", DBApp: "casebook-web", ClientAddr: "10.1.2.3",
			Fields: []ledger.Field{
				field("new.total_cost", "numeric", "1870.00"), field("new.units", "numeric", "22.00"), field("new.service_offering_id", "uuid", "72000000-0000-4000-8000-000000000001"),
				field("newname.service_offering_id", "text", "Family counseling"), field("new.person_id", "uuid", "40000000-0000-4000-8000-000000000001"), field("newname.person_id", "text", "J. Sullivan"),
				field("new.status", "app.enrollment_status", "in_progress"), also("People", "p1", "J. Sullivan"),
			}},
		&ledger.Entry{Resource: "Resource Email", Initiator: "system", Action: "create", Summary: "Resource Email created", Fields: []ledger.Field{field("new.address", "text", "c1@in.casebook.example")}},
	)
	for i, r := range resources {
		if r == "Service Enrollment" || r == "Resource Email" {
			continue
		}
		application, kind := "Engage", "Case"
		switch r {
		case "Providers":
			application, kind = "Providers", "Provider"
		case "People", "Relationships":
			application, kind = "People", "Person"
		case "Reports (Intake)":
			application, kind = "Intake", "Report"
		}
		b.add(&ledger.Entry{
			Application: application, RecordType: kind, RecordID: map[bool]string{true: "c1", false: "r-" + r}[application == "Engage"],
			RecordName: map[bool]string{true: "J. Sullivan Case", false: "Record of " + r}[application == "Engage"], Resource: r, Summary: r + " changed",
			Action: []string{"create", "update", "delete"}[i%3], UserID: []string{"u1", "u2", "u3"}[i%3], UserName: []string{"Maria Alvarez", "Tanya Brooks", "Omar Haddad"}[i%3],
			UserEmail: []string{"maria@hfs.example", "tanya@hfs.example", "omar@hfs.example"}[i%3],
			Fields:    []ledger.Field{field("old.status", "app.task_status", "open"), field("new.status", "app.task_status", "in_progress")},
		})
	}
	b.add(&ledger.Entry{Summary: "Note updated", RowName: "Home visit", Fields: []ledger.Field{
		field("old.body", "text", long), field("new.body", "text", strings.Replace(long, "both children", "the younger child", 1)),
		{Path: "old.ssn", Type: "text", State: ledger.FieldMasked}, {Path: "new.ssn", Type: "text", State: ledger.FieldMasked}, field("label.ssn", "text", "Social security number"),
	}})
	b.add(&ledger.Entry{Initiator: "operator", DBUser: "casebook_dba", DBApp: "psql", Summary: "Case updated", Resource: "Cases"})
	b.add(&ledger.Entry{Initiator: "unattributed", DBUser: "casebook_app", DBApp: "nightly", Summary: "Task removed", Resource: "Tasks", Action: "delete"})
	b.add(&ledger.Entry{Initiator: "application", UserID: "x1", UserName: "County feed", Summary: "Person updated", Resource: "People"})
}

// TestHelpPage walks through each step of the help page, as an administrator with that page in hand.
func TestHelpPage(t *testing.T) {
	b := setup(t)
	b.casework()
	p := b.browse()

	// Step 1: signed in, the page is there.
	p.signIn("all")
	p.keep("01-start", false)

	// Step 2: the filter, in the help page's order, with its required marks, and the last seven days filled in.
	if got, want := eval[[]string](p, `[...document.querySelectorAll("#filter > .fields > .field > label, #filter > .fields > .field > legend")].map(l => l.innerText.replace(/\s+/g, " ").trim())`),
		[]string{"Application *", "Record *", "Date Range *", "User", "Action"}; !slices.Equal(got, want) {
		t.Errorf("the fields are %q", got)
	}
	today := time.Now().UTC()
	if got, want := eval[[]string](p, `[from.value, to.value]`), []string{today.AddDate(0, 0, -6).Format(time.DateOnly), today.Format(time.DateOnly)}; !slices.Equal(got, want) {
		t.Errorf("the dates are %v, want %v", got, want)
	}
	if got := eval[[]string](p, `[...application.options].map(o => o.text)`); !slices.Equal(got, []string{"Choose…", "Engage", "Intake", "Providers", "People", "Any application"}) {
		t.Errorf("the applications are %q", got)
	}
	if got := eval[[]string](p, `[...action.options].map(o => o.text)`); !slices.Equal(got, []string{"Any", "Creation", "Data modification", "Deletion", "All rows removed"}) {
		t.Errorf("the actions are %q", got)
	}
	p.keys("\r") // nothing is focused: nothing happens
	p.do(chromedp.Click(css("button.main")))
	if !eval[bool](p, `application.matches(":invalid") && document.querySelector("#record").matches(":invalid") && !location.search`) {
		t.Error("application and record are not required")
	}

	// Application, record by a part of its name, date range.
	p.do(chromedp.SetValue(css("#application"), "Engage"), chromedp.SendKeys(css("#record"), "sulliv"), chromedp.WaitVisible(css(".choices li")))
	p.keep("02-type-ahead", false)
	if text := eval[string](p, `document.querySelector(".choices li").innerText`); !strings.Contains(text, "J. Sullivan Case") || !strings.Contains(text, "Engage · Case") || !strings.Contains(text, "c1") {
		t.Errorf("the suggestion is %q", text)
	}
	p.keys(kb.ArrowDown + kb.Enter) // arrow down, enter
	eval[any](p, `from.value = "2026-03-01"; to.value = "2026-03-31"; 0`)
	p.do(chromedp.Click(css("button.main")), chromedp.WaitVisible(css("table.log")))
	if q := p.query(); q.Get("application") != "Engage" || q.Get("record") != "J. Sullivan Case" || q.Get("record_id") != "c1" || q.Get("from") != "2026-03-01" || q.Has("user") || q.Has("action") {
		t.Errorf("the address is %v", q)
	}
	all := p.shown()
	if len(all) != 17 {
		t.Errorf("%d entries of the case", len(all))
	}
	p.keep("03-record", false)
	p.keep("03-record-full", true)

	// The same record, misspelled.
	eval[any](p, `document.querySelector("#record").value = "", 0`)
	p.do(chromedp.SendKeys(css("#record"), "Sulivan Caes"), chromedp.WaitVisible(css(".choices li")))
	if text := eval[string](p, `document.querySelector(".choices li").innerText`); !strings.Contains(text, "J. Sullivan Case") {
		t.Errorf("misspelled, it is %q", text)
	}
	p.keys(kb.ArrowDown + kb.Enter)

	// User and action.
	p.do(chromedp.SendKeys(css("#user"), "tanya@"), chromedp.WaitVisible(css("#user-choices li")))
	p.keys(kb.ArrowDown + kb.Enter)
	p.do(chromedp.SetValue(css("#action"), "update"), chromedp.Click(css("button.main")))
	p.until(`location.search.includes("action=update") && document.querySelector("tr.entry")`)
	if q := p.query(); q.Get("user") != "tanya@hfs.example" {
		t.Errorf("the user is %q", q.Get("user"))
	}
	for _, who := range eval[[]string](p, `[...document.querySelectorAll("tr.entry .u")].map(u => u.innerText)`) {
		if !strings.Contains(who, "Tanya Brooks") || !strings.Contains(who, "tanya@hfs.example") {
			t.Errorf("an entry of %q", who)
		}
	}

	// Step 3: timestamp, user id, action, affected resource; and more when it is opened.
	p.open("/?application=Engage&record=J.+Sullivan+Case&from=2026-03-01&to=2026-03-31&resource=Service+Enrollment")
	row := eval[string](p, `document.querySelector("tr.entry").innerText`)
	for _, want := range []string{"15:12:32", "Maria Alvarez", "maria@hfs.example", "Created", "Engage", "J. Sullivan Case", "Service Enrollment", "Service Enrollment added"} {
		if !strings.Contains(row, want) {
			t.Errorf("the row does not say %q: %q", want, row)
		}
	}
	p.do(chromedp.Click(css("button.toggle")), chromedp.WaitVisible(css("tr.detail .changes")))
	detail := eval[string](p, `document.querySelector("tr.detail").innerText`)
	for _, want := range []string{"Total Cost", "1,870.00", "Units", "22.00", "Family counseling", "72000000-0000-4000-8000-000000000001", "J. Sullivan", "In progress", "User ID", "u1", "casebook_app",
		"Place in the chain", "Resource Email created", "Listed under too"} {
		if !strings.Contains(detail, want) {
			t.Errorf("the opened entry does not say %q: %q", want, detail)
		}
	}
	if p.query().Get("open") != "1" {
		t.Error("the open entry is not in the address")
	}
	p.keep("04-enrollment", true)

	// Step 4: the export is what the screen shows.
	csv := eval[string](p, `fetch(document.querySelector(".take-away a").href).then(r => r.text())`)
	if !strings.HasPrefix(csv, "seq,") || !strings.Contains(csv, "\n1,") || !strings.Contains(csv, "# rows=1 ") {
		t.Errorf("the export: %s", csv)
	}

	// Each main resource, and what no user did.
	for _, r := range resources {
		p.open("/?from=2026-03-01&to=2026-03-31&resource=" + url.QueryEscape(r))
		text := eval[string](p, `[...document.querySelectorAll("tr.entry")].map(r => r.innerText).join("\n")`)
		if !strings.Contains(text, r) {
			t.Errorf("no entry of %s: %q", r, text)
		}
		if r == "Resource Email" && !strings.Contains(text, "System") {
			t.Errorf("what the system did looks like a user's: %q", text)
		}
		if !eval[bool](p, fmt.Sprintf("[...resource.options].some(o => o.text === %q && o.selected)", r)) {
			t.Errorf("%s is not in the list of resources", r)
		}
	}

	// A word difference, and the page of one entry.
	p.open("/?record_id=c1&q=younger")
	p.do(chromedp.Click(css("button.toggle")), chromedp.WaitVisible(css("tr.detail ins")))
	if ins, del := eval[string](p, `document.querySelector("ins").innerText`), eval[string](p, `document.querySelector("del").innerText`); !strings.Contains(ins, "the younger child") || !strings.Contains(del, "both children") {
		t.Errorf("the difference is %q -> %q", del, ins)
	}
	p.keep("05-words", true)
	p.do(chromedp.Click(css("a.permalink")))
	p.until(`location.pathname.startsWith("/entries/") && document.querySelector(".single")`)
	p.keep("06-entry", true)
	p.open("/?record=*&from=2026-03-01&to=2026-03-31")
	p.keep("07-actors", false)
}

// TestKeys: the page without a mouse.
func TestKeys(t *testing.T) {
	b := setup(t)
	b.casework()
	p := b.browse()
	p.signIn("all")
	p.open("/?record=*")
	focused := func() string {
		return eval[string](p, `document.activeElement.closest("tr") ? document.activeElement.closest("tr").id : document.activeElement.id`)
	}
	first, second := p.shown()[0], p.shown()[1]
	p.keys("j")
	if got := focused(); got != "e"+first {
		t.Errorf("j leads to %q", got)
	}
	p.keys("jjk")
	if got := focused(); got != "e"+second {
		t.Errorf("jjk leads to %q", got)
	}
	p.keys("\r")
	p.until(`document.querySelector("#d` + second + ` .facts")`)
	if !eval[bool](p, `document.activeElement.getAttribute("aria-expanded") === "true" && document.activeElement.getAttribute("aria-controls") === "d`+second+`"`) {
		t.Error("the button does not say that it is open")
	}
	p.keys("\t") // into the entry
	p.keys("\x1b")
	if got := focused(); got != "e"+second || eval[bool](p, `!!document.querySelector("tr.detail")`) || p.query().Has("open") {
		t.Errorf("Esc leads to %q", got)
	}
	p.keys(" ")
	p.until(`document.querySelector("#d` + second + ` .facts")`)
	p.keys("\x1b/")
	if got := focused(); got != "record" {
		t.Errorf("/ leads to %q", got)
	}
	p.keys("jk?/")
	if got := eval[string](p, `document.querySelector("#record").value`); got != "jk?/" {
		t.Errorf("what is typed into a field is %q", got)
	}
	p.keys("\x1b?")
	if !eval[bool](p, `document.querySelector("#keys").open`) {
		t.Error("? shows nothing")
	}
	p.keep("08-keys", false)
	p.sound("the keys")
	p.keys("\x1b")
	if eval[bool](p, `document.querySelector("#keys").open`) {
		t.Error("Esc does not close the keys")
	}
	// A second look at the same address shows the same.
	p.keys("j\r")
	p.until(`document.querySelector("tr.detail .facts")`)
	p.do(chromedp.Reload())
	if !eval[bool](p, `!!document.querySelector("#d`+first+` .facts")`) {
		t.Error("what was open is not open at the same address")
	}
}

// TestWithoutScript: the basic path in a browser that runs none.
func TestWithoutScript(t *testing.T) {
	b := setup(t)
	b.casework()
	p := b.browse()
	if _, err := chromedp.Call(p.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	text := func(sel string) string {
		s, err := chromedp.Run(p.ctx, chromedp.TextContent(css(sel)))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	p.open("/entries/1")
	p.do(chromedp.SendKeys(css("#token"), "all"), chromedp.Click(css("button.main")), chromedp.WaitVisible(css(".single")))
	if got := text("h1"); got != "Service Enrollment added" {
		t.Errorf("after signing in: %q", got)
	}
	p.do(chromedp.Click(css(".brand")), chromedp.WaitVisible(css(".starters")))
	p.do(chromedp.SendKeys(css("#application"), "Eng"), chromedp.SendKeys(css("#record"), "J. Sullivan Case"))
	p.do(chromedp.SetValue(css("#from"), "2026-03-01"), chromedp.SetValue(css("#to"), "2026-03-31"), chromedp.Click(css("button.main")), chromedp.WaitVisible(css("table.log")))
	if got := text(".count"); !strings.HasPrefix(got, "17 entries") {
		t.Errorf("the case has %q", got)
	}
	p.keep("09-without-script", false)
	p.do(chromedp.Click(css("tr.entry a.toggle")), chromedp.WaitVisible(css(".single .facts")))
	p.open("/?record=*&limit=5")
	p.do(chromedp.Click(css(".pages .next")), chromedp.WaitVisible(css(".pages")))
	if got := text(".pages"); !strings.Contains(got, "First page") {
		t.Errorf("the second page says %q", got)
	}
	p.do(chromedp.Click(css(".account button")), chromedp.WaitVisible(css("#token")))
}

// TestHostileContentInBrowser: what strangers wrote neither runs, nor loads, nor reverses, nor widens anything.
func TestHostileContentInBrowser(t *testing.T) {
	b := setup(t)
	attacks := []string{
		`<script>alert(1)</script>`, `"><img src=https://evil.example/x onerror=alert(1)>`, "\u202e\u2066reversed\u202d", "zero\u200bwi\u200ddth", "👩‍🔬 família 中文 اَلْعَرَبِيَّةُ",
		"=1+1", strings.Repeat("W", 3000), strings.Repeat("a ", 500_000), "line\nbreak\ttab\x01", "\u0300\u0300\u0300 combining",
	}
	for i, a := range attacks {
		short := a[:min(len(a), 3000)]
		b.add(&ledger.Entry{
			RecordID: fmt.Sprint("r", i), RecordName: short, Resource: short, SubResource: short + "s", RowName: short, Summary: short, UserID: short, UserEmail: short, UserName: short,
			DBUser: short, DBApp: short, ClientAddr: short, Remark: short, Application: short, RecordType: short,
			Fields: []ledger.Field{field("old.x", short, a), field("new.x", short, a+"2"), field("label.x", "text", short), field("ctx.x", "text", a), field("old.y", "text", "short"), field("new.y", "text", a), also("People", short, short)},
		})
	}
	p := b.browse()
	p.signIn("all")
	for _, width := range []int64{1440, 390} {
		p.screen(width, 900, false)
		p.open("/?record=*")
		if n := len(p.shown()); n != len(attacks) {
			t.Fatalf("%d entries", n)
		}
		p.keep(fmt.Sprint("10-hostile-", width), false)
		for i := range attacks {
			eval[any](p, fmt.Sprintf(`document.querySelectorAll("button.toggle")[%d].click(), 0`, i))
			p.until(`document.querySelectorAll("tr.detail").length === 1 && document.querySelector("tr.detail .foot")`)
			if wide := eval[int](p, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); wide > 0 {
				t.Errorf("attack %d makes the page %d pixels wider than %d", i, wide, width)
			}
			if eval[bool](p, `/[\u202a-\u202e\u2066-\u2069\u200b\u0001]/.test(document.querySelector("table.log").innerText)`) {
				t.Errorf("attack %d: a hidden character is in the table", i)
			}
			eval[any](p, fmt.Sprintf(`document.querySelectorAll("button.toggle")[%d].click(), 0`, i))
		}
	}
	p.screen(1440, 900, false)
	for i := range attacks {
		p.open(fmt.Sprintf("/entries/%d", i+1))
		if eval[bool](p, `!!document.querySelector("main script, main img, main iframe")`) {
			t.Errorf("attack %d became an element", i)
		}
	}
	p.sound("an entry with hostile content")
	p.open("/?record=" + url.QueryEscape(attacks[1]) + "&user=" + url.QueryEscape(attacks[0]))
	if !eval[bool](p, `!document.querySelector("main script, main img")`) {
		t.Error("a filter became an element")
	}
	// The type-ahead writes names into the page by itself.
	p.open("/")
	p.do(chromedp.SendKeys(css("#record"), "onerror"), chromedp.WaitVisible(css(".choices li")))
	if !eval[bool](p, `!document.querySelector(".choices img") && document.querySelector(".choices li").innerText.includes("<img")`) {
		t.Error("a suggestion became an element")
	}
}

// TestZonesInBrowser: the browser's own zone is offered, and days, times and exports follow it.
func TestZonesInBrowser(t *testing.T) {
	b := setup(t)
	for _, at := range []string{"2026-11-01T03:59:59Z", "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-02T04:59:59Z", "2026-11-02T05:00:00Z"} {
		moment, _ := time.Parse(time.RFC3339, at)
		b.add(&ledger.Entry{CommittedAt: moment.UnixMicro()})
	}
	p := b.browse()
	if _, err := chromedp.Call(p.ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "America/New_York"}); err != nil {
		t.Fatal(err)
	}
	p.signIn("all")
	p.open("/?record=*&from=2026-11-01&to=2026-11-01")
	if got := p.shown(); !slices.Equal(got, []string{"3", "2", "1"}) {
		t.Errorf("the day in UTC: %v", got)
	}
	p.do(chromedp.Click(css("a.local")))
	p.until(`location.search.includes("tz=")`)
	if got := p.shown(); !slices.Equal(got, []string{"4", "3", "2"}) {
		t.Errorf("the day in New York: %v", got)
	}
	text := eval[string](p, `document.querySelector("table.log").innerText`)
	for _, want := range []string{"23:59:59 EST", "01:30:00 EST", "01:30:00 EDT", "America/New_York"} {
		if !strings.Contains(text, want) {
			t.Errorf("the day of 25 hours does not say %q: %q", want, text)
		}
	}
	p.keep("11-zone", false)
	if csv := eval[string](p, `fetch(document.querySelector(".take-away a").href).then(r => r.text())`); !strings.Contains(csv, "# rows=3 ") || !strings.Contains(csv, "\n4,2026-11-02T04:59:59") {
		t.Errorf("the export of the day: %s", csv)
	}
	eval[any](p, `document.querySelector("button.toggle").click(), 0`)
	p.until(`document.querySelector("tr.detail .facts")`)
	if got := eval[string](p, `document.querySelector("a.permalink").getAttribute("href")`); got != "/entries/4?tz=America/New_York" {
		t.Errorf("the link to the entry is %q", got)
	}
	p.do(chromedp.Click(css(".zone a")))
	p.until(`!location.search.includes("tz=")`)
}

// TestSound: every view for axe-core, by day and night, on a desk, in the hand and on paper.
func TestSound(t *testing.T) {
	b := setup(t)
	p := b.browse()
	p.open("/")
	p.sound("sign in")
	p.keep("12-sign-in", false)
	p.do(chromedp.SendKeys(css("#token"), "wrong"), chromedp.Submit(css("#token")))
	p.until(`document.querySelector("#wrong")`)
	p.sound("sign in, wrong")
	p.signIn("all")
	p.open("/?record=*")
	p.sound("an empty log")
	p.keep("13-begun", false)
	b.casework()
	views := []struct{ name, path string }{
		{"start", "/"}, {"list", "/?record=*&from=2026-03-01&to=2026-03-31"}, {"record, open", "/?record_id=c1&open=1"}, {"difference", "/?record_id=c1&q=younger&open=17"},
		{"entry", "/entries/1"}, {"range", "/?record_id=c1&from=2026-01-01&to=2026-01-02"}, {"no-record", "/?record=Sulivan"}, {"part", "/?record=Sullivan"}, {"no-user", "/?user=tanya"},
		{"later", "/?from=2026-05-01&to=2026-05-02"}, {"impossible", "/?from=2026-05-02&to=2026-05-01&q=x&tz=Mars"}, {"no-entry", "/entries/999"}, {"not-found", "/x"},
	}
	for _, screen := range []struct {
		name   string
		width  int64
		height int64
		dark   bool
	}{{"desk", 1440, 900, false}, {"night", 1440, 900, true}, {"tablet", 900, 1100, false}, {"phone", 360, 780, false}, {"phone-night", 360, 780, true}} {
		p.screen(screen.width, screen.height, screen.dark)
		for i, view := range views {
			p.open(view.path)
			p.sound(view.name + ", " + screen.name)
			if screen.name == "desk" || i < 3 {
				p.keep("14-"+strings.ReplaceAll(view.name, ", ", "-")+"-"+screen.name, screen.width < 1000)
			}
		}
	}
	p.screen(1440, 900, false)
	p.open("/?record_id=c1&from=2026-03-01&to=2026-03-31")
	pdf, err := chromedp.Run(p.ctx, chromedp.PrintToPDF())
	if err != nil {
		t.Fatal(err)
	}
	p.write("15-print.pdf", pdf)
	if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"}); err != nil {
		t.Fatal(err)
	}
	if !eval[bool](p, `getComputedStyle(document.querySelector("#filter")).display === "none" && document.querySelector(".set").innerText.includes("2026-03-31") && document.querySelector(".zone").innerText.includes("UTC")`) {
		t.Error("on paper the filter is not told in words, or the zone not at all")
	}
	p.screen(794, 1123, false)
	_, _ = chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
	p.keep("15-print", true)
}
