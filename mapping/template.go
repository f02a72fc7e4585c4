package mapping

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// template is a text with {parts}. A part is a column, or several with "|" between them of which the first that is not
// empty counts, the last may be a 'literal':
//
//	{col}         the value as an administrator reads it; of a reference, the name of the row
//	{col.other}   a column of the row that col refers to
//	{col[0]}      its first letter
//	{col:40}      at most 40 letters
//	{col:date}    {col:time}
//	{old} {new}   in words for a changed column: its values
type template struct {
	text  string
	parts []part
}

type part struct {
	lit  string // set for plain text
	alts []atom
}

type atom struct {
	lit    string // of a 'literal'
	col    string
	other  string
	first  bool
	limit  int
	format byte // 'd' date, 't' time
	which  byte // 'o' old, 'n' new: no column
}

func parseTemplate(text string) (*template, error) {
	t := &template{text: text}
	for rest := text; rest != ""; {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			open = len(rest)
		}
		if open > 0 {
			if strings.IndexByte(rest[:open], '}') >= 0 {
				return nil, fmt.Errorf("a } without {")
			}
			t.parts = append(t.parts, part{lit: rest[:open]})
			rest = rest[open:]
			continue
		}
		end := strings.IndexByte(rest, '}')
		if end < 0 {
			return nil, fmt.Errorf("a { without }")
		}
		var p part
		for alt := range strings.SplitSeq(rest[1:end], "|") {
			a, err := parseAtom(alt)
			if err != nil {
				return nil, err
			}
			p.alts = append(p.alts, a)
		}
		t.parts = append(t.parts, p)
		rest = rest[end+1:]
	}
	return t, nil
}

func parseAtom(s string) (a atom, err error) {
	if n := len(s); n >= 2 && s[0] == '\'' && s[n-1] == '\'' {
		return atom{lit: s[1 : n-1]}, nil
	}
	col := s
	if c, ok := strings.CutSuffix(col, "[0]"); ok {
		a.first, col = true, c
	}
	if c, format, ok := strings.Cut(col, ":"); ok {
		col = c
		switch n, err := strconv.Atoi(format); {
		case format == "date":
			a.format = 'd'
		case format == "time":
			a.format = 't'
		case err == nil && n > 0:
			a.limit = n
		default:
			return a, fmt.Errorf("%q after a column may be date, time or a number of letters", format)
		}
	}
	col, a.other, _ = strings.Cut(col, ".")
	if col == "" || strings.ContainsAny(col+a.other, " \t{[]'") {
		return a, fmt.Errorf("{%s} is not a column: write {column}, {column.other}, {column[0]}, {column:40}, {column:date} or {a|b|'text'}", s)
	}
	switch col {
	case "old":
		a.which = 'o'
	case "new":
		a.which = 'n'
	default:
		a.col = col
	}
	return a, nil
}

// atoms walks over the parts that are not plain text.
func (t *template) atoms(yield func(*atom) bool) {
	if t == nil {
		return
	}
	for i := range t.parts {
		for j := range t.parts[i].alts {
			if a := &t.parts[i].alts[j]; a.col != "" || a.which != 0 {
				if !yield(a) {
					return
				}
			}
		}
	}
}

// shape applies an atom's letters, date or time to a text that is already displayed.
func (a *atom) shape(b []byte, s string) []byte {
	switch {
	case a.format == 'd' && len(s) >= 10:
		return append(b, s[:10]...)
	case a.format == 't' && len(s) >= 16:
		return append(b, s[11:16]...)
	case a.first:
		_, n := utf8.DecodeRuneInString(s)
		return append(b, s[:n]...)
	case a.limit > 0 && utf8.RuneCountInString(s) > a.limit:
		n := 0
		for i := range s {
			if n == a.limit {
				s = s[:i]
				break
			}
			n++
		}
		return append(append(b, strings.TrimRight(s, " ")...), "…"...)
	default:
		return append(b, s...)
	}
}

// render appends the template to b. value appends what an atom stands for. A name leaves out the text next to a part that
// is empty ("{a} - {b}" without b is "A"); a sentence (words) does not.
func (t *template) render(b []byte, words bool, value func([]byte, *atom) []byte) []byte {
	start, last, missing, led := len(b), len(t.parts)-1, false, 0
	for i := range t.parts {
		p := &t.parts[i]
		if p.alts == nil {
			led = 0
			if words || !missing || i == last {
				b = append(b, p.lit...)
				led = len(p.lit)
			}
			continue
		}
		mark := len(b)
		for j := range p.alts {
			if p.alts[j].lit != "" {
				b = append(b, p.alts[j].lit...)
			} else {
				b = value(b, &p.alts[j])
			}
			if len(b) > mark {
				break
			}
		}
		if missing = len(b) == mark; missing && !words && i == last {
			b = b[:mark-led]
		}
		led = 0
	}
	if !words {
		b = trim(b, start)
	}
	return b
}

func trim(b []byte, start int) []byte {
	for len(b) > start && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	n := start
	for n < len(b) && b[n] == ' ' {
		n++
	}
	if n > start {
		b = append(b[:start], b[n:]...)
	}
	return b
}
