package removal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
)

// AnyApplication is the class of what no other class is about, entries without an application included.
const AnyApplication = "*"

// Class says how long the entries of an application are kept. What no class is about is kept for ever.
type Class struct {
	Application string
	KeptSince   time.Time // what is older is past
}

// Month is what retention says of a month of the log. It is past as a whole or not at all.
type Month struct {
	Month   string   `json:"month"` // 2026-03, by commit time in UTC
	Entries int64    `json:"entries"`
	Stays   int64    `json:"evidence"` // of them, what the rest of the log is judged by: keys, orders, rules; they are never dropped
	Past    bool     `json:"past"`
	Held    []string `json:"held_by"` // why it is not: classes, legal holds, the open end of the tree
}

// judged are the kinds that the rest of the log is judged by.
var judged = []int16{int16(ledger.KindGenesis), int16(ledger.KindKey), int16(ledger.KindRedactionOrder), int16(ledger.KindRedactionDone), int16(ledger.KindPrune), int16(ledger.KindAnchor), int16(ledger.KindConfiguration)}

// Months lists every month that the chain has, oldest first, and what keeps it. Nothing is changed.
func (d *Desk) Months(ctx context.Context, classes []Class) ([]Month, error) {
	since := map[string]time.Time{}
	for _, c := range classes {
		since[c.Application] = c.KeptSince
	}
	var months []Month
	err := d.w.Read(ctx, func(tx pgx.Tx) error {
		var tiles int64
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(index), -1) + 1 FROM audit.tile WHERE chain = $1 AND level = 0", d.chain).Scan(&tiles); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT date_trunc('month', committed_at AT TIME ZONE 'UTC')::date, coalesce(application, ''), count(*), count(*) FILTER (WHERE kind = ANY ($2)), max(seq)
			FROM audit.entry WHERE chain = $1 GROUP BY 1, 2 ORDER BY 1, 2`, d.chain, judged)
		if err != nil {
			return err
		}
		var month time.Time
		var application string
		var n, stays, last int64
		_, err = pgx.ForEachRow(rows, []any{&month, &application, &n, &stays, &last}, func() error {
			name := month.Format("2006-01")
			if len(months) == 0 || months[len(months)-1].Month != name {
				months = append(months, Month{Month: name, Held: []string{}})
			}
			m := &months[len(months)-1]
			m.Entries, m.Stays = m.Entries+n, m.Stays+stays
			if n == stays {
				return nil
			}
			limit, ok := since[application]
			if !ok {
				limit, ok = since[AnyApplication]
			}
			what := application
			if what == "" {
				what = "entries without an application"
			}
			switch {
			case !ok:
				m.Held = append(m.Held, what+": kept for ever")
			case month.AddDate(0, 1, 0).After(limit):
				m.Held = append(m.Held, fmt.Sprintf("%s: kept since %s", what, limit.UTC().Format(time.DateOnly)))
			}
			if last >= tiles*ledger.TileWidth {
				if open := "entries that are in no full tile of the tree"; !slices.Contains(m.Held, open) {
					m.Held = append(m.Held, open)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return d.heldMonths(ctx, tx, months)
	})
	for i := range months {
		months[i].Past = len(months[i].Held) == 0 && months[i].Entries > months[i].Stays
	}
	return months, err
}

// heldMonths notes the legal holds.
func (d *Desk) heldMonths(ctx context.Context, tx pgx.Tx, months []Month) error {
	rows, err := tx.Query(ctx, `SELECT DISTINCT to_char(committed_at AT TIME ZONE 'UTC', 'YYYY-MM'), record_id FROM (
		  SELECT committed_at, record_id FROM audit.entry WHERE chain = $1 AND record_id = ANY ($2) AND NOT kind = ANY ($3)
		  UNION ALL SELECT committed_at, record_id FROM audit.entry_also WHERE chain = $1 AND record_id = ANY ($2)) x ORDER BY 1, 2`, d.chain, d.removals.Holds(), judged)
	if err != nil {
		return err
	}
	var month, record string
	_, err = pgx.ForEachRow(rows, []any{&month, &record}, func() error {
		for i := range months {
			if months[i].Month == month {
				months[i].Held = append(months[i].Held, "legal hold of record "+record)
			}
		}
		return nil
	})
	return err
}
