package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Stream is one replication session.
type Stream struct {
	cfg     Config
	log     *zap.Logger
	metrics *metrics
	system  System

	confirmed atomic.Uint64 // what the consumer holds durably; written by Confirm
	handedOut atomic.Uint64 // the furthest position that the consumer knows of; written by Run before it sends

	// Owned by Run from here on.
	conn      *pgconn.PgConn
	relations map[uint32]*relation
	types     map[uint32]string
	store     store

	open       *Tx    // between BEGIN and COMMIT
	openBegin  begin  // of the open transaction, also of one that is skipped
	inside     bool   // between BEGIN and COMMIT
	skipping   bool   // the open transaction is stored already
	serial     uint64 // counts transactions, for relation.serial
	lastCommit LSN    // commit LSNs must rise

	heard      bool          // something came since the last tick
	lastHeard  time.Time     // when something had come, by the last tick
	silence    time.Duration // until a server that says nothing counts as gone
	wake       bool          // receive should come back at once
	lastStatus time.Time     // when we last sent one
	lastSent   LSN           // position in it
	owed       bool          // the server wants a reply that we hold back for a moment
	askedAt    LSN           // the server waits for us to confirm this much: it may be shutting down
	idle       LSN           // nothing that we must deliver ends before this...
	idleAt     int64         // ...as of this time of the server, microseconds since 1970
	idleTold   time.Time     // when the last Event.Idle went out; zero: none yet
	idleToldAt int64         // the server's time in it
}

// relation is the stream's view of a table: its shape now, and its index in the transaction that used it last.
type relation struct {
	*Relation
	serial uint64
	index  int
}

const (
	tickInterval = time.Second           // how soon a confirmation reaches the server at the latest
	urgentTick   = 50 * time.Millisecond // the same while the server waits for it; also between replies to its requests

	// A server that skips a long transaction of other tables answers nothing meanwhile (14 more so than later ones), and
	// must not be cut off for it again and again. A dead host shows sooner, by TCP keepalive.
	minSilence = 2 * time.Minute

	writeTimeout  = 10 * time.Second // for a status update
	goodbyeWithin = 2 * time.Second  // for the last one

	noticeRoutine = "LoadPublications" // the server's function that warns of a missing publication, from 18
	lastTypeOID   = 9999               // of the types that the server does not describe: FirstGenbkiObjectId - 1
	statusSize    = 1 + 4 + 1 + 8*4 + 1
)

// Open connects and starts to stream from a position: where the consumer stands (an end LSN), or 0 for the slot's own.
// The server never goes below what was confirmed to it. The caller owes a Run or a Close.
func Open(ctx context.Context, cfg Config, from LSN, log *zap.Logger, reg prometheus.Registerer) (_ *Stream, err error) {
	if err := checkSlotName(cfg.Slot); err != nil {
		return nil, err
	}
	s := &Stream{cfg: cfg, log: log.Named("capture"), metrics: newMetrics(reg), relations: map[uint32]*relation{}}
	s.conn, err = dial(ctx, cfg.DSN, true)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			hangUp(s.conn)
		}
	}()
	if s.system, err = identify(ctx, s.conn); err != nil {
		return nil, err
	}
	if err := s.system.usable(); err != nil {
		return nil, err
	}
	if err := checkPublication(ctx, s.conn, cfg.Publication); err != nil {
		return nil, err
	}
	if err := checkSlot(ctx, s.conn, cfg, s.system); err != nil {
		return nil, err
	}
	if s.types, err = builtinTypes(ctx, s.conn); err != nil {
		return nil, err
	}
	s.setDefaults()
	s.confirmed.Store(uint64(from))
	s.handedOut.Store(uint64(from))
	s.lastSent = from
	if err := s.start(ctx, from); err != nil {
		return nil, err
	}
	s.lastHeard = time.Now()
	s.log.Info("streaming", zap.String("slot", cfg.Slot), zap.Stringer("from", from), zap.Stringer("skip_through", cfg.SkipThrough),
		zap.Int("postgres", s.system.Version), zap.Int32("timeline", s.system.Timeline))
	return s, nil
}

