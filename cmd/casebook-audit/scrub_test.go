package main

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap/zaptest"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
)

// TestScrub: the right edge and a pass find what was changed, tell of it once, and go on.
func TestScrub(t *testing.T) {
	t.Parallel()
	l := newSignedLog(t)
	cfg := &Config{Audit: AuditConfig{ReaderDSN: l.db.DSN(pgtest.Reader), Chain: pgtest.Chain}}
	cfg.setDefaults("")
	report := make(chan *ledger.Entry, 10)
	s, err := newScrubber(cfg, report, prometheus.NewRegistry(), zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	state := func(verified, tampering float64, told int) {
		t.Helper()
		if v, n := testutil.ToFloat64(s.verified), testutil.ToFloat64(s.tampering); v != verified || n != tampering || len(report) != told {
			t.Errorf("verified %v, tampering %v, %d entries; want %v, %v, %d", v, n, len(report), verified, tampering, told)
		}
		for range len(report) {
			e := <-report
			if e.Kind != ledger.KindVerification {
				t.Errorf("kind %d", e.Kind)
			}
		}
	}
	pass := func() (slices int) {
		for slices = 1; !s.lookAtSlice(t.Context()); slices++ {
		}
		return slices
	}
	l.grow(t, 2*scrubSlice-1)
	l.sign(t)
	s.lookAtEdge(t.Context())
	state(0, 0, 0) // of the first entries nothing is known yet
	size := float64(l.writer.Position().Size)
	if n := pass(); n != 3 {
		t.Errorf("a pass of %d slices", n)
	}
	state(size, 0, 1)
	l.grow(t, 10)
	s.lookAtEdge(t.Context())
	state(size+10, 0, 0)

	// What is new and bad is seen at the edge, what is old by the pass; each once.
	l.db.Exec(t, fmt.Sprintf("UPDATE audit.entry SET summary = 'x' WHERE seq = %d", int(size)+5))
	s.lookAtEdge(t.Context())
	state(size+10, 0, 0) // it was whole when it was looked at
	s.edge = nil         // as after a restart
	s.lookAtEdge(t.Context())
	state(size+5, 1, 1)
	s.lookAtEdge(t.Context())
	state(size+5, 1, 0)
	pass()
	state(size+5, 1, 0)
	l.db.Exec(t, fmt.Sprintf("UPDATE audit.entry SET summary = NULL WHERE seq = %d; UPDATE audit.entry SET vals[1] = 'x' WHERE kind = 5", int(size)+5))
	s.lookAtEdge(t.Context())
	pass()
	state(1, 2, 1)

	// A database that does not answer decides nothing.
	s.close()
	s.dsn = "host=127.0.0.1 port=1 dbname=nothing"
	before := s.edge
	s.lookAtEdge(t.Context())
	if s.lookAtSlice(t.Context()) || s.edge != before {
		t.Error("what was proven is forgotten, or a pass is over that never began")
	}
	state(1, 2, 0)
}

func TestScrubConfig(t *testing.T) {
	for _, c := range []struct {
		set func(l *LedgerConfig)
		ok  bool
	}{
		{func(l *LedgerConfig) {}, true},
		{func(l *LedgerConfig) { l.ScrubInterval = listenerOff }, true},
		{func(l *LedgerConfig) { l.ScrubInterval = "1s" }, false},
		{func(l *LedgerConfig) { l.ScrubEdgeInterval = "0s" }, false},
		{func(l *LedgerConfig) { l.ScrubRate = "-1" }, false},
		{func(l *LedgerConfig) { l.ScrubRate = "many" }, false},
	} {
		cfg := &Config{}
		cfg.setDefaults("")
		c.set(&cfg.Ledger)
		if _, _, _, err := cfg.Ledger.scrub(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", cfg.Ledger, err)
		}
	}
}
