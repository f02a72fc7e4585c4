package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Section is a part of a script that begins with a line `-- @@S01 title`.
type Section struct {
	ID, Title, SQL string
}

// ParseSections cuts a script at its section lines. What stands before the first one is left out.
func ParseSections(text string) []Section {
	var sections []Section
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "-- @@"); ok {
			id, title, _ := strings.Cut(strings.TrimSpace(rest), " ")
			sections = append(sections, Section{ID: id, Title: title})
		} else if n := len(sections); n > 0 {
			sections[n-1].SQL += line
		}
	}
	return sections
}

// RunSQL runs a script in a session of its own, statement by statement as psql does: sent as one string, the statements
// would share a transaction, and a DO block could not commit. It stops at the first error.
func RunSQL(ctx context.Context, dsn, text string) error {
	conn, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	for _, statement := range Statements(text) {
		if _, err := conn.Exec(ctx, statement).ReadAll(); err != nil {
			first, _, _ := strings.Cut(statement, "\n")
			return fmt.Errorf("run %.80q: %w", first, err)
		}
	}
	return nil
}

// Statements cuts a script at the semicolons that end statements: not those within quotes, dollar quotes, comments,
// parentheses, or a function body that begins with BEGIN ATOMIC. Comments before a statement are dropped.
func Statements(text string) []string {
	var (
		statements []string
		start      int
		depth      int // of parentheses
		atomic     int // of BEGIN ATOMIC and the CASEs in it
		empty      = true
		word       string // the last whole word, upper case
	)
	for i := 0; i < len(text); {
		n := tokenLength(text[i:])
		token := text[i : i+n]
		switch {
		case isSpace(token[0]) || isComment(token):
			if empty {
				start = i + n
			}
			i += n
			continue
		case token == "(":
			depth++
		case token == ")":
			depth--
		case token == ";" && depth <= 0 && atomic == 0:
			if !empty {
				statements = append(statements, text[start:i])
			}
			start, empty, depth, word = i+n, true, 0, ""
			i += n
			continue
		}
		upper := strings.ToUpper(token)
		switch {
		case upper == "ATOMIC" && word == "BEGIN":
			atomic = 1
		case atomic > 0 && upper == "CASE":
			atomic++
		case atomic > 0 && upper == "END":
			atomic--
		}
		empty, word = false, upper
		i += n
	}
	if !empty {
		statements = append(statements, strings.TrimSpace(text[start:]))
	}
	return statements
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' }

func isComment(token string) bool {
	return strings.HasPrefix(token, "--") || strings.HasPrefix(token, "/*")
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// tokenLength gives the length of the first token of s, which is not empty.
func tokenLength(s string) int {
	switch c := s[0]; {
	case strings.HasPrefix(s, "--"):
		if end := strings.IndexByte(s, '\n'); end >= 0 {
			return end
		}
		return len(s)
	case strings.HasPrefix(s, "/*"):
		return blockComment(s)
	case c == '\'' || c == '"':
		return quoted(s, c, false)
	case (c == 'e' || c == 'E') && len(s) > 1 && s[1] == '\'':
		return 1 + quoted(s[1:], '\'', true)
	case c == '$':
		return dollarQuoted(s)
	case isWord(c):
		n := 1
		for n < len(s) && isWord(s[n]) {
			n++
		}
		return n
	}
	return 1
}

// blockComment: they nest.
func blockComment(s string) int {
	depth := 0
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			depth++
			i += 2
		case strings.HasPrefix(s[i:], "*/"):
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return len(s)
}

func quoted(s string, quote byte, backslash bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case backslash && s[i] == '\\':
			i++
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			i++ // doubled: stands for itself
		case s[i] == quote:
			return i + 1
		}
	}
	return len(s)
}

// dollarQuoted gives the length of $tag$...$tag$, or 1 for a dollar that begins none.
func dollarQuoted(s string) int {
	end := strings.IndexByte(s[1:], '$')
	if end < 0 {
		return 1
	}
	tag := s[:end+2]
	for i := 1; i < len(tag)-1; i++ {
		if !isWord(tag[i]) || tag[i] == '$' || i == 1 && tag[i] >= '0' && tag[i] <= '9' {
			return 1
		}
	}
	if rest := strings.Index(s[len(tag):], tag); rest >= 0 {
		return 2*len(tag) + rest
	}
	return len(s)
}
