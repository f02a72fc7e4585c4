package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"casebook.example/audit/ledger"
	"casebook.example/audit/signer"
	"casebook.example/audit/sink"
)

// notary is who signs: a signer.Signer in this process, or a signer.Client that asks one of its own.
type notary interface {
	Keys(ctx context.Context) ([]string, error)
	Last(ctx context.Context) ([]byte, error)
	Sign(ctx context.Context, r signer.Request) ([]byte, error)
	Close()
}

// openNotary opens what the configuration names; nil: the log is not signed.
func openNotary(cfg *LedgerConfig) (notary, error) {
	var keys []*signer.Key
	switch {
	case !cfg.signed():
		return nil, nil
	case cfg.SignerSocket != "":
		return signer.NewClient(cfg.SignerSocket), nil
	case cfg.SigningAgent != "":
		key, err := signer.AgentKey(cfg.SigningAgent, cfg.VerifierKey)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	default:
		for _, file := range []string{cfg.SigningKeyFile, cfg.SecondKeyFile} {
			if file == "" {
				continue
			}
			key, err := signer.OpenKeyFile(file, cfg.SigningPassphrase)
			if err != nil {
				return nil, err
			}
			keys = append(keys, key)
		}
	}
	if cfg.Origin != "" && keys[0].Name() != cfg.Origin {
		return nil, fmt.Errorf("the key is of the log %q, ledger.origin is %q", keys[0].Name(), cfg.Origin)
	}
	return signer.Open(keys, cfg.SigningStateFile)
}

// signRetry is how long a signer that does not answer is left alone.
const signRetry = time.Second

// checkpointer has the chain of one session signed. It belongs to one goroutine.
type checkpointer struct {
	notary    notary
	writer    *sink.Writer
	stored    *sink.Checkpoints
	access    chan<- *ledger.Entry
	log       *zap.Logger
	interval  time.Duration
	heartbeat time.Duration

	last  ledger.Checkpoint // the signer's
	size  prometheus.Gauge
	since atomic.Int64 // when the oldest entry that is not signed was stored, microseconds since 1970; 0: all are
}

// openCheckpointer compares the signer's last checkpoint with the chain, before anything is appended: a database that was
// rolled back to an old backup, or rewritten while nobody looked, is refused. What a crash kept from being stored is
// stored here, and a change of keys becomes an entry.
func openCheckpointer(ctx context.Context, d *daemon, writer *sink.Writer, reg prometheus.Registerer) (_ *checkpointer, err error) {
	c := &checkpointer{
		notary: d.notary, writer: writer, access: d.access, log: d.log.Named("checkpoints"),
		size: promauto.With(reg).NewGauge(prometheus.GaugeOpts{Name: "ledger_signed_size", Help: "Entries under the last signed checkpoint."}),
	}
	if c.interval, c.heartbeat, err = d.cfg.Ledger.intervals(); err != nil {
		return nil, err
	}
	if !d.anchors.acknowledged() { // else it is theirs
		promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: "oldest_unanchored_seconds", Help: "Age of the oldest entry that is under no signed checkpoint; 0: all are."}, c.unsigned)
	}
	if c.stored, err = sink.OpenCheckpoints(ctx, sink.Config{DSN: d.cfg.Audit.DSN, Chain: d.cfg.Audit.Chain}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.stored.Close()
		}
	}()
	signed, err := c.notary.Last(ctx)
	if err != nil {
		return nil, &signerError{err}
	}
	if c.last, err = ledger.ReadCheckpoint(signed); err != nil {
		return nil, &signerError{err}
	}
	if c.last.Origin != c.stored.Origin() {
		return nil, &stopError{"signer", fmt.Errorf("the signer signs for %q, the chain is %q", c.last.Origin, c.stored.Origin())}
	}
	at := writer.Position()
	if c.last.Size > at.Size {
		return nil, &stopError{"signer", fmt.Errorf("the signer has signed %d entries, the chain has %d: the end of the log was removed, or the audit database was restored from an old backup. Nothing is appended to it; restore a newer one, or begin a new chain with a name, an origin and a key of its own", c.last.Size, at.Size)}
	}
	begins, err := c.stored.At(ctx, c.last.Size)
	if err != nil {
		return nil, err
	}
	if begins.Root != c.last.Root {
		return nil, &stopError{"signer", fmt.Errorf("the first %d entries are not those that the signer has signed: the log was rewritten. Run `casebook-audit verify`", c.last.Size)}
	}
	if c.last.Size > 0 {
		// Dead between state and storing: the signature is with the signer.
		if err := c.stored.Store(ctx, signed); err != nil {
			return nil, err
		}
	}
	c.size.Set(float64(c.last.Size))
	if err := c.keyEvent(ctx); err != nil {
		return nil, err
	}
	if writer.Position().Size > c.last.Size {
		oldest, err := c.stored.Recorded(ctx, c.last.Size)
		if err != nil {
			return nil, err
		}
		c.since.Store(oldest.UnixMicro())
	}
	return c, nil
}

