package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
	"casebook.example/audit/sink"
)

const (
	// A batch is what one transaction of the audit database takes. It ends when nothing more is waiting, so at rest it
	// is one source transaction and under load it grows to one of these limits.
	batchRows  = 8192
	batchBytes = 8 << 20

	// A source transaction with more row changes or bytes than this is written in parts, inside one transaction of the
	// audit database; nothing of it is kept in memory as a whole.
	hugeRows  = 16384
	hugeBytes = 16 << 20

	// writeTimeout is how long one batch may take. A database that hangs must not hold the source's walsender for ever: the
	// session ends, and with it the replication connection, until the audit database answers again.
	writeTimeout = time.Minute

	// turnInterval is how often the loop looks whether a command wants to append to the chain.
	turnInterval = time.Second

	// stopGrace is how long an Append that is under way when the daemon is told to stop may take.
	stopGrace = 8 * time.Second
)

// errTurn ends a session because a command queues for the chain: redact, prune. The next session waits for its end, and
// reads anew what it changed.
var errTurn = errors.New("a command of an operator takes its turn at the chain")

// pipeline is the one place that orders Map, Append and Confirm. Its loop owns the mapper, the batch under
// construction and the one Append that may be in flight; Confirm follows the commit of the audit database, so what a
// crash loses here the source sends again.
type pipeline struct {
	session *session
	stream  *capture.Stream
	mapper  *mapping.Mapper
	writer  *sink.Writer
	access  chan *ledger.Entry // what does not come from the stream: reads on our own endpoint, coverage faults

	wanted   *atomic.Pointer[mapping.Rules] // of the file
	reload   chan struct{}                  // says that they changed
	proposed chan proposal                  // answers where they may begin; nil when nobody was asked
	next     *proposal                      // waits for its place in the stream

	prevCommit ledger.LSN  // commit LSN of the last transaction mapped
	open       *sink.Batch // the audit transaction of a huge source transaction, while it is being written
	writing    *batch      // what the Append in flight writes
	inflight   chan error  // answers when the Append in flight is committed; nil when there is none
	inflightTo capture.LSN // what may be confirmed then; 0: nothing new
}

// batch is what the next Append writes.
type batch struct {
	entries []*ledger.Entry
	upto    sink.Upto
	rows    int
	bytes   int
	stream  bool // holds transactions of the stream, not only accesses
}

func (b *batch) full() bool { return b.rows >= batchRows || b.bytes >= batchBytes }

// run stores what the stream delivers until ctx is done (then it finishes the Append in flight and returns nil) or
// until something fails. After an error the caller must reopen everything from the sink's position.
func (p *pipeline) run(ctx context.Context, events <-chan capture.Event) error {
	// The Append in flight outlives ctx by stopGrace: a stop in the middle of a batch would only make work.
	appendCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })()
	defer p.keepAccesses()
	defer p.dropChange()

	turns := time.NewTicker(turnInterval)
	defer turns.Stop()
	p.propose(ctx)
	for {
		select {
		case <-turns.C:
			asked, err := p.writer.Asked(ctx)
			if err != nil && ctx.Err() == nil {
				return errors.Join(p.settle(), err)
			}
			if asked {
				if err := p.settle(); err != nil {
					return err
				}
				return errTurn
			}
		case <-p.reload:
			p.propose(ctx)
		case c := <-p.proposed:
			if err := p.answered(appendCtx, c); err != nil {
				return err
			}
		case <-ctx.Done():
			return p.settle()
		case err := <-p.inflight:
			if err := p.settled(err); err != nil {
				return err
			}
		case entry := <-p.access:
			b := &batch{entries: []*ledger.Entry{entry}}
			for range len(p.access) {
				b.entries = append(b.entries, <-p.access)
			}
			if err := p.append(appendCtx, b); err != nil {
				return err
			}
		case event, ok := <-events:
			if !ok {
				return p.settle()
			}
			if err := p.take(ctx, appendCtx, event, events); err != nil {
				if ctx.Err() != nil && errors.Is(err, context.Canceled) {
					return p.settle()
				}
				return err
			}
		}
	}
}

