package capture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"casebook.example/audit/internal/cluster"
	"casebook.example/audit/internal/pgtest"
)

// What was confirmed does not come again, what was not does; what is stored already is skipped by its commit LSN.
func TestRestart(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		t.Parallel()
		b := setup(t, db, `create table r (id int primary key)`)
		s := b.run(t, b.cfg, 0, 4)
		for i := range 3 {
			b.exec(t, fmt.Sprintf("insert into r values (%d)", i))
		}
		tx := []*Tx{s.tx(t), s.tx(t), s.tx(t)}
		s.Confirm(tx[0].EndLSN)
		s.Confirm(tx[0].CommitLSN) // backwards: nothing happens
		s.stop(t)
		eventually(t, "the slot is free", func() bool { return !b.slot(t).Active })
		// Idle news that came between the transactions were confirmed too.
		if got := b.slot(t).ConfirmedFlush; got < tx[0].EndLSN || got >= tx[1].EndLSN {
			t.Fatalf("the slot stands at %s, confirmed was %s", got, tx[0].EndLSN)
		}

		again := b.run(t, b.cfg, 0, 4)
		if got := again.tx(t); got.CommitLSN != tx[1].CommitLSN || got.EndLSN != tx[1].EndLSN {
			t.Errorf("went on with %s, not with %s", got.CommitLSN, tx[1].CommitLSN)
		}
		again.stop(t)
		eventually(t, "the slot is free", func() bool { return !b.slot(t).Active })

		cfg := b.cfg
		cfg.SkipThrough = tx[1].CommitLSN
		skipping := b.run(t, cfg, tx[0].EndLSN, 4)
		if got := skipping.tx(t); got.CommitLSN != tx[2].CommitLSN {
			t.Errorf("after skipping went on with %s, not with %s", got.CommitLSN, tx[2].CommitLSN)
		}
		skipping.stop(t)
		eventually(t, "the slot is free", func() bool { return !b.slot(t).Active })

		cfg.SkipThrough = tx[2].CommitLSN
		all := b.run(t, cfg, tx[0].EndLSN, 4)
		eventually(t, "the news that nothing is left", func() bool {
			e := all.event(t)
			if e.Tx != nil {
				t.Fatalf("transaction %s is stored, and comes again", e.Tx.CommitLSN)
			}
			return e.Idle >= tx[2].EndLSN
		})
	})
}

func TestConfirmOnlyWhatWasHandedOut(t *testing.T) {
	t.Parallel()
	s := new(Stream)
	s.handedOut.Store(100)
	s.Confirm(500)
	if got := s.confirmed.Load(); got != 100 {
		t.Errorf("confirmed %d, handed out were 100", got)
	}
}

// Nobody reads for several times wal_sender_timeout: the session lives, and nothing is lost.
func TestSlowConsumer(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		t.Parallel()
		b := setup(t, db, `create table w (id int primary key, a text)`)
		cfg := b.cfg
		cfg.DSN += "&wal_sender_timeout=1s"
		s := b.run(t, cfg, 0, 0)
		pid := b.slot(t).ActivePID
		for i := range 20 {
			b.exec(t, fmt.Sprintf("insert into w select %d + g, repeat('x', 1000) from generate_series(1, 500) g", i*1000))
		}
		until := time.Now().Add(3500 * time.Millisecond)
		eventually(t, "time passes", func() bool {
			if now := b.slot(t).ActivePID; now != pid {
				t.Fatalf("the walsender %d is gone, now %d", pid, now)
			}
			return time.Now().After(until)
		})
		for range 20 {
			if tx := s.tx(t); tx.Rows != 500 {
				t.Fatalf("%d rows", tx.Rows)
			}
		}
		// At rest, too.
		until = time.Now().Add(2500 * time.Millisecond)
		eventually(t, "time passes", func() bool {
			select {
			case e := <-s.out:
				s.Confirm(e.Idle)
			default:
			}
			if now := b.slot(t).ActivePID; now != pid {
				t.Fatalf("the walsender %d is gone, now %d", pid, now)
			}
			return time.Now().After(until)
		})
	})
}

