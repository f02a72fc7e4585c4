package sink_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/note"

	"casebook.example/audit/internal/pgtest"
	"casebook.example/audit/ledger"
	"casebook.example/audit/sink"
	"casebook.example/audit/sql"
	"casebook.example/audit/stored"
)

// signing is a key that signs the chain of a test, with its key event in the chain.
func signing(t *testing.T, db *pgtest.DB, w *sink.Writer) (policy *ledger.Policy, sign func() ledger.Checkpoint) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, pgtest.Origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	if policy, err = ledger.KeyPolicy(vkey); err != nil {
		t.Fatal(err)
	}
	if err := w.AppendEvents(t.Context(), []*ledger.Entry{sink.KeyEvent([]string{vkey}, nil)}); err != nil {
		t.Fatal(err)
	}
	return policy, func() ledger.Checkpoint {
		c := ledger.Checkpoint{Origin: pgtest.Origin, Size: w.Position().Size, Root: w.Position().Root}
		signed, err := note.Sign(&note.Note{Text: c.Text()}, signer)
		if err != nil {
			t.Fatal(err)
		}
		db.Exec(t, fmt.Sprintf("INSERT INTO audit.checkpoint (chain, size, root, note) VALUES (1, %d, '\\x%x', '%s')", c.Size, c.Root, signed))
		return c
	}
}

// attempt makes an attack, looks, and undoes it.
func attempt(t *testing.T, conn *pgx.Conn, attack string, look func(conn *pgx.Conn) error) error {
	t.Helper()
	tx, err := conn.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), attack); err != nil {
		t.Fatal(err)
	}
	return look(tx.Conn())
}

func wantBroken(t *testing.T, name string, err error, detector string, seq uint64) {
	t.Helper()
	var broken *ledger.BrokenError
	switch {
	case detector == "" && err != nil:
		t.Errorf("%s: %v, want nothing to be seen", name, err)
	case detector != "" && (!errors.As(err, &broken) || broken.Detector != detector || broken.Seq != seq):
		t.Errorf("%s: %v, want detector %s at %d", name, err, detector, seq)
	}
}

