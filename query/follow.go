package query

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	maxWait    = 30 // seconds that a request may wait for entries
	maxWaiting = 64 // requests that may wait at once
	lookAgain  = 500 * time.Millisecond
)

// parseWait reads for how long a request waits for entries. Only the order of the chain can be followed: in the order of
// time a later entry may belong before what has been given.
func parseWait(text string, f Filter) (time.Duration, []ParameterError) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < 1 || n > maxWait:
		return 0, []ParameterError{{"wait", "must be a number of seconds from 1 to " + strconv.Itoa(maxWait)}}
	case !f.Sequence:
		return 0, []ParameterError{{"wait", "is for order=seq: only the order of the chain can be followed"}}
	}
	return time.Duration(n) * time.Second, nil
}

// follow gives a page. While it is empty and there is time left it looks again whenever the chain has grown.
func (h *Service) follow(w http.ResponseWriter, r *Request, f Filter, page Page, wait time.Duration) (*List, error) {
	list, err := h.List(r.Context(), r.Caller, f, page)
	if wait == 0 || err != nil || len(list.Entries) > 0 {
		return list, err
	}
	select {
	case h.waiting <- struct{}{}:
		defer func() { <-h.waiting }()
	default:
		w.Header().Set("Retry-After", "5")
		return nil, NewProblem(http.StatusServiceUnavailable, "as many requests are waiting as may wait at once; ask without wait, or try again later")
	}
	end := time.NewTimer(wait)
	defer end.Stop()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		select {
		case <-r.Context().Done():
			return nil, r.Context().Err()
		case <-end.C:
			return list, nil
		case <-again.C:
		}
		size, err := h.size(r)
		if err != nil {
			return nil, err
		}
		at, errs := f.ParsePage(map[string]string{"cursor": list.Next})
		if len(errs) > 0 || at.After == nil || uint64(size) <= at.After.Seq+1 {
			continue
		}
		page.After = at.After
		if list, err = h.List(r.Context(), r.Caller, f, page); err != nil || len(list.Entries) > 0 {
			return list, err
		}
	}
}

func (h *Service) size(r *Request) (size int64, err error) {
	err = h.read(r.Context(), r.Caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		return tx.QueryRow(r.Context(), "SELECT size FROM audit.position WHERE chain = $1", s.chain).Scan(&size)
	})
	return size, err
}

// closed says that nothing more can come into the range of a filter: it ends before the watermark.
func (h *Service) closed(r *Request, f Filter) (bool, error) {
	if f.To.IsZero() {
		return false, nil
	}
	status, err := h.Status(r.Context(), r.Caller)
	if err != nil || status.CompleteTo == "" {
		return false, err
	}
	complete, err := time.Parse(time.RFC3339Nano, status.CompleteTo)
	return err == nil && !complete.Before(f.To), err
}

// writeTagged gives what will not change by itself, with an ETag: the hash of the answer. Who has it already is told so.
func writeTagged(w http.ResponseWriter, r *Request, v any) error {
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(v); err != nil {
		return err
	}
	sum := sha256.Sum256(body.Bytes())
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	w.Header().Set("ETag", tag)
	for _, known := range strings.Split(r.Header.Get("If-None-Match"), ",") {
		if known = strings.TrimPrefix(strings.TrimSpace(known), "W/"); known == tag || known == "*" {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(body.Bytes())
	return err
}
