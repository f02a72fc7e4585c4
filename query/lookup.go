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

// records completes the name of a record while it is typed: any name that it ever had, deleted records too.
func (h *handler) records(w http.ResponseWriter, r *request) error {
	type record struct {
		Application string `json:"application"`
		Type        string `json:"type"`
		ID          string `json:"id"`
		Name        string `json:"name"`
	}
	return suggest(h, w, r, func(b *builder, s scope, p map[string]string) string {
		where := "chain = " + b.arg(s.chain) + " AND lower(name) LIKE lower(" + b.arg(containing(p["q"])) + ")"
		if p["application"] != "" {
			where += " AND application = " + b.arg(p["application"])
		}
		if s.tenants != nil {
			where += " AND tenant_id = ANY(" + b.arg(s.tenants) + ")"
		}
		return "SELECT application, record_type, record_id, name FROM audit.record_name WHERE " + where + " ORDER BY lower(name), record_id"
	}, pgx.RowToStructByPos[record], "q", "application")
}

// users completes the address or the name of a user.
func (h *handler) users(w http.ResponseWriter, r *request) error {
	type user struct {
		ID    string `json:"id"`
		Email string `json:"email"`
		Name  string `json:"name"`
		Kind  string `json:"kind"`
	}
	return suggest(h, w, r, func(b *builder, s scope, p map[string]string) string {
		q := "lower(" + b.arg(containing(p["q"])) + ")"
		where := "chain = " + b.arg(s.chain) + " AND (lower(email) LIKE " + q + " OR lower(name) LIKE " + q + ")"
		if s.tenants != nil {
			where += " AND tenant_id = ANY(" + b.arg(s.tenants) + ")"
		}
		return "SELECT user_id, email, name, kind FROM audit.user_name WHERE " + where + " ORDER BY lower(email), user_id"
	}, pgx.RowToStructByPos[user], "q")
}

// containing is a LIKE pattern for texts that contain q. The server lowers its case, as it does that of the names.
func containing(q string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(q) + "%"
}

// suggest answers with a list of the endpoint's name. "more" says that it is not all.
func suggest[T any](h *handler, w http.ResponseWriter, r *request, sql func(*builder, scope, map[string]string) string, row pgx.RowToFunc[T], known ...string) error {
	p, errs := parameters(r.URL.RawQuery, known...)
	if len(errs) > 0 {
		return wrongParameters(errs)
	}
	var list []T
	err := h.read(r.Context(), r.caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		b := &builder{}
		rows, err := tx.Query(r.Context(), sql(b, s, p)+" LIMIT "+b.arg(maxSuggestions+1), b.args...)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, row)
		return err
	})
	if err != nil {
		return err
	}
	more := len(list) > maxSuggestions
	if list = list[:min(len(list), maxSuggestions)]; list == nil {
		list = []T{}
	}
	return writeJSON(w, map[string]any{r.name: list, "more": more})
}

// applications lists the applications that have records.
func (h *handler) applications(w http.ResponseWriter, r *request) error {
	if _, errs := parameters(r.URL.RawQuery); len(errs) > 0 {
		return wrongParameters(errs)
	}
	list := []string{}
	err := h.read(r.Context(), r.caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		b := &builder{}
		// A loose index scan: the first application, then the next one after it, and so on.
		where := "chain = " + b.arg(s.chain)
		if s.tenants != nil {
			where += " AND tenant_id = ANY(" + b.arg(s.tenants) + ")"
		}
		var err error
		list, err = strs(r.Context(), tx, `WITH RECURSIVE a(application) AS (
			SELECT min(application) FROM audit.record_name WHERE `+where+`
			UNION ALL SELECT (SELECT min(n.application) FROM audit.record_name n WHERE n.application > a.application AND `+where+`) FROM a WHERE a.application IS NOT NULL)
			SELECT application FROM a WHERE application IS NOT NULL`, b.args)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"applications": list})
}

// actions lists the words that the filter takes.
func (h *handler) actions(w http.ResponseWriter, r *request) error {
	if _, errs := parameters(r.URL.RawQuery); len(errs) > 0 {
		return wrongParameters(errs)
	}
	type action struct {
		Action string `json:"action"`
		Label  string `json:"label"`
	}
	return writeJSON(w, map[string]any{"actions": []action{{"create", "Creation"}, {"update", "Data modification"}, {"delete", "Deletion"}, {"truncate", "All rows removed"}}})
}

// Status is how far the log reaches.
type Status struct {
	Chain      string  `json:"chain"`
	Size       int64   `json:"size"`        // entries
	CompleteTo string  `json:"complete_to"` // watermark, RFC 3339; "" before the first transaction
	LagSeconds float64 `json:"lag_seconds"` // from the watermark to now, by the audit database's clock
	CommitLSN  string  `json:"commit_lsn"`  // of the last transaction stored
	LastCommit string  `json:"last_commit"` // its commit time
	Streaming  bool    `json:"seeded"`      // the directory was filled and the stream has begun
}

func (h *handler) status(w http.ResponseWriter, r *request) error {
	if _, errs := parameters(r.URL.RawQuery); len(errs) > 0 {
		return wrongParameters(errs)
	}
	var status *Status
	err := h.read(r.Context(), r.caller, queryTimeout, func(tx pgx.Tx, s scope) (err error) {
		status, err = ReadStatus(r.Context(), tx, h.Chain)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, status)
}

// ReadStatus says how far a chain reaches. q is a transaction or a connection of a reader.
func ReadStatus(ctx context.Context, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, chain string) (*Status, error) {
	s := &Status{Chain: chain}
	var complete, last *time.Time
	err := q.QueryRow(ctx, `SELECT p.size, p.complete_at, coalesce(extract(epoch FROM clock_timestamp() - p.complete_at), 0)::float8, p.commit_lsn::text,
		p.committed_at, p.seeded_at IS NOT NULL FROM audit.position p JOIN audit.chain c USING (chain) WHERE c.name = $1`, chain).
		Scan(&s.Size, &complete, &s.LagSeconds, &s.CommitLSN, &last, &s.Streaming)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("the audit database has no chain %q", chain)
	}
	if err != nil {
		return nil, err
	}
	s.LagSeconds = max(0, s.LagSeconds)
	s.CompleteTo, s.LastCommit = timeText(complete), timeText(last)
	return s, nil
}

func timeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return formatTime(*t)
}
