package capture

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// NewSlot is a slot that was just made. Its snapshot shows the database as of ConsistentPoint: every transaction is either
// in the snapshot or in the stream. It lives as long as the connection: until Close, or until that connection does
// anything else, which it does not.
type NewSlot struct {
	ConsistentPoint LSN
	SnapshotName    string
	SystemID        string
	Timeline        int32

	conn *pgconn.PgConn
}

// Close ends the snapshot, for those who have not taken it yet. The slot stays.
func (n *NewSlot) Close() error {
	if n.conn == nil {
		return nil
	}
	conn := n.conn
	n.conn = nil
	return hangUp(conn)
}

// CreateSlot makes the slot. The publication must be there already: changes decoded before it was made would be lost or
// stop the stream for ever. The server waits for every transaction that is writing right now, in any of its databases, so
// give ctx a limit. A crash after this and before the snapshot is read leaves a slot that must be made again.
func CreateSlot(ctx context.Context, cfg Config) (*NewSlot, error) { return createSlot(ctx, cfg, "") }

// CreateTemporarySlot makes one beside the slot, only for its snapshot: the next state of the database that can be joined
// with the stream. Close removes it. It takes a place of max_replication_slots and max_wal_senders for that long.
func CreateTemporarySlot(ctx context.Context, cfg Config) (*NewSlot, error) {
	cfg.Slot += "_snapshot"
	cfg.Failover = false
	return createSlot(ctx, cfg, "TEMPORARY ")
}

func createSlot(ctx context.Context, cfg Config, kind string) (_ *NewSlot, err error) {
	if err := checkSlotName(cfg.Slot); err != nil {
		return nil, err
	}
	conn, err := dial(ctx, cfg.DSN, true)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			hangUp(conn)
		}
	}()
	sys, err := identify(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := sys.usable(); err != nil {
		return nil, err
	}
	if err := checkPublication(ctx, conn, cfg.Publication); err != nil {
		return nil, err
	}
	options := "EXPORT_SNAPSHOT" // 14 has no list of options
	if sys.Version >= 15 {
		options = "(SNAPSHOT 'export')"
	}
	if cfg.Failover {
		if sys.Version < 17 {
			return nil, fmt.Errorf("create slot %q: slots that go over to a standby need Postgres 17, the source is %d", cfg.Slot, sys.Version)
		}
		options = "(SNAPSHOT 'export', FAILOVER true)"
	}
	row, err := queryRow(ctx, conn, 3, fmt.Sprintf(`CREATE_REPLICATION_SLOT %s %sLOGICAL pgoutput %s`, identifier(cfg.Slot), kind, options))
	if err != nil {
		return nil, createError(cfg.Slot, err)
	}
	point, err := parseLSN(row[1])
	if err != nil {
		return nil, fmt.Errorf("create slot %q: %w", cfg.Slot, err)
	}
	return &NewSlot{ConsistentPoint: point, SnapshotName: row[2], SystemID: sys.ID, Timeline: sys.Timeline, conn: conn}, nil
}

func createError(slot string, err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "42710":
			return newFault(ErrSlotExists, err, "slot %q is there already: choose another name, or drop it when nobody needs it: "+
				"SELECT pg_drop_replication_slot('%s')", slot, slot)
		case "53400":
			return newFault(nil, err, "create slot %q: the source has no free slot: raise max_replication_slots and restart it, or drop one that nobody uses", slot)
		}
	}
	return fmt.Errorf("create slot %q: %w", slot, err)
}

// SlotInfo is what pg_replication_slots says of one slot.
type SlotInfo struct {
	Plugin         string
	Database       string
	ConfirmedFlush LSN // still set when the slot is lost
	RestartLSN     LSN // 0 when it is lost
	Active         bool
	ActivePID      int32
	WALStatus      string // reserved, extended, unreserved, lost
	SafeWALSize    int64  // bytes that may still be written before it may be lost; -1: no limit is set, or it is lost
	RetainedBytes  int64  // WAL that the slot holds back
	LagBytes       int64  // WAL behind the confirmed position
}

// Lost says whether the slot can never stream again.
func (s SlotInfo) Lost() bool { return s.WALStatus == "lost" || s.RestartLSN == 0 }

