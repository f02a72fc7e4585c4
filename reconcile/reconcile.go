package reconcile

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
	"casebook.example/audit/mapping"
)

// maxDifferences is how many differences a report lists; all are counted.
const maxDifferences = 1000

// Table is a table to compare.
type Table struct {
	Name    string   // schema.name
	Columns []string // of the source, those that are neither dropped nor generated
}

// Report is what came out.
type Report struct {
	LSN         ledger.LSN    `json:"lsn"` // the place in the stream
	Tables      []TableReport `json:"tables"`
	Differences []Difference  `json:"differences"` // the first 1,000
}

// TableReport counts one table.
type TableReport struct {
	Name        string `json:"name"`
	Rows        int64  `json:"rows"`   // of the source
	Logged      int64  `json:"logged"` // that the log says something of, gone ones too
	Differences int64  `json:"differences"`
}

// Difference names a place where source and log disagree. It holds no value.
type Difference struct {
	Table  string `json:"table"`
	Row    string `json:"row"`
	Column string `json:"column,omitempty"`
	What   string `json:"what"`
}

// Run compares tables, which it takes in the order of their names. conn is a connection to the audit database that may
// read all tenants; snapshot is of the source at lsn, and the log must be complete up to there. done hears of each table.
func Run(ctx context.Context, conn *pgx.Conn, chain string, source capture.Config, snapshot string, lsn ledger.LSN, rules *mapping.Rules, tables []Table, done func(TableReport)) (*Report, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, "SET LOCAL casebook_audit.tenants = '*'"); err != nil {
		return nil, err
	}
	r := &run{rules: rules, report: &Report{LSN: lsn, Tables: []TableReport{}, Differences: []Difference{}}, done: done}
	var columns []capture.TableColumns
	for _, t := range tables {
		plan := newPlan(rules, t)
		r.plans = append(r.plans, plan)
		columns = append(columns, plan.read)
	}
	if r.moved, err = readMoves(ctx, tx, chain, lsn, r.plans); err != nil {
		return nil, err
	}
	if r.log, err = readLog(ctx, tx, chain, lsn); err != nil {
		return nil, err
	}
	defer r.log.close()
	err = capture.ReadSnapshot(ctx, source, snapshot, columns, 1, capture.SnapshotReader{Row: r.row, Done: r.end})
	if err != nil {
		return nil, err
	}
	return r.report, nil
}

// run is one comparison.
type run struct {
	rules  *mapping.Rules
	plans  []*plan
	log    *logReader
	moved  map[string]map[string][]int64 // by table and key: entries that gave the row another key
	report *Report
	done   func(TableReport)

	at      int // the table at hand
	begun   bool
	table   TableReport
	history history
	last    string // key of the source's row before
}

// begin takes what the log says of a table as a whole.
func (r *run) begin(table int) error {
	r.at, r.begun, r.last = table, true, ""
	p := r.plans[table]
	r.table, r.history = TableReport{Name: p.name}, history{}
	return r.log.table(p.name, &r.history)
}

func (r *run) row(table int, values []capture.Value) error {
	if !r.begun || table != r.at {
		if err := r.begin(table); err != nil {
			return err
		}
	}
	p := r.plans[table]
	r.table.Rows++
	key := p.rowKey(values)
	if key <= r.last && r.table.Rows > 1 {
		return fmt.Errorf("the rows of %s do not come in the order of their keys: nothing can be decided", p.name)
	}
	r.last = key
	for {
		next, ok, err := r.log.peek(p.name)
		if err != nil {
			return err
		}
		if !ok || next > key {
			if r.history.truncated > 0 {
				r.differ(p, key, "", "is in the source; the log says that the table was emptied, and of no such row since")
			}
			return nil
		}
		f, err := r.fold(p, next)
		if err != nil {
			return err
		}
		if next < key {
			if f.exists {
				r.differ(p, next, "", "is in the log, not in the source")
			}
			continue
		}
		if !f.exists {
			r.differ(p, key, "", "is in the source; the log says that it is gone")
			return nil
		}
		for _, column := range p.compare(f, values) {
			r.differ(p, key, column, "has another value in the source than in the log")
		}
		return nil
	}
}

// end goes over what the log still has of a table.
func (r *run) end(table int, _ int64) error {
	if !r.begun || table != r.at {
		if err := r.begin(table); err != nil {
			return err
		}
	}
	p := r.plans[table]
	for {
		next, ok, err := r.log.peek(p.name)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		f, err := r.fold(p, next)
		if err != nil {
			return err
		}
		if f.exists {
			r.differ(p, next, "", "is in the log, not in the source")
		}
	}
	r.begun = false
	r.report.Tables = append(r.report.Tables, r.table)
	if r.done != nil {
		r.done(r.table)
	}
	return nil
}

func (r *run) fold(p *plan, key string) (*state, error) {
	r.table.Logged++
	return r.log.fold(p, key, &r.history, r.moved[p.name][key])
}

func (r *run) differ(p *plan, key, column, what string) {
	r.table.Differences++
	if len(r.report.Differences) < maxDifferences {
		r.report.Differences = append(r.report.Differences, Difference{p.name, key, column, what})
	}
}