// WAL of another database, transactions of nothing but messages, of tables that nobody published: the slot follows.
func TestIdleAdvance(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		t.Parallel()
		b := setup(t, db, `create table r (id int primary key)`)
		s := b.run(t, b.cfg, 0, 4)
		other := pgtest.NewOn(t, db.Version).Conn(t)
		for i, step := range []func() error{
			func() error {
				_, err := other.Exec(context.Background(), "create table o as select repeat('x', 1000) from generate_series(1, 1000)")
				return err
			},
			func() error {
				_, err := b.sql.Exec(context.Background(), "select pg_logical_emit_message(true, 'casebook.audit', 'no row')")
				return err
			},
			func() error {
				_, err := b.sql.Exec(context.Background(), "create temp table x as select 1")
				return err
			},
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
			var end string
			if err := b.sql.QueryRow(context.Background(), "select pg_current_wal_insert_lsn()::text").Scan(&end); err != nil {
				t.Fatal(err)
			}
			want, _ := parseLSN(end)
			// The server reads flushed WAL only, and nothing here is flushed at once.
			eventually(t, "idle news", func() bool {
				select {
				case e := <-s.out:
					if e.Tx != nil {
						t.Fatal("a transaction without a row was delivered")
					}
					if e.IdleAt < time.Now().Add(-time.Hour).UnixMicro() || e.IdleAt > time.Now().Add(time.Hour).UnixMicro() {
						t.Fatalf("the server's time is %d", e.IdleAt)
					}
					s.Confirm(e.Idle)
				default:
				}
				return b.slot(t).ConfirmedFlush >= want
			})
			t.Logf("step %d: at %s", i, want)
		}
	})
}

// A server that shuts down waits until we confirm its last WAL; it must not wait long.
func TestServerShutdown(t *testing.T) {
	t.Parallel()
	for _, version := range cluster.Versions() {
		t.Run(fmt.Sprintf("pg%d", version), func(t *testing.T) {
			if testing.Short() {
				t.Skip("needs Postgres")
			}
			c, err := cluster.Start(t.Context(), cluster.Options{Version: version})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Stop() })
			db := &pgtest.DB{Name: "postgres", Version: version, Cluster: c}
			b := setup(t, db, `create table r (id int primary key)`)
			cfg := b.cfg
			cfg.IdleInterval = time.Hour // the request alone must make it quick
			s := b.run(t, cfg, 0, 4)
			b.exec(t, "insert into r values (1)")
			s.Confirm(s.tx(t).EndLSN)
			b.exec(t, "create temp table x as select 1")
			go func() {
				for e := range s.out {
					s.Confirm(e.Idle)
				}
			}()
			began := time.Now()
			if err := c.Shutdown(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the shutdown took %s", took)
			}
			if err := s.wait(t); !Retryable(err) {
				t.Errorf("not retryable: %v", err)
			}
		})
	}
}

func TestSilentServer(t *testing.T) {
	t.Parallel()
	b := setup(t, pgtest.New(t), `create table r (id int primary key)`)
	cfg := b.cfg
	cfg.StatusInterval = 100 * time.Millisecond
	stream := b.open(t, cfg, 0)
	stream.silence = time.Second
	s := runStream(t, stream, 4)
	s.event(t)
	pid := int(b.slot(t).ActivePID)
	until := time.Now().Add(3 * time.Second) // a server at rest answers when asked, and is not cut off
	eventually(t, "time passes", func() bool {
		select {
		case err := <-s.done:
			t.Fatalf("ended at rest: %v", err)
		default:
		}
		return time.Now().After(until)
	})
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) })
	err := s.wait(t)
	if !errors.Is(err, errSilent) || !Retryable(err) {
		t.Errorf("a frozen server gives %v", err)
	}
}

func TestKilledWalsender(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		t.Parallel()
		b := setup(t, db, `create table r (id int primary key)`)
		s := b.run(t, b.cfg, 0, 4)
		s.event(t)
		b.exec(t, fmt.Sprintf("select pg_terminate_backend(%d)", b.slot(t).ActivePID))
		if err := s.wait(t); !Retryable(err) {
			t.Errorf("not retryable: %v", err)
		}
	})
}

