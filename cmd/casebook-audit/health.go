package main

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// phase is what the daemon is doing. The values are shown by /readyz.
type phase string

const (
	phaseStarting  phase = "opening both sides, or standing by while another daemon holds the chain"
	phaseSeeding   phase = "filling the directory from the slot's snapshot"
	phaseStreaming phase = "streaming"
	phaseRetrying  phase = "connection lost, retrying"
	phaseStopped   phase = "stopped, an operator is needed"
)

// stopReasons is the closed set of the reason label of `stopped`.
var stopReasons = [...]string{"connection", "slot", "publication", "identity", "decode", "mapping", "chain", "sink", "signer"}

// health is what the daemon knows of itself. Every goroutine may write and read it.
type health struct {
	stopped *prometheus.GaugeVec

	mu     sync.Mutex
	phase  phase
	reason string
	since  time.Time
}

func newHealth(reg prometheus.Registerer) *health {
	h := &health{
		stopped: promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{
			Name: "stopped",
			Help: "1 while nothing is captured for the reason given; the slot keeps the source's WAL meanwhile.",
		}, []string{"reason"}),
	}
	for _, reason := range stopReasons {
		h.stopped.WithLabelValues(reason)
	}
	h.set(phaseStarting, "")
	return h
}

// set says what the daemon does now; reason is one of stopReasons where it captures nothing. A reason stays until the
// daemon streams again: each attempt would otherwise look like an end of the trouble.
func (h *health) set(p phase, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if reason == "" && p != phaseStreaming {
		reason = h.reason
	}
	for _, known := range stopReasons {
		value := 0.0
		if known == reason {
			value = 1
		}
		h.stopped.WithLabelValues(known).Set(value)
	}
	h.phase, h.reason, h.since = p, reason, time.Now()
}

func (h *health) get() (phase, string, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.phase, h.reason, h.since
}

// handler serves the metrics port: /metrics, /healthz (the process answers) and /readyz (it captures).
func (h *health) handler(gather prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gather, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		p, reason, since := h.get()
		if p != phaseStreaming {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintf(w, "%s", p)
		if reason != "" {
			fmt.Fprintf(w, " (%s)", reason)
		}
		fmt.Fprintf(w, " since %s\n", since.UTC().Format(time.RFC3339))
	})
	return mux
}
