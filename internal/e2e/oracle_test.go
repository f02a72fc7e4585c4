package e2e

import (
	"encoding/binary"
	"testing"

	"casebook.example/audit/ledger"
)

// oracleSlot is a second slot, made where the daemon's begins. Postgres keeps for it what it keeps for ours.
const oracleSlot = "oracle"

// sourceTx is a transaction of the source with at least one row change, as the oracle slot has it.
type sourceTx struct {
	commit  ledger.LSN
	xid     uint32
	changes int64
}

// makeOracle makes the oracle slot. Call it when the publication is there and before anything is written.
func (w *world) makeOracle(t *testing.T) {
	t.Helper()
	w.sourceExec(t, `select pg_create_logical_replication_slot('`+oracleSlot+`', 'pgoutput')`)
}

// oracle lists the transactions of the publication, read by Postgres' own decoder from the oracle slot. It knows
// nothing of our code but the format of the protocol's messages.
func (w *world) oracle(t *testing.T) []sourceTx {
	t.Helper()
	rows, err := w.sourceConn(t).Query(t.Context(), `
		select substring(data for 26) from pg_logical_slot_peek_binary_changes($1, null, null,
		  'proto_version', '1', 'publication_names', 'casebook_audit', 'messages', 'true')`, oracleSlot)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []sourceTx
	var tx sourceTx
	for rows.Next() {
		var message []byte
		if err := rows.Scan(&message); err != nil {
			t.Fatal(err)
		}
		switch message[0] {
		case 'B': // final LSN, commit time, transaction id
			tx = sourceTx{commit: ledger.LSN(binary.BigEndian.Uint64(message[1:])), xid: binary.BigEndian.Uint32(message[17:])}
		case 'I', 'U', 'D':
			tx.changes++
		case 'T': // one for each relation
			tx.changes += int64(binary.BigEndian.Uint32(message[1:]))
		case 'C': // flags, commit LSN, ...
			if commit := ledger.LSN(binary.BigEndian.Uint64(message[2:])); commit != tx.commit {
				t.Fatalf("the oracle's begin says %s, its commit %s", tx.commit, commit)
			}
			if tx.changes > 0 {
				list = append(list, tx)
			}
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}