// On a standby there is no current position, only the replayed one. Since 14 every column here exists.
const slotQuery = `
SELECT coalesce(s.plugin, ''), coalesce(s.database, ''), s.confirmed_flush_lsn, s.restart_lsn, s.active, coalesce(s.active_pid, 0),
       coalesce(s.wal_status, ''), coalesce(s.safe_wal_size, -1),
       coalesce(pg_catalog.pg_wal_lsn_diff(now.lsn, s.restart_lsn), 0)::bigint,
       coalesce(pg_catalog.pg_wal_lsn_diff(now.lsn, s.confirmed_flush_lsn), 0)::bigint
  FROM pg_catalog.pg_replication_slots s,
       (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                    ELSE pg_catalog.pg_current_wal_lsn() END) AS now(lsn)
 WHERE s.slot_name = `

// LookupSlot reads the state of a slot over any connection, ordinary or replication (pgx: conn.PgConn()).
func LookupSlot(ctx context.Context, conn *pgconn.PgConn, name string) (info SlotInfo, found bool, err error) {
	if err := checkSlotName(name); err != nil {
		return info, false, err
	}
	rows, err := queryRows(ctx, conn, slotQuery+"'"+name+"'")
	if err != nil {
		return info, false, fmt.Errorf("look for slot %q: %w", name, err)
	}
	if len(rows) == 0 {
		return info, false, nil
	}
	text := func(i int) string { return string(rows[0][i]) }
	var errs []error
	number := func(i, bits int) int64 {
		n, err := strconv.ParseInt(text(i), 10, bits)
		errs = append(errs, err)
		return n
	}
	lsn := func(i int) LSN {
		l, err := parseLSN(text(i))
		errs = append(errs, err)
		return l
	}
	info = SlotInfo{
		Plugin: text(0), Database: text(1), ConfirmedFlush: lsn(2), RestartLSN: lsn(3),
		Active: text(4) == "t", ActivePID: int32(number(5, 32)), WALStatus: text(6), SafeWALSize: number(7, 64),
		RetainedBytes: max(0, number(8, 64)), LagBytes: max(0, number(9, 64)),
	}
	if err := errors.Join(errs...); err != nil {
		return SlotInfo{}, false, fmt.Errorf("look for slot %q: %w", name, err)
	}
	return info, true, nil
}

// checkSlot says what is in the way of streaming from a slot.
func checkSlot(ctx context.Context, conn *pgconn.PgConn, cfg Config, sys System) error {
	info, found, err := LookupSlot(ctx, conn, cfg.Slot)
	switch {
	case err != nil:
		return err
	case !found:
		return slotMissing(cfg.Slot, nil)
	case info.Plugin != "pgoutput" || info.Database != sys.database:
		return newFault(ErrSlotForeign, nil, "slot %q belongs to something else (plugin %q, database %q; ours would be pgoutput, %q): "+
			"set source.slot to another name", cfg.Slot, info.Plugin, info.Database, sys.database)
	case info.Lost():
		return slotLost(cfg.Slot, nil)
	case info.Active:
		return slotInUse(cfg.Slot, info.ActivePID, nil)
	}
	return nil
}

// DropSlot removes a slot; none of that name is an ErrSlotMissing, one that streams an ErrSlotInUse.
func DropSlot(ctx context.Context, cfg Config) error {
	if err := checkSlotName(cfg.Slot); err != nil {
		return err
	}
	conn, err := dial(ctx, cfg.DSN, true)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	_, err = conn.Exec(ctx, "DROP_REPLICATION_SLOT "+identifier(cfg.Slot)).ReadAll()
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "42704":
			return slotMissing(cfg.Slot, err)
		case "55006":
			return slotInUse(cfg.Slot, activePID(ctx, cfg), err)
		}
	}
	if err != nil {
		return fmt.Errorf("drop slot %q: %w", cfg.Slot, err)
	}
	return nil
}

// activePID asks, over a connection of its own, who has the slot; 0 when that cannot be had.
func activePID(ctx context.Context, cfg Config) int32 {
	conn, err := dial(ctx, cfg.DSN, false)
	if err != nil {
		return 0
	}
	defer hangUp(conn)
	info, _, _ := LookupSlot(ctx, conn, cfg.Slot)
	return info.ActivePID
}
