package ledger_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"casebook.example/audit/ledger"
)

func signNote(t testing.TB, text string, signers ...note.Signer) string {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

func noteKey(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, vkey
}

func TestPolicy(t *testing.T) {
	const origin = "audit.example.org/dhs/cases"
	key, vkey := noteKey(t, origin)
	stranger, _ := noteKey(t, origin)
	other, otherVKey := noteKey(t, "audit.example.org/other")
	c := ledger.Checkpoint{Origin: origin, Size: 7, Root: ledger.Hash{1, 2, 3}}
	foreign := c
	foreign.Origin = "audit.example.org/other"
	good := signNote(t, c.Text(), key)
	sign := func(text string) string { return signNote(t, text, key) }
	body := c.Text()

	one, err := ledger.KeyPolicy(vkey)
	if err != nil {
		t.Fatal(err)
	}
	same, err := ledger.ParsePolicy([]byte("# a comment\nlog " + vkey + " https://log.example/\n\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	both, err := ledger.ParsePolicy([]byte("log " + vkey + "\nlog " + otherVKey + "\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*ledger.Policy{one, same} {
		for _, signed := range []string{good, signNote(t, body, key, other), signNote(t, body, stranger, key)} {
			if got, err := p.Open([]byte(signed)); err != nil || got != c {
				t.Errorf("%+v, %v", got, err)
			}
		}
		for name, signed := range map[string]string{
			"nothing": "", "no signature": body, "a stranger's signature": signNote(t, body, stranger), "another log's key": signNote(t, foreign.Text(), other),
			"another origin, same key": sign(foreign.Text()), "cut off": good[:len(good)-10], "cut in the body": good[10:], "padded": good + "x\n",
			"padded with a line": good + "\n", "CR": strings.ReplaceAll(good, "\n", "\r\n"), "another size": strings.Replace(good, "\n7\n", "\n8\n", 1),
			"a size like 007": sign(strings.Replace(body, "\n7\n", "\n007\n", 1)), "a size like +7": sign(strings.Replace(body, "\n7\n", "\n+7\n", 1)),
			"a negative size": sign(strings.Replace(body, "\n7\n", "\n-7\n", 1)), "a size beyond all": sign(strings.Replace(body, "\n7\n", "\n9223372036854775808\n", 1)),
			"a short root": sign(origin + "\n7\nAQID\n"), "a root with spaces": sign(strings.Replace(body, "AQID", " AQID", 1)),
			"a further line": sign(body + "more\n"), "no root": sign(origin + "\n7\n"), "no origin": sign("\n7\n" + strings.SplitN(body, "\n", 3)[2]),
		} {
			if got, err := p.Open([]byte(signed)); err == nil {
				t.Errorf("%s: taken as %+v", name, got)
			}
		}
	}
	if _, err := both.Open([]byte(good)); err == nil {
		t.Error("one signature was taken where two are wanted")
	}
	for name, text := range map[string]string{
		"empty": "", "no quorum": "log " + vkey, "no log": "quorum none", "a private key": "log PRIVATE+KEY+x\nquorum none", "nonsense": "hello\n",
		"a witness as a log": "witness w " + vkey + "\nquorum w", "an unknown quorum": "log " + vkey + "\nquorum w",
	} {
		if _, err := ledger.ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%s: taken as a policy", name)
		}
	}
	if _, err := ledger.KeyPolicy("nonsense"); err == nil {
		t.Error("nonsense was taken as a key")
	}
}

func FuzzReadCheckpoint(f *testing.F) {
	key, vkey := noteKey(f, "audit.example.org/dhs/cases")
	policy, err := ledger.KeyPolicy(vkey)
	if err != nil {
		f.Fatal(err)
	}
	text := ledger.Checkpoint{Origin: "audit.example.org/dhs/cases", Size: 7}.Text()
	good := signNote(f, text, key)
	f.Add(good)
	f.Add(signNote(f, text+"more\n", key))
	f.Add(strings.Replace(good, "7", "07", 1))
	f.Fuzz(func(t *testing.T, signed string) {
		c, err := ledger.ReadCheckpoint([]byte(signed))
		if err == nil && !strings.HasPrefix(signed, c.Text()+"\n") {
			t.Fatalf("%q was read as %+v", signed, c)
		}
		if c, err := policy.Open([]byte(signed)); err == nil && c.Text() != text {
			t.Fatalf("a signature was found for %q", c.Text())
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	_, vkey := noteKey(f, "audit.example.org/dhs/cases")
	f.Add("log "+vkey+"\nquorum none\n", "x")
	f.Add("witness a "+vkey+"\ngroup g any a\nquorum g\n", "")
	f.Fuzz(func(t *testing.T, text, signed string) {
		p, err := ledger.ParsePolicy([]byte(text))
		if err != nil {
			return
		}
		if _, err := p.Open([]byte(signed)); err == nil {
			t.Fatal("a checkpoint was taken by a policy that nobody has signed for")
		}
	})
}