func (s *Stream) setDefaults() {
	c := &s.cfg
	if c.SpillBytes <= 0 {
		c.SpillBytes = defaultSpillBytes
	}
	s.store.limit, s.store.dir = c.SpillBytes, c.SpillDir
	if c.StatusInterval <= 0 {
		c.StatusInterval = maxStatusInterval
		if t := s.system.senderTimeout; t > 0 {
			c.StatusInterval = min(c.StatusInterval, t/3)
		}
	}
	if c.IdleInterval <= 0 {
		c.IdleInterval = defaultIdleInterval
	}
	s.silence = max(minSilence, 3*c.StatusInterval)
}

// start gives START_REPLICATION. From here on the connection speaks nothing else.
func (s *Stream) start(ctx context.Context, from LSN) error {
	err := pglogrepl.StartReplication(ctx, s.conn, identifier(s.cfg.Slot), from, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{
			"proto_version '1'",
			"publication_names " + literal(identifier(s.cfg.Publication)),
			"messages 'true'",
		},
	})
	if err != nil {
		return startError(ctx, s.cfg, err)
	}
	return nil
}

// builtinTypes asks for the names that the server will not send.
func builtinTypes(ctx context.Context, conn *pgconn.PgConn) (map[uint32]string, error) {
	rows, err := queryRows(ctx, conn, "SELECT oid, typname FROM pg_catalog.pg_type WHERE oid <= "+strconv.Itoa(lastTypeOID))
	if err != nil {
		return nil, fmt.Errorf("ask for the names of types: %w", err)
	}
	types := make(map[uint32]string, len(rows))
	for _, row := range rows {
		oid, err := strconv.ParseUint(string(row[0]), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("ask for the names of types: %w", err)
		}
		types[uint32(oid)] = string(row[1])
	}
	return types, nil
}

// System is the source as it said at Open.
func (s *Stream) System() System { return s.system }

// Close is for a stream that never ran: Run closes what it ran.
func (s *Stream) Close() error { return hangUp(s.conn) }

// Confirm says that everything up to lsn (the EndLSN of a transaction, or an Event.Idle) is stored durably: the source may
// forget it. A position that was not handed out is cut to the furthest one that was. Any goroutine may call it.
func (s *Stream) Confirm(lsn LSN) {
	to := min(uint64(lsn), s.handedOut.Load())
	for {
		old := s.confirmed.Load()
		if to <= old || s.confirmed.CompareAndSwap(old, to) {
			return
		}
	}
}

