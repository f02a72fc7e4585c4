package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"casebook.example/audit/ledger"
	"casebook.example/audit/sink"
)

const (
	scrubSlice   = 8192             // entries that one transaction of the daily pass looks at
	scrubBack    = 4096             // entries before the end with which the right edge begins
	scrubFirst   = 10 * time.Minute // from the start of the daemon to its first pass
	scrubTimeout = 10 * time.Minute // for one look
)

// scrubber verifies the log while it grows: the right edge each minute, everything once a day in slices. What it finds is an entry
// and a metric, and stops nothing. It outlives sessions and is run by one at a time, as their process is the one that appends.
type scrubber struct {
	dsn, chain string
	approvers  []string // of removals
	edgeEvery  time.Duration
	passEvery  time.Duration // 0: never
	rate       int           // entries a second of a pass
	report     chan<- *ledger.Entry
	log        *zap.Logger
	verified   prometheus.Gauge
	tampering  prometheus.Counter
	conn       *pgx.Conn
	edge       *ledger.Checkpoint // proven to follow from where the look at the edge began
	pass       *ledger.Checkpoint // proven from the first entry on, by the pass under way
	passBegan  time.Time
	passDue    time.Time
	everPassed bool // a pass came to the end, and nothing bad was found since
	proven     uint64
	told       map[string]bool // findings that are entries already
	oneAtATime sync.Mutex
}

func newScrubber(cfg *Config, report chan<- *ledger.Entry, reg prometheus.Registerer, log *zap.Logger) (*scrubber, error) {
	s := &scrubber{
		dsn: cfg.Audit.ReaderDSN, chain: cfg.Audit.Chain, approvers: cfg.Redaction.Approvers, report: report, log: log, told: map[string]bool{}, passDue: time.Now().Add(scrubFirst),
		verified: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "ledger_verified_size", Help: "Entries, from the first one on, that this daemon has recomputed and found whole."}),
		tampering: promauto.With(reg).NewCounter(prometheus.CounterOpts{
			Name: "tampering_total", Help: "Places where this daemon found that the log is not what it was."}),
	}
	var err error
	s.edgeEvery, s.passEvery, s.rate, err = cfg.Ledger.scrub()
	return s, err
}

// scrub are the parsed keys of the scrubber; validate has looked at them.
func (c *LedgerConfig) scrub() (edge, pass time.Duration, rate int, err error) {
	if edge, err = time.ParseDuration(c.ScrubEdgeInterval); err != nil || edge < time.Second || edge > time.Hour {
		return 0, 0, 0, fmt.Errorf("ledger.scrub_edge_interval %q: use a time from 1s to 1h, such as 1m", c.ScrubEdgeInterval)
	}
	if c.ScrubInterval != listenerOff {
		if pass, err = time.ParseDuration(c.ScrubInterval); err != nil || pass < time.Minute || pass > 90*24*time.Hour {
			return 0, 0, 0, fmt.Errorf("ledger.scrub_interval %q: use a time from 1m to 2160h, such as 24h, or off", c.ScrubInterval)
		}
	}
	if rate, err = strconv.Atoi(c.ScrubRate); err != nil || rate < 100 || rate > 10_000_000 {
		return 0, 0, 0, fmt.Errorf("ledger.scrub_rate %q: use a number of entries a second from 100 to 10000000", c.ScrubRate)
	}
	return edge, pass, rate, nil
}

// run looks until ctx is done.
func (s *scrubber) run(ctx context.Context) {
	s.oneAtATime.Lock()
	defer s.oneAtATime.Unlock()
	defer s.close()
	edge := time.NewTicker(s.edgeEvery)
	defer edge.Stop()
	if s.passEvery == 0 {
		s.passDue = time.Now().Add(100 * 365 * 24 * time.Hour)
	}
	slice := time.NewTimer(time.Until(s.passDue))
	defer slice.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-edge.C:
			s.lookAtEdge(ctx)
		case <-slice.C:
			start := time.Now()
			if s.lookAtSlice(ctx) {
				s.passDue = s.passBegan.Add(s.passEvery)
				slice.Reset(max(time.Minute, time.Until(s.passDue)))
				continue
			}
			if s.conn == nil {
				slice.Reset(s.edgeEvery)
				continue
			}
			pace := time.Duration(scrubSlice * int64(time.Second) / int64(s.rate))
			slice.Reset(max(pace-time.Since(start), time.Millisecond))
		}
	}
}

func (s *scrubber) close() {
	if s.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		s.conn.Close(ctx)
		s.conn = nil
	}
}

