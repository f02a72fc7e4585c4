package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"casebook.example/audit/anchor"
	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

const (
	anchorInterval = 10 * time.Second // how often an anchor looks for a newer checkpoint
	anchorBackoff  = 5 * time.Minute  // how long one that fails is left alone at most
	anchorTimeout  = time.Minute      // for one round
)

// PublishConfig is one place outside where signed checkpoints go.
type PublishConfig struct {
	Name       string `yaml:"name"`        // of the metrics; default: the kind
	Kind       string `yaml:"kind"`        // file, http, syslog or witness
	Path       string `yaml:"path"`        // of a file
	URL        string `yaml:"url"`         // of the others; for syslog udp://, tcp:// or tls://HOST:PORT
	HeaderFile string `yaml:"header_file"` // http: lines "Name: value", which may be secrets
	Key        string `yaml:"key"`         // witness: its verifier key
}

// anchored is one target with its state. It belongs to one goroutine at a time; since and known are for the metric.
type anchored struct {
	name   string
	target anchor.Target
	answer bool // it acknowledges what it got

	running sync.Mutex
	size    uint64 // of the last checkpoint that it took

	mu    sync.Mutex
	since time.Time // when the oldest entry that it has not got was recorded; zero: it has all
}

// anchors are all of them. They outlive sessions, and nothing waits for them.
type anchors struct {
	list       []*anchored
	dsn, chain string
	report     chan<- *ledger.Entry
	log        *zap.Logger
	sizes      *prometheus.GaugeVec
	failing    *prometheus.GaugeVec
}

func newAnchors(cfg *Config, report chan<- *ledger.Entry, reg prometheus.Registerer, log *zap.Logger) (*anchors, error) {
	a := &anchors{dsn: cfg.Audit.ReaderDSN, chain: cfg.Audit.Chain, report: report, log: log}
	names := map[string]bool{}
	for i, c := range cfg.Ledger.Publish {
		n := &anchored{name: c.Name, answer: c.Kind != "syslog"}
		if n.name == "" {
			n.name = c.Kind
		}
		var err error
		switch c.Kind {
		case "file":
			if c.Path == "" {
				err = errors.New("path is not set")
			}
			n.target = anchor.NewFile(c.Path)
		case "http":
			var headers []byte
			if c.HeaderFile != "" {
				headers, err = os.ReadFile(c.HeaderFile)
			}
			if err == nil {
				n.target, err = anchor.NewHTTP(c.URL, string(headers))
			}
		case "syslog":
			n.target, err = anchor.NewSyslog(c.URL)
		case "witness":
			n.target, err = anchor.NewWitness(c.URL, c.Key)
		default:
			err = errors.New("kind must be file, http, syslog or witness")
		}
		if err == nil && names[n.name] {
			err = fmt.Errorf("there is another one of the name %q", n.name)
		}
		if err != nil {
			return nil, fmt.Errorf("ledger.publish, number %d: %w", i+1, err)
		}
		names[n.name] = true
		a.list = append(a.list, n)
	}
	if len(a.list) == 0 {
		return a, nil
	}
	if !cfg.Ledger.signed() {
		return nil, errors.New("ledger.publish needs a signing key: only signed checkpoints are published")
	}
	a.sizes = promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{Name: "anchored_size", Help: "Entries under the last checkpoint that an anchor took."}, []string{"anchor"})
	a.failing = promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{Name: "anchor_failing", Help: "1 while an anchor does not take checkpoints."}, []string{"anchor"})
	for _, n := range a.list {
		a.failing.WithLabelValues(n.name)
	}
	if a.acknowledged() {
		promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "oldest_unanchored_seconds", Help: "Age of the oldest entry that no anchor has acknowledged; 0: all are."}, a.exposed)
	}
	return a, nil
}

// acknowledged says whether one of them answers for what it got.
func (a *anchors) acknowledged() bool {
	for _, n := range a.list {
		if n.answer {
			return true
		}
	}
	return false
}

// exposed is the exposure window: what the best anchor has not got.
func (a *anchors) exposed() float64 {
	least := -1.0
	for _, n := range a.list {
		if !n.answer {
			continue
		}
		n.mu.Lock()
		age := 0.0
		if !n.since.IsZero() {
			age = max(0, time.Since(n.since).Seconds())
		}
		n.mu.Unlock()
		if least < 0 || age < least {
			least = age
		}
	}
	return max(least, 0)
}

