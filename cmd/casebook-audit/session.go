package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"casebook.example/audit/capture"
	"casebook.example/audit/mapping"
	"casebook.example/audit/sink"
)

const (
	// slotWatchInterval is how often the slot's gauges are read from the source.
	slotWatchInterval = 10 * time.Second

	// eventsAhead is how many transactions may wait between the stream and the loop.
	eventsAhead = 256
)

// session is one stretch of capturing: everything that is opened from the sink's position, and closed together. Restart
// after a crash, after trouble, and the first start are this same path.
type session struct {
	health  *health
	rules   *mapping.Rules // in force
	hashKey []byte
	log     *zap.Logger
	metrics prometheus.Registerer

	reloadFailed prometheus.Gauge
	source       capture.Config
	writer       *sink.Writer
}

// runSession captures until something fails or ctx is done, and closes everything. began is called when the stream runs.
// stored says whether the log grew meanwhile.
func (d *daemon) runSession(ctx context.Context, began func()) (stored bool, err error) {
	reg := prometheus.NewRegistry()
	d.metrics.Store(reg)
	metrics := prefixed(reg)

	d.health.set(phaseStarting, "")
	writer, err := sink.OpenWait(ctx, sink.Config{DSN: d.cfg.Audit.DSN, Chain: d.cfg.Audit.Chain}, d.log.Named("sink"), metrics)
	if err != nil {
		return false, fmt.Errorf("audit database: %w", err)
	}
	defer writer.Close()

	var checkpoints *checkpointer
	if d.notary != nil {
		if checkpoints, err = openCheckpointer(ctx, d, writer, metrics); err != nil {
			return false, fmt.Errorf("checkpoints: %w", err)
		}
		defer checkpoints.stored.Close()
	}

	if err := d.anchors.check(ctx); err != nil {
		return false, fmt.Errorf("anchors: %w", err)
	}
	pipe := &pipeline{writer: writer, access: d.access}
	s := &session{
		health: d.health, rules: d.rules.Load(), hashKey: d.hashKey, log: d.log, writer: writer, metrics: metrics, reloadFailed: d.reloadFailed,
		source: capture.Config{DSN: d.cfg.Source.DSN, Slot: d.cfg.Source.Slot, Publication: d.cfg.Source.Publication, Messages: []string{mapping.ViewedPrefix}},
	}
	if err := s.prepare(ctx); err != nil {
		return false, fmt.Errorf("source: %w", err)
	}
	if err := s.findRules(ctx); err != nil {
		return false, err
	}
	at := writer.Position()
	s.source.SkipThrough = capture.LSN(at.CommitLSN)
	stream, err := capture.Open(ctx, s.source, capture.LSN(max(at.EndLSN, at.AckedLSN)), d.log, metrics)
	if err != nil {
		return false, fmt.Errorf("source: %w", err)
	}
	pipe.session, pipe.stream, pipe.mapper, pipe.prevCommit = s, stream, s.newMapper(pipe.load), at.CommitLSN
	pipe.wanted, pipe.reload = &d.rules, d.reload
	began()
	d.health.set(phaseStreaming, "")

	events := make(chan capture.Event, eventsAhead)
	group, groupCtx := errgroup.WithContext(ctx)
	// The stream outlives the loop, so that its last status tells the source what the loop has stored at the very end.
	streamCtx, stopStream := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStream()
	group.Go(func() error { return stream.Run(streamCtx, events) })
	group.Go(func() error {
		capture.WatchSlot(groupCtx, s.source, slotWatchInterval, d.log.Named("capture"), metrics)
		return nil
	})
	group.Go(func() error {
		w := &coverageWatch{cfg: d.cfg, tables: func() []mapping.TableFate { return d.rules.Load().Tables() }, report: d.access, log: d.log.Named("coverage")}
		w.run(groupCtx, coverageInterval, metrics)
		return nil
	})
	for _, n := range d.anchors.list {
		group.Go(func() error { d.anchors.run(groupCtx, n); return nil })
	}
	group.Go(func() error { d.scrub.run(groupCtx); return nil })
	if checkpoints != nil {
		group.Go(func() error { return checkpoints.run(groupCtx) })
	}
	group.Go(func() error {
		defer stopStream()
		return pipe.run(groupCtx, events)
	})
	err = group.Wait()
	stored = writer.Position().Size > at.Size
	if ctx.Err() != nil {
		return stored, nil
	}
	return stored, err
}

// findRules: the rules in force are those that made the last entries, as the audit database has them. Those of the file
// follow them at a place in the stream, like after a reload.
func (s *session) findRules(ctx context.Context) error {
	stored, err := mapping.InForce(ctx, s.writer.Load)
	var file *mapping.FileError
	switch {
	case errors.As(err, &file):
		s.log.Warn("the mapping that made the last entries is not one that this program takes; the file's counts from here on", zap.Error(err))
	case err != nil:
		return fmt.Errorf("audit database: %w", err)
	case stored != nil && stored.Hash() != s.rules.Hash():
		s.rules = stored
	}
	return nil
}

func (s *session) findSlot(ctx context.Context) (capture.SlotInfo, bool, error) {
	conn, err := connectAdmin(ctx, "source.dsn", s.source.DSN)
	if err != nil {
		return capture.SlotInfo{}, false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return capture.LookupSlot(ctx, conn.PgConn(), s.source.Slot)
}

// stopError is trouble that waits for an operator, with its label of the metric `stopped`.
type stopError struct {
	reason string
	err    error
}

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

// classify gives the reason label of an error, and whether it may pass by itself.
func classify(err error) (reason string, retry bool) {
	var stop *stopError
	var exit *exitError
	var signing *signerError
	switch {
	case errors.As(err, &signing):
		return "signer", true
	case errors.As(err, &stop):
		return stop.reason, false
	case errors.Is(err, errTurn):
		return "connection", true
	case errors.Is(err, capture.ErrSlotInUse):
		return "slot", true // after a lost connection the server holds it for us for a while
	case errors.Is(err, capture.ErrSlotMissing), errors.Is(err, capture.ErrSlotLost):
		return "slot", true // the next session records the gap
	case errors.Is(err, capture.ErrSlotForeign), errors.Is(err, capture.ErrSlotExists):
		return "slot", false
	case errors.Is(err, capture.ErrPublicationMissing):
		return "publication", false
	case errors.Is(err, sink.ErrMoved):
		return "chain", false
	case errors.Is(err, sink.ErrNotOurs), errors.Is(err, sink.ErrVersion), errors.Is(err, sink.ErrRights):
		return "sink", false
	case notLetIn(err), sink.Retryable(err), capture.Retryable(err), errors.As(err, &exit) && exit.code == exitUnreachable, errors.Is(err, context.DeadlineExceeded):
		return "connection", true
	}
	var decode *capture.DecodeError
	if errors.As(err, &decode) {
		return "decode", false
	}
	return "mapping", false
}

// notLetIn says whether a server refused the login, or has no such database: an operator mends it while we try on.
func notLetIn(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (strings.HasPrefix(pgErr.Code, "28") || pgErr.Code == "3D000")
}

// exitCodeOf is the exit code of a session that could not begin.
func exitCodeOf(err error) int {
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	if reason, retry := classify(err); retry && (reason == "connection" || reason == "signer") {
		return exitUnreachable
	}
	return exitUsage
}

// firstWait is how long a start waits for a slot that is in use, by the walsender of a daemon that was killed a moment ago
// most likely, and for a signer that starts beside it.
const firstWait = 10 * time.Second
