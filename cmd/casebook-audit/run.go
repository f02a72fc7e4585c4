package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
)

const (
	memoryLimit  = 192 << 20 // where the garbage collector works harder: the daemon is to stay below 256 MiB resident
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 15 * time.Second
	stopRetry    = time.Minute // a stop waits for an operator; what stopped it is looked at again this often
)

func newRunCmd(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Capture the source into the audit database and serve the log",
		Long: `Run captures the source into the audit database and serves the log until SIGTERM or Ctrl-C.

At the first start it makes the replication slot and fills the directory from the slot's snapshot. While another daemon
holds the chain it stands by. Connections that break later are opened again; what needs an operator raises the metric
casebook_audit_stopped and is tried again each minute, while the log goes on answering.`,
		Example: "  casebook-audit run --config /etc/casebook-audit/casebook-audit.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(e)
			if err != nil {
				return err
			}
			rules, err := loadRules(cfg)
			if err != nil {
				return err
			}
			log, err := newLogger()
			if err != nil {
				return err
			}
			defer log.Sync()
			d, err := newDaemon(cfg, rules, log)
			if err != nil {
				return err
			}
			if os.Getenv("GOMEMLIMIT") == "" {
				debug.SetMemoryLimit(memoryLimit)
			}
			return d.run(cmd.Context())
		},
	}
}

// newLogger writes JSON lines to stderr: constant messages, fixed keys, never a value of a row.
func newLogger() (*zap.Logger, error) {
	config := zap.NewProductionConfig()
	config.Sampling = nil
	config.DisableStacktrace = true
	config.DisableCaller = true
	config.EncoderConfig.TimeKey = "time"
	config.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	return config.Build()
}

// daemon is the running program: the servers, which live as long as it does, and one session after another.
type daemon struct {
	cfg     *Config
	rules   atomic.Pointer[mapping.Rules] // of the file, as it was last read
	reload  chan struct{}                 // says that they are others
	hashKey []byte
	log     *zap.Logger

	reloadFailed prometheus.Gauge

	// listening is called once with the addresses that the servers got; nil: not of interest.
	listening func(query, metrics string)

	health  *health
	metrics atomic.Pointer[prometheus.Registry] // of the session that runs, or of the last one
	access  chan *ledger.Entry
	notary  notary // nil: checkpoints are not signed
	scrub   *scrubber
	anchors *anchors
}

// newDaemon reads what else the configuration names.
func newDaemon(cfg *Config, rules *mapping.Rules, log *zap.Logger) (*daemon, error) {
	d := &daemon{cfg: cfg, log: log, reload: make(chan struct{}, 1)}
	d.rules.Store(rules)
	if file := cfg.Audit.HashKeyFile; file != "" {
		key, err := os.ReadFile(file)
		if err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("read audit.hash_key_file: %w", err)}
		}
		if len(key) < 32 {
			return nil, &exitError{exitUsage, fmt.Errorf("audit.hash_key_file holds %d bytes: a key has at least 32, as from `openssl rand 32`", len(key))}
		}
		d.hashKey = key
	}
	return d, nil
}

// run serves and captures until ctx is done. It returns an error only when the first session cannot begin.
func (d *daemon) run(ctx context.Context) error {
	base := prometheus.NewRegistry()
	base.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	d.health = newHealth(prefixed(base))
	d.reloadFailed = newReloadFailed(prefixed(base))
	d.access = make(chan *ledger.Entry, 1024)

	var err error
	if d.scrub, err = newScrubber(d.cfg, d.access, prefixed(base), d.log.Named("scrub")); err != nil {
		return &exitError{exitUsage, err}
	}
	if d.anchors, err = newAnchors(d.cfg, d.access, prefixed(base), d.log.Named("anchors")); err != nil {
		return &exitError{exitUsage, err}
	}
	notary, err := openNotary(&d.cfg.Ledger)
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("signing key: %w", err)}
	}
	if notary != nil {
		d.notary = notary
		defer notary.Close()
	}

	group, ctx := errgroup.WithContext(ctx)
	servers, err := d.listen(ctx, base)
	if err != nil {
		return err
	}
	defer servers.close()
	for _, s := range servers.list {
		group.Go(func() error { return s.serve(ctx) })
	}
	if d.listening != nil {
		d.listening(servers.queryAddr, servers.metricsAddr)
	}
	group.Go(func() error { d.watchReload(ctx); return nil })
	group.Go(func() error { return d.capture(ctx) })
	err = group.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

