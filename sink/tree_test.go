package sink_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

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

// fill grows the chain to size entries.
func fill(t *testing.T, w *sink.Writer, size int) {
	t.Helper()
	for {
		at := w.Position()
		left := size - int(at.Size)
		if left <= 0 {
			return
		}
		appendTx(t, w, at.CommitLSN+0x100, at.CommitLSN, march, min(left, 8192)-1)
	}
}

// tiles lists what is stored of the tree.
func tiles(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	var list string
	if err := db.Conn(t).QueryRow(t.Context(), "SELECT coalesce(string_agg(level || '/' || index || ' ' || encode(sha256(hashes || root), 'hex'), E'\n' ORDER BY level, index), '') FROM audit.tile").Scan(&list); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestTilesAreStored: they come with the entries, in any slicing of them; they can be made again from the entries alone;
// and proofs from them hold.
func TestTilesAreStored(t *testing.T) {
	t.Parallel()
	const size = 256*256 + 300
	db := pgtest.Audit(t)
	w := open(t, db)
	fill(t, w, 255)
	fill(t, w, 256)
	fill(t, w, 257)
	b, err := w.Begin(t.Context()) // a batch that is undone leaves nothing of its tiles
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Entries(t.Context(), transaction(0x900000, w.Position().CommitLSN, march, 40000)); err != nil {
		t.Fatal(err)
	}
	b.Rollback()
	fill(t, w, size)
	root := w.Position().Root
	before := tiles(t, db)
	if n := strings.Count(before, "\n") + 1; n != 257+1 {
		t.Fatalf("%d tiles", n)
	}
	conn := db.Conn(t)
	found, err := sink.Verify(t.Context(), conn, pgtest.Chain, sink.Scope{To: -1}, nil)
	if err != nil || found.Root != hex.EncodeToString(root[:]) {
		t.Fatalf("verify: %+v, %v; the writer's root is %x", found, err, root)
	}
	reader := db.ConnAs(t, pgtest.Reader) // who has named no tenant
	leaves, err := stored.LeafHashes(t.Context(), reader, 1, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	prover := stored.Prover(t.Context(), reader, 1, size, root)
	for _, seq := range []uint64{0, 255, 256, 65535, 65536, size - 1} {
		proof, err := prover.Inclusion(seq)
		if err != nil {
			t.Fatal(err)
		}
		if err := ledger.CheckInclusion(proof, size, root, seq, leaves[seq]); err != nil {
			t.Errorf("entry %d: %v", seq, err)
		}
	}
	// A chain of a version without tiles, and one whose making was interrupted, or begun anew.
	for _, gone := range []string{"true", "index >= 100 OR level > 0", "index >= 255 OR level > 0", "index >= 256"} {
		w.Close()
		db.Exec(t, "DELETE FROM audit.tile WHERE "+gone)
		w = open(t, db)
		if w.Position().Root != root {
			t.Errorf("without tiles where %s: another root", gone)
		}
		if after := tiles(t, db); after != before {
			t.Errorf("without tiles where %s: not the same ones were made again", gone)
		}
	}
	fill(t, w, size+3000)
	if bad, err := verify(t, db); err != nil || bad != 0 {
		t.Errorf("after all of that: %v, %d", err, bad)
	}
	// Of a part of the chain the tiles of level 0 are compared.
	db.Exec(t, "UPDATE audit.tile SET hashes = set_byte(hashes, 5, 255 - get_byte(hashes, 5)) WHERE level = 0 AND index = 3")
	for _, c := range []struct {
		scope sink.Scope
		bad   bool
	}{{sink.Scope{From: 700, To: 1023}, true}, {sink.Scope{From: 769, To: 2000}, false}, {sink.Scope{From: 5, To: 1022}, false}, {sink.Scope{From: 66000, To: -1}, false}} {
		_, err := sink.Verify(t.Context(), conn, pgtest.Chain, c.scope, nil)
		var broken *ledger.BrokenError
		if c.bad != (errors.As(err, &broken) && broken.Detector == ledger.DetectTree && broken.Seq == 768) || !c.bad && err != nil {
			t.Errorf("%+v: %v", c.scope, err)
		}
	}
}

// TestTreeTampering: what does not touch the chain, each seen by the detector that is made for it.
func TestTreeTampering(t *testing.T) {
	t.Parallel()
	newKey := func() (note.Signer, string) {
		skey, vkey, err := note.GenerateKey(rand.Reader, pgtest.Origin)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := note.NewSigner(skey)
		if err != nil {
			t.Fatal(err)
		}
		return signer, vkey
	}
	signer, vkey := newKey()
	later, laterVKey := newKey()
	policy, err := ledger.KeyPolicy(vkey)
	if err != nil {
		t.Fatal(err)
	}
	signBy := func(c ledger.Checkpoint, by note.Signer) string {
		signed, err := note.Sign(&note.Note{Text: c.Text()}, by)
		if err != nil {
			t.Fatal(err)
		}
		return string(signed)
	}
	sign := func(c ledger.Checkpoint) string { return signBy(c, signer) }
	db := pgtest.Audit(t)
	w := open(t, db)
	event := func(keys ...string) {
		if err := w.AppendEvents(t.Context(), []*ledger.Entry{sink.KeyEvent(keys, nil)}); err != nil {
			t.Fatal(err)
		}
	}
	kept := map[int]ledger.Checkpoint{}
	event(vkey)
	for _, size := range []int{2, 300, 600} {
		fill(t, w, size)
		c := ledger.Checkpoint{Origin: pgtest.Origin, Size: uint64(size), Root: w.Position().Root}
		kept[size] = c
		db.Exec(t, fmt.Sprintf("INSERT INTO audit.checkpoint (chain, size, root, note) VALUES (1, %d, '\\x%x', '%s')", size, c.Root, sign(c)))
	}
	event(laterVKey) // at 600, so in force from size 601 on
	fill(t, w, 620)
	root := w.Position().Root
	last := ledger.Checkpoint{Origin: pgtest.Origin, Size: 620, Root: root}
	insert := func(by note.Signer) string {
		return fmt.Sprintf("INSERT INTO audit.checkpoint (chain, size, root, note) VALUES (1, 620, '\\x%x', '%s')", root, signBy(last, by))
	}
	honest, forged := kept[300], kept[300]
	forged.Root[3] ^= 1
	foreign := honest
	foreign.Origin = "audit.example/another"
	outside := sink.Scope{To: -1, Policy: policy, Outside: []ledger.Checkpoint{kept[600], honest}}

	// rechain is the attacker who owns the database: edits an entry and makes everything after it fit.
	const rechain = `DELETE FROM audit.checkpoint; DELETE FROM audit.entry WHERE seq >= 500; DELETE FROM audit.entry_also WHERE seq >= 500; DELETE FROM audit.tile WHERE index >= 1;
		UPDATE audit.position SET size = 500, head = (SELECT leaf_hash FROM audit.entry WHERE seq = 499)`
	for _, c := range []struct {
		name, sql string
		detector  string // "": not seen
		seq       uint64
		scope     sink.Scope
	}{
		{"honest", "SELECT", "", 0, outside},
		{"a hash of a tile", "UPDATE audit.tile SET hashes = set_byte(hashes, 0, 255 - get_byte(hashes, 0)) WHERE index = 1", ledger.DetectTree, 256, sink.Scope{To: -1}},
		{"the root of a tile", "UPDATE audit.tile SET root = sha256('x') WHERE index = 0", ledger.DetectTree, 0, sink.Scope{To: -1}},
		{"a tile removed", "DELETE FROM audit.tile WHERE index = 0", ledger.DetectTree, 0, sink.Scope{To: -1}},
		{"a tile too many", "INSERT INTO audit.tile SELECT chain, level, 2, hashes, root FROM audit.tile WHERE index = 1", ledger.DetectTree, 620, sink.Scope{To: -1}},
		{"a tile of a level too many", "INSERT INTO audit.tile SELECT chain, 1, 0, hashes, root FROM audit.tile WHERE index = 1", ledger.DetectTree, 620, sink.Scope{To: -1}},
		{"the column root of a checkpoint", "UPDATE audit.checkpoint SET root = sha256('x') WHERE size = 300", ledger.DetectCheckpoint, 299, sink.Scope{To: -1}},
		{"the column size of a checkpoint", "UPDATE audit.checkpoint SET size = 301 WHERE size = 300", ledger.DetectCheckpoint, 300, sink.Scope{To: -1}},
		{"a checkpoint cut off", "UPDATE audit.checkpoint SET note = left(note, -1) WHERE size = 300", ledger.DetectCheckpoint, 299, sink.Scope{To: -1}},
		{"a checkpoint with 0300", "UPDATE audit.checkpoint SET note = replace(note, E'\\n300\\n', E'\\n0300\\n') WHERE size = 300", ledger.DetectCheckpoint, 299, sink.Scope{To: -1}},
		{"a checkpoint with a line more", "UPDATE audit.checkpoint SET note = replace(note, E'\\n\\n', E'\\nmore\\n\\n') WHERE size = 300", ledger.DetectCheckpoint, 299, sink.Scope{To: -1}},
		{"a checkpoint of another log", "UPDATE audit.checkpoint SET note = '" + sign(foreign) + "' WHERE size = 300", ledger.DetectCheckpoint, 299, sink.Scope{To: -1}},
		{"a checkpoint over other entries", fmt.Sprintf("UPDATE audit.checkpoint SET root = '\\x%x', note = '%s' WHERE size = 300", forged.Root, sign(forged)), ledger.DetectCheckpoint, 299, sink.Scope{To: -1}},
		{"a signature altered, without a policy", "UPDATE audit.checkpoint SET note = overlay(note placing 'AAAA' from length(note) - 20) WHERE size = 300", ledger.DetectCheckpoint, 299, sink.Scope{To: -1}},
		{"signed by the key of later entries", "UPDATE audit.checkpoint SET note = '" + signBy(honest, later) + "' WHERE size = 300", ledger.DetectCheckpoint, 299, sink.Scope{To: -1}},
		{"signed by the key in force", insert(later), "", 0, sink.Scope{To: -1}},
		{"signed by a key that was retired", insert(signer), ledger.DetectCheckpoint, 619, sink.Scope{To: -1}},
		{"a signature altered, with a policy", "UPDATE audit.checkpoint SET note = overlay(note placing 'AAAA' from length(note) - 20) WHERE size = 300", ledger.DetectCheckpoint, 299, sink.Scope{To: -1, Policy: policy}},
		{"a checkpoint from the future", "UPDATE audit.checkpoint SET size = 900, note = replace(note, E'\\n600\\n', E'\\n900\\n') WHERE size = 600", ledger.DetectCheckpoint, 620, sink.Scope{To: -1}},
		{"the tail removed, all made to fit", rechain, "", 0, sink.Scope{To: -1}},
		{"the same, with a checkpoint kept outside", rechain, ledger.DetectCheckpoint, 500, outside},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := db.Conn(t)
			// Verify's own BEGIN joins this transaction, and its rollback undoes the attack.
			tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			_, err = sink.Verify(t.Context(), tx.Conn(), pgtest.Chain, c.scope, nil)
			tx.Rollback(t.Context())
			var broken *ledger.BrokenError
			switch {
			case c.detector == "" && err != nil:
				t.Errorf("%v, want nothing to be seen", err)
			case c.detector != "" && (!errors.As(err, &broken) || broken.Detector != c.detector || broken.Seq != c.seq):
				t.Errorf("%v, want detector %s at %d", err, c.detector, c.seq)
			}
		})
	}
	if _, err := sink.Verify(t.Context(), db.Conn(t), pgtest.Chain, sink.Scope{From: 1, To: -1, Outside: outside.Outside}, nil); err == nil {
		t.Error("a checkpoint was compared with a part of the chain")
	}
}

