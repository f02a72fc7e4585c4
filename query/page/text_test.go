package page

import (
	"html"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"casebook.example/audit/query"
)

func TestVisible(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain <b>":     "plain &lt;b&gt;",
		"a\u202eb":      `a<span class="hidden-char">U+202E</span>b`,
		"ad\u200bm":     `ad<span class="hidden-char">U+200B</span>m`,
		"ad\u200dm":     `ad<span class="hidden-char">U+200D</span>m`,
		"👩\u200d🔬":      "👩\u200d🔬",
		"می\u200cخواهم": "می\u200cخواهم",
		"a\x00b\x1b[2J": `a<span class="hidden-char">U+0000</span>b<span class="hidden-char">U+001B</span>[2J`,
		"a\xffb":        `a<span class="hidden-char">U+FFFD</span>b`,
		"\ufeffx\u2028": `<span class="hidden-char">U+FEFF</span>x<span class="hidden-char">U+2028</span>`,
		"ünï\tz\nl":     "ünï\tz\nl",
	} {
		if got := string(visible(text)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	marks := regexp.MustCompile(`<span class="hidden-char">U\+[0-9A-F]{4,6}</span>`)
	t.Run("any", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			text := rapid.String().Draw(t, "text")
			rest := marks.ReplaceAllString(string(visible(text)), "")
			if strings.ContainsAny(rest, "<>\"'") {
				t.Fatalf("%q leaves markup: %s", text, rest)
			}
			for _, r := range html.UnescapeString(rest) {
				if hidden(r) {
					t.Fatalf("%q leaves U+%04X", text, r)
				}
			}
		})
	})
}

func TestCut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text, n := rapid.String().Draw(t, "text"), rapid.IntRange(1, 40).Draw(t, "n")
		got := cut(text, n)
		if utf8.RuneCountInString(got) > n+1 || !utf8.ValidString(got) || got != text && !strings.HasSuffix(got, "…") {
			t.Fatalf("cut(%q, %d) = %q", text, n, got)
		}
		if utf8.RuneCountInString(text) <= n && got != text {
			t.Fatalf("cut(%q, %d) = %q", text, n, got)
		}
	})
}

func TestDiff(t *testing.T) {
	t.Parallel()
	show := func(edits []edit) string {
		var b strings.Builder
		for _, e := range edits {
			switch e.Op {
			case '-':
				b.WriteString("[-" + e.Text + "]")
			case '+':
				b.WriteString("[+" + e.Text + "]")
			default:
				b.WriteString(e.Text)
			}
		}
		return b.String()
	}
	for _, c := range []struct{ before, after, want string }{
		{"", "", ""},
		{"a b", "a b", "a b"},
		{"", "a", "[+a]"},
		{"She was at home.", "She was not at home.", "She was [+not ]at home."},
		{"client's visit", "client visit", "[-client's][+client] visit"},
		{"one two three", "one 2 three", "one [-two][+2] three"},
	} {
		if got := show(diff(c.before, c.after)); got != c.want {
			t.Errorf("%q -> %q: %s, want %s", c.before, c.after, got, c.want)
		}
	}
	if got, want := show(merged(diff("with both children, here", "with one child, here"))), "with [-both children][+one child], here"; got != want {
		t.Errorf("merged: %s, want %s", got, want)
	}
	word := rapid.SampledFrom([]string{"a", "b", "the ", "\n", "é", "👩‍🔬", ".", " "})
	t.Run("any", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			before, after := strings.Join(rapid.SliceOf(word).Draw(t, "before"), ""), strings.Join(rapid.SliceOf(word).Draw(t, "after"), "")
			var a, b strings.Builder
			last := byte(0)
			for _, e := range diff(before, after) {
				if e.Op == last || e.Text == "" {
					t.Fatalf("%q -> %q: an edit is split or empty", before, after)
				}
				last = e.Op
				if e.Op != '+' {
					a.WriteString(e.Text)
				}
				if e.Op != '-' {
					b.WriteString(e.Text)
				}
			}
			a2, b2 := "", ""
			for _, e := range merged(diff(before, after)) {
				if e.Op != '+' {
					a2 += e.Text
				}
				if e.Op != '-' {
					b2 += e.Text
				}
			}
			if a2 != before || b2 != after {
				t.Fatalf("%q -> %q, merged, gives %q and %q", before, after, a2, b2)
			}
			if a.String() != before || b.String() != after {
				t.Fatalf("%q -> %q gives %q and %q", before, after, a.String(), b.String())
			}
		})
	})
}

