package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const maxSuggestions = 20

// User is a user by one of the addresses and names that it ever had.
type User struct {
	ID    string `json:"id"`
	Email string `json:"email"`
	Name  string `json:"name"`
	Kind  string `json:"kind"`
}

// Records completes the name of a record while it is typed: any name that it ever had, deleted records too, and where
// the audit database has trigrams also when q is misspelled. more says that the list is not all.
func (h *Service) Records(ctx context.Context, caller *Caller, q, application string) (list []Record, more bool, err error) {
	return suggest(ctx, h, caller, func(b *builder, s scope) string {
		return "SELECT application, record_type, record_id, name FROM audit.find_records(" +
			strings.Join([]string{b.arg(s.chain), b.arg(s.tenants), b.arg(orNull(application)), b.arg(q), b.arg(maxSuggestions + 1)}, ", ") + ")"
	}, pgx.RowToStructByPos[Record])
}

// orNull is NULL for no text.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Users completes the address or the name of a user.
func (h *Service) Users(ctx context.Context, caller *Caller, q string) (list []User, more bool, err error) {
	return suggest(ctx, h, caller, func(b *builder, s scope) string {
		q := "lower(" + b.arg(containing(q)) + ")"
		where := "chain = " + b.arg(s.chain) + " AND (lower(email) LIKE " + q + " OR lower(name) LIKE " + q + ")"
		if s.tenants != nil {
			where += " AND tenant_id = ANY(" + b.arg(s.tenants) + ")"
		}
		return "SELECT user_id, email, name, kind FROM audit.user_name WHERE " + where + " ORDER BY lower(email), user_id"
	}, pgx.RowToStructByPos[User])
}

// containing is a LIKE pattern for texts that contain q. The server lowers its case, as it does that of the names.
func containing(q string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(q) + "%"
}

// suggest asks for one more than it gives, to know whether that is all.
func suggest[T any](ctx context.Context, h *Service, caller *Caller, sql func(*builder, scope) string, row pgx.RowToFunc[T]) (list []T, more bool, err error) {
	err = h.read(ctx, caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		b := &builder{}
		rows, err := tx.Query(ctx, sql(b, s)+" LIMIT "+b.arg(maxSuggestions+1), b.args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, row)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	more = len(list) > maxSuggestions
	if list = list[:min(len(list), maxSuggestions)]; list == nil {
		list = []T{}
	}
	return list, more, nil
}

func (h *Service) records(w http.ResponseWriter, r *Request) error {
	p, errs := Parameters(r.URL.RawQuery, "q", "application")
	if len(errs) > 0 {
		return wrongParameters(errs)
	}
	list, more, err := h.Records(r.Context(), r.Caller, p["q"], p["application"])
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"records": list, "more": more})
}

func (h *Service) users(w http.ResponseWriter, r *Request) error {
	p, errs := Parameters(r.URL.RawQuery, "q")
	if len(errs) > 0 {
		return wrongParameters(errs)
	}
	list, more, err := h.Users(r.Context(), r.Caller, p["q"])
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"users": list, "more": more})
}

// applications lists the applications that have records.
func (h *Service) applications(w http.ResponseWriter, r *Request) error {
	if _, errs := Parameters(r.URL.RawQuery); len(errs) > 0 {
		return wrongParameters(errs)
	}
	list, err := h.Applications(r.Context(), r.Caller)
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"applications": list})
}

// Applications lists the applications that have records.
func (h *Service) Applications(ctx context.Context, caller *Caller) (list []string, err error) {
	err = h.read(ctx, caller, queryTimeout, func(tx pgx.Tx, s scope) (err error) {
		b := &builder{}
		// A loose index scan: the first application, then the next one after it, and so on.
		where := "chain = " + b.arg(s.chain)
		if s.tenants != nil {
			where += " AND tenant_id = ANY(" + b.arg(s.tenants) + ")"
		}
		list, err = strs(ctx, tx, `WITH RECURSIVE a(application) AS (
			SELECT min(application) FROM audit.record_name WHERE `+where+`
			UNION ALL SELECT (SELECT min(n.application) FROM audit.record_name n WHERE n.application > a.application AND `+where+`) FROM a WHERE a.application IS NOT NULL)
			SELECT application FROM a WHERE application IS NOT NULL`, b.args)
		return err
	})
	return list, err
}

// actions lists the words that the filter takes.
func (h *Service) actions(w http.ResponseWriter, r *Request) error {
	if _, errs := Parameters(r.URL.RawQuery); len(errs) > 0 {
		return wrongParameters(errs)
	}
	return writeJSON(w, map[string]any{"actions": Actions()})
}

// Action is a word that the filter takes, with what the help page calls it.
type Action struct {
	Action string `json:"action"`
	Label  string `json:"label"`
}

// Actions are the actions of changes.
func Actions() []Action {
	return []Action{{"create", "Creation"}, {"update", "Data modification"}, {"delete", "Deletion"}, {"truncate", "All rows removed"}}
}

// Status is how far the log reaches.
type Status struct {
	Chain      string  `json:"chain"`
	Since      string  `json:"since"`       // when the chain was made, RFC 3339
	Size       int64   `json:"size"`        // entries
	CompleteTo string  `json:"complete_to"` // watermark, RFC 3339; "" before the first transaction
	LagSeconds float64 `json:"lag_seconds"` // from the watermark to now, by the audit database's clock
	CommitLSN  string  `json:"commit_lsn"`  // of the last transaction stored
	LastCommit string  `json:"last_commit"` // its commit time
	Streaming  bool    `json:"seeded"`      // the directory was filled and the stream has begun
}

func (h *Service) status(w http.ResponseWriter, r *Request) error {
	if _, errs := Parameters(r.URL.RawQuery); len(errs) > 0 {
		return wrongParameters(errs)
	}
	status, err := h.Status(r.Context(), r.Caller)
	if err != nil {
		return err
	}
	return writeJSON(w, status)
}

// Status says how far the log reaches.
func (h *Service) Status(ctx context.Context, caller *Caller) (status *Status, err error) {
	err = h.read(ctx, caller, queryTimeout, func(tx pgx.Tx, _ scope) (err error) {
		status, err = ReadStatus(ctx, tx, h.Chain)
		return err
	})
	return status, err
}

// ReadStatus says how far a chain reaches. q is a transaction or a connection of a reader.
func ReadStatus(ctx context.Context, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, chain string) (*Status, error) {
	s := &Status{Chain: chain}
	var since time.Time
	var complete, last *time.Time
	err := q.QueryRow(ctx, `SELECT c.created_at, p.size, p.complete_at, coalesce(extract(epoch FROM clock_timestamp() - p.complete_at), 0)::float8, p.commit_lsn::text,
		p.committed_at, p.seeded_at IS NOT NULL FROM audit.position p JOIN audit.chain c USING (chain) WHERE c.name = $1`, chain).
		Scan(&since, &s.Size, &complete, &s.LagSeconds, &s.CommitLSN, &last, &s.Streaming)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("the audit database has no chain %q", chain)
	}
	if err != nil {
		return nil, err
	}
	s.LagSeconds = max(0, s.LagSeconds)
	s.Since, s.CompleteTo, s.LastCommit = formatTime(since), timeText(complete), timeText(last)
	return s, nil
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return formatTime(*t)
}
