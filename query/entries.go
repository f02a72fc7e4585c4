package query

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// List is a page of entries.
type List struct {
	Entries []*Entry `json:"entries"`
	Next    string   `json:"next_cursor,omitempty"` // missing: there are no more. In the order of the chain it is always there
}

func (h *Service) entries(w http.ResponseWriter, r *Request) error {
	p, errs := Parameters(r.URL.RawQuery, append([]string{"limit", "cursor", "wait"}, FilterParameters()...)...)
	f, more := ParseFilter(p)
	errs = append(errs, more...)
	page, more := f.ParsePage(p)
	errs = append(errs, more...)
	wait, more := parseWait(p["wait"], f)
	if errs = append(errs, more...); len(errs) > 0 {
		return wrongParameters(errs)
	}
	list, err := h.follow(w, r, f, page, wait)
	if err != nil {
		return err
	}
	if list.Next != "" {
		next := r.URL.Query()
		next.Set("cursor", list.Next)
		w.Header().Set("Link", "<"+(&url.URL{Path: r.URL.Path, RawQuery: next.Encode()}).String()+`>; rel="next"`)
	}
	if closed, err := h.closed(r, f); err != nil || !closed {
		return errors.Join(err, writeJSON(w, list))
	}
	return writeTagged(w, r, list)
}

// List gives one page.
func (h *Service) List(ctx context.Context, caller *Caller, f Filter, page Page) (list *List, err error) {
	err = h.read(ctx, caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		list, err = listEntries(ctx, tx, s, f, page)
		return err
	})
	return list, err
}

// ListEntries gives one page to a caller that reads without the endpoint. conn is a reader's.
func ListEntries(ctx context.Context, conn *pgx.Conn, chain string, caller *Caller, f Filter, page Page) (list *List, err error) {
	err = Read(ctx, conn, chain, caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		list, err = listEntries(ctx, tx, s, f, page)
		return err
	})
	return list, err
}

// maxPageBytes ends a page early: a thousand entries of long texts must not fill the memory.
const maxPageBytes = 16 << 20

var errPageFull = errors.New("the page is full")

// listEntries asks for one entry more than the page holds, to know whether there is a next one.
func listEntries(ctx context.Context, tx pgx.Tx, s scope, f Filter, page Page) (*List, error) {
	list := &List{Entries: []*Entry{}}
	want, bytes := page.Limit, 0
	page.Limit++
	err := eachEntry(ctx, tx, s, f, page, func(e *Entry) error {
		if bytes += e.size; bytes > maxPageBytes && len(list.Entries) > 0 {
			want = len(list.Entries)
			list.Entries = append(list.Entries, nil)
			return errPageFull
		}
		list.Entries = append(list.Entries, e)
		return nil
	})
	if err != nil && !errors.Is(err, errPageFull) {
		return nil, err
	}
	switch {
	case len(list.Entries) > want:
		list.Entries = list.Entries[:want]
		list.Next = f.cursor(list.Entries[want-1].place)
	case f.Sequence: // whoever follows goes on from here, past what the filter leaves out
		var last int64
		if err := tx.QueryRow(ctx, "SELECT size - 1 FROM audit.position WHERE chain = $1", s.chain).Scan(&last); err != nil {
			return nil, err
		}
		list.Next = f.cursor(Place{Seq: uint64(max(0, last))})
	}
	return list, nil
}

// resolved is the statement of a filter, with the records and users that its names stand for; "": no record ever had that
// name, so there is nothing to ask for.
func (f Filter) resolved(ctx context.Context, tx pgx.Tx, s scope, page Page) (string, []any, error) {
	records, err := f.recordIDs(ctx, tx, s)
	if err != nil || records != nil && len(records) == 0 {
		return "", nil, err
	}
	users, err := f.userIDs(ctx, tx, s)
	if err != nil {
		return "", nil, err
	}
	sql, args := f.statement(s, records, users, page)
	return sql, args, nil
}

// eachEntry is the one way to entries, for pages and exports alike.
func eachEntry(ctx context.Context, tx pgx.Tx, s scope, f Filter, page Page, fn func(*Entry) error) error {
	sql, args, err := f.resolved(ctx, tx, s, page)
	if err != nil || sql == "" {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		e, err := scanEntry(rows)
		if err == nil {
			err = fn(e)
		}
		if err != nil {
			cancel() // or Close would read millions of rows that nobody wants
			return err
		}
	}
	return rows.Err()
}

// entry gives one entry by its number. One that the caller may not see is one that is not there.
func (h *Service) entry(w http.ResponseWriter, r *Request) error {
	if _, errs := Parameters(r.URL.RawQuery); len(errs) > 0 {
		return wrongParameters(errs)
	}
	seq, err := strconv.ParseInt(r.PathValue("seq"), 10, 64)
	if err != nil || seq < 0 {
		return NewProblem(http.StatusNotFound, "the number of an entry is a whole number from 0 on")
	}
	e, err := h.Entry(r.Context(), r.Caller, seq)
	if err != nil {
		return err
	}
	return writeTagged(w, r, e)
}

// Entry gives one entry by its number. One that the caller may not see is one that is not there: a Problem.
func (h *Service) Entry(ctx context.Context, caller *Caller, seq int64) (e *Entry, err error) {
	err = h.read(ctx, caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		b := &builder{}
		where := "e.chain = " + b.arg(s.chain) + " AND e.seq = " + b.arg(seq)
		if s.tenants != nil {
			where += " AND e.tenant_id = ANY(" + b.arg(s.tenants) + ")"
		}
		rows, err := tx.Query(ctx, "SELECT "+entryColumns("e")+" FROM audit.entry e WHERE "+where, b.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		if !rows.Next() {
			return errors.Join(rows.Err(), NewProblem(http.StatusNotFound, "there is no such entry, or not for you"))
		}
		e, err = scanEntry(rows)
		return err
	})
	return e, err
}

// Explain gives the plan of a page, for those who ask why it is slow.
func Explain(ctx context.Context, conn *pgx.Conn, chain string, caller *Caller, f Filter, page Page) (plan string, err error) {
	err = Read(ctx, conn, chain, caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		records, err := f.recordIDs(ctx, tx, s)
		if err != nil {
			return err
		}
		users, err := f.userIDs(ctx, tx, s)
		if err != nil {
			return err
		}
		sql, args := f.statement(s, records, users, page)
		lines, err := strs(ctx, tx, "EXPLAIN "+sql, args)
		plan = strings.Join(lines, "\n")
		return err
	})
	return plan, err
}