// look verifies what follows since, or nil: what Edge gives; length entries of it, or to the end where that is 0. Without found the log
// is bad, or it could not be looked at.
func (s *scrubber) look(ctx context.Context, since *ledger.Checkpoint, back uint64, length int64) (found *sink.Verification, bad bool) {
	looking, cancel := context.WithTimeout(ctx, scrubTimeout)
	defer cancel()
	found, err := s.verify(looking, since, back, length)
	var broken *ledger.BrokenError
	switch {
	case err == nil:
		return found, false
	case errors.As(err, &broken) && broken.Detector == ledger.DetectUnfinished:
		s.log.Warn("a removal is under way, or was broken off", zap.Uint64("entry", broken.Seq), zap.String("reason", broken.Reason))
	case errors.As(err, &broken):
		s.found(ctx, broken)
		return nil, true
	case ctx.Err() == nil: // a database that does not answer has its own alert
		s.log.Warn("the log was not verified", zap.Error(err))
	}
	s.close()
	return nil, false
}

func (s *scrubber) verify(ctx context.Context, since *ledger.Checkpoint, back uint64, length int64) (_ *sink.Verification, err error) {
	if s.conn == nil {
		if s.conn, err = connectAdmin(ctx, "audit.reader_dsn", s.dsn); err != nil {
			return nil, err
		}
	}
	if since == nil {
		c, err := sink.Edge(ctx, s.conn, s.chain, back)
		if err != nil {
			return nil, err
		}
		since = &c
	}
	to := int64(-1)
	if length > 0 {
		to = int64(since.Size) + length - 1
	}
	return sink.Verify(ctx, s.conn, s.chain, sink.Scope{Since: since, To: to, Approvers: s.approvers}, nil)
}

// lookAtEdge verifies what came since the last look, and that it continues what was there.
func (s *scrubber) lookAtEdge(ctx context.Context) {
	found, bad := s.look(ctx, s.edge, scrubBack, 0)
	switch {
	case bad:
		s.edge = nil
	case found != nil:
		s.edge = &found.Tree
		if s.everPassed {
			s.prove(found.Tree.Size)
		}
	}
}

// lookAtSlice verifies the next slice of a pass. It says whether the pass is over, at the end or at the first bad entry.
func (s *scrubber) lookAtSlice(ctx context.Context) (over bool) {
	if s.pass == nil {
		s.passBegan = time.Now()
	}
	found, bad := s.look(ctx, s.pass, math.MaxUint64, scrubSlice)
	switch {
	case bad:
		s.pass = nil
		return true
	case found == nil: // it goes on a little later
		return false
	}
	now := &found.Tree
	s.pass = now
	if !s.everPassed {
		s.prove(max(s.proven, now.Size))
	}
	if found.Entries == scrubSlice {
		return false
	}
	s.pass, s.everPassed = nil, true
	s.tell(ctx, &ledger.Entry{
		Kind: ledger.KindVerification, Action: "verify", Initiator: ledger.InitiatorSystem, Summary: "The log was verified",
		Fields: []ledger.Field{
			{Path: "size", Type: "int8", State: ledger.FieldValue, Value: strconv.FormatUint(now.Size, 10)},
			{Path: "root", Type: "sha256", State: ledger.FieldValue, Value: fmt.Sprintf("%x", now.Root)},
			{Path: "seconds", Type: "int8", State: ledger.FieldValue, Value: strconv.Itoa(int(time.Since(s.passBegan).Seconds()))},
		},
	})
	return true
}

func (s *scrubber) prove(size uint64) {
	s.proven = size
	s.verified.Set(float64(size))
}

// found tells of tampering: each place once.
func (s *scrubber) found(ctx context.Context, b *ledger.BrokenError) {
	s.everPassed = false
	s.prove(min(s.proven, b.Seq))
	key := b.Detector + strconv.FormatUint(b.Seq, 10)
	if s.told[key] || len(s.told) >= 1000 {
		return
	}
	s.told[key] = true
	s.tampering.Inc()
	s.log.Error("the log is not what it was", zap.Uint64("seq", b.Seq), zap.String("detector", b.Detector), zap.String("reason", b.Reason))
	s.tell(ctx, &ledger.Entry{
		Kind: ledger.KindVerification, Action: "verify", Initiator: ledger.InitiatorSystem, Summary: "The log is not what it was", Remark: b.Reason,
		Fields: []ledger.Field{
			{Path: "seq", Type: "int8", State: ledger.FieldValue, Value: strconv.FormatUint(b.Seq, 10)},
			{Path: "detector", Type: "text", State: ledger.FieldValue, Value: b.Detector},
		},
	})
}

func (s *scrubber) tell(ctx context.Context, e *ledger.Entry) {
	select {
	case s.report <- e:
	case <-ctx.Done():
	}
}
