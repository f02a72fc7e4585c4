package attacks

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"
	"golang.org/x/mod/sumdb/note"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/sink"
	"casebook.example/audit/stored"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const (
	resigned = "{{resigned}}" // a note over the same tree by a key that was never in force
	// forged appends a copy of the last entry that is no row change. It links to nothing.
	forged = `INSERT INTO audit.entry_2026_03 SELECT (jsonb_populate_record(e, '{"seq": 610, "kind": 13, "commit_lsn": null, "ordinal": null}')).* FROM audit.entry e WHERE seq = 609`
	// heartbeats stand where the end was.
	heartbeats = `INSERT INTO audit.entry SELECT (jsonb_populate_record(e, jsonb_build_object('seq', n, 'kind', 13, 'commit_lsn', null, 'ordinal', null))).* FROM audit.entry e, generate_series(590, 609) n WHERE e.seq = 580`
)

// world is a log of 610 entries: genesis, key event, three transactions; the first 300 and 600 are signed.
type world struct {
	db       *pgtest.DB
	outside  []ledger.Checkpoint
	resigned string
}

func build(t *testing.T) *world {
	t.Helper()
	x := &world{db: pgtest.Audit(t)}
	w, err := sink.OpenWait(t.Context(), sink.Config{DSN: x.db.DSN(pgtest.Writer), Chain: pgtest.Chain}, zaptest.NewLogger(t), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var keys [2]note.Signer
	for i := range keys {
		skey, vkey, err := note.GenerateKey(rand.Reader, pgtest.Origin)
		if err != nil {
			t.Fatal(err)
		}
		if keys[i], err = note.NewSigner(skey); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := w.AppendEvents(t.Context(), []*ledger.Entry{sink.KeyEvent([]string{vkey}, nil)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, size := range []uint64{300, 600, 610} {
		appendTo(t, w, size)
		if size == 610 {
			break
		}
		c := ledger.Checkpoint{Origin: pgtest.Origin, Size: size, Root: w.Position().Root}
		signed, err := note.Sign(&note.Note{Text: c.Text()}, keys[0])
		if err != nil {
			t.Fatal(err)
		}
		x.db.Exec(t, fmt.Sprintf("INSERT INTO audit.checkpoint (chain, size, root, note) VALUES (1, %d, '\\x%x', '%s')", c.Size, c.Root, signed))
		x.outside = append(x.outside, c)
		if size == 300 {
			other, err := note.Sign(&note.Note{Text: c.Text()}, keys[1])
			if err != nil {
				t.Fatal(err)
			}
			x.resigned = string(other)
		}
	}
	x.db.Exec(t, "INSERT INTO audit.record_name VALUES (1, 't1', 'Engage', 'Case', 'c1', 'J. Sullivan Case') ON CONFLICT DO NOTHING")
	return x
}

// appendTo appends one transaction, so that the log has size entries.
func appendTo(t *testing.T, w *sink.Writer, size uint64) {
	t.Helper()
	march := time.Date(2026, 3, 10, 14, 2, 3, 456789000, time.UTC).UnixMicro()
	at := w.Position()
	lsn, n := at.CommitLSN+0x100, int(size-at.Size)-1
	var entries []*ledger.Entry
	for i := range n {
		entries = append(entries, &ledger.Entry{
			Kind: ledger.KindChange, CommitLSN: lsn, Ordinal: int64(i), XID: 77, CommittedAt: march, TenantID: "t1", Application: "Engage",
			RecordType: "Case", RecordID: "c1", RecordName: "J. Sullivan Case", Resource: "Service Enrollment", Table: "services.service_enrollments",
			RowID: fmt.Sprint(i), RowName: "Weekly – ümlaut", Action: ledger.ActionCreate, Summary: "Service Enrollment added",
			Initiator: ledger.InitiatorUser, UserID: "u1", UserEmail: "maria@hfs.example", UserName: "Maria", DBUser: "app", BackendPID: 4242,
			Fields: []ledger.Field{
				{Path: "also.0", Type: "record", State: ledger.FieldValue, Value: `{"application":"People","record_type":"Person","record_id":"p1","record_name":"J. Sullivan"}`},
				{Path: "new.units", Type: "numeric", State: ledger.FieldValue, Value: "12.00"},
				{Path: "new.comments", Type: "text", State: ledger.FieldValue},
				{Path: "old.units", Type: "numeric", State: ledger.FieldNull},
			},
		})
	}
	count := func(path string, n int) ledger.Field {
		return ledger.Field{Path: path, Type: "int8", State: ledger.FieldValue, Value: fmt.Sprint(n)}
	}
	link := ledger.Field{Path: "prev_commit_lsn", Type: "pg_lsn"}
	if at.CommitLSN != 0 {
		link.State, link.Value = ledger.FieldValue, at.CommitLSN.String()
	}
	entries = append(entries, &ledger.Entry{Kind: ledger.KindTransaction, CommitLSN: lsn, Ordinal: int64(n), XID: 77, CommittedAt: march, Action: "commit",
		Fields: []ledger.Field{link, count("changes", n), count("entries", n), count("noise", 0), count("excluded", 0)}})
	b, err := w.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Rollback()
	if err := b.Entries(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context(), sink.Upto{CommitLSN: lsn, EndLSN: lsn + 48, CommittedAt: march, CompleteAt: march}); err != nil {
		t.Fatal(err)
	}
}

// recompute makes hashes anew, as an attacker would who knows the format: of the entry from, or of it and all that follows.
func recompute(t *testing.T, conn *pgx.Conn, how forge, from uint64) {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT "+stored.RowColumns+" FROM audit.entry WHERE chain = 1 ORDER BY seq")
	if err != nil {
		t.Fatal(err)
	}
	var all []*ledger.Row
	for rows.Next() {
		r, err := stored.ScanRow(rows)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	var batch pgx.Batch
	hasher := ledger.NewHasher()
	var tree ledger.Tree
	var tiles []ledger.Tile
	for i, r := range all {
		if r.Seq == from || r.Seq > from && how == chain {
			r.Commitment = hasher.Commitment(&r.Entry, &r.Salt)
			if how == chain {
				r.Prev = all[i-1].LeafHash
			}
			if how >= leaf {
				l := ledger.Leaf{Kind: r.Entry.Kind, ChainID: pgtest.ChainID, Seq: r.Seq, Prev: r.Prev, RecordedUS: r.RecordedUS, Commitment: r.Commitment}
				r.LeafHash = l.Hash()
			}
			batch.Queue("UPDATE audit.entry SET prev = $2, commitment = $3, leaf_hash = $4 WHERE seq = $1", int64(r.Seq), r.Prev[:], r.Commitment[:], r.LeafHash[:])
		}
		tiles = tree.Append(r.LeafHash, tiles)
	}
	if how == chain {
		for _, tile := range tiles {
			batch.Queue("UPDATE audit.tile SET hashes = $3, root = $4 WHERE level = $1 AND index = $2", int16(tile.Level), tile.Index, tile.Hashes, tile.Root[:])
		}
		last := all[len(all)-1]
		batch.Queue("UPDATE audit.position SET head = $1, recorded_us = $2", last.LeafHash[:], last.RecordedUS)
	}
	if err := conn.SendBatch(t.Context(), &batch).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAttacks(t *testing.T) {
	t.Parallel()
	x := build(t)
	super, writer := x.db.Conn(t), x.db.ConnAs(t, pgtest.Writer)
	judge := func(outside []ledger.Checkpoint) (*ledger.BrokenError, error) {
		_, err := sink.Verify(t.Context(), super, pgtest.Chain, sink.Scope{To: -1, Outside: outside}, nil)
		var broken *ledger.BrokenError
		if errors.As(err, &broken) {
			return broken, nil
		}
		return nil, err
	}
	if broken, err := judge(x.outside); broken != nil || err != nil {
		t.Fatalf("before any attack: %v %v", broken, err)
	}
	for n := 1; n <= 70; n++ {
		for _, a := range attacks[n] {
			if a.sql == "" {
				continue
			}
			t.Run(fmt.Sprintf("%02d %s", n, a.title), func(t *testing.T) {
				sql := strings.ReplaceAll(a.sql, resigned, x.resigned)
				// attempt makes the attack in a transaction that is given up after each look.
				attempt := func(outside []ledger.Checkpoint) *ledger.BrokenError {
					if _, err := super.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ"); err != nil {
						t.Fatal(err)
					}
					defer super.Exec(context.WithoutCancel(t.Context()), "ROLLBACK")
					if _, err := super.Exec(t.Context(), sql); err != nil {
						t.Fatal(err)
					}
					if a.forge != nothing {
						recompute(t, super, a.forge, a.from)
					}
					broken, err := judge(outside)
					if err != nil {
						t.Fatal(err)
					}
					return broken
				}
				broken := attempt(nil)
				switch {
				case a.detector == "" && broken != nil:
					t.Errorf("%v, want nothing inside to see it", broken)
				case a.detector != "" && (broken == nil || broken.Detector != a.detector || broken.Seq != a.seq):
					t.Errorf("%v, want detector %s at %d", broken, a.detector, a.seq)
				}
				if a.outside {
					if broken := attempt(x.outside); broken == nil || broken.Detector != ledger.DetectCheckpoint {
						t.Errorf("with checkpoints from outside: %v", broken)
					}
				}
				tx, err := writer.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer tx.Rollback(context.WithoutCancel(t.Context()))
				_, err = tx.Exec(t.Context(), sql)
				var refused *pgconn.PgError
				if denied := errors.As(err, &refused) && refused.Code == "42501"; denied == a.writes || a.writes && err != nil {
					t.Errorf("as the writer: %v", err)
				}
			})
		}
	}
}
