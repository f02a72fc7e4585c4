package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
)

// TestAnchors: what is signed reaches each anchor once, receipts are no news, one that is dead holds up nothing, and a log that is
// not that of the file is refused.
func TestAnchors(t *testing.T) {
	t.Parallel()
	l := newSignedLog(t)
	file := filepath.Join(l.dir, "anchor")
	cfg := &Config{Audit: AuditConfig{ReaderDSN: l.db.DSN(pgtest.Reader), Chain: pgtest.Chain}}
	cfg.Ledger.SigningKeyFile = "x"
	cfg.Ledger.Publish = []PublishConfig{{Kind: "file", Path: file}, {Name: "dead", Kind: "http", URL: "http://127.0.0.1:1/"}}
	report := make(chan *ledger.Entry, 10)
	a, err := newAnchors(cfg, report, prometheus.NewRegistry(), zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	lines := func() int {
		text, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(text), "\n")
	}
	rounds := func(wantLines, wantReceipts int) {
		t.Helper()
		if err := a.round(t.Context(), a.list[0]); err != nil {
			t.Fatal(err)
		}
		if err := a.round(t.Context(), a.list[1]); wantReceipts > 0 && err == nil {
			t.Error("nobody answers, and it is anchored")
		}
		if lines() != wantLines || len(report) != wantReceipts {
			t.Errorf("%d lines, %d receipts; want %d, %d", lines(), len(report), wantLines, wantReceipts)
		}
	}
	l.grow(t, 300)
	rounds(0, 0) // nothing is signed
	if a.exposed() <= 0 {
		t.Error("nothing is anchored, and the metric says all is")
	}
	l.sign(t)
	rounds(1, 1)
	if a.exposed() != 0 {
		t.Errorf("all is anchored, and the metric says %v", a.exposed())
	}
	l.append(t, <-report) // the receipt comes into the log, is signed, and is no news
	l.sign(t)
	rounds(1, 0)
	l.grow(t, 5)
	l.sign(t)
	rounds(2, 1)
	if err := a.check(t.Context()); err != nil {
		t.Errorf("a file of this log: %v", err)
	}

	var stop *stopError
	l.db.Exec(t, "UPDATE audit.entry SET leaf_hash = sha256('x') WHERE seq = 299")
	if err := a.check(t.Context()); !errors.As(err, &stop) {
		t.Errorf("a log that was rewritten: %v", err)
	}
	l.db.Exec(t, "DELETE FROM audit.entry WHERE seq > 200")
	if err := a.check(t.Context()); !errors.As(err, &stop) {
		t.Errorf("a log that was shortened: %v", err)
	}

	for _, c := range []PublishConfig{{Kind: "pigeon"}, {Kind: "file"}, {Kind: "http", URL: "http://anchor.example"}, {Kind: "witness", URL: "https://w.example"}, {Kind: "syslog", URL: "x"}, {Kind: "http", URL: "https://a.example", HeaderFile: "/nothing"}} {
		cfg.Ledger.Publish = []PublishConfig{c}
		if _, err := newAnchors(cfg, report, prometheus.NewRegistry(), zaptest.NewLogger(t)); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	cfg.Ledger.Publish, cfg.Ledger.SigningKeyFile = []PublishConfig{{Kind: "file", Path: file}}, ""
	if _, err := newAnchors(cfg, report, prometheus.NewRegistry(), zaptest.NewLogger(t)); err == nil {
		t.Error("anchors without a signing key were taken")
	}
}
