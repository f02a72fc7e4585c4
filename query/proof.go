package query

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/bundle"
	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// proof gives one entry with all that an outsider needs to believe it: as JSON, or with format=tlog-proof as the file of
// https://c2sp.org/tlog-proof alone.
func (h *Service) proof(w http.ResponseWriter, r *Request) error {
	p, errs := Parameters(r.URL.RawQuery, "format")
	if format := p["format"]; format != "" && format != "json" && format != "tlog-proof" {
		errs = append(errs, ParameterError{"format", "must be json or tlog-proof"})
	}
	if len(errs) > 0 {
		return wrongParameters(errs)
	}
	seq, err := strconv.ParseInt(r.PathValue("seq"), 10, 64)
	if err != nil || seq < 0 {
		return NewProblem(http.StatusNotFound, "the number of an entry is a whole number from 0 on")
	}
	var entry *bundle.Entry
	err = h.read(r.Context(), r.Caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		entry, err = prove(r.Context(), tx, s, h.Chain, seq)
		return err
	})
	if err != nil {
		return evidenceProblem(w, err)
	}
	if p["format"] == "tlog-proof" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, err = w.Write([]byte(entry.TLogProof))
		return err
	}
	text, err := entry.Marshal()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(text)
	return err
}

// checkpoint gives the last signed checkpoint.
func (h *Service) checkpoint(w http.ResponseWriter, r *Request) error {
	if _, errs := Parameters(r.URL.RawQuery); len(errs) > 0 {
		return wrongParameters(errs)
	}
	var signed []byte
	err := h.read(r.Context(), r.Caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		chain, err := stored.FindChain(r.Context(), tx, h.Chain)
		if err == nil {
			signed, _, err = stored.LastCheckpoint(r.Context(), tx, chain)
		}
		return err
	})
	if err != nil {
		return evidenceProblem(w, err)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err = w.Write(signed)
	return err
}

// evidenceProblem is the answer to what Prove and WriteBundle refuse.
func evidenceProblem(w http.ResponseWriter, err error) error {
	switch {
	case errors.Is(err, ErrNoEntry):
		return NewProblem(http.StatusNotFound, err.Error())
	case errors.Is(err, stored.ErrUnsigned):
		return NewProblem(http.StatusNotFound, err.Error()+": nothing can be proven")
	case errors.Is(err, ErrNewer):
		w.Header().Set("Retry-After", strconv.Itoa(int(signedPatience/time.Second)))
		return NewProblem(http.StatusServiceUnavailable, err.Error())
	case errors.Is(err, ledger.ErrTiles):
		return NewProblem(http.StatusInternalServerError, "what is stored does not fit what was signed, so nothing is proven: somebody must run casebook-audit verify")
	case errors.Is(err, ErrManyEntries), errors.Is(err, ErrSince):
		return NewProblem(http.StatusUnprocessableEntity, err.Error())
	}
	return err
}

// bundle streams a bundle. Like every export it is cut off when something fails on the way.
func (h *Service) bundle(ctx context.Context, w http.ResponseWriter, r *Request, f Filter, since []uint64) error {
	out := &patient{w: w, control: http.NewResponseController(w)}
	var info *BundleInfo
	err := h.read(ctx, r.Caller, 0, func(tx pgx.Tx, s scope) (err error) {
		info, err = writeBundle(ctx, tx, s, h.Chain, r.Caller, f, storable(r.URL.RawQuery), since, out, nil)
		return err
	})
	if err != nil {
		return evidenceProblem(w, err)
	}
	w.Header().Set("X-Rows", strconv.Itoa(info.Entries))
	w.Header().Set("X-Bundle", hex.EncodeToString(info.Name[:]))
	return nil
}

// parseSince reads the sizes of checkpoints that a bundle is to be consistent with.
func parseSince(text string) (since []uint64, err error) {
	if text == "" {
		return nil, nil
	}
	for _, part := range strings.Split(text, ",") {
		size, err := strconv.ParseUint(part, 10, 62)
		if err != nil || len(since) == 16 {
			return nil, errors.New("must be up to 16 sizes of checkpoints, joined by commas")
		}
		since = append(since, size)
	}
	return since, nil
}
