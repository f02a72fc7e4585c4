package mapping

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// hashes writes the keyed hashes of a masked column: two values can be shown to be equal by who has the key, and nobody
// else can try values out. The hash does not depend on table or column, so that a number is the same wherever it stands.
func (x *mapping) hashes(i int, paths *columnPaths) {
	if x.c.Op != capture.OpInsert {
		x.hash(paths.oldHash, tupleValue(x.old, nil, i))
	}
	if x.c.Op != capture.OpDelete {
		x.hash(paths.newHash, tupleValue(x.c.New, x.old, i))
	}
}

func (x *mapping) hash(path string, v value) {
	if v.st != known {
		return
	}
	mac := hmac.New(sha256.New, x.hashKey)
	mac.Write([]byte(v.s))
	x.add(ledger.Field{Path: path, Type: "hmac-sha256", State: ledger.FieldValue, Value: hex.EncodeToString(mac.Sum(nil))})
}