func TestPublicationDropped(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		t.Parallel()
		b := setup(t, db, `create table r (id int primary key)`)
		s := b.run(t, b.cfg, 0, 4)
		b.exec(t, "insert into r values (1)")
		first := s.tx(t)
		s.Confirm(first.EndLSN)
		b.exec(t, "drop publication casebook_audit")
		b.exec(t, "insert into r values (2)")
		s.endsWithoutTx(t)
		err := s.wait(t)
		if !errors.Is(err, ErrPublicationMissing) || Retryable(err) {
			t.Fatalf("a stream without its publication ended with %v", err)
		}
		if _, err := Open(t.Context(), b.cfg, 0, s.log, nil); !errors.Is(err, ErrPublicationMissing) {
			t.Errorf("open without the publication: %v", err)
		}
		if b.slot(t).ConfirmedFlush > first.EndLSN+1<<20 {
			t.Error("the slot went on")
		}
		// Made again, it is younger than the WAL that is decoded: still a stop, not a silent gap.
		b.exec(t, "create publication casebook_audit for all tables")
		eventually(t, "the slot is free", func() bool { return !b.slot(t).Active })
		cfg := b.cfg
		cfg.SkipThrough = first.CommitLSN // its confirmation may have been lost with the stream
		again := b.run(t, cfg, 0, 4)
		again.endsWithoutTx(t)
		if err := again.wait(t); !errors.Is(err, ErrPublicationMissing) {
			t.Errorf("a publication younger than the slot: %v", err)
		}
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, db *pgtest.DB) {
		t.Parallel()
		b := setup(t, db, `create table r (id int primary key)`)
		role := "plain_" + db.Name
		b.exec(t, "create role "+role+" login")
		t.Cleanup(func() { b.exec(t, "drop role "+role) })
		s := b.run(t, b.cfg, 0, 4)
		pid := b.slot(t).ActivePID
		with := func(change func(*Config)) Config { c := b.cfg; change(&c); return c }
		open := func(c Config) error { _, err := Open(t.Context(), c, 0, s.log, nil); return err }
		create := func(c Config) error { _, err := CreateSlot(t.Context(), c); return err }
		for name, c := range map[string]struct {
			err  error
			kind error
			text string
		}{
			"in use":           {open(b.cfg), ErrSlotInUse, fmt.Sprint(pid)},
			"drop in use":      {DropSlot(t.Context(), b.cfg), ErrSlotInUse, fmt.Sprint(pid)},
			"missing":          {open(with(func(c *Config) { c.Slot = "nobody" })), ErrSlotMissing, "nobody"},
			"drop missing":     {DropSlot(t.Context(), with(func(c *Config) { c.Slot = "nobody" })), ErrSlotMissing, "nobody"},
			"no publication":   {open(with(func(c *Config) { c.Publication = "o'no" })), ErrPublicationMissing, "o'no"},
			"slot before it":   {create(with(func(c *Config) { c.Slot, c.Publication = "x", "none" })), ErrPublicationMissing, "none"},
			"slot twice":       {create(b.cfg), ErrSlotExists, b.cfg.Slot},
			"wrong name":       {create(with(func(c *Config) { c.Slot = `a" b` })), nil, "slot name"},
			"plain role":       {open(with(func(c *Config) { c.DSN = db.DSN(role) })), ErrNotReplicationRole, "REPLICATION"},
			"no such database": {open(with(func(c *Config) { c.DSN = db.Cluster.DSN("nix", "postgres") })), nil, "no database"},
			"no such role":     {open(with(func(c *Config) { c.DSN = db.DSN("secretname") })), nil, "28000"},
			"no DSN":           {open(with(func(c *Config) { c.DSN = "host=h password=hunter2 port=x" })), nil, "libpq"},
			"too old":          {System{Version: 13, walLevel: "logical"}.usable(), ErrServerTooOld, "14"},
			"wal_level":        {System{Version: 15, walLevel: "replica"}.usable(), ErrWALLevel, "logical"},
		} {
			if c.err == nil || c.kind != nil && !errors.Is(c.err, c.kind) || !strings.Contains(c.err.Error(), c.text) || Retryable(c.err) {
				t.Errorf("%s: %v", name, c.err)
				continue
			}
			for _, secret := range []string{"hunter2", "secretname", role, "user="} {
				if strings.Contains(c.err.Error(), secret) {
					t.Errorf("%s: the error tells %q: %v", name, secret, c.err)
				}
			}
		}
		if err := open(with(func(c *Config) { c.DSN = "postgres://postgres@127.0.0.1:1/x?sslmode=disable" })); !Retryable(err) || strings.Contains(err.Error(), "user=") {
			t.Errorf("nobody listens: %v", err)
		}
		s.stop(t)
		eventually(t, "the slot is free", func() bool { return !b.slot(t).Active })
		if err := DropSlot(t.Context(), b.cfg); err != nil {
			t.Error(err)
		}
	})
}

// A slot that fell behind max_slot_wal_keep_size.
func TestSlotLost(t *testing.T) {
	t.Parallel()
	for _, version := range cluster.Versions() {
		t.Run(fmt.Sprintf("pg%d", version), func(t *testing.T) {
			if testing.Short() {
				t.Skip("needs Postgres")
			}
			c, err := cluster.Start(t.Context(), cluster.Options{Version: version, Settings: map[string]string{"max_slot_wal_keep_size": "1MB"}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Stop() })
			b := setup(t, &pgtest.DB{Name: "postgres", Version: version, Cluster: c}, `create table r (a text)`)
			eventually(t, "the slot is lost", func() bool {
				b.exec(t, "insert into r select repeat('x', 1000) from generate_series(1, 1000)")
				b.exec(t, "select pg_switch_wal()")
				b.exec(t, "checkpoint")
				return b.slot(t).Lost()
			})
			_, err = Open(t.Context(), b.cfg, 0, zap.NewNop(), nil)
			if !errors.Is(err, ErrSlotLost) || Retryable(err) {
				t.Errorf("a lost slot gives %v", err)
			}
		})
	}
}