// TestVerifySince: behind a trusted checkpoint only what is newer is looked at, and it must continue that tree.
func TestVerifySince(t *testing.T) {
	t.Parallel()
	db := pgtest.Audit(t)
	w := open(t, db)
	policy, sign := signing(t, db, w)
	trusted := map[uint64]ledger.Checkpoint{}
	for _, size := range []int{2, 255, 256, 257, 512, 700} {
		fill(t, w, size)
		trusted[uint64(size)] = sign()
	}
	fill(t, w, 900)
	conn := db.Conn(t)
	whole, err := sink.Verify(t.Context(), conn, pgtest.Chain, sink.Scope{To: -1, Policy: policy}, nil)
	if err != nil {
		t.Fatal(err)
	}
	trusted[0] = ledger.Checkpoint{Origin: pgtest.Origin, Root: new(ledger.Tree).Root()}
	trusted[900] = whole.Tree
	for size, c := range trusted {
		for _, leaves := range []bool{false, true} {
			found, err := sink.Verify(t.Context(), conn, pgtest.Chain, sink.Scope{Since: &c, To: -1, Policy: policy, Leaves: leaves}, nil)
			if err != nil || found.Root != whole.Root || found.From != size || found.Entries != 900-size {
				t.Errorf("since %d, leaves alone %t: %+v, %v", size, leaves, found, err)
			}
		}
	}
	// In slices, each trusting the one before.
	at := trusted[0]
	for at.Size < 900 {
		found, err := sink.Verify(t.Context(), conn, pgtest.Chain, sink.Scope{Since: &at, To: int64(at.Size) + 99}, nil)
		if err != nil {
			t.Fatal(err)
		}
		at = found.Tree
	}
	if at != whole.Tree {
		t.Errorf("in slices: %+v, want %+v", at, whole.Tree)
	}

	rewritten, foreign, beyond := trusted[512], trusted[512], trusted[700]
	rewritten.Root[0] ^= 1
	foreign.Origin = "audit.example/another"
	beyond.Size = 5000
	for _, c := range []struct {
		name, attack string
		since        ledger.Checkpoint
		detector     string
		seq          uint64
	}{
		{"another tree", "SELECT", rewritten, ledger.DetectCheckpoint, 511},
		{"more entries than there are", "SELECT", beyond, ledger.DetectCheckpoint, 900},
		{"an edit behind it", "UPDATE audit.entry SET summary = 'x' WHERE seq = 600", trusted[512], ledger.DetectCommitment, 600},
		{"an edit of the leaf behind it", "UPDATE audit.entry SET recorded_us = recorded_us + 1 WHERE seq = 600", trusted[512], ledger.DetectLeaf, 600},
		{"an edit before it", "UPDATE audit.entry SET summary = 'x' WHERE seq = 100", trusted[512], "", 0},
		{"the last leaf under it", "UPDATE audit.entry SET leaf_hash = sha256('x') WHERE seq = 511", trusted[512], ledger.DetectTree, 511},
		{"the last leaf under it, at the edge", "UPDATE audit.entry SET leaf_hash = sha256('x') WHERE seq = 699", trusted[700], ledger.DetectCheckpoint, 699},
		{"a tile at its edge", "UPDATE audit.tile SET root = sha256('x') WHERE level = 0 AND index = 1", trusted[512], ledger.DetectCheckpoint, 511},
		{"a tile removed at its edge", "DELETE FROM audit.tile WHERE level = 0 AND index = 1", trusted[512], ledger.DetectCheckpoint, 511},
		{"the key event forged", "UPDATE audit.entry SET vals = '{x}' WHERE kind = 5", trusted[512], ledger.DetectCommitment, 1},
		{"a link behind it", "UPDATE audit.entry SET prev = sha256('x') WHERE seq = 512", trusted[512], ledger.DetectChain, 512},
		{"a hole behind it", "DELETE FROM audit.entry WHERE seq = 512", trusted[512], ledger.DetectDensity, 512},
	} {
		err := attempt(t, conn, c.attack, func(conn *pgx.Conn) error {
			_, err := sink.Verify(t.Context(), conn, pgtest.Chain, sink.Scope{Since: &c.since, To: -1, Policy: policy}, nil)
			return err
		})
		wantBroken(t, c.name, err, c.detector, c.seq)
	}
	var broken *ledger.BrokenError
	if _, err := sink.Verify(t.Context(), conn, pgtest.Chain, sink.Scope{Since: &foreign, To: -1}, nil); err == nil || errors.As(err, &broken) {
		t.Errorf("a checkpoint of another log: %v, want nothing decided", err)
	}
}

// TestVerifyLeaves: without a look at the entries, what chain and tree show is seen, and what they hold is not.
func TestVerifyLeaves(t *testing.T) {
	t.Parallel()
	db := pgtest.Audit(t)
	w := open(t, db)
	_, sign := signing(t, db, w)
	fill(t, w, 300)
	sign()
	fill(t, w, 600)
	conn := db.Conn(t)
	hashes, err := stored.LeafHashes(t.Context(), conn, 1, 0, 600)
	if err != nil {
		t.Fatal(err)
	}
	other := append([]ledger.Hash(nil), hashes...)
	other[77][5] ^= 1
	from := func(list []ledger.Hash) sink.Scope {
		return sink.Scope{To: -1, Leaves: true, CopySize: 600, Copy: func(_ context.Context, from, to uint64) ([]ledger.Hash, error) { return list[from:min(to, 600)], nil }}
	}
	all := sink.Scope{To: -1, Leaves: true}
	for _, c := range []struct {
		name, attack string
		scope        sink.Scope
		detector     string
		seq          uint64
	}{
		{"honest", "SELECT", all, "", 0},
		{"content", "UPDATE audit.entry SET summary = 'x' WHERE seq = 100", all, "", 0},
		{"content of a key event", "UPDATE audit.entry SET vals = '{x}' WHERE kind = 5", all, ledger.DetectCommitment, 1},
		{"leaf", "UPDATE audit.entry SET kind = 2 WHERE seq = 100", all, ledger.DetectLeaf, 100},
		{"kind beyond a byte", "ALTER TABLE audit.entry DROP CONSTRAINT entry_kind_check; UPDATE audit.entry SET kind = 256 + kind WHERE seq = 100", all, ledger.DetectLeaf, 100},
		{"a column NULL", "ALTER TABLE audit.entry ALTER commitment DROP NOT NULL; UPDATE audit.entry SET commitment = NULL WHERE seq = 100", all, ledger.DetectLeaf, 100},
		{"a hole", "DELETE FROM audit.entry WHERE seq = 100", all, ledger.DetectDensity, 100},
		{"a tile", "UPDATE audit.tile SET root = sha256('x') WHERE index = 1", all, ledger.DetectTree, 256},
		{"a checkpoint", "UPDATE audit.checkpoint SET root = sha256('x')", all, ledger.DetectCheckpoint, 299},
		{"the end", "DELETE FROM audit.entry WHERE seq >= 590", all, ledger.DetectPosition, 590},
		{"a copy that is the same", "SELECT", from(hashes), "", 0},
		{"a copy with another leaf", "SELECT", from(other), ledger.DetectCopy, 77},
	} {
		err := attempt(t, conn, c.attack, func(conn *pgx.Conn) error {
			_, err := sink.Verify(t.Context(), conn, pgtest.Chain, c.scope, nil)
			return err
		})
		wantBroken(t, c.name, err, c.detector, c.seq)
	}
}