// take handles event and whatever else is waiting behind it, up to a batch.
func (p *pipeline) take(ctx, appendCtx context.Context, event capture.Event, events <-chan capture.Event) error {
	b := &batch{}
	for {
		if p.next != nil && place(event) >= p.next.from {
			if err := p.flush(appendCtx, b); err != nil {
				return err
			}
			b = &batch{}
			if err := p.adopt(appendCtx); err != nil {
				return err
			}
		}
		switch {
		case event.Tx == nil:
			if err := p.flush(appendCtx, b); err != nil {
				return err
			}
			b = &batch{}
			if err := p.idle(appendCtx, event); err != nil {
				return err
			}
		case event.Tx.Rows > hugeRows || event.Tx.Size() > hugeBytes:
			if err := p.flush(appendCtx, b); err != nil {
				return err
			}
			b = &batch{}
			if err := p.huge(appendCtx, event.Tx); err != nil {
				return err
			}
		default:
			if err := p.mapInto(ctx, b, event.Tx); err != nil {
				return err
			}
		}
		if b.full() {
			break
		}
		var more bool
		select {
		case event, more = <-events:
		default:
		}
		if !more {
			break
		}
	}
	if !b.stream {
		return nil
	}
	return p.append(appendCtx, b)
}

// mapInto adds the entries of tx to b. The transaction's buffer is free again afterwards.
func (p *pipeline) mapInto(ctx context.Context, b *batch, tx *capture.Tx) error {
	defer tx.Close()
	err := p.mapper.Map(ctx, tx, p.prevCommit, func(e *ledger.Entry) error {
		b.entries = append(b.entries, e)
		return nil
	})
	if err != nil {
		return err
	}
	p.prevCommit = ledger.LSN(tx.CommitLSN)
	b.stream = true
	b.rows += tx.Rows
	b.bytes += tx.Size()
	b.upto = upto(tx)
	return nil
}

// append waits for the Append in flight, then starts that of b. While it runs the loop maps the next batch.
func (p *pipeline) append(ctx context.Context, b *batch) error {
	if err := p.settle(); err != nil {
		return err
	}
	rows := p.mapper.TakeDirty()
	records, users := p.mapper.TakeNames()
	if b.stream {
		p.inflightTo = capture.LSN(b.upto.EndLSN)
	}
	done := make(chan error, 1)
	p.inflight, p.writing = done, b
	go func() {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		done <- p.write(ctx, b, rows, records, users)
	}()
	return nil
}

// write is one transaction of the audit database. It runs beside the loop and touches nothing of it but the writer.
func (p *pipeline) write(ctx context.Context, b *batch, rows []mapping.StoredRow, records []mapping.RecordName, users []mapping.UserName) error {
	t, err := p.writer.Begin(ctx)
	if err != nil {
		return err
	}
	defer t.Rollback()
	if err := t.Entries(ctx, b.entries); err != nil {
		return err
	}
	if err := t.Directory(ctx, rows); err != nil {
		return err
	}
	if err := t.Names(ctx, records, users); err != nil {
		return err
	}
	// A crash before this commit leaves nothing; after it, the source sends the batch again and it is skipped.
	return t.Commit(ctx, b.upto)
}

// flush appends b and waits until it is stored.
func (p *pipeline) flush(ctx context.Context, b *batch) error {
	if b.stream {
		if err := p.append(ctx, b); err != nil {
			return err
		}
	}
	return p.settle()
}

// settle waits for the Append in flight, if there is one.
func (p *pipeline) settle() error {
	if p.inflight == nil {
		return nil
	}
	return p.settled(<-p.inflight)
}

func (p *pipeline) settled(err error) error {
	p.inflight = nil
	if err != nil {
		return err
	}
	p.writing = nil
	p.mapper.Stored()
	if p.inflightTo != 0 {
		p.stream.Confirm(p.inflightTo) // durable in the audit database: the source may forget it
		p.inflightTo = 0
	}
	return nil
}

// place is from where on an event's transactions commit.
func place(event capture.Event) capture.LSN {
	if event.Tx == nil {
		return event.Idle
	}
	return event.Tx.CommitLSN
}

// propose asks where the file's rules may begin, when they are not those in force.
func (p *pipeline) propose(ctx context.Context) {
	wanted := p.wanted.Load()
	if wanted.Hash() == p.session.rules.Hash() || p.proposed != nil {
		return
	}
	p.dropChange()
	proposed := make(chan proposal, 1)
	p.proposed = proposed
	go func() { proposed <- p.session.propose(ctx, wanted) }()
}

