package query

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Summary counts the entries of a filter by one of their properties. By day the groups are in order of time, else the
// largest comes first.
type Summary struct {
	By     string  `json:"by"`
	Groups []Group `json:"groups"`
	More   bool    `json:"more"` // there are smaller groups
}

// Group is some entries that have a property in common.
type Group struct {
	Key   string `json:"key"`             // "" where the entries have none
	Label string `json:"label,omitempty"` // the name behind an id
	Count int64  `json:"count"`
}

const maxGroups = 500

// summaryKeys are the columns to count by, and the column that names them.
var summaryKeys = map[string][2]string{
	"day": {"", "NULL"}, "user": {"user_id", "max(user_email)"}, "action": {"action", "NULL"}, "resource": {"resource", "NULL"},
	"application": {"application", "NULL"}, "record": {"record_id", "max(record_name)"}, "initiator": {"initiator", "NULL"},
}

func (h *Service) summary(w http.ResponseWriter, r *Request) error {
	p, errs := Parameters(r.URL.RawQuery, append([]string{"by"}, slices.DeleteFunc(FilterParameters(), func(s string) bool { return s == "order" })...)...)
	f, more := ParseFilter(p)
	errs = append(errs, more...)
	if _, ok := summaryKeys[p["by"]]; !ok {
		errs = append(errs, ParameterError{"by", "must be day, user, action, resource, application, record or initiator"})
	}
	if len(errs) > 0 {
		return wrongParameters(errs)
	}
	summary, err := h.Summary(r.Context(), r.Caller, f, p["by"], p["tz"])
	if err != nil {
		return err
	}
	return writeJSON(w, summary)
}

// Summary counts. by is one of the words of the endpoint; zone is the one that days are meant in, "" is UTC.
func (h *Service) Summary(ctx context.Context, caller *Caller, f Filter, by, zone string) (*Summary, error) {
	summary := &Summary{By: by, Groups: []Group{}}
	err := h.read(ctx, caller, queryTimeout, func(tx pgx.Tx, s scope) error {
		sql, args, err := f.resolved(ctx, tx, s, Page{})
		if err != nil || sql == "" {
			return err
		}
		key, order := "coalesce("+summaryKeys[by][0]+", '')", "3 DESC, 1"
		if by == "day" {
			if zone == "" {
				zone = "UTC"
			}
			args = append(args, zone)
			key, order = "to_char(committed_at AT TIME ZONE $"+strconv.Itoa(len(args))+"::text, 'YYYY-MM-DD')", "1"
		}
		rows, err := tx.Query(ctx, "SELECT "+key+", coalesce("+summaryKeys[by][1]+", ''), count(*) FROM ("+strings.TrimSpace(sql)+") e GROUP BY 1 ORDER BY "+order+
			" LIMIT "+strconv.Itoa(maxGroups+1), args...)
		if err != nil {
			return err
		}
		groups, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Group])
		if summary.More = len(groups) > maxGroups; groups != nil {
			summary.Groups = groups[:min(len(groups), maxGroups)]
		}
		return err
	})
	return summary, err
}
