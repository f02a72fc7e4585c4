package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
)

// snapshotWait bounds the making of a temporary slot: the server waits for transactions that are writing.
const snapshotWait = 10 * time.Minute

// newReloadFailed makes the gauge that says that the mapping file does not count.
func newReloadFailed(reg prometheus.Registerer) prometheus.Gauge {
	return promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "mapping_reload_failed", Help: "1 while the mapping file is not right, or not for this source: the one before still counts.",
	})
}

// watchReload reads the mapping file again at each SIGHUP, until ctx is done. A file that is not right changes nothing.
func (d *daemon) watchReload(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		rules, err := loadRules(d.cfg)
		if err != nil {
			d.reloadFailed.Set(1)
			d.log.Error("the mapping file is not right, the one before still counts", zap.Error(err))
			continue
		}
		d.reloadFailed.Set(0)
		d.rules.Store(rules)
		select {
		case d.reload <- struct{}{}:
		default: // one is waiting already, and reads what is newest
		}
	}
}

// proposal is a mapping that is to follow another, from a place in the stream on.
type proposal struct {
	rules *mapping.Rules
	from  capture.LSN      // transactions that commit here or later
	slot  *capture.NewSlot // for what the directory lacks; nil: it lacks nothing
	err   error
}

// propose finds out from where on rules may follow those in force. When the directory lacks columns, that is the
// consistent point of a new snapshot.
func (s *session) propose(ctx context.Context, rules *mapping.Rules) proposal {
	c := proposal{rules: rules}
	tables := rules.SeedsSince(s.rules)
	if len(tables) == 0 {
		return c
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotWait)
	defer cancel()
	if c.err = capture.ProbeTables(ctx, s.source, snapshotTables(tables)); c.err != nil {
		return c
	}
	if c.slot, c.err = capture.CreateTemporarySlot(ctx, s.source); c.err == nil {
		c.from = c.slot.ConsistentPoint
	}
	return c
}

// adopt puts a change into force: everything before its place is stored.
func (s *session) adopt(ctx context.Context, c proposal) error {
	if c.slot != nil {
		defer c.slot.Close()
		if err := s.fill(ctx, c.rules, c.rules.SeedsSince(s.rules), c.slot); err != nil {
			return fmt.Errorf("fill the directory for a changed mapping: %w", err)
		}
	}
	if err := s.writer.Configure(ctx, []mapping.StoredRow{c.rules.Stored()}, c.rules.Entry(s.rules)); err != nil {
		return err
	}
	s.log.Info("mapping changed", zap.String("sha256", fmt.Sprintf("%x", c.rules.Hash())))
	s.rules = c.rules
	return nil
}

// newMapper makes the mapper of the rules in force.
func (s *session) newMapper(load func(context.Context, []mapping.Key) ([]mapping.StoredRow, error)) *mapping.Mapper {
	return mapping.NewMapper(mapping.Config{
		Rules: s.rules, Load: load, SeededAt: ledger.LSN(s.writer.Position().ConsistentPoint), HashKey: s.hashKey,
		Log: s.log.Named("mapping"), Reg: s.metrics,
	})
}