// Run delivers events to out until ctx is done or something fails, then closes out and the connection. It always returns an
// error: the context's after a clean stop. While out is full it stops reading, and that is all the backpressure there is;
// the server hears of us all the same.
//
// Nothing is lost when we die anywhere in here: the server sends again whatever the consumer has not confirmed.
func (s *Stream) Run(ctx context.Context, out chan<- Event) (err error) {
	defer close(out)
	defer func() { s.end(err) }()
	raw := s.conn.Conn()
	stop := context.AfterFunc(ctx, func() { raw.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	if err := s.tick(); err != nil { // the server's clock for us starts with a status
		return err
	}
	for {
		if err := raw.SetReadDeadline(time.Now().Add(s.untilTick())); err != nil {
			return fmt.Errorf("wait for the source: %w", err)
		}
		if ctx.Err() != nil { // asked after the deadline was set: that may have undone the one of AfterFunc
			return ctx.Err()
		}
		if err := s.receive(ctx, out); err != nil {
			return err
		}
		if err := s.tick(); err != nil {
			return err
		}
		s.tellIdle(out, false)
	}
}

// receive takes messages until the read deadline. A deadline may cut a message in two; the next read goes on with it.
func (s *Stream) receive(ctx context.Context, out chan<- Event) error {
	for {
		msg, err := s.conn.Frontend().Receive()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if netErr := net.Error(nil); errors.As(err, &netErr) && netErr.Timeout() {
				return nil
			}
			return fmt.Errorf("receive from the source: %w", err)
		}
		switch msg := msg.(type) {
		case *pgproto3.CopyData:
			err = s.copyData(ctx, msg.Data, out)
		case *pgproto3.NoticeResponse:
			err = s.notice(msg)
		case *pgproto3.ErrorResponse:
			return streamError(s.cfg, pgconn.ErrorResponseToPgError(msg))
		case *pgproto3.ParameterStatus:
		case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
			return fmt.Errorf("the source ended the stream: %w", net.ErrClosed) // it shuts down
		default:
			return fmt.Errorf("unexpected message %T from the source", msg)
		}
		if err != nil {
			return err
		}
		s.heard = true
		if s.wake {
			s.wake = false
			return nil
		}
	}
}

// notice stops on the warning by which 18 says that it skips all changes; others are logged, without their text.
func (s *Stream) notice(n *pgproto3.NoticeResponse) error {
	quoted := `"` + s.cfg.Publication + `"`
	if n.Routine == noticeRoutine || n.Code == "55000" && strings.Contains(n.Message, quoted) {
		return publicationMissing(s.cfg.Publication, nil)
	}
	s.log.Warn("notice from the source", zap.String("sqlstate", n.Code), zap.String("severity", n.SeverityUnlocalized))
	return nil
}

// copyData takes what comes inside the replication stream: a piece of WAL ('w') or a keepalive ('k').
func (s *Stream) copyData(ctx context.Context, b []byte, out chan<- Event) error {
	switch {
	case len(b) > 25 && b[0] == 'w':
		// Of the header's positions the first counts, and only to order messages among row changes: see Tx.addMessage.
		serverTime := int64(binary.BigEndian.Uint64(b[17:])) + pgEpoch
		return s.message(ctx, LSN(binary.BigEndian.Uint64(b[1:])), b[25:], serverTime, out)
	case len(b) == 18 && b[0] == 'k':
		s.keepalive(LSN(binary.BigEndian.Uint64(b[1:])), int64(binary.BigEndian.Uint64(b[9:]))+pgEpoch, b[17] != 0, out)
		return nil
	}
	e := &DecodeError{What: "neither WAL data nor a keepalive"}
	if len(b) > 0 {
		e.Type = b[0]
	}
	return e
}

// keepalive tells how far the server has read. With no transaction open, everything before is delivered.
func (s *Stream) keepalive(end LSN, at int64, reply bool, out chan<- Event) {
	if !s.inside {
		s.noteIdle(end, at)
		s.metrics.lagSeconds.Set(0)
	}
	if !reply {
		s.tellIdle(out, false)
		return
	}
	// Asked for: not now but in tick, which keeps replies apart, since each of ours may bring the next request.
	s.owed, s.askedAt, s.wake = true, end, true
	s.tellIdle(out, true)
}

// message takes one message of pgoutput. lsn is where the server says that it stands.
func (s *Stream) message(ctx context.Context, lsn LSN, frame []byte, serverTime int64, out chan<- Event) error {
	switch frame[0] {
	case msgInsert, msgUpdate, msgDelete:
		oid, err := relationOf(frame)
		if err != nil {
			return err
		}
		return s.row(frame[0], oid, lsn, frame)
	case msgTruncate:
		return decodeTruncate(frame, func(oid uint32) error { return s.row(msgTruncate, oid, lsn, nil) })
	case msgMessage:
		m, err := decodeMessage(frame)
		if err != nil || !m.transactional || s.skipping {
			return err // one that is not transactional arrives at once, also of a transaction that fails: no evidence
		}
		if s.open == nil {
			return &DecodeError{Type: frame[0], What: "outside a transaction"}
		}
		s.open.told = s.open.told || slices.ContainsFunc(s.cfg.Messages, func(p string) bool { return p == string(m.prefix) })
		return s.open.addMessage(m.lsn, frame)
	case msgBegin:
		return s.begin(frame)
	case msgCommit:
		return s.commit(ctx, frame, serverTime, out)
	case msgRelation:
		return s.describe(frame)
	case msgType:
		oid, name, err := decodeType(frame)
		if err == nil {
			s.types[oid] = name
		}
		return err
	case msgOrigin:
		return decodeOrigin(frame)
	}
	return &DecodeError{Type: frame[0], What: "a type that the protocol's version 1 does not have"}
}

func (s *Stream) begin(frame []byte) error {
	b, err := decodeBegin(frame)
	if err != nil {
		return err
	}
	if s.inside {
		return &DecodeError{Type: frame[0], What: "a transaction inside a transaction"}
	}
	if b.commitLSN <= s.lastCommit {
		return fmt.Errorf("transaction %d: its commit LSN %s is not above the one before, %s", b.xid, b.commitLSN, s.lastCommit)
	}
	s.inside, s.openBegin, s.lastCommit = true, b, b.commitLSN
	s.skipping = b.commitLSN <= s.cfg.SkipThrough
	s.serial++
	if !s.skipping {
		s.open = &Tx{XID: b.xid, CommitLSN: b.commitLSN, CommitTime: b.time, store: &s.store}
	}
	return nil
}

// row keeps a row change, with the table as it is described at this moment.
func (s *Stream) row(kind byte, oid uint32, lsn LSN, frame []byte) error {
	rel := s.relations[oid]
	switch {
	case !s.inside:
		return &DecodeError{Type: kind, What: "outside a transaction"}
	case rel == nil:
		return &DecodeError{Type: kind, Offset: 1, What: fmt.Sprintf("table %d was never described", oid)}
	case s.skipping:
		return nil
	}
	if rel.serial != s.serial {
		rel.serial, rel.index = s.serial, len(s.open.rels)
		s.open.rels = append(s.open.rels, rel.Relation)
	}
	return s.open.addRow(kind, rel.index, lsn, frame)
}

// describe takes a table's shape. The server repeats it after a reconnect or when its caches were reset: the same shape
// keeps its pointer, so that caches keyed by it neither grow nor start over.
func (s *Stream) describe(frame []byte) error {
	rel, err := decodeRelation(frame, s.types)
	if err != nil {
		return err
	}
	if old := s.relations[rel.OID]; old != nil && old.equal(rel) {
		return nil
	}
	s.relations[rel.OID] = &relation{Relation: rel}
	s.log.Debug("table described", zap.String("table", rel.FullName), zap.Int("columns", len(rel.Columns)))
	return nil
}

func (s *Stream) commit(ctx context.Context, frame []byte, serverTime int64, out chan<- Event) error {
	c, err := decodeCommit(frame)
	if err != nil {
		return err
	}
	if !s.inside || c.commitLSN != s.openBegin.commitLSN || c.endLSN <= c.commitLSN {
		return &DecodeError{Type: frame[0], Offset: 2, What: "it does not match the transaction that began"}
	}
	tx := s.open
	s.inside, s.open = false, nil
	if tx == nil || tx.Rows == 0 && !tx.told {
		s.noteIdle(c.endLSN, serverTime)
		s.tellIdle(out, false)
		if tx != nil {
			return tx.Close()
		}
		return nil
	}
	tx.EndLSN, tx.CommitTime = c.endLSN, c.time
	if err := tx.seal(); err != nil {
		return errors.Join(err, tx.Close())
	}
	s.metrics.transactions.Inc()
	s.handedOut.Store(uint64(c.endLSN)) // before the send: the consumer may confirm at once
	s.metrics.lagSeconds.Set(max(0, float64(serverTime-c.time)/1e6))
	if err := s.deliver(ctx, out, Event{Tx: tx}); err != nil {
		return errors.Join(err, tx.Close())
	}
	return nil
}

// deliver waits for room in out and keeps the session alive meanwhile: the server does not mind a client that does not
// read, as long as it hears of it.
func (s *Stream) deliver(ctx context.Context, out chan<- Event, event Event) error {
	select {
	case out <- event:
		return nil
	default:
	}
	timer := time.NewTicker(min(tickInterval, s.cfg.StatusInterval))
	defer timer.Stop()
	defer func() { s.lastHeard = time.Now() }() // we did not listen
	for {
		select {
		case out <- event:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case now := <-timer.C:
			s.metrics.lagSeconds.Set(max(0, float64(now.UnixMicro()-event.Tx.CommitTime)/1e6))
			s.lastHeard = now
			if err := s.tick(); err != nil {
				return err
			}
		}
	}
}

// noteIdle remembers that everything before lsn was delivered or needs no delivery.
func (s *Stream) noteIdle(lsn LSN, at int64) {
	s.idle, s.idleAt = max(s.idle, lsn), at
}

// tellIdle hands the news on when it is time for it, and never waits: what does not fit now is told later. It follows
// every transaction before it through the same channel, so the consumer stores it after them.
func (s *Stream) tellIdle(out chan<- Event, now bool) {
	// At rest the position stays and the time goes on: "complete up to now" is news too.
	moved := uint64(s.idle) > s.handedOut.Load()
	if s.inside || s.idle == 0 || !moved && (uint64(s.idle) < s.handedOut.Load() || s.idleAt-s.idleToldAt < s.cfg.IdleInterval.Microseconds()) {
		return
	}
	if !now && !s.idleTold.IsZero() && time.Since(s.idleTold) < s.cfg.IdleInterval {
		return
	}
	before := s.handedOut.Swap(uint64(s.idle)) // before the send, as for a transaction
	select {
	case out <- Event{Idle: s.idle, IdleAt: s.idleAt}:
		s.idleTold, s.idleToldAt = time.Now(), s.idleAt
	default:
		s.handedOut.Store(before)
	}
}

// untilTick is how long receive may wait.
func (s *Stream) untilTick() time.Duration {
	if s.owed || s.askedAt != 0 {
		return min(urgentTick, s.cfg.StatusInterval)
	}
	return min(tickInterval, s.cfg.StatusInterval)
}

// tick sends a status when one is due: when the interval is over, when the consumer has confirmed more, when the server
// asked; and notices a server that is gone. Every wait in Run comes by here at least once in a status interval.
func (s *Stream) tick() error {
	now := time.Now()
	if s.heard {
		s.heard, s.lastHeard = false, now
	}
	silent := now.Sub(s.lastHeard)
	if silent > s.silence {
		return fmt.Errorf("nothing came from the source for %s: %w", silent.Round(time.Second), errSilent)
	}
	confirmed := LSN(s.confirmed.Load())
	if confirmed >= s.askedAt {
		s.askedAt = 0
	}
	due := now.Sub(s.lastStatus) >= s.cfg.StatusInterval ||
		confirmed > s.lastSent ||
		s.owed && now.Sub(s.lastStatus) >= urgentTick
	if !due {
		return nil
	}
	// Nothing heard for an interval: ask for a sign of life, which a server at rest gives only when asked.
	return s.sendStatus(confirmed, silent >= s.cfg.StatusInterval, writeTimeout)
}

// sendStatus tells one position three times: received, flushed and applied mean the same here, stored by the consumer.
func (s *Stream) sendStatus(at LSN, wantReply bool, limit time.Duration) error {
	now := time.Now()
	room := [statusSize]byte{0: 'd', 5: 'r'}
	b := binary.BigEndian.AppendUint32(room[:1], statusSize-1)
	b = append(b, 'r')
	for range 3 {
		b = binary.BigEndian.AppendUint64(b, uint64(at))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(now.UnixMicro()-pgEpoch))
	if wantReply {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	if err := s.conn.Conn().SetWriteDeadline(now.Add(limit)); err != nil {
		return fmt.Errorf("send a status to the source: %w", err)
	}
	if err := s.conn.Frontend().SendUnbufferedEncodedCopyData(b); err != nil {
		return fmt.Errorf("send a status to the source: %w", err)
	}
	s.lastStatus, s.lastSent, s.owed = now, at, false
	return nil
}

// end frees what is left and says goodbye. The server hears of the last confirmation, unless the connection is the
// trouble; when that is lost, it sends again what SkipThrough skips.
func (s *Stream) end(err error) {
	if s.open != nil {
		s.open.Close()
		s.open = nil
	}
	if !Retryable(err) || errors.Is(err, context.DeadlineExceeded) { // the connection is sound
		s.sendStatus(LSN(s.confirmed.Load()), false, goodbyeWithin)
	}
	hangUp(s.conn)
	s.log.Info("stream closed", zap.String("slot", s.cfg.Slot), zap.Stringer("confirmed", LSN(s.confirmed.Load())))
}
