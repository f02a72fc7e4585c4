package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
	"casebook.example/audit/sink"
)

const (
	seedRows        = 5000            // directory rows that one transaction of the audit database takes while it is filled
	seedConnections = 4               // of the source, that read the snapshot
	seedProgress    = 2 * time.Second // between two lines of progress
)

// prepare brings source and audit database to where streaming can begin: the same source as before, a slot, a directory
// that was filled from the slot's snapshot, and a gap entry for whatever lies between the stored position and the slot.
func (s *session) prepare(ctx context.Context) error {
	system, err := capture.Identify(ctx, s.source)
	if err != nil {
		return err
	}
	at := s.writer.Position()
	if at.SystemID != "" && at.SystemID != system.ID {
		return &stopError{"slot", fmt.Errorf("the chain belongs to source cluster %s, but this is cluster %s: point source.dsn at the right server, or begin a new chain with a name and an origin of its own", at.SystemID, system.ID)}
	}
	slot, found, err := s.findSlot(ctx)
	if err != nil {
		return err
	}
	switch {
	case !at.Seeded && at.CommitLSN == 0:
		if err := s.dropUnusedSlot(ctx, slot, found); err != nil {
			return err
		}
		return s.seed(ctx, "")
	case !at.Seeded || !found || slot.Lost():
		why := "the replication slot was gone"
		if found {
			why = "the replication slot was lost: the source had removed WAL that it still needed"
			if err := capture.DropSlot(ctx, s.source); err != nil {
				return err
			}
		}
		if !at.Seeded { // the gap was recorded by the start that was interrupted
			why = ""
		}
		return s.seed(ctx, why)
	case ledger.LSN(slot.ConfirmedFlush) > at.AckedLSN:
		return s.recordGap(ctx, at.AckedLSN, slot.ConfirmedFlush, "the replication slot was ahead of this log: it was moved forward or made again, or the audit database was restored from an older copy")
	}
	return nil
}

// dropUnusedSlot removes a slot that an interrupted first start of ours has left. A slot that something else made cannot
// be joined with a snapshot, and is not ours to drop.
func (s *session) dropUnusedSlot(ctx context.Context, slot capture.SlotInfo, found bool) error {
	if !found {
		return nil
	}
	at := s.writer.Position()
	if at.Slot != s.source.Slot || at.ConsistentPoint != ledger.LSN(slot.ConfirmedFlush) {
		return &stopError{"slot", fmt.Errorf("slot %q is there already, but this chain has not begun: what the slot holds cannot be joined with a snapshot. If nothing else uses it, drop it on the source with SELECT pg_drop_replication_slot('%s'); or set source.slot to another name", s.source.Slot, s.source.Slot)}
	}
	return capture.DropSlot(ctx, s.source)
}

// recordGap writes the stretch that was not seen into the chain. Only then does streaming go on behind it.
func (s *session) recordGap(ctx context.Context, from ledger.LSN, to capture.LSN, why string) error {
	s.log.Error("gap in the stream, recorded in the chain", zap.Stringer("from", from), zap.Stringer("to", to), zap.String("why", why))
	err := s.writer.AppendEvents(ctx, []*ledger.Entry{{
		Kind: ledger.KindGap, Action: ledger.ActionGap, Initiator: ledger.InitiatorSystem,
		Summary: "Changes in a stretch of the source's log were not seen", Remark: why,
		Fields: []ledger.Field{
			{Path: "gap.from_lsn", Type: "pg_lsn", State: ledger.FieldValue, Value: from.String()},
			{Path: "gap.to_lsn", Type: "pg_lsn", State: ledger.FieldValue, Value: ledger.LSN(to).String()},
		},
	}})
	if err != nil {
		return err
	}
	return s.writer.Advance(ctx, ledger.LSN(to), 0)
}

