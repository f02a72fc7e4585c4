package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
)

// coverageInterval is how often the running daemon looks for what would make the log incomplete: somebody makes a table,
// disables a trigger, takes a table out of the publication.
const coverageInterval = time.Minute

// coverageWatch counts the faults of the source's coverage for the metric, at once and then each interval. What each is,
// and the SQL that mends it, `check` says. When they become others, that is an entry in the log.
type coverageWatch struct {
	cfg    *Config
	tables func() []mapping.TableFate
	report chan<- *ledger.Entry
	log    *zap.Logger
}

func (w *coverageWatch) run(ctx context.Context, interval time.Duration, reg prometheus.Registerer) {
	gauge := promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "coverage_faults",
		Help: "Tables and settings of the source that make the log incomplete; casebook-audit check names them.",
	})
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	told := ""
	for {
		probe, cancel := context.WithTimeout(ctx, interval)
		faults, err := findCoverageFaults(probe, w.cfg, w.tables())
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // the number stays as it was; a source that does not answer has its own alert
			w.log.Warn("coverage was not checked", zap.Error(err))
		default:
			n := 0
			for _, f := range faults {
				n += max(1, len(f.Objects))
			}
			gauge.Set(float64(n))
			e := coverageEntry(faults)
			if now := fmt.Sprint(e.Fields); now != told && (told != "" || len(faults) > 0) {
				select {
				case w.report <- e:
					told = now
				case <-ctx.Done():
					return
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// coverageEntry tells all faults that there are.
func coverageEntry(faults []finding) *ledger.Entry {
	e := &ledger.Entry{Kind: ledger.KindGap, Action: ledger.ActionCoverage, Initiator: ledger.InitiatorSystem, Summary: "The source is covered again"}
	if len(faults) > 0 {
		e.Summary, e.Remark = "The log is not complete: the source is not wholly covered", "casebook-audit check says what mends it"
	}
	for _, f := range faults {
		value := f.What
		if len(f.Objects) > 0 {
			value += ": " + strings.Join(f.Objects, ", ")
		}
		e.Fields = append(e.Fields, ledger.Field{Path: "fault." + f.Code, Type: "text", State: ledger.FieldValue, Value: value})
	}
	return e
}

// findCoverageFaults makes the probes of check that are about what the stream holds, and gives the errors.
func findCoverageFaults(ctx context.Context, cfg *Config, tables []mapping.TableFate) ([]finding, error) {
	conn, err := connectAdmin(ctx, "source.dsn", cfg.Source.DSN)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	role, err := sourceRole(cfg)
	if err != nil {
		return nil, err
	}
	cat, err := readSourceCatalog(ctx, conn, role.User, cfg.Source.Publication)
	if err != nil {
		return nil, err
	}
	c := &checker{cfg: cfg, tables: tables}
	c.checkStamps(cat)
	c.checkPublication(cat)
	if err := c.checkMapping(ctx, conn, cat); err != nil {
		return nil, fmt.Errorf("compare the mapping with the source: %w", err)
	}
	return slices.DeleteFunc(c.findings, func(f finding) bool { return f.Severity != severityError }), nil
}