// TestDiffOfLongTexts: the work is bounded, however long and different two texts are, and what is shown of them too.
func TestDiffOfLongTexts(t *testing.T) {
	t.Parallel()
	before := strings.Repeat("the quick brown fox jumps over it ", 30_000) // 1 MB
	for _, after := range []string{
		strings.Replace(before, "quick", "slow", 1),
		strings.ReplaceAll(before, "brown", "red"),
		strings.ToUpper(before),
	} {
		list := pieces(diff(before, after))
		size := 0
		for _, p := range list {
			size += len(p.Text)
		}
		if size > 2*shownText || len(list) == 0 {
			t.Errorf("%d pieces with %d bytes are shown", len(list), size)
		}
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	value := func(s string) *query.Value { return &query.Value{State: "value", Value: &s} }
	zone, err := query.Zone("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		v         *query.Value
		typ, want string
	}{
		{nil, "text", "(empty)"},
		{&query.Value{State: "null"}, "text", "(empty)"},
		{&query.Value{State: "masked"}, "text", "(withheld)"},
		{&query.Value{State: "unknown"}, "text", "(not known)"},
		{&query.Value{State: "unchanged"}, "text", "(unchanged)"},
		{value(""), "text", "(empty text)"},
		{value("t"), "bool", "Yes"},
		{value("f"), "bool", "No"},
		{value("t"), "text", "t"},
		{value("2026-03-09"), "date", "9 Mar 2026"},
		{value("infinity"), "date", "infinity"},
		{value("0044-03-15 BC"), "date", "0044-03-15 BC"},
		{value("2026-03-08 06:59:59.5+00"), "timestamptz", "8 Mar 2026, 01:59:59 EST"},
		{value("2026-03-08 07:00:00+00"), "timestamptz", "8 Mar 2026, 03:00:00 EDT"},
		{value("2026-03-08 12:30:00+05:30"), "timestamptz", "8 Mar 2026, 03:00:00 EDT"},
		{value("2026-03-08 07:00:00"), "timestamp", "8 Mar 2026, 07:00:00"},
		{value("1955.00"), "numeric", "1,955.00"},
		{value("-1234567.5"), "numeric", "-1,234,567.5"},
		{value("2026"), "int4", "2026"},
		{value("20000"), "int4", "20,000"},
		{value("NaN"), "numeric", "NaN"},
		{value("450.00"), "numeric", "450.00"},
		{value("in_progress"), "app.task_status", "In progress"},
		{value("unable to determine"), "app.yes_no_unknown", "Unable to determine"},
		{value("in_progress"), "text", "in_progress"},
		{value("{}"), "_text", "none"},
		{value(`{a,"b, c","d\"e",NULL,"NULL"}`), "_text", `a, b, c, d"e, empty, NULL`},
		{value("{t,f}"), "_bool", "Yes, No"},
		{value("{{1,2},{3,4}}"), "_int4", "{{1,2},{3,4}}"},
		{value("{a"), "_text", "{a"},
		{value("[2026-01-01,2026-02-01)"), "daterange", "1 Jan 2026 to 31 Jan 2026"},
		{value("[2026-01-01,)"), "daterange", "from 1 Jan 2026"},
		{value("empty"), "daterange", "empty"},
		{value(`{"risk_level": "high", "n": 3}`), "jsonb", "N: 3\nRisk level: high"},
		{value(`[1, 2]`), "jsonb", "[1, 2]"},
		{value(`\x00ff`), "bytea", `\x00ff`},
		{value(`\x` + strings.Repeat("ab", 2000)), "bytea", `2000 bytes: \x` + strings.Repeat("ab", 32) + "…"},
		{&query.Value{State: "value", Value: new(string), Name: "Tanya Brooks"}, "uuid", "Tanya Brooks"},
	} {
		s := show(c.v, c.typ, zone)
		got := s.Text
		if s.Note != "" {
			got = "(" + s.Note + ")"
		}
		if got != c.want {
			t.Errorf("%s %+v: %q, want %q", c.typ, c.v, got, c.want)
		}
	}
}

// FuzzReadable: whatever a value holds, reading it as any type neither fails nor loses it where it is not understood.
func FuzzReadable(f *testing.F) {
	for _, s := range []string{"", "{a,b}", `{"a\"}`, "[,)", "(", "2026-03-08 07:00:00+00", `{"a":{"b":[]}}`, `\x`, "-.", "{NULL,}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, typ := range []string{"bool", "date", "timestamptz", "timestamp", "numeric", "int8", "daterange", "jsonb", "bytea", "_text", "_date", "__int4", "int4[]", "app.x", "uuid"} {
			if got := readable(s, typ, time.UTC); s != "" && got == "" && !strings.HasPrefix(typ, "_") && !strings.HasSuffix(typ, "[]") {
				t.Errorf("%s %q reads as nothing", typ, s)
			}
		}
	})
}

func TestHere(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"/?user=a": "/?user=a", "/entries/5?tz=UTC": "/entries/5?tz=UTC", "": "/", "//evil.example": "/", `/\evil.example`: "/",
		"https://evil.example/": "/", "javascript:alert(1)": "/", "/\t/evil.example": "/", "/sign-out": "/", "/%2f/evil.example": "/",
		"///evil.example": "/", "/x\r\nSet-Cookie: a=b": "/",
	} {
		if got := here(address); got != want {
			t.Errorf("%q leads to %q, want %q", address, got, want)
		}
	}
}
