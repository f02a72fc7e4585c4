package capture

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// metrics are shared by all streams and watches that use one registerer: a stream is opened again after each trouble.
type metrics struct {
	lagBytes     prometheus.Gauge
	lagSeconds   prometheus.Gauge
	retained     prometheus.Gauge
	safe         prometheus.Gauge
	transactions prometheus.Counter
}

// newMetrics takes a nil registerer too.
func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return register[prometheus.Gauge](reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help}))
	}
	return &metrics{
		lagBytes:   gauge("capture_lag_bytes", "WAL of the source between the confirmed position and its end."),
		lagSeconds: gauge("capture_lag_seconds", "Time from the commit of the transaction in hand until now; 0 when none waits."),
		retained:   gauge("slot_retained_bytes", "WAL that the source keeps because of our slot."),
		safe:       gauge("slot_safe_bytes", "WAL that the source may still write before our slot may be lost; +Inf without a limit, 0 when it is lost."),
		transactions: register[prometheus.Counter](reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "transactions_total", Help: "Transactions with row changes that were taken from the stream.",
		})),
	}
}

// register gives the collector that is already there under this name, if there is one: promauto would panic.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	if there := (prometheus.AlreadyRegisteredError{}); errors.As(err, &there) {
		if old, ok := there.ExistingCollector.(C); ok {
			return old
		}
	}
	return c
}

// WatchSlot keeps the gauges of the slot up to date, over an ordinary connection of its own, also while no stream runs. It
// blocks until ctx is done and gives no error: a source that cannot be asked is asked again at the next interval.
func WatchSlot(ctx context.Context, cfg Config, interval time.Duration, log *zap.Logger, reg prometheus.Registerer) {
	m := newMetrics(reg)
	var conn *pgconn.PgConn
	defer func() {
		if conn != nil {
			hangUp(conn)
		}
	}()
	wasThere := true
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		found, err := m.readSlot(ctx, cfg, &conn, interval)
		if ctx.Err() != nil {
			return
		}
		there := err == nil && found
		if wasThere && !there {
			log.Warn("the slot cannot be watched", zap.String("slot", cfg.Slot), zap.Bool("missing", err == nil), zap.Error(err))
		}
		wasThere = there
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *metrics) readSlot(ctx context.Context, cfg Config, conn **pgconn.PgConn, limit time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, max(limit, connectTimeout))
	defer cancel()
	if *conn == nil {
		c, err := dial(ctx, cfg.DSN, false)
		if err != nil {
			return false, err
		}
		*conn = c
	}
	info, found, err := LookupSlot(ctx, *conn, cfg.Slot)
	if err != nil {
		hangUp(*conn)
		*conn = nil
		return false, err
	}
	if !found {
		m.safe.Set(0)
		return false, nil
	}
	m.retained.Set(float64(info.RetainedBytes))
	m.lagBytes.Set(float64(info.LagBytes))
	switch {
	case info.Lost():
		m.safe.Set(0)
	case info.SafeWALSize < 0:
		m.safe.Set(math.Inf(1))
	default:
		m.safe.Set(float64(info.SafeWALSize))
	}
	return true, nil
}
