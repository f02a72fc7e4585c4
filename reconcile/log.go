package reconcile

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
)

// entry is what a comparison needs of an entry.
type entry struct {
	seq    int64
	kind   ledger.Kind
	table  string
	row    string // "": of the table as a whole
	action string
	paths  []string
	states []int16
	vals   []*string
}

// logReader gives the entries table by table, row by row, in their order.
type logReader struct {
	rows pgx.Rows
	next *entry // nil: at the end
}

// The server sorts: on its disk, if it must.
const logQuery = `SELECT e.seq, e.kind, e.table_name, coalesce(e.row_id, ''), coalesce(e.action, ''), e.paths, e.states, e.vals
  FROM audit.entry e JOIN audit.chain c USING (chain)
 WHERE c.name = $1 AND e.kind IN (1, 2, 3) AND e.commit_lsn < $2::pg_lsn
 ORDER BY e.table_name COLLATE "C", coalesce(e.row_id, '') COLLATE "C", e.seq`

func readLog(ctx context.Context, tx pgx.Tx, chain string, lsn ledger.LSN) (*logReader, error) {
	rows, err := tx.Query(ctx, logQuery, chain, lsn.String())
	if err != nil {
		return nil, err
	}
	l := &logReader{rows: rows}
	return l, l.advance()
}

func (l *logReader) close() { l.rows.Close() }

func (l *logReader) advance() error {
	l.next = nil
	if !l.rows.Next() {
		return l.rows.Err()
	}
	e := &entry{}
	var kind int16
	if err := l.rows.Scan(&e.seq, &kind, &e.table, &e.row, &e.action, &e.paths, &e.states, &e.vals); err != nil {
		return err
	}
	e.kind = ledger.Kind(kind)
	l.next = e
	return nil
}

// history is what the log says of a table as a whole.
type history struct {
	truncated int64   // the last TRUNCATE; 0: none
	shapes    []shape // in their order
}

type shape struct {
	from    int64
	columns []string
}

// columns are those that the table had when an entry was made; nil: not known.
func (h *history) columns(seq int64) []string {
	var columns []string
	for _, s := range h.shapes {
		if s.from < seq {
			columns = s.columns
		}
	}
	return columns
}

// table goes to a table and takes what is said of it as a whole.
func (l *logReader) table(name string, h *history) error {
	for l.next != nil && (l.next.table < name || l.next.table == name && l.next.row == "") {
		if e := l.next; e.table == name {
			switch e.kind {
			case ledger.KindTruncate:
				h.truncated = e.seq
			case ledger.KindRelation:
				s := shape{from: e.seq}
				for _, path := range e.paths {
					if column, ok := strings.CutPrefix(path, "column."); ok {
						s.columns = append(s.columns, column)
					}
				}
				h.shapes = append(h.shapes, s)
			}
		}
		if err := l.advance(); err != nil {
			return err
		}
	}
	return nil
}

// peek gives the key of the next row of a table that the log says something of.
func (l *logReader) peek(table string) (key string, ok bool, err error) {
	if l.next == nil || l.next.table != table {
		return "", false, nil
	}
	return l.next.row, true, nil
}

// state is what the log says of one row.
type state struct {
	exists bool
	known  map[string]*string // by column; nil: NULL
}

// fold takes all entries of a row. moved are those that gave it another key.
func (l *logReader) fold(p *plan, key string, h *history, moved []int64) (*state, error) {
	f := &state{known: map[string]*string{}}
	last := int64(0)
	for l.next != nil && l.next.table == p.name && l.next.row == key {
		e := l.next
		if last < h.truncated && h.truncated < e.seq || slices.ContainsFunc(moved, func(seq int64) bool { return last < seq && seq < e.seq }) {
			f.exists, f.known = false, map[string]*string{}
		}
		f.take(p, e, h)
		last = e.seq
		if err := l.advance(); err != nil {
			return nil, err
		}
	}
	if last < h.truncated || slices.ContainsFunc(moved, func(seq int64) bool { return last < seq }) {
		f.exists = false
	}
	return f, nil
}

func (f *state) take(p *plan, e *entry, h *history) {
	soft := slices.Contains(e.paths, "soft")
	switch {
	case e.action == ledger.ActionDelete && !soft:
		f.exists, f.known = false, map[string]*string{}
		return
	case e.action == ledger.ActionCreate:
		f.known = map[string]*string{}
		for _, column := range h.columns(e.seq) { // what a new row does not say is NULL
			f.known[column] = nil
		}
		delete(f.known, p.custom) // told by its keys; an empty object tells none
	}
	f.exists = true
	for i, path := range e.paths {
		column, ok := strings.CutPrefix(path, "new.")
		if !ok {
			continue
		}
		base, _, custom := strings.Cut(column, ".")
		if custom && base == p.custom {
			delete(f.known, base) // known by its keys
		}
		switch ledger.FieldState(e.states[i]) {
		case ledger.FieldValue:
			f.known[column] = e.vals[i]
		case ledger.FieldNull:
			f.known[column] = nil
		default:
			delete(f.known, column)
		}
	}
}

// readMoves finds the rows that got another key, by the key that they had.
func readMoves(ctx context.Context, tx pgx.Tx, chain string, lsn ledger.LSN, plans []*plan) (map[string]map[string][]int64, error) {
	var paths []string
	byName := map[string]*plan{}
	for _, p := range plans {
		byName[p.name] = p
		for _, column := range p.key {
			paths = append(paths, "old."+column)
		}
	}
	rows, err := tx.Query(ctx, `SELECT e.seq, e.table_name, e.row_id, e.paths, e.vals FROM audit.entry e JOIN audit.chain c USING (chain)
		WHERE c.name = $1 AND e.kind = 1 AND e.action = 'update' AND e.row_id IS NOT NULL AND e.commit_lsn < $2::pg_lsn AND e.paths && $3`, chain, lsn.String(), paths)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	moves := map[string]map[string][]int64{}
	for rows.Next() {
		e := &entry{}
		if err := rows.Scan(&e.seq, &e.table, &e.row, &e.paths, &e.vals); err != nil {
			return nil, err
		}
		p := byName[e.table]
		if p == nil {
			continue
		}
		if was := p.keyBefore(e); was != e.row {
			if moves[e.table] == nil {
				moves[e.table] = map[string][]int64{}
			}
			moves[e.table][was] = append(moves[e.table][was], e.seq)
		}
	}
	return moves, rows.Err()
}
