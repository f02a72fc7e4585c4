package capture

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// TableColumns names a table and the columns of it that are wanted.
type TableColumns struct {
	Schema, Table string
	Columns       []string
	OrderBy       string   // a column whose equal values come together; "": in any order
	OrderByKey    []string // key columns: rows come in the order of their mapping.RowKey, byte by byte
}

func (t TableColumns) name() string { return identifier(t.Schema) + "." + identifier(t.Table) }

// query reads the table; from is " FROM " or " FROM ONLY ".
func (t TableColumns) query(from string) string {
	columns := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		columns[i] = identifier(c)
	}
	query := "SELECT " + strings.Join(columns, ", ") + from + t.name()
	if t.OrderBy != "" {
		query += " ORDER BY " + identifier(t.OrderBy)
	}
	switch n := len(t.OrderByKey); {
	case n == 1:
		query += " ORDER BY " + identifier(t.OrderByKey[0]) + `::text COLLATE "C"`
	case n > 1:
		parts := make([]string, n)
		for i, c := range t.OrderByKey {
			parts[i] = `replace(replace(` + identifier(c) + `::text, E'\\', E'\\\\'), ',', E'\\,')`
		}
		query += " ORDER BY (" + strings.Join(parts, " || ',' || ") + `) COLLATE "C"`
	}
	return query
}

// SnapshotReader is told what ReadSnapshot finds. Each call names a table by its index. Calls for one table come one after
// another, those for different tables at the same time.
type SnapshotReader struct {
	Row      func(table int, values []Value) error // in the order of Columns, valid until it returns
	Done     func(table int, rows int64) error     // after the last row; may be nil
	Progress func(table int, rows int64)           // every 10,000 rows; may be nil
}

const progressRows = 10_000

// ReadSnapshot reads tables as they were when the snapshot was taken, over as many connections at the same time. The rows
// pass through: no more than one of each connection is held.
//
// The text of a value is the stream's: the type's output function under the pinned session, and no cast, see doc.go. Of an
// ordinary table only its own rows are read, as children by inheritance come as tables of their own; of a partitioned one
// all rows.
func ReadSnapshot(ctx context.Context, cfg Config, snapshotName string, tables []TableColumns, connections int, r SnapshotReader) error {
	group, ctx := errgroup.WithContext(ctx)
	queue := make(chan int, len(tables))
	kinds := make([]string, len(tables))
	first, err := dialSnapshot(ctx, cfg, snapshotName)
	if err != nil {
		return err
	}
	for i, t := range tables { // all of them before the first row: a missing table should not show after an hour
		if kinds[i], err = tableRow(ctx, first, t, "c.relkind"); err != nil {
			hangUp(first)
			return err
		}
		queue <- i
	}
	close(queue)
	for n := range max(1, min(connections, len(tables))) {
		group.Go(func() (err error) {
			conn := first
			if n > 0 {
				if conn, err = dialSnapshot(ctx, cfg, snapshotName); err != nil {
					return err
				}
			}
			defer hangUp(conn) // ends the transaction too
			for i := range queue {
				t := tables[i]
				if err := readTable(ctx, conn, t, kinds[i], i, r); err != nil {
					return fmt.Errorf("read table %s.%s of the snapshot: %w", t.Schema, t.Table, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// ProbeTables says what would be in the way of reading tables: one that is missing, a column, a right. It reads no row.
func ProbeTables(ctx context.Context, cfg Config, tables []TableColumns) error {
	conn, err := dial(ctx, cfg.DSN, false)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	for _, t := range tables {
		if _, err := tableRow(ctx, conn, t, "c.relkind"); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, t.query(" FROM ")+" LIMIT 0").ReadAll(); err != nil {
			return fmt.Errorf("table %s.%s: %w", t.Schema, t.Table, err)
		}
	}
	return nil
}

func dialSnapshot(ctx context.Context, cfg Config, snapshotName string) (*pgconn.PgConn, error) {
	conn, err := dial(ctx, cfg.DSN, false)
	if err != nil {
		return nil, err
	}
	begin := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT " + literal(snapshotName)
	if _, err := conn.Exec(ctx, begin).ReadAll(); err != nil {
		hangUp(conn)
		return nil, fmt.Errorf("take the snapshot of the slot (it lives only until its NewSlot is closed): %w", err)
	}
	return conn, nil
}

func readTable(ctx context.Context, conn *pgconn.PgConn, t TableColumns, kind string, index int, r SnapshotReader) error {
	from := " FROM ONLY "
	if kind == "p" {
		from = " FROM "
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // when fn fails: don't read the rest
	results := conn.Exec(ctx, t.query(from))
	values := make([]Value, len(t.Columns))
	var rows int64
	for results.NextResult() {
		reader := results.ResultReader()
		for reader.NextRow() {
			for i, b := range reader.Values() {
				values[i] = Value{State: Text, Bytes: b}
				if b == nil {
					values[i] = Value{State: Null}
				}
			}
			if err := r.Row(index, values); err != nil {
				cancel()
				results.Close()
				return err
			}
			rows++
			if r.Progress != nil && rows%progressRows == 0 {
				r.Progress(index, rows)
			}
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	if r.Done != nil {
		return r.Done(index, rows)
	}
	return nil
}

// tableRow asks for one expression over pg_class as c.
func tableRow(ctx context.Context, conn *pgconn.PgConn, t TableColumns, expression string) (string, error) {
	rows, err := queryRows(ctx, conn, "SELECT "+expression+` FROM pg_catalog.pg_class c
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname = `+literal(t.Schema)+" AND c.relname = "+literal(t.Table))
	if err != nil {
		return "", fmt.Errorf("look for table %s.%s: %w", t.Schema, t.Table, err)
	}
	if len(rows) == 0 {
		return "", fmt.Errorf("table %s.%s does not exist in the source", t.Schema, t.Table)
	}
	return string(rows[0][0]), nil
}

// EstimateRows guesses how many rows each table has, for a progress bar. Where a table was never analysed, it guesses from
// its size.
func EstimateRows(ctx context.Context, cfg Config, tables []TableColumns) ([]int64, error) {
	conn, err := dial(ctx, cfg.DSN, false)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	estimates := make([]int64, len(tables))
	for i, t := range tables {
		text, err := tableRow(ctx, conn, t, `(SELECT coalesce(sum(CASE WHEN l.reltuples >= 0 THEN l.reltuples
			ELSE pg_catalog.pg_relation_size(l.oid) / 100 END), 0)::bigint
			FROM pg_catalog.pg_class l
			WHERE l.oid = c.oid AND c.relkind = 'r'
			   OR c.relkind = 'p' AND l.relkind = 'r' AND l.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(c.oid)))`)
		var n int64
		if err == nil {
			n, err = strconv.ParseInt(text, 10, 64)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("estimate the rows of %s.%s", t.Schema, t.Table), err)
		}
		estimates[i] = n
	}
	return estimates, nil
}
