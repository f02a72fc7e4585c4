package signer

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"casebook.example/audit/ledger"
)

// maxProof is more hashes than any proof has: two for each level of a tree.
const maxProof = 128

// Format writes a request as it goes over the socket.
func (r Request) Format() string {
	var b strings.Builder
	fmt.Fprintf(&b, "old %d\n", r.Old)
	for _, h := range r.Proof {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	return b.String() + "\n" + r.Checkpoint.Text()
}

// ParseRequest reads what Format writes, and nothing else.
func ParseRequest(text string) (Request, error) {
	head, body, ok := strings.Cut(text, "\n\n")
	if !ok {
		return Request{}, errors.New("no empty line stands between proof and checkpoint")
	}
	lines := strings.Split(head, "\n")
	number, ok := strings.CutPrefix(lines[0], "old ")
	old, err := strconv.ParseUint(number, 10, 63)
	if !ok || err != nil || number != strconv.FormatUint(old, 10) {
		return Request{}, errors.New(`the first line is not "old" and a size`)
	}
	if len(lines)-1 > maxProof {
		return Request{}, errors.New("no proof has that many hashes")
	}
	r := Request{Old: old}
	for i, line := range lines[1:] {
		hash, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(hash) != len(ledger.Hash{}) {
			return Request{}, fmt.Errorf("hash %d of the proof is not one", i+1)
		}
		r.Proof = append(r.Proof, ledger.Hash(hash))
	}
	if r.Checkpoint, err = ledger.ParseCheckpoint(body); err != nil {
		return Request{}, err
	}
	if r.Format() != text {
		return Request{}, errors.New("the request is not written as it must be")
	}
	return r, nil
}
