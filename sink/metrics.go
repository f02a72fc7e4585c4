package sink

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"casebook.example/audit/ledger"
)

// maxChangeLabels bounds the label sets of changes_total: they come from the mapping file, which is finite but not ours.
const maxChangeLabels = 500

type metrics struct {
	batchSeconds prometheus.Histogram
	batchEntries prometheus.Histogram
	latency      prometheus.Histogram
	entries      *prometheus.CounterVec
	changes      *prometheus.CounterVec
	unattributed prometheus.Counter
	gaps         prometheus.Counter
	size         prometheus.Gauge
	watermark    prometheus.Gauge

	known map[change]bool
}

// change is a label set of changes_total.
type change struct{ application, resource, action string }

// counts are what a batch adds to the counters once it is committed.
type counts map[count]int

type count struct {
	kind      ledger.Kind
	initiator string
	change    change
}

func (c counts) add(e *ledger.Entry) {
	c[count{e.Kind, e.Initiator, change{e.Application, e.Resource, e.Action}}]++
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		batchSeconds: f.NewHistogram(prometheus.HistogramOpts{Name: "sink_batch_seconds", Help: "Time that one transaction of the audit database took.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
		batchEntries: f.NewHistogram(prometheus.HistogramOpts{Name: "sink_batch_entries", Help: "Entries in one transaction of the audit database.", Buckets: prometheus.ExponentialBuckets(1, 4, 10)}),
		latency:      f.NewHistogram(prometheus.HistogramOpts{Name: "commit_to_stored_seconds", Help: "From the commit on the source until the transaction is stored here; the clocks of both machines matter.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 18)}),
		entries:      f.NewCounterVec(prometheus.CounterOpts{Name: "entries_total", Help: "Entries stored, by who began the act."}, []string{"initiator"}),
		changes:      f.NewCounterVec(prometheus.CounterOpts{Name: "changes_total", Help: "Row changes stored as entries."}, []string{"application", "resource", "action"}),
		unattributed: f.NewCounter(prometheus.CounterOpts{Name: "unattributed_total", Help: "Row changes of which nobody knows who made them."}),
		gaps:         f.NewCounter(prometheus.CounterOpts{Name: "gaps_total", Help: "Stretches of the source's log that were not seen; each is an entry too."}),
		size:         f.NewGauge(prometheus.GaugeOpts{Name: "ledger_size", Help: "Entries in the chain."}),
		watermark:    f.NewGauge(prometheus.GaugeOpts{Name: "watermark_timestamp_seconds", Help: "The log is complete up to this time of the source's clock."}),
		known:        map[change]bool{},
	}
}

// stored counts a batch that was committed.
func (m *metrics) stored(b *Batch, upto Upto) {
	m.batchSeconds.Observe(time.Since(b.start).Seconds())
	m.batchEntries.Observe(float64(b.entries))
	m.size.Set(float64(b.w.chain.Size))
	if upto.CompleteAt != 0 {
		m.watermark.Set(float64(upto.CompleteAt) / 1e6)
	}
	now := time.Now().UnixMicro()
	for _, us := range b.commits {
		m.latency.Observe(max(0, float64(now-us)/1e6))
	}
	for c, n := range b.counts {
		switch c.kind {
		case ledger.KindGap:
			if c.change.action != ledger.ActionGap {
				continue
			}
			m.gaps.Add(float64(n))
		case ledger.KindChange, ledger.KindTruncate:
			m.entries.WithLabelValues(c.initiator).Add(float64(n))
			if c.initiator == ledger.InitiatorUnattributed {
				m.unattributed.Add(float64(n))
			}
			labels := c.change
			if !m.known[labels] {
				if len(m.known) >= maxChangeLabels {
					labels = change{"other", "other", "other"}
				}
				m.known[labels] = true
			}
			m.changes.WithLabelValues(labels.application, labels.resource, labels.action).Add(float64(n))
		}
	}
}