// check compares the files with the log, before anything is appended to it.
func (a *anchors) check(ctx context.Context) error {
	for _, n := range a.list {
		file, ok := n.target.(*anchor.File)
		if !ok {
			continue
		}
		last, ok, err := file.Last()
		if err != nil {
			return &stopError{"chain", fmt.Errorf("anchor %s: %w", n.name, err)}
		}
		if !ok {
			continue
		}
		err = a.with(ctx, func(conn *pgx.Conn, chain stored.Chain) error {
			if last.Origin != chain.Origin {
				return &stopError{"chain", fmt.Errorf("anchor %s: its file is of the log %q, this one is %q", n.name, last.Origin, chain.Origin)}
			}
			tree, err := stored.OpenTree(ctx, conn, chain.Number, last.Size)
			if errors.Is(err, ledger.ErrTiles) || err == nil && tree.Root() != last.Root {
				return &stopError{"chain", fmt.Errorf("anchor %s: the first %d entries are not those that its file has: the log was rewritten or shortened. Nothing is appended to it; run `casebook-audit verify`", n.name, last.Size)}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// with gives a connection of its own as the reader.
func (a *anchors) with(ctx context.Context, use func(conn *pgx.Conn, chain stored.Chain) error) error {
	conn, err := connectAdmin(ctx, "audit.reader_dsn", a.dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	chain, err := stored.FindChain(ctx, conn, a.chain)
	if err != nil {
		return err
	}
	return use(conn, chain)
}

// run publishes to one anchor until ctx is done.
func (a *anchors) run(ctx context.Context, n *anchored) {
	n.running.Lock()
	defer n.running.Unlock()
	wait, told := anchorInterval, false
	for {
		round, cancel := context.WithTimeout(ctx, anchorTimeout)
		err := a.round(round, n)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.failing.WithLabelValues(n.name).Set(1)
			if !told {
				a.log.Warn("an anchor did not take a checkpoint, trying again", zap.String("anchor", n.name), zap.Error(err))
			}
			told, wait = true, min(2*wait, anchorBackoff)
		default:
			a.failing.WithLabelValues(n.name).Set(0)
			told, wait = false, anchorInterval
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// round publishes the newest checkpoint where it holds news for the anchor. Receipts of anchors are none: else each would bring
// the next one.
func (a *anchors) round(ctx context.Context, n *anchored) error {
	return a.with(ctx, func(conn *pgx.Conn, chain stored.Chain) error {
		var oldest int64
		var first uint64
		news := func() (bool, error) {
			var seq int64
			err := conn.QueryRow(ctx, "SELECT seq, recorded_us FROM audit.leaf WHERE chain = $1 AND seq >= $2 AND kind <> 9 ORDER BY seq LIMIT 1", chain.Number, int64(n.size)).Scan(&seq, &oldest)
			n.mu.Lock()
			defer n.mu.Unlock()
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				n.since = time.Time{}
				return false, nil
			case err != nil:
				return false, err
			}
			first, n.since = uint64(seq), time.UnixMicro(oldest)
			return true, nil
		}
		if some, err := news(); err != nil || !some {
			return err
		}
		signed, last, err := stored.LastCheckpoint(ctx, conn, chain)
		if errors.Is(err, stored.ErrUnsigned) || err == nil && last.Size <= first {
			return nil // the signer comes first
		}
		if err != nil {
			return err
		}
		receipt, err := n.target.Publish(ctx, &anchor.Published{Checkpoint: last, Signed: signed, Prove: func(ctx context.Context, old uint64) ([]ledger.Hash, error) {
			return stored.Prover(ctx, conn, chain.Number, last.Size, last.Root).Consistency(old)
		}})
		if err != nil {
			return err
		}
		n.size = last.Size
		a.sizes.WithLabelValues(n.name).Set(float64(last.Size))
		select {
		case a.report <- receiptEntry(n.name, last, receipt):
		default: // the queue is full; the anchor has it all the same
		}
		_, err = news()
		return err
	})
}

func receiptEntry(name string, c ledger.Checkpoint, receipt string) *ledger.Entry {
	return &ledger.Entry{
		Kind: ledger.KindAnchor, Action: "anchor", Initiator: ledger.InitiatorSystem, Summary: "A checkpoint was handed over",
		Fields: []ledger.Field{
			{Path: "anchor", Type: "text", State: ledger.FieldValue, Value: name},
			{Path: "size", Type: "int8", State: ledger.FieldValue, Value: strconv.FormatUint(c.Size, 10)},
			{Path: "root", Type: "sha256", State: ledger.FieldValue, Value: fmt.Sprintf("%x", c.Root)},
			{Path: "receipt", Type: "text", State: ledger.FieldValue, Value: receipt},
		},
	}
}

// anchorPaths makes the paths of the configuration absolute.
func (c *LedgerConfig) anchorPaths(dir string) {
	for i := range c.Publish {
		for _, path := range []*string{&c.Publish[i].Path, &c.Publish[i].HeaderFile} {
			if *path != "" && !filepath.IsAbs(*path) {
				*path = filepath.Join(dir, *path)
			}
		}
	}
}
