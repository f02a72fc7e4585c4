package anchor

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
)

// Witness has checkpoints cosigned by a witness, which signs only what continues what it has signed before:
// https://c2sp.org/tlog-witness, add-checkpoint.
type Witness struct {
	address string
	key     *torchwood.CosignatureVerifier
	client  *http.Client
	old     uint64 // entries under the last checkpoint that it is known to have
}

// maxSkew is how old, or how far ahead, the time of a cosignature may be.
const maxSkew = time.Hour

// NewWitness names a witness by the prefix of its addresses and by its verifier key.
func NewWitness(prefix, vkey string) (*Witness, error) {
	if err := checkAddress(prefix); err != nil {
		return nil, err
	}
	key, err := torchwood.NewCosignatureVerifier(vkey)
	if err != nil {
		return nil, errors.New("a witness has a key like witness.example/w+1a2b3c4d+BA..., and this is none")
	}
	return &Witness{address: strings.TrimSuffix(prefix, "/") + "/add-checkpoint", key: key, client: newClient()}, nil
}

// AheadError: the witness has cosigned more entries than the log has. The log was shortened, or the witness lies.
type AheadError struct{ Seen, Size uint64 }

func (e *AheadError) Error() string {
	return fmt.Sprintf("the witness has cosigned %d entries, the log has signed %d: the log was shortened, or the witness is not honest", e.Seen, e.Size)
}

// Publish asks for a cosignature, which is the receipt: the line of a signed note.
func (w *Witness) Publish(ctx context.Context, p *Published) (string, error) {
	// Twice: it may know of another size than we, and says so.
	for try := 0; ; try++ {
		proof, err := p.Prove(ctx, w.old)
		if err != nil {
			return "", err
		}
		var body bytes.Buffer
		fmt.Fprintf(&body, "old %d\n", w.old)
		for _, h := range proof {
			fmt.Fprintf(&body, "%s\n", base64.StdEncoding.EncodeToString(h[:]))
		}
		body.WriteByte('\n')
		body.Write(p.Signed)
		status, answer, err := post(ctx, w.client, w.address, nil, body.Bytes())
		switch {
		case err != nil:
			return "", err
		case status == http.StatusOK:
			receipt, err := w.cosignature(p, answer)
			if err == nil {
				w.old = p.Size
			}
			return receipt, err
		case status == http.StatusConflict:
			text := strings.TrimSuffix(string(answer), "\n")
			seen, err := strconv.ParseUint(text, 10, 63)
			if err != nil || strconv.FormatUint(seen, 10) != text {
				return "", errors.New("the witness says 409 without the size that it knows")
			}
			if seen > p.Size {
				return "", &AheadError{seen, p.Size}
			}
			if try > 0 || seen == w.old {
				return "", fmt.Errorf("the witness says 409 again, for a proof from the size %d that it asked for", w.old)
			}
			w.old = seen
		default:
			return "", fmt.Errorf("the answer of the witness is %d %s", status, printable(answer))
		}
	}
}

// cosignature finds the witness's own signature in its answer. Others are not of interest.
func (w *Witness) cosignature(p *Published, answer []byte) (string, error) {
	n, err := note.Open(append(bytes.Clone(p.Signed), answer...), note.VerifierList(w.key))
	if err != nil || len(n.Sigs) != 1 {
		return "", errors.New("the answer of the witness is no cosignature of this checkpoint by its key")
	}
	seconds, err := torchwood.CosignatureTimestamp(n.Sigs[0])
	if err != nil {
		return "", errors.New("the cosignature has no time")
	}
	if age := time.Since(time.Unix(seconds, 0)); age > maxSkew || age < -maxSkew {
		return "", fmt.Errorf("the cosignature is of another time than now, by %s", age.Round(time.Second))
	}
	raw, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if err != nil || len(raw) < 4 || binary.BigEndian.Uint32(raw) != w.key.KeyHash() {
		return "", errors.New("the cosignature is not by the key of the witness")
	}
	return "— " + n.Sigs[0].Name + " " + n.Sigs[0].Base64 + "\n", nil
}