// answered takes the answer: the change waits for its place, or comes at once when the directory lacks nothing.
func (p *pipeline) answered(ctx context.Context, c proposal) error {
	p.proposed = nil
	if c.err != nil {
		p.session.reloadFailed.Set(1)
		p.session.log.Error("the changed mapping cannot follow yet, the one before still counts; SIGHUP tries again", zap.Error(c.err))
		return nil
	}
	p.next = &c
	if c.slot == nil {
		if err := p.settle(); err != nil {
			return err
		}
		return p.adopt(ctx)
	}
	return nil
}

// adopt puts the waiting change into force. Everything before it is stored.
func (p *pipeline) adopt(ctx context.Context) error {
	c := *p.next
	p.next = nil
	if err := p.session.adopt(ctx, c); err != nil {
		return err
	}
	p.mapper = p.session.newMapper(p.load)
	p.propose(ctx) // the file may have changed again meanwhile
	return nil
}

// dropChange lets go of a change that did not come to its place.
func (p *pipeline) dropChange() {
	if p.next != nil && p.next.slot != nil {
		p.next.slot.Close()
	}
	p.next = nil
	if p.proposed != nil {
		go func(proposed chan proposal) {
			if c := <-proposed; c.slot != nil {
				c.slot.Close()
			}
		}(p.proposed)
		p.proposed = nil
	}
}

// keepAccesses gives what did not come from the stream and was not stored to the next session: the source sends its changes
// again, nobody sends these. After a commit whose reply was lost one may stand twice.
func (p *pipeline) keepAccesses() {
	if p.writing == nil || p.writing.stream {
		return
	}
	for _, e := range p.writing.entries {
		select {
		case p.access <- e:
		default: // the queue is full, so requests are being refused already
		}
	}
}

// idle stores that the source holds nothing more for us up to event.Idle, and then lets it go.
func (p *pipeline) idle(ctx context.Context, event capture.Event) error {
	if err := p.writer.Advance(ctx, ledger.LSN(event.Idle), event.IdleAt); err != nil {
		return err
	}
	p.stream.Confirm(event.Idle)
	return nil
}

// huge writes one source transaction of any size in parts, inside one transaction of the audit database. Directory
// rows that were written but are not committed yet are read back through that same transaction.
func (p *pipeline) huge(ctx context.Context, tx *capture.Tx) error {
	defer tx.Close()
	t, err := p.writer.Begin(ctx)
	if err != nil {
		return err
	}
	defer t.Rollback()
	p.open = t
	defer func() { p.open = nil }()

	spill := func(rows []mapping.StoredRow) error {
		records, users := p.mapper.TakeNames()
		return errors.Join(t.Directory(ctx, rows), t.Names(ctx, records, users))
	}
	part := make([]*ledger.Entry, 0, batchRows)
	write := func() error {
		err := t.Entries(ctx, part)
		clear(part)
		part = part[:0]
		return err
	}
	err = p.mapper.MapHuge(ctx, tx, p.prevCommit, spill, func(e *ledger.Entry) error {
		part = append(part, e)
		if len(part) < batchRows {
			return nil
		}
		return write()
	})
	if err != nil {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	if err := t.Directory(ctx, p.mapper.TakeDirty()); err != nil {
		return err
	}
	records, users := p.mapper.TakeNames()
	if err := t.Names(ctx, records, users); err != nil {
		return err
	}
	if err := t.Commit(ctx, upto(tx)); err != nil {
		return err
	}
	p.prevCommit = ledger.LSN(tx.CommitLSN)
	p.mapper.Stored()
	p.stream.Confirm(tx.EndLSN)
	return nil
}

// load reads directory rows for the mapper.
func (p *pipeline) load(ctx context.Context, keys []mapping.Key) ([]mapping.StoredRow, error) {
	if p.open != nil {
		return p.open.Load(ctx, keys)
	}
	return p.writer.Load(ctx, keys)
}

func upto(tx *capture.Tx) sink.Upto {
	return sink.Upto{
		CommitLSN:   ledger.LSN(tx.CommitLSN),
		EndLSN:      ledger.LSN(tx.EndLSN),
		CommittedAt: tx.CommitTime,
		CompleteAt:  tx.CommitTime,
	}
}