// keyEvent appends an entry where other keys sign than before. It stands before the first checkpoint that they sign.
func (c *checkpointer) keyEvent(ctx context.Context) error {
	keys, err := c.notary.Keys(ctx)
	if err != nil {
		return &signerError{err}
	}
	slices.Sort(keys)
	before, err := c.stored.Keys(ctx)
	if err != nil || slices.Equal(keys, before) {
		return err
	}
	c.log.Info("signing keys changed", zap.Strings("keys", keys))
	return c.writer.AppendEvents(ctx, []*ledger.Entry{sink.KeyEvent(keys, before)})
}

// signerError is trouble with a signer that may pass.
type signerError struct{ err error }

func (e *signerError) Error() string { return e.err.Error() }
func (e *signerError) Unwrap() error { return e.err }

func (c *checkpointer) unsigned() float64 {
	since := c.since.Load()
	if since == 0 {
		return 0
	}
	return max(0, time.Since(time.UnixMicro(since)).Seconds())
}

// run signs until ctx is done or the chain is not what was signed. A signer that does not answer, or cannot write its
// state, stops nothing: the entries are durable, the metric rises, and it is asked again.
func (c *checkpointer) run(ctx context.Context) error {
	// A tenth of the interval is for the work.
	pace := c.interval - c.interval/10
	due := time.NewTimer(0) // what earlier sessions left
	defer due.Stop()
	beat := time.NewTimer(c.heartbeat)
	defer beat.Stop()
	begun := time.Time{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.writer.Grew():
			c.since.CompareAndSwap(0, time.Now().UnixMicro())
			beat.Reset(c.heartbeat)
			due.Reset(max(0, pace-time.Since(begun)))
		case <-beat.C:
			beat.Reset(c.heartbeat)
			select {
			case c.access <- &ledger.Entry{Kind: ledger.KindHeartbeat, Action: "heartbeat", Summary: "The log is alive", Initiator: ledger.InitiatorSystem}:
			default: // it isn't idle
			}
		case <-due.C:
			begun = time.Now()
			err := c.sign(ctx)
			var trouble *signerError
			switch {
			case err == nil:
			case ctx.Err() != nil:
				return nil
			case errors.As(err, &trouble):
				c.log.Warn("not signed, trying again", zap.Error(err))
				due.Reset(max(signRetry, pace))
			default:
				return err
			}
		}
	}
}

// sign has the chain signed as it stands. If we die before the signer's state is written, nothing has happened; after it,
// the next session finds the signature there.
func (c *checkpointer) sign(ctx context.Context) error {
	asked := time.Now().UnixMicro()
	at := c.writer.Position()
	if at.Size == c.last.Size {
		return nil
	}
	now, err := c.stored.At(ctx, at.Size)
	if err != nil {
		return err
	}
	if now.Root != at.Root {
		return &stopError{"chain", fmt.Errorf("the %d entries of the chain are not those that this daemon has written: somebody changed them. Run `casebook-audit verify`", at.Size)}
	}
	proof, err := c.stored.Consistency(ctx, c.last.Size, now)
	if err != nil {
		return err
	}
	signed, err := c.notary.Sign(ctx, signer.Request{Old: c.last.Size, Proof: proof, Checkpoint: now})
	var stale *signer.StaleError
	switch {
	case errors.As(err, &stale):
		// Another daemon had the chain signed, or an answer was lost. The next session compares anew.
		return &stopError{"signer", err}
	case errors.Is(err, signer.ErrRefused), errors.Is(err, signer.ErrOrigin):
		return &stopError{"signer", err}
	case err != nil:
		return &signerError{err}
	}
	if got, err := ledger.ReadCheckpoint(signed); err != nil || got != now {
		return &signerError{errors.New("the signer's answer is not the checkpoint that was asked for")}
	}
	if err := c.stored.Store(ctx, signed); err != nil {
		return err
	}
	c.last = now
	c.size.Set(float64(now.Size))
	if c.writer.Position().Size == now.Size {
		c.since.Store(0)
	} else {
		c.since.Store(asked)
	}
	return nil
}

// passphraseFromEnv is ledger.signing_passphrase for commands that read no configuration file.
func passphraseFromEnv() (string, error) {
	cfg := struct {
		Ledger struct {
			SigningPassphrase string `yaml:"signing_passphrase" secret:"true"`
		} `yaml:"ledger"`
	}{}
	err := overlayEnv(reflect.ValueOf(&cfg).Elem(), strings.TrimSuffix(envPrefix, "_"))
	return cfg.Ledger.SigningPassphrase, err
}