func TestVerifyEntry(t *testing.T) {
	t.Parallel()
	db := pgtest.Audit(t)
	w := open(t, db)
	policy, sign := signing(t, db, w)
	conn := db.ConnAs(t, pgtest.Reader)
	if _, err := sink.VerifyEntry(t.Context(), conn, pgtest.Chain, 0, nil, nil); !errors.Is(err, sink.ErrUndecided) {
		t.Errorf("without a checkpoint: %v", err)
	}
	fill(t, w, 700)
	sign()
	fill(t, w, 800)
	for _, seq := range []uint64{0, 255, 256, 699} {
		if found, err := sink.VerifyEntry(t.Context(), conn, pgtest.Chain, seq, policy, nil); err != nil || found.Size != 700 {
			t.Errorf("entry %d: %+v %v", seq, found, err)
		}
	}
	for _, seq := range []uint64{700, 799, 800, 1 << 40} {
		if _, err := sink.VerifyEntry(t.Context(), conn, pgtest.Chain, seq, nil, nil); !errors.Is(err, sink.ErrUndecided) {
			t.Errorf("entry %d, which is not signed: %v", seq, err)
		}
	}
	for _, c := range []struct{ name, attack, detector string }{
		{"content", "UPDATE audit.entry SET user_id = 'x' WHERE seq = 300", ledger.DetectCommitment},
		{"leaf", "UPDATE audit.entry SET recorded_us = 7 WHERE seq = 300", ledger.DetectLeaf},
		{"gone", "DELETE FROM audit.entry WHERE seq = 300", ledger.DetectDensity},
		{"twice", "INSERT INTO audit.entry SELECT (jsonb_populate_record(e, '{\"committed_at\": \"2026-03-11\"}')).* FROM audit.entry e WHERE seq = 300", ledger.DetectDensity},
		{"its tile", "UPDATE audit.tile SET hashes = set_byte(hashes, 32 * 44, 1 + get_byte(hashes, 32 * 44) % 200) WHERE index = 1", ledger.DetectTree},
	} {
		err := attempt(t, db.Conn(t), c.attack, func(conn *pgx.Conn) error {
			_, err := sink.VerifyEntry(t.Context(), conn, pgtest.Chain, 300, policy, nil)
			return err
		})
		wantBroken(t, c.name, err, c.detector, 300)
	}
	another, err := ledger.KeyPolicy("audit.example/test+0b6c1a0e+AUVjfVzWmXIpvW9X6Mv0y9ikUvBp2U9Lw3F2Xxzpaefv")
	if err == nil {
		_, err = sink.VerifyEntry(t.Context(), conn, pgtest.Chain, 300, another, nil)
		wantBroken(t, "another key", err, ledger.DetectCheckpoint, 699)
	}
}