// TestOpenRefusesAnotherTree: a writer does not go on from what does not fit.
func TestOpenRefusesAnotherTree(t *testing.T) {
	t.Parallel()
	for _, attack := range []string{
		"UPDATE audit.entry SET leaf_hash = sha256('x') WHERE seq = 599",
		"DELETE FROM audit.entry WHERE seq = 599",
		"DELETE FROM audit.entry WHERE seq = 550",
		"UPDATE audit.position SET size = 200, head = (SELECT leaf_hash FROM audit.entry WHERE seq = 199)",
		"UPDATE audit.position SET size = 700",
	} {
		db := pgtest.Audit(t)
		w := open(t, db)
		fill(t, w, 600)
		w.Close()
		db.Exec(t, attack)
		w, err := sink.OpenWait(t.Context(), sink.Config{DSN: db.DSN(pgtest.Writer), Chain: pgtest.Chain}, zaptest.NewLogger(t), prometheus.NewRegistry())
		if err == nil {
			w.Close()
		}
		if !errors.Is(err, sink.ErrMoved) {
			t.Errorf("%s: %v", attack, err)
		}
	}
}

func TestTreeRights(t *testing.T) {
	t.Parallel()
	pgtest.EachAudit(t, func(t *testing.T, db *pgtest.DB) {
		fill(t, open(t, db), 260)
		for _, user := range []string{pgtest.Writer, pgtest.Reader} {
			conn := db.ConnAs(t, user)
			for _, statement := range []string{
				"UPDATE audit.tile SET index = 7", "DELETE FROM audit.tile", "TRUNCATE audit.tile", "UPDATE audit.checkpoint SET note = 'x'", "DELETE FROM audit.checkpoint",
				"TRUNCATE audit.checkpoint", "UPDATE audit.leaf SET seq = 7", "DELETE FROM audit.leaf", "INSERT INTO audit.leaf VALUES (1, 9, 0, '', 0, '', '')",
			} {
				var pgErr *pgconn.PgError
				if _, err := conn.Exec(t.Context(), statement); !errors.As(err, &pgErr) || pgErr.Code != "42501" && pgErr.Code != "55000" {
					t.Errorf("%s as %s: %v, want it refused", statement, user, err)
				}
			}
			// The leaves are blind: a reader that has named no tenant sees all of them, and no entry.
			var leaves, entries int
			if err := conn.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM audit.leaf), (SELECT count(*) FROM audit.entry)").Scan(&leaves, &entries); err != nil {
				t.Fatal(err)
			}
			if leaves != 260 || user == pgtest.Reader && entries != 0 {
				t.Errorf("%s sees %d leaves and %d entries", user, leaves, entries)
			}
			data, err := stored.Tiles(t.Context(), conn, 1)(0, 0, 2)
			whole, err2 := stored.Tiles(t.Context(), conn, 1)(0, 0, 256)
			if err != nil || err2 != nil || len(data) != 64 || !bytes.Equal(whole[:64], data) {
				t.Errorf("a part of a tile: %d bytes, %v %v", len(data), err, err2)
			}
		}
	})
}