// seed makes the slot and reads the directory's tables as they stand where the slot's stream begins. Rows that the
// directory knows and the snapshot does not have stay: names of what was deleted are still asked for. gap says why there
// is one before the slot, "" that there is none.
//
// A crash before the gap is recorded leaves a slot that is ahead of the log, which is recorded at the next start; a crash
// after it leaves the chain unseeded, and the next start makes slot and snapshot again.
func (s *session) seed(ctx context.Context, gap string) error {
	s.health.set(phaseSeeding, "")
	slot, err := capture.CreateSlot(ctx, s.source)
	if err != nil {
		return err
	}
	defer slot.Close()
	if gap != "" { // it ends where the slot begins, which is known only now
		gap += "; a new one was made and the directory was read again"
		if err := s.recordGap(ctx, s.writer.Position().AckedLSN, slot.ConsistentPoint, gap); err != nil {
			return err
		}
	}
	err = s.writer.BeginSeed(ctx, sink.Seed{
		Slot: s.source.Slot, ConsistentPoint: ledger.LSN(slot.ConsistentPoint), SystemID: slot.SystemID, Timeline: slot.Timeline,
	}, s.rules.Entry(nil), &ledger.Entry{
		Kind: ledger.KindConfiguration, Action: "snapshot", Initiator: ledger.InitiatorSystem, Summary: "The directory is filled from a snapshot",
		Fields: []ledger.Field{{Path: mapping.PathSeededAt, Type: "pg_lsn", State: ledger.FieldValue, Value: ledger.LSN(slot.ConsistentPoint).String()}},
	})
	if err != nil {
		return err
	}
	if err := s.fill(ctx, s.rules, s.rules.SeedTables(), slot); err != nil {
		return err
	}
	return s.writer.MarkSeeded(ctx, []mapping.StoredRow{s.rules.Stored()}, &ledger.Entry{
		Kind: ledger.KindConfiguration, Action: "capture", Initiator: ledger.InitiatorSystem, Summary: "Capture begins",
		Fields: []ledger.Field{
			{Path: "capture.slot", Type: "text", State: ledger.FieldValue, Value: s.source.Slot},
			{Path: "capture.publication", Type: "text", State: ledger.FieldValue, Value: s.source.Publication},
			{Path: "capture.consistent_point", Type: "pg_lsn", State: ledger.FieldValue, Value: ledger.LSN(slot.ConsistentPoint).String()},
			{Path: "capture.system_id", Type: "text", State: ledger.FieldValue, Value: slot.SystemID},
		},
	})
}

// fill reads tables of a slot's snapshot into the directory.
func (s *session) fill(ctx context.Context, rules *mapping.Rules, tables []mapping.SeedTable, slot *capture.NewSlot) error {
	seeder, err := s.newSeeder(ctx, rules, tables, ledger.LSN(slot.ConsistentPoint))
	if err != nil {
		return err
	}
	s.log.Info("filling the directory", zap.Int("tables", len(tables)), zap.Int64("rows_about", seeder.about), zap.Stringer("consistent_point", slot.ConsistentPoint))
	err = capture.ReadSnapshot(ctx, s.source, slot.SnapshotName, seeder.tables, seedConnections, capture.SnapshotReader{
		Row: seeder.row, Done: seeder.done, Progress: seeder.progress,
	})
	if err != nil {
		return err
	}
	if err := seeder.store(); err != nil {
		return err
	}
	s.log.Info("directory filled", zap.Int64("rows", seeder.total))
	return nil
}

// seeder takes the rows of the snapshot and stores them in parts. Several connections of the source feed it at the same
// time; the audit database has one writer.
type seeder struct {
	*session
	ctx      context.Context // of the one call that it lives in
	rules    *mapping.Rules
	tables   []capture.TableColumns
	seedings []*mapping.Seeding
	about    int64 // rows that the source expects

	mu      sync.Mutex // what follows
	rows    []mapping.StoredRow
	records []mapping.RecordName
	users   []mapping.UserName
	total   int64
	told    time.Time
}

func (s *session) newSeeder(ctx context.Context, rules *mapping.Rules, tables []mapping.SeedTable, at ledger.LSN) (*seeder, error) {
	sd := &seeder{session: s, ctx: ctx, rules: rules, told: time.Now()}
	sd.tables = snapshotTables(tables)
	for _, t := range tables {
		sd.seedings = append(sd.seedings, rules.Seeding(t, at))
	}
	estimates, err := capture.EstimateRows(ctx, s.source, sd.tables)
	if err != nil {
		return nil, err
	}
	for _, n := range estimates {
		sd.about += n
	}
	return sd, nil
}

func snapshotTables(tables []mapping.SeedTable) []capture.TableColumns {
	list := make([]capture.TableColumns, len(tables))
	for i, t := range tables {
		list[i] = capture.TableColumns{Schema: t.Schema, Table: t.Name, Columns: t.Columns, OrderBy: t.OrderBy}
	}
	return list
}

func (s *seeder) row(table int, values []capture.Value) error {
	return s.seedings[table].Row(values, s.keep)
}

func (s *seeder) done(table int, _ int64) error { return s.seedings[table].End(s.keep) }

func (s *seeder) keep(row mapping.StoredRow, record *mapping.RecordName, user *mapping.UserName) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = append(s.rows, row)
	if record != nil {
		s.records = append(s.records, *record)
	}
	if user != nil {
		s.users = append(s.users, *user)
	}
	s.total++
	if len(s.rows) < seedRows {
		return nil
	}
	return s.store()
}

func (s *seeder) store() error {
	err := s.writer.SeedRows(s.ctx, s.rules.SeedEntries(s.rows), s.rows, s.records, s.users)
	s.rows, s.records, s.users = s.rows[:0], s.records[:0], s.users[:0]
	return err
}

func (s *seeder) progress(table int, rows int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.told) < seedProgress {
		return
	}
	s.told = time.Now()
	t := s.tables[table]
	s.log.Info("filling the directory", zap.String("table", t.Schema+"."+t.Table), zap.Int64("rows", rows), zap.Int64("of_all", s.total), zap.Int64("about", s.about))
}
