package page

import (
	"fmt"
	"html"
	"html/template"
	"strings"
	"unicode"
	"unicode/utf8"
)

// visible is a text for HTML in which nothing hides: characters that turn its direction, take no room or cannot be printed
// are shown as their code point. The joiners of emoji and of scripts that need them stay; between Latin letters they have
// no use but to deceive.
func visible(s string) template.HTML {
	var b strings.Builder
	last := rune(0)
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"), hidden(r), joiner(r) && (last < 0x250 || joiner(last)):
			fmt.Fprintf(&b, `<span class="hidden-char">U+%04X</span>`, r)
		default:
			b.WriteString(html.EscapeString(string(r)))
		}
		last = r
	}
	return template.HTML(b.String()) // each part is escaped or a number
}

// plain is the same for an attribute, which holds no elements.
func plain(s string) string {
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			fmt.Fprintf(&b, "[U+%04X]", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func joiner(r rune) bool { return r == 0x200c || r == 0x200d }

func hidden(r rune) bool {
	switch {
	case r == '\n', r == '\t', joiner(r):
		return false
	case unicode.Is(unicode.Cc, r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r), unicode.Is(unicode.Co, r):
		return true
	case r == 0x034f, r == 0x115f, r == 0x1160, r == 0x3164, r == 0xffa0, r == 0x2800: // look like nothing, and are letters to Unicode
		return true
	}
	return false
}

// cut shortens a text to n characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	r := []rune(s[:min(len(s), 4*n+4)])
	if len(r) <= n && len(s) <= 4*n+4 {
		return s
	}
	return strings.TrimSpace(string(r[:min(n, len(r))])) + "…"
}
