package main

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
)

// What somebody breaks while the daemon runs is in the metric at the next look, and gone when it is mended.
func TestCoverageFaults(t *testing.T) {
	t.Parallel()
	s := newSourceTest(t, pgtest.New(t))
	s.setup(t)
	reg := prometheus.NewRegistry()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	told := make(chan *ledger.Entry, 100)
	go func() {
		defer close(done)
		w := &coverageWatch{cfg: s.cfg, tables: func() []mapping.TableFate { return s.tables }, report: told, log: zaptest.NewLogger(t)}
		w.run(ctx, 50*time.Millisecond, reg)
	}()
	defer func() { stop(); <-done }()
	for _, step := range []struct {
		sql  string
		want float64
	}{
		{"SELECT", 0},
		{"ALTER TABLE work.child DISABLE TRIGGER ALL", 1},
		{"CREATE TABLE work.nobody_knows (id int PRIMARY KEY); CREATE TABLE work.nobody_knows_2 (id int PRIMARY KEY)", 3},
		{"ALTER PUBLICATION " + s.cfg.Source.Publication + " DROP TABLE work.parent", 4},
		{"ALTER PUBLICATION " + s.cfg.Source.Publication + " ADD TABLE work.parent; DROP TABLE work.nobody_knows, work.nobody_knows_2", 1},
	} {
		s.exec(t, step.sql)
		got := -1.0
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			if len(families) == 1 {
				got = families[0].GetMetric()[0].GetGauge().GetValue()
			}
			if got == step.want {
				break
			}
		}
		if got != step.want {
			t.Errorf("after %s: %v faults, want %v", step.sql, got, step.want)
		}
		if step.want == 0 {
			continue // covered from the start: nothing to tell
		}
		select {
		case e := <-told:
			if e.Kind != ledger.KindGap || e.Action != ledger.ActionCoverage || len(e.Fields) == 0 {
				t.Errorf("after %s the log is told %+v", step.sql, e)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("after %s the log is told nothing", step.sql)
		}
	}
}