// capture runs sessions until ctx is done. What the first session cannot begin with ends the program with a clear
// message; later trouble is waited out.
func (d *daemon) capture(ctx context.Context) error {
	backoff, first := firstBackoff, time.Now()
	for began := false; ; {
		start := time.Now()
		stored, err := d.runSession(ctx, func() { began = true })
		if ctx.Err() != nil {
			return nil
		}
		if !began {
			var signing *signerError
			if (errors.Is(err, capture.ErrSlotInUse) || errors.As(err, &signing)) && time.Since(first) < firstWait {
				d.log.Warn("waiting for the slot or the signer", zap.Error(err))
				if !sleep(ctx, firstBackoff) {
					return nil
				}
				continue
			}
			return &exitError{exitCodeOf(err), err}
		}
		if stored || time.Since(start) > time.Minute {
			backoff = firstBackoff // it works; the next trouble is another one
		}
		if errors.Is(err, errTurn) && (stored || time.Since(start) > firstBackoff) {
			d.log.Info("giving the chain to a command of an operator")
			continue
		}
		reason, retry := classify(err)
		wait := backoff
		if retry {
			d.health.set(phaseRetrying, reason)
			d.log.Warn("session ended, trying again", zap.String("reason", reason), zap.Duration("in", wait), zap.Error(err))
		} else {
			wait = stopRetry
			d.health.set(phaseStopped, reason)
			d.log.Error("capture stopped, an operator is needed", zap.String("reason", reason), zap.Error(err))
		}
		if !sleep(ctx, wait) {
			return nil
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// sleep waits; false: ctx is done.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// prefixed registers with the prefix that all metrics of the program have.
func prefixed(reg prometheus.Registerer) prometheus.Registerer {
	return prometheus.WrapRegistererWithPrefix("casebook_audit_", reg)
}

// gather joins the metrics of the program with those of the session, whose counters start again with each session.
func (d *daemon) gather(base *prometheus.Registry) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		gatherers := prometheus.Gatherers{base}
		if session := d.metrics.Load(); session != nil {
			gatherers = append(gatherers, session)
		}
		return gatherers.Gather()
	})
}

// servers are the two ports. Each belongs to one goroutine of daemon.run.
type servers struct {
	list                   []*httpServer
	pool                   *pgxpool.Pool
	queryAddr, metricsAddr string
}

type httpServer struct {
	*http.Server
	listener net.Listener
}

// newServer has the limits that keep a slow or silent client from holding anything of ours for long. Answers that last
// (exports) move their own write deadline on.
func newServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
	}
}

func (d *daemon) listen(ctx context.Context, base *prometheus.Registry) (*servers, error) {
	s := &servers{}
	add := func(addr string, handler http.Handler) (string, error) {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			return "", &exitError{exitUsage, fmt.Errorf("listen on %s: %w", addr, err)}
		}
		s.list = append(s.list, &httpServer{newServer(handler), listener})
		return listener.Addr().String(), nil
	}
	var err error
	if addr := d.cfg.Metrics.Listen; addr != listenerOff {
		if s.metricsAddr, err = add(addr, d.health.handler(d.gather(base))); err != nil {
			return nil, err
		}
	}
	if addr := d.cfg.Query.Listen; addr != listenerOff {
		handler, pool, err := d.queryHandler(ctx, prefixed(base))
		if err != nil {
			s.close()
			return nil, err
		}
		s.pool = pool
		if s.queryAddr, err = add(addr, handler); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *servers) close() {
	for _, server := range s.list {
		server.listener.Close()
	}
	if s.pool != nil {
		s.pool.Close()
	}
}

// serve blocks until ctx is done, then lets running requests end for a moment.
func (s *httpServer) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if s.Shutdown(grace) != nil {
			s.Close()
		}
	})
	defer stop()
	if err := s.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.listener.Addr(), err)
	}
	return nil
}
