package attacks

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"casebook.example/audit/ledger"
)

// attack is one of the list. Exactly one of sql with forge, elsewhere and open says what becomes of it.
type attack struct {
	title    string
	sql      string // as superuser; the writer must be refused
	forge    forge  // what is computed anew after it
	from     uint64 // first entry that is computed anew
	detector string // "": nothing inside sees it
	seq      uint64 // where the detector points
	outside  bool   // a checkpoint that was kept outside sees it, as DetectCheckpoint
	writes   bool   // the writer's own rights allow it, or part of it

	elsewhere string // package/Test that carries it out
	open      string // why it is not carried out by a test yet
}

type forge int

const (
	nothing    forge = iota
	commitment       // of the one entry
	leaf             // and its leaf hash
	chain            // and every later entry, the tiles and the position
)

const (
	edit    = "UPDATE audit.entry SET summary = 'x' WHERE seq = 100"
	unsign  = "DELETE FROM audit.checkpoint"
	unkeyed = "ALTER TABLE audit.entry DROP CONSTRAINT entry_pkey"
	at100   = " WHERE seq = 100"
	update  = "UPDATE audit.entry SET "
)

// attacks are numbered as in the list, from 1.
var attacks = map[int][]attack{
	1: {{title: "edit a value", sql: update + "vals[2] = '13.00'" + at100, detector: ledger.DetectCommitment, seq: 100}},
	2: {{title: "edit and recompute the commitment", sql: edit, forge: commitment, from: 100, detector: ledger.DetectLeaf, seq: 100}},
	3: {{title: "and the leaf hash", sql: edit, forge: leaf, from: 100, detector: ledger.DetectChain, seq: 101}},
	4: {
		{title: "and all later entries and tiles", sql: edit, forge: chain, from: 100, detector: ledger.DetectCheckpoint, seq: 299},
		{title: "and the checkpoints are removed", sql: edit + ";" + unsign, forge: chain, from: 100, outside: true},
	},
	5: {{title: "the last entry, before it is signed", sql: "UPDATE audit.entry SET summary = 'x' WHERE seq = 608", forge: chain, from: 608}},
	6: {{title: "swap two contents", sql: "UPDATE audit.entry e SET row_id = o.row_id FROM audit.entry o WHERE (e.seq, o.seq) IN ((100, 101), (101, 100))", detector: ledger.DetectCommitment, seq: 100}},
	7: {{title: "swap two entries", sql: unkeyed + ";" + update + "seq = 201 - seq WHERE seq IN (100, 101)", detector: ledger.DetectChain, seq: 100}},
	8: {
		{title: "remove the end", sql: "DELETE FROM audit.entry WHERE seq >= 590", detector: ledger.DetectPosition, seq: 590},
		{title: "remove the end and move the position", sql: "DELETE FROM audit.entry WHERE seq >= 590; UPDATE audit.position SET size = 590", forge: chain, from: 580, detector: ledger.DetectCheckpoint, seq: 590},
		{title: "and the checkpoints", sql: "DELETE FROM audit.entry WHERE seq >= 590; DELETE FROM audit.entry_also WHERE seq >= 590; UPDATE audit.position SET size = 590;" + unsign, forge: chain, from: 580, outside: true},
	},
	9:  {{title: "remove from the middle", sql: "DELETE FROM audit.entry" + at100, detector: ledger.DetectDensity, seq: 100}},
	10: {{title: "remove, renumber, chain anew", sql: "DELETE FROM audit.entry" + at100 + ";" + unkeyed + ";" + update + "seq = seq - 1 WHERE seq > 100; UPDATE audit.position SET size = size - 1", forge: chain, from: 100, detector: ledger.DetectBoundary, seq: 298}},
	11: {{title: "remove the genesis", sql: "DELETE FROM audit.entry WHERE seq = 0", detector: ledger.DetectDensity, seq: 0}},
	12: {{title: "double an entry", sql: unkeyed + "; INSERT INTO audit.entry SELECT * FROM audit.entry" + at100, detector: ledger.DetectDensity, seq: 101}},
	13: {{title: "insert an entry in the middle", sql: unkeyed + ";" + update + `seq = seq + 1 WHERE seq > 100; INSERT INTO audit.entry SELECT (jsonb_populate_record(e, '{"seq": 101}')).* FROM audit.entry e` + at100, detector: ledger.DetectChain, seq: 101}},
	14: {{title: "append an entry with an earlier time", sql: forged + "; UPDATE audit.position SET size = size + 1;" + update + "recorded_us = 5 WHERE seq = 610", forge: chain, from: 610, detector: ledger.DetectTime, seq: 610}},
	15: {
		{title: "append a forged entry", sql: forged, forge: chain, from: 610, detector: ledger.DetectPosition, seq: 610, writes: true},
		{title: "and move the position", sql: forged + "; UPDATE audit.position SET size = size + 1", forge: chain, from: 610, writes: true},
	},
	16: {{title: "truncate and read a doctored dump", sql: "CREATE TEMP TABLE dump AS TABLE audit.entry; TRUNCATE audit.entry; INSERT INTO audit.entry TABLE dump;" + edit + ";" + unsign, forge: chain, from: 100, outside: true}},
	17: {{title: "an old backup restored", elsewhere: "signer/TestGatekeeper"}},
	18: {{title: "an old backup restored, with the signer's state", sql: "DELETE FROM audit.entry WHERE seq >= 590; DELETE FROM audit.entry_also WHERE seq >= 590; UPDATE audit.position SET size = 590; DELETE FROM audit.checkpoint WHERE size > 590", forge: chain, from: 589, outside: true}},
	19: {{title: "an old checkpoint replayed", elsewhere: "sink/TestVerifySince"}},
	20: {{title: "two daemons", elsewhere: "sink/TestOneWriter"}},
	21: {{title: "a tile of level 0", sql: "UPDATE audit.tile SET hashes = set_byte(hashes, 7, 255 - get_byte(hashes, 7)) WHERE index = 1", detector: ledger.DetectTree, seq: 256}},
	22: {
		{title: "a hash of level 1", sql: "UPDATE audit.tile SET root = sha256('x') WHERE index = 1", detector: ledger.DetectTree, seq: 256},
		{title: "a tile of level 1 that must not be there", sql: "INSERT INTO audit.tile SELECT chain, 1, 0, hashes, root FROM audit.tile WHERE index = 0", detector: ledger.DetectTree, seq: 610, writes: true},
	},
	23: {{title: "tile and entries", sql: "UPDATE audit.entry SET summary = 'x' WHERE seq = 5", forge: chain, from: 5, detector: ledger.DetectCheckpoint, seq: 299}},
	24: {
		{title: "another size in the note", sql: `UPDATE audit.checkpoint SET note = replace(note, E'\n300\n', E'\n299\n') WHERE size = 300`, detector: ledger.DetectCheckpoint, seq: 299},
		{title: "a size with a zero ahead", sql: `UPDATE audit.checkpoint SET note = replace(note, E'\n300\n', E'\n0300\n') WHERE size = 300`, detector: ledger.DetectCheckpoint, seq: 299},
		{title: "another root", sql: "UPDATE audit.checkpoint SET root = sha256('x') WHERE size = 300", detector: ledger.DetectCheckpoint, seq: 299},
		{title: "another line end", sql: `UPDATE audit.checkpoint SET note = note || E'\n' WHERE size = 300`, detector: ledger.DetectCheckpoint, seq: 299},
		{title: "a short root", sql: `UPDATE audit.checkpoint SET note = regexp_replace(note, E'\n300\n[^\n]+\n', E'\n300\nAAAA\n') WHERE size = 300`, detector: ledger.DetectCheckpoint, seq: 299},
	},
	25: {{title: "cosignatures stripped", open: "not written yet"}},
	26: {{title: "a checkpoint of another log", sql: "UPDATE audit.checkpoint SET note = replace(note, 'audit.example/test', 'audit.example/best') WHERE size = 300", detector: ledger.DetectCheckpoint, seq: 299}},
	27: {{title: "a cosignature key as log key", open: "not written yet"}},
	28: {{title: "an old stretch signed with another key", sql: "UPDATE audit.checkpoint SET note = '" + resigned + "' WHERE size = 300", detector: ledger.DetectCheckpoint, seq: 299}},
	29: {{title: "shortened, then continued with heartbeats", sql: "DELETE FROM audit.entry WHERE seq >= 590;" + heartbeats, forge: chain, from: 590, detector: ledger.DetectCheckpoint, seq: 599}},
	30: {{title: "a hashed column NULL", sql: "ALTER TABLE audit.entry ALTER commitment DROP NOT NULL;" + update + "commitment = NULL" + at100, detector: ledger.DetectCommitment, seq: 100}},
	31: {{title: "empty to NULL", sql: update + "vals[3] = NULL" + at100, detector: ledger.DetectCommitment, seq: 100}},
	32: {{title: "NULL to unchanged", sql: update + "states[4] = 2" + at100, detector: ledger.DetectCommitment, seq: 100}},
	33: {{title: "another Unicode form", sql: update + "row_name = normalize(row_name, NFD)" + at100, detector: ledger.DetectCommitment, seq: 100}},
	34: {{title: "a number written otherwise", sql: update + "vals[2] = '12.0'" + at100, detector: ledger.DetectCommitment, seq: 100}},
	35: {{title: "JSON written otherwise", sql: update + "vals[1] = vals[1]::jsonb::text" + at100, detector: ledger.DetectCommitment, seq: 100}},
	36: {{title: "bytes moved between columns", sql: update + "user_id = 'u1m', user_email = substr(user_email, 2)" + at100, detector: ledger.DetectCommitment, seq: 100}},
	37: {{title: "bytes moved between path and type", sql: update + "paths[2] = 'new.unit', types[2] = 'snumeric'" + at100, detector: ledger.DetectCommitment, seq: 100}},
	38: {{title: "fields in another order", sql: update + "paths = paths[1:1] || paths[3:3] || paths[2:2] || paths[4:], types = types[1:1] || types[3:3] || types[2:2] || types[4:], vals = vals[1:1] || vals[3:3] || vals[2:2] || vals[4:]" + at100, detector: ledger.DetectCommitment, seq: 100}},
	39: {{title: "settings of the session", sql: "SET LOCAL TimeZone = 'America/New_York'; SET LOCAL DateStyle = 'SQL, DMY'; SET LOCAL extra_float_digits = -15; SET LOCAL bytea_output = 'escape'", writes: true}},
	40: {{title: "another type of a column", open: "the server refuses the plans that the session has prepared: it needs a connection of its own"}},
	41: {{title: "a derived row", sql: "UPDATE audit.entry_also SET record_id = 'p2'" + at100, detector: ledger.DetectDerived, seq: 0}},
	42: {{title: "a name of the search", sql: "UPDATE audit.record_name SET name = 'Somebody Else'"}},
	43: {{title: "a column renamed in an entry", sql: update + "paths[2] = 'new.hours'" + at100, detector: ledger.DetectCommitment, seq: 100}},
	44: {{title: "another chain id", sql: "UPDATE audit.chain SET chain_id = gen_random_uuid()", detector: ledger.DetectLeaf, seq: 0}},
	45: {{title: "a view with the clean entries before an altered table", sql: "CREATE TABLE audit.clean AS TABLE audit.entry;" + edit + "; ALTER TABLE audit.entry RENAME TO hidden; CREATE VIEW audit.entry AS TABLE audit.clean"}},
	46: {{title: "a sha256 of somebody's own", sql: "CREATE FUNCTION audit.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT $1'; SET LOCAL search_path = audit, pg_catalog;" + edit, detector: ledger.DetectCommitment, seq: 100}},
	47: {{title: "the function in the database says that all is well", sql: `DROP FUNCTION audit.verify_chain(bigint, bigint, text); CREATE FUNCTION audit.verify_chain("from" bigint DEFAULT 0, "to" bigint DEFAULT NULL, chain_name text DEFAULT NULL, OUT entries bigint, OUT bad bigint, OUT first_bad bigint) LANGUAGE sql AS 'SELECT 610::bigint, 0::bigint, NULL::bigint';` + edit, detector: ledger.DetectCommitment, seq: 100}},
	48: {{title: "a damaged index", open: "it is made in the files of a server that is down; not written yet"}},
	49: {{title: "hint bits", open: "they are set in the files of a server that is down; not written yet"}},
	50: {{title: "removal without an order", elsewhere: "removal/TestByHand"}},
	51: {{title: "a value beside its digest", sql: update + `vals[2] = '13.00', entry_salt = NULL, salts = (SELECT array_agg(sha256('\x10'::bytea || entry_salt || int4send(i)) ORDER BY i) FROM generate_series(0, 28) i),
		digests = (SELECT array_agg(CASE WHEN i = 26 THEN sha256('\x11'::bytea || sha256('\x10'::bytea || entry_salt || int4send(i)) || int4send(i) || int4send(9) || 'new.units'::bytea || int4send(7) || 'numeric'::bytea || '\x01'::bytea || int4send(5) || '12.00'::bytea) END ORDER BY i) FROM generate_series(0, 28) i)` + at100, detector: ledger.DetectCommitment, seq: 100}},
	52: {{title: "an order used for more", open: "no test of package removal was found to do exactly this"}},
	53: {{title: "an order after the deed", elsewhere: "removal/TestAnchored"}},
	54: {{title: "an order used twice", open: "no test of package removal was found to do exactly this"}},
	55: {{title: "what was removed comes back", elsewhere: "removal/TestByHand"}},
	56: {{title: "a removed value is tried out", open: "no test of package removal was found to do exactly this"}},
	57: {{title: "a salt twice", sql: update + "entry_salt = (SELECT entry_salt FROM audit.entry WHERE seq = 606) WHERE seq = 607", forge: chain, from: 607}},
	58: {{title: "a partition dropped", sql: "DROP TABLE audit.entry_2026_03", detector: ledger.DetectPosition, seq: 2}},
	59: {{title: "pruned, then the first entry left is altered", open: "not written yet"}},
	60: {{title: "proofs of something else", elsewhere: "ledger/TestProofs"}},
	61: {{title: "a leaf that looks like a node", elsewhere: "ledger/TestParseLeaf"}},
	62: {{title: "a bundle with foreign parts", elsewhere: "bundle/TestBundleAttacks"}},
	63: {{title: "the extra line of a proof file", elsewhere: "ledger/TestProofFile"}},
	64: {{title: "a witness that lies", elsewhere: "anchor/TestWitnessThatLies"}},
	65: {{title: "anchoring suppressed", open: "not written yet"}},
	66: {{title: "left out at the source", elsewhere: "internal/e2e/TestReconcile"}},
	67: {{title: "a row of a transaction dropped", sql: "DELETE FROM audit.entry WHERE seq = 400;" + unkeyed + ";" + update + "seq = seq - 1 WHERE seq > 400;" + unsign + "; UPDATE audit.position SET size = size - 1", forge: chain, from: 400, detector: ledger.DetectBoundary, seq: 598}},
	68: {{title: "an event twice", elsewhere: "internal/e2e/TestExactlyOnce"}},
	69: {{title: "edges of sizes", elsewhere: "ledger/TestTree"}, {title: "edges of integers and times", open: "no test stores them in an audit database yet"}},
	70: {{title: "an endpoint that lies", open: "the endpoint gives proofs, and no test lets it lie yet"}},
}

// TestList: none of the 70 is missing, and each says what becomes of it. What is named elsewhere is there.
func TestList(t *testing.T) {
	var open int
	for n := 1; n <= 70; n++ {
		if len(attacks[n]) == 0 {
			t.Errorf("attack %d is missing", n)
		}
		for _, a := range attacks[n] {
			ways := 0
			for _, way := range []string{a.sql, a.elsewhere, a.open} {
				if way != "" {
					ways++
				}
			}
			if a.title == "" || ways != 1 {
				t.Errorf("attack %d %q must say one of: how, where, why not yet", n, a.title)
			}
			if a.open != "" {
				open++
				t.Logf("not carried out: %d, %s: %s", n, a.title, a.open)
			}
			if a.elsewhere == "" {
				continue
			}
			dir, name := filepath.Split(a.elsewhere)
			files, err := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				found = found || regexp.MustCompile(`(?m)^func `+name+`\(`).Match(text)
			}
			if !found {
				t.Errorf("attack %d: there is no %s", n, a.elsewhere)
			}
		}
	}
	if len(attacks) != 70 {
		t.Errorf("%d attacks, want 70", len(attacks))
	}
	t.Logf("%d are not carried out", open)
}
