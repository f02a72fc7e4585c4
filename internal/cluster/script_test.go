package cluster

import (
	"slices"
	"testing"
)

func TestStatements(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"none":             {" -- only ; words\n /* and ; /* nested ; */ */ ; ;", nil},
		"two":              {"select 1; select 2", []string{"select 1", "select 2"}},
		"comment in front": {"-- a;\nselect 1; -- b\n", []string{"select 1"}},
		"quotes":           {`select ';', 'it''s;', ";", E'\';' ; x`, []string{`select ';', 'it''s;', ";", E'\';' `, "x"}},
		"escape, doubled":  {`select E'a''b\';'; x`, []string{`select E'a''b\';'`, "x"}},
		"dollars":          {"do $$ a; b $$; do $x$ $$; $x$; select $1; x", []string{"do $$ a; b $$", "do $x$ $$; $x$", "select $1", "x"}},
		"rule":             {"create rule r as on insert to t do (a; b); x", []string{"create rule r as on insert to t do (a; b)", "x"}},
		"body": {"create function f() returns int begin atomic select case when true then 1 end; select 2; end; x",
			[]string{"create function f() returns int begin atomic select case when true then 1 end; select 2; end", "x"}},
		"transaction": {"begin; end; x", []string{"begin", "end", "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Statements(c.text); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestParseSections(t *testing.T) {
	t.Parallel()
	got := ParseSections("head\n-- @@S01 First one\nselect 1;\n-- @@E2\nselect 2;")
	want := []Section{{"S01", "First one", "select 1;\n"}, {"E2", "", "select 2;"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
