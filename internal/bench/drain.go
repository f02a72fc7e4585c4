package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
)

// drain is how long a consumer took for a backlog, and the processor time of those who did the work.
type drain struct {
	took      time.Duration
	walsender time.Duration // decoding on the source
	client    time.Duration // our daemon; 0 where there is none
	backend   time.Duration // of the database that stores
	peak      int64         // memory of our daemon, bytes
	commits   int           // transactions of the audit database
}

const drainTimeout = 3 * time.Minute

// toNowhere reads the backlog and throws it away: the limit that decoding sets. It is timed with its process' start and
// end, some milliseconds.
func (w *world) toNowhere(ctx context.Context, end ledger.LSN) (drain, error) {
	start := time.Now()
	cmd := exec.CommandContext(ctx, w.source.Program("pg_recvlogical"), "--dbname", w.source.DSN(sourceDB, "postgres"), "--slot", nowhereSlot,
		"--start", "--file", "/dev/null", "--endpos", (end + 1).String(), "--fsync-interval", "0", "--no-loop",
		"-o", "proto_version=1", "-o", "publication_names="+publication, "-o", "messages=true")
	if err := run(cmd); err != nil {
		return drain{}, err
	}
	return drain{took: time.Since(start)}, nil
}

// toCopy lets Postgres' own subscription apply the backlog. It counts as applied when it is flushed: the apply worker
// itself commits without waiting for the disk.
func (w *world) toCopy(ctx context.Context, end ledger.LSN) (drain, error) {
	if err := w.enableCopy(ctx); err != nil {
		return drain{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	sender, began, err := w.walsender(ctx, copySlot)
	if err != nil {
		return drain{}, err
	}
	origin, err := w.copyOrigin(ctx)
	if err != nil {
		return drain{}, err
	}
	for {
		at, err := readLSN(ctx, w.atCopy, `select coalesce(pg_replication_origin_progress($1, false), '0/0')::text`, origin)
		if err != nil {
			return drain{}, fmt.Errorf("wait for the subscription: %w", err)
		}
		if at > end {
			break
		}
		time.Sleep(poll)
	}
	if _, err := readLSN(ctx, w.atCopy, `select pg_replication_origin_progress($1, true)::text`, origin); err != nil { // flushes
		return drain{}, err
	}
	d := drain{took: time.Since(began), walsender: cpuTime(sender)}
	var worker int
	if err := w.atCopy.QueryRow(ctx, `select pid from pg_stat_subscription where subname = $1 and pid is not null`, copySlot).Scan(&worker); err != nil {
		return drain{}, fmt.Errorf("find the apply worker: %w", err)
	}
	d.backend = cpuTime(worker)
	return d, w.disableCopy(ctx)
}

// toLog lets our daemon store the backlog: durable, chained and indexed when audit.position is past it.
func (w *world) toLog(ctx context.Context, from, end ledger.LSN) (drain, error) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	p, err := w.startDaemon(ctx)
	if err != nil {
		return drain{}, err
	}
	sender, began, err := w.walsender(ctx, ourSlot)
	if err != nil {
		return drain{}, err
	}
	if err := p.stored(ctx, end); err != nil {
		return drain{}, err
	}
	d := drain{took: time.Since(began), walsender: cpuTime(sender), client: cpuTime(p.cmd.Process.Pid), peak: p.memory("VmHWM")}
	rows, err := w.atLog.Query(ctx, `select pid from pg_stat_activity where datname = $1 and application_name = 'casebook-audit'`, auditDB)
	if err != nil {
		return drain{}, err
	}
	backends, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return drain{}, err
	}
	for _, pid := range backends {
		d.backend += cpuTime(pid)
	}
	if err := p.stop(); err != nil {
		return drain{}, err
	}
	// The entries of one commit share the time of their recording.
	err = w.atLog.QueryRow(ctx, `select count(distinct recorded_us) from audit.entry where kind = 4 and commit_lsn > $1::pg_lsn`, from.String()).Scan(&d.commits)
	return d, err
}

// stored waits until the log is past end.
func (d *daemon) stored(ctx context.Context, end ledger.LSN) error {
	return d.wait(ctx, func() (bool, error) {
		at, err := readLSN(ctx, d.w.atLog, `select commit_lsn::text from audit.position`)
		return at > end, err
	})
}

func (w *world) enableCopy(ctx context.Context) error {
	_, err := w.atCopy.Exec(ctx, `alter subscription `+copySlot+` enable`)
	return err
}

// disableCopy returns when the source knows of it: until then the slot is in use.
func (w *world) disableCopy(ctx context.Context) error {
	if _, err := w.atCopy.Exec(ctx, `alter subscription `+copySlot+` disable`); err != nil {
		return err
	}
	for {
		var active bool
		if err := w.atSource.QueryRow(ctx, `select active from pg_replication_slots where slot_name = $1`, copySlot).Scan(&active); err != nil || !active {
			return err
		}
		time.Sleep(poll)
	}
}

func (w *world) copyOrigin(ctx context.Context) (name string, err error) {
	err = w.atCopy.QueryRow(ctx, `select 'pg_' || oid from pg_subscription where subname = $1`, copySlot).Scan(&name)
	return name, err
}

// walsender waits until the slot is read and says by which process, and when that was born: the start of a drain, by
// the clock of this machine.
func (w *world) walsender(ctx context.Context, slot string) (pid int, began time.Time, err error) {
	for {
		err = w.atSource.QueryRow(ctx, `select a.pid, a.backend_start from pg_replication_slots s join pg_stat_activity a on a.pid = s.active_pid
			where s.slot_name = $1`, slot).Scan(&pid, &began)
		if err != pgx.ErrNoRows {
			return pid, began, err
		}
		time.Sleep(poll)
	}
}

// sameRows compares what the sides hold of a backlog: it is no use to measure one that has lost something.
func (w *world) sameRows(ctx context.Context, from, end ledger.LSN, rows int) error {
	var changes int
	err := w.atLog.QueryRow(ctx, `select coalesce(sum(vals[array_position(paths, 'changes')]::bigint), 0) from audit.entry
		where kind = 4 and commit_lsn > $1::pg_lsn and commit_lsn < $2::pg_lsn`, from.String(), end.String()).Scan(&changes)
	if err != nil {
		return err
	}
	if changes != rows {
		return fmt.Errorf("the log has %d row changes of a backlog of %d", changes, rows)
	}
	const digest = `select sum(n)::text from (
		select sum(hashtextextended(id::text || updated_at::text, 0)) n from content.notes
		union all select sum(hashtextextended(id::text || updated_at::text, 0)) from services.service_enrollments
		union all select sum(hashtextextended(id::text || updated_at::text, 0)) from tasks.tasks
		union all select sum(hashtextextended(id::text || updated_at::text, 0)) from cases.case_involvements) x`
	var there, here string
	if err := w.atSource.QueryRow(ctx, digest).Scan(&there); err != nil {
		return err
	}
	if err := w.atCopy.QueryRow(ctx, digest).Scan(&here); err != nil {
		return err
	}
	if there != here {
		return fmt.Errorf("the subscriber's rows are not the source's")
	}
	return nil
}
