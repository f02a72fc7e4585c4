package main

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"casebook.example/audit/mapping"
)

// coverageInterval is how often the running daemon looks for what would make the log incomplete: somebody makes a table,
// disables a trigger, takes a table out of the publication.
const coverageInterval = time.Minute

// watchCoverage counts the faults of the source's coverage for the metric, at once and then each interval, until ctx is
// done. What each is, and the SQL that mends it, `check` says.
func watchCoverage(ctx context.Context, cfg *Config, tables []mapping.TableFate, interval time.Duration, log *zap.Logger, reg prometheus.Registerer) {
	faults := promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "coverage_faults",
		Help: "Tables and settings of the source that make the log incomplete; casebook-audit check names them.",
	})
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		probe, cancel := context.WithTimeout(ctx, interval)
		n, err := countCoverageFaults(probe, cfg, tables)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // the number stays as it was; a source that does not answer has its own alert
			log.Warn("coverage was not checked", zap.Error(err))
		default:
			faults.Set(float64(n))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// countCoverageFaults makes the probes of check that are about what the stream holds, and counts the objects of errors.
func countCoverageFaults(ctx context.Context, cfg *Config, tables []mapping.TableFate) (int, error) {
	conn, err := connectAdmin(ctx, "source.dsn", cfg.Source.DSN)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	role, err := sourceRole(cfg)
	if err != nil {
		return 0, err
	}
	cat, err := readSourceCatalog(ctx, conn, role.User, cfg.Source.Publication)
	if err != nil {
		return 0, err
	}
	c := &checker{cfg: cfg, tables: tables}
	c.checkStamps(cat)
	c.checkPublication(cat)
	if err := c.checkMapping(ctx, conn, cat); err != nil {
		return 0, fmt.Errorf("compare the mapping with the source: %w", err)
	}
	n := 0
	for _, f := range c.findings {
		if f.Severity == severityError {
			n += max(1, len(f.Objects))
		}
	}
	return n, nil
}