// TestVerifySQL: the script says in psql, on every version, what Verify says.
func TestVerifySQL(t *testing.T) {
	t.Parallel()
	pgtest.EachAudit(t, func(t *testing.T, db *pgtest.DB) {
		w := open(t, db)
		_, sign := signing(t, db, w)
		fill(t, w, 300)
		sign()
		fill(t, w, 320)
		snapshot := db.Conn(t)
		for _, attack := range []string{
			"SELECT",
			"UPDATE audit.entry SET summary = 'x' WHERE seq = 200",
			"UPDATE audit.entry SET user_id = NULL WHERE seq = 200",
			"UPDATE audit.entry SET remark = '' WHERE seq = 200",
			"UPDATE audit.entry SET committed_at = committed_at + interval '1 microsecond' WHERE seq = 200",
			"UPDATE audit.entry SET vals[2] = '12.0' WHERE seq = 200",
			"UPDATE audit.entry SET vals[2] = NULL WHERE seq = 200",
			"UPDATE audit.entry SET states[4] = 2 WHERE seq = 200",
			"UPDATE audit.entry SET paths = paths[1:2], types = types[1:2], states = states[1:2], vals = vals[1:2] WHERE seq = 200",
			"UPDATE audit.entry SET entry_salt = NULL WHERE seq = 200",
			"UPDATE audit.entry SET leaf_hash = sha256('x') WHERE seq = 200",
			"UPDATE audit.entry SET prev = sha256('x') WHERE seq = 200",
			"ALTER TABLE audit.entry ALTER commitment DROP NOT NULL; UPDATE audit.entry SET commitment = NULL WHERE seq = 200",
			"DELETE FROM audit.entry WHERE seq = 200",
			"DELETE FROM audit.entry WHERE seq = 0",
			"DELETE FROM audit.entry WHERE seq >= 310",
			"DELETE FROM audit.entry",
			"INSERT INTO audit.entry SELECT (jsonb_populate_record(e, '{\"committed_at\": \"2026-03-11\"}')).* FROM audit.entry e WHERE seq = 200",
			"UPDATE audit.position SET head = sha256('x')",
			"UPDATE audit.position SET size = 310",
			"UPDATE audit.checkpoint SET root = sha256('x')",
			"UPDATE audit.checkpoint SET note = replace(note, E'\\n300\\n', E'\\n299\\n')",
			"CREATE FUNCTION audit.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT $1 $$; ALTER ROLE " + pgtest.Reader + " SET search_path = audit, pg_catalog; UPDATE audit.entry SET summary = 'x' WHERE seq = 200",
		} {
			// psql sees what is committed: the attack is, and is undone by a copy of the tables.
			db.Exec(t, "DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept; CREATE TABLE kept.entry AS SELECT * FROM audit.entry; CREATE TABLE kept.position AS SELECT * FROM audit.position; CREATE TABLE kept.checkpoint AS SELECT * FROM audit.checkpoint")
			db.Exec(t, attack)
			_, err := sink.Verify(t.Context(), snapshot, pgtest.Chain, sink.Scope{To: -1}, nil)
			var broken *ledger.BrokenError
			if err != nil && !errors.As(err, &broken) {
				t.Fatal(err)
			}
			bad, first := runSQL(t, db)
			if (err != nil) != bad || bad && broken.Seq != first {
				t.Errorf("%s: Go says %v, SQL says bad %t at %d", attack, err, bad, first)
			}
			db.Exec(t, "DELETE FROM audit.entry; DELETE FROM audit.position; DELETE FROM audit.checkpoint; INSERT INTO audit.entry SELECT * FROM kept.entry; INSERT INTO audit.position SELECT * FROM kept.position; INSERT INTO audit.checkpoint SELECT * FROM kept.checkpoint; ALTER ROLE "+pgtest.Reader+" RESET search_path")
		}
	})
}

// runSQL lets psql verify the chain as a reader: whether something is bad, and the first bad entry.
func runSQL(t *testing.T, db *pgtest.DB) (bad bool, first uint64) {
	t.Helper()
	program := db.Cluster.Program("psql")
	if _, err := exec.LookPath(program); err != nil {
		program = "psql" // one that is installed talks to every version
	}
	cmd := exec.CommandContext(t.Context(), program, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-", db.DSN(pgtest.Reader))
	cmd.Stdin = strings.NewReader(sql.Verify(pgtest.Chain))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	first = 1 << 62
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 4 {
		t.Fatalf("psql printed %d lines:\n%s", len(lines), out)
	}
	for _, line := range lines {
		f := strings.Split(line, "|")
		if f[2] == "0" {
			continue
		}
		at, err := strconv.ParseUint(f[3], 10, 64)
		if err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		bad, first = true, min(first, at)
	}
	return bad, first
}
