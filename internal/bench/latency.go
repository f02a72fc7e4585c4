package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"casebook.example/audit/ledger"
)

const (
	smallRate     = 200 // transactions a second
	smallSessions = 4
	watchEvery    = 500 * time.Microsecond // the resolution of the latencies
)

// sighting is where a consumer stood at a moment.
type sighting struct {
	at  time.Time
	lsn ledger.LSN
}

// stretch is a part of the source's log, with what was seen of a consumer meanwhile.
type stretch struct {
	from, to ledger.LSN
	seen     []sighting
}

// latencies measures both consumers, one after the other, under the same load. The commit times of all the transactions
// come from the log, which has those of the source's clock; so the subscription goes first and is reckoned at the end.
func (w *world) latencies(ctx context.Context, lasts time.Duration) (ours, copied []time.Duration, atRest int64, err error) {
	w.say("latency of the subscription, %d transactions a second for %s", smallRate, lasts)
	if err := w.enableCopy(ctx); err != nil {
		return nil, nil, 0, err
	}
	if _, _, err := w.walsender(ctx, copySlot); err != nil {
		return nil, nil, 0, err
	}
	origin, err := w.copyOrigin(ctx)
	if err != nil {
		return nil, nil, 0, err
	}
	// The progress moves in the commit, microseconds before the row is visible.
	subscription, err := w.watch(ctx, lasts, w.atCopy, `select coalesce(pg_replication_origin_progress($1, false), '0/0')::text`, origin)
	if err != nil {
		return nil, nil, 0, err
	}
	if err := w.disableCopy(ctx); err != nil {
		return nil, nil, 0, err
	}

	d, err := w.startDaemon(ctx)
	if err != nil {
		return nil, nil, 0, err
	}
	end, err := w.mark(ctx)
	if err != nil {
		return nil, nil, 0, err
	}
	if err := d.stored(ctx, end); err != nil {
		return nil, nil, 0, err
	}
	if err := d.stop(); err != nil {
		return nil, nil, 0, err
	}
	w.say("memory of the daemon at rest, then its latency under the same load")
	if d, err = w.startDaemon(ctx); err != nil {
		return nil, nil, 0, err
	}
	select {
	case <-time.After(3 * time.Second):
	case <-ctx.Done():
		return nil, nil, 0, ctx.Err()
	}
	atRest = d.memory("VmRSS")
	log, err := w.watch(ctx, lasts, w.atLog, `select commit_lsn::text from audit.position`)
	if err != nil {
		return nil, nil, 0, err
	}
	if err := d.stop(); err != nil {
		return nil, nil, 0, err
	}
	if ours, err = w.reckon(ctx, log); err != nil {
		return nil, nil, 0, err
	}
	copied, err = w.reckon(ctx, subscription)
	return ours, copied, atRest, err
}

// watch makes small transactions and looks meanwhile where a consumer stands, until it has all of them.
func (w *world) watch(ctx context.Context, lasts time.Duration, conn *pgx.Conn, where string, args ...any) (s stretch, err error) {
	if s.from, err = w.mark(ctx); err != nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, lasts+time.Minute)
	defer cancel()
	var to atomic.Uint64 // 0 while the work goes on
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := w.smallWork(groupCtx, lasts); err != nil {
			return err
		}
		end, err := w.mark(groupCtx)
		to.Store(uint64(end))
		return err
	})
	group.Go(func() error {
		for {
			lsn, err := readLSN(groupCtx, conn, where, args...)
			if err != nil {
				return err
			}
			if n := len(s.seen); n == 0 || s.seen[n-1].lsn != lsn {
				s.seen = append(s.seen, sighting{time.Now(), lsn})
			}
			if end := ledger.LSN(to.Load()); end != 0 && lsn > end {
				return nil
			}
			time.Sleep(watchEvery)
		}
	})
	err = group.Wait()
	s.to = ledger.LSN(to.Load())
	return s, err
}

// smallWork commits one-row transactions at a steady rate, as people do; a commit waits for the disk.
func (w *world) smallWork(ctx context.Context, lasts time.Duration) error {
	group, ctx := errgroup.WithContext(ctx)
	for n := range smallSessions {
		group.Go(func() error {
			conn, err := pgx.Connect(ctx, w.source.DSN(sourceDB, appRole)+"&application_name=engage")
			if err != nil {
				return err
			}
			defer conn.Close(context.WithoutCancel(ctx))
			interval := time.Second * smallSessions / smallRate
			next := time.Now().Add(interval * time.Duration(n) / smallSessions)
			for end := time.Now().Add(lasts); next.Before(end); next = next.Add(interval) {
				time.Sleep(time.Until(next))
				_, err := conn.PgConn().Exec(ctx, fmt.Sprintf(`begin; set local audit.user_id = '20000000-0000-4000-8000-00000000000%d';
					insert into content.notes (tenant_id, notable_type, notable_id, note_type, subject, body, contact_at)
					values ('10000000-0000-4000-8000-000000000001', 'person', '40000000-0000-4000-8000-000000000001', 'contact',
					'Phone call', 'Short note of a contact.', now()); commit`, n+1)).ReadAll()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// reckon gives for each transaction of the stretch the time from its commit to when it was first seen stored, sorted.
func (w *world) reckon(ctx context.Context, s stretch) ([]time.Duration, error) {
	rows, err := w.atLog.Query(ctx, `select commit_lsn::text, committed_at from audit.entry
		where kind = 4 and commit_lsn > $1::pg_lsn and commit_lsn < $2::pg_lsn order by commit_lsn`, s.from.String(), s.to.String())
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	var text string
	var committed time.Time
	i := 0
	_, err = pgx.ForEachRow(rows, []any{&text, &committed}, func() error {
		lsn, err := ledger.ParseLSN(text)
		if err != nil {
			return err
		}
		for i < len(s.seen) && s.seen[i].lsn < lsn {
			i++
		}
		if i == len(s.seen) {
			return fmt.Errorf("transaction %s was never seen", lsn)
		}
		took = append(took, s.seen[i].at.Sub(committed))
		return nil
	})
	slices.Sort(took)
	return took, err
}
