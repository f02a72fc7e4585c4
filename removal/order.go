package removal

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"casebook.example/audit/ledger"
)

// Request is what an operator wants removed: entries by their numbers, or all of a record's.
type Request struct {
	Entries   []uint64
	Record    string
	Fields    []string // paths; none: everything, which the level fields does not allow
	Level     string
	Reason    string
	Authority string
	By        string
}

// Ordered is what came of a request.
type Ordered struct {
	Seq       uint64   `json:"order"`
	Entries   int      `json:"entries"`
	Directory int      `json:"directory_entries"` // of them, rows of the directory that hold a value that is to go
	Also      []uint64 `json:"also_in"`           // entries that are not in the order and hold a name that is to go; at most maxAlso
}

const maxAlso = 1000

// recordName is the index of the field record_name (package ledger, format).
const recordName = 8

// doomed is what an order takes away, to look for it elsewhere.
type doomed struct {
	rows  map[[2]string]map[string]bool // values by table and row
	names map[string]bool               // of records
}

// Order puts an order into the log. Directory entries that hold a value which is to go come into it by themselves.
func (d *Desk) Order(ctx context.Context, r Request) (*Ordered, error) {
	order := &ledger.Order{Origin: d.origin, Level: r.Level, RequestedBy: r.By, Authority: r.Authority, Reason: r.Reason}
	if r.Level == ledger.LevelSeal {
		if _, err := age.ParseX25519Recipient(d.cfg.Recipient); err != nil {
			return nil, refuse("redaction.seal_recipient is not an age recipient (age1...): age-keygen makes one")
		}
		order.Recipient = d.cfg.Recipient
	}
	if r.Level == ledger.LevelFields && len(r.Fields) == 0 || r.Level == ledger.LevelEntry && len(r.Fields) > 0 {
		return nil, refuse("the level fields needs --fields, the level entry takes none")
	}
	entries := slices.Clone(r.Entries)
	if r.Record != "" {
		if len(entries) > 0 {
			return nil, refuse("name entries or a record, not both")
		}
		var err error
		if entries, err = d.ofRecord(ctx, r.Record); err != nil {
			return nil, err
		}
	}
	slices.Sort(entries)
	entries = slices.Compact(entries)
	gone := doomed{map[[2]string]map[string]bool{}, map[string]bool{}}
	used := map[string]bool{}
	for _, seq := range entries {
		row, err := d.w.Row(ctx, seq)
		if err != nil {
			return nil, err
		}
		switch {
		case row == nil:
			return nil, refuse("there is no entry %d", seq)
		case !ledger.MayRemove(row.Entry.Kind):
			return nil, refuse("entry %d is of kind %d: only changes, reads and rows of the directory can be removed", seq, row.Entry.Kind)
		}
		if err := d.free(row); err != nil {
			return nil, err
		}
		t, err := target(row, r.Fields, used)
		if err != nil {
			return nil, err
		}
		if len(r.Fields) > 0 && t.Fields == nil {
			if r.Record == "" {
				return nil, refuse("entry %d has none of the fields %s", seq, strings.Join(r.Fields, ", "))
			}
			continue
		}
		gone.add(row, t)
		order.Targets = append(order.Targets, *t)
	}
	for _, path := range r.Fields {
		if !used[path] {
			return nil, refuse("no entry of the order has a field %q that could be removed", path)
		}
	}
	n := len(order.Targets)
	if err := d.directory(ctx, order, &gone); err != nil {
		return nil, err
	}
	e, err := ledger.OrderEntry(order)
	if err != nil {
		return nil, &RefusedError{err.Error()}
	}
	out := &Ordered{Entries: len(order.Targets), Directory: len(order.Targets) - n}
	if out.Also, err = d.elsewhere(ctx, order, &gone); err != nil {
		return nil, err
	}
	out.Seq, err = d.append(ctx, e)
	return out, err
}

func (d *Desk) ofRecord(ctx context.Context, record string) ([]uint64, error) {
	return d.seqs(ctx, `SELECT seq FROM audit.entry WHERE chain = $1 AND record_id = $2 AND kind IN (1, 12, 15)
		UNION SELECT seq FROM audit.entry_also WHERE chain = $1 AND record_id = $2 ORDER BY 1`, d.chain, record)
}

func (d *Desk) seqs(ctx context.Context, sql string, args ...any) (list []uint64, err error) {
	err = d.w.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		for _, seq := range found {
			list = append(list, uint64(seq))
		}
		return err
	})
	return list, err
}

// target names the row's fields of these paths; without paths it is all of it.
func target(row *ledger.Row, paths []string, used map[string]bool) (*ledger.Target, error) {
	t := &ledger.Target{Seq: row.Seq, Leaf: row.LeafHash}
	if len(paths) == 0 {
		return t, nil
	}
	fields, err := row.Disclose()
	if err != nil {
		return nil, err
	}
	for i := range fields {
		f := &fields[i]
		if f.Withheld || f.State != ledger.FieldValue || !slices.Contains(paths, f.Path) {
			continue
		}
		if !ledger.Removable(i) {
			return nil, refuse("field %s cannot be removed: it is the place of the entry", f.Path)
		}
		used[f.Path] = true
		t.Fields = append(t.Fields, ledger.OrderField{Index: i, Path: f.Path})
	}
	return t, nil
}

// add notes what a target takes away.
func (g *doomed) add(row *ledger.Row, t *ledger.Target) {
	e := &row.Entry
	if t.Removes(recordName) && e.RecordName != "" {
		g.names[e.RecordName] = true
	}
	for i, f := range e.Fields {
		if f.State != ledger.FieldValue || f.Value == "" || !t.Removes(ledger.NumFixed+i) {
			continue
		}
		if also, err := parseAlso(f.Value); err == nil && strings.HasPrefix(f.Path, "also.") && also.RecordName != "" {
			g.names[also.RecordName] = true
		}
		side, column, _ := strings.Cut(f.Path, ".")
		if e.Kind != ledger.KindChange || side != "old" && side != "new" {
			continue
		}
		key := [2]string{e.Table, e.RowID}
		if g.rows[key] == nil {
			g.rows[key] = map[string]bool{}
		}
		g.rows[key][column+"\x00"+f.Value] = true
	}
}

func parseAlso(text string) (also ledger.AlsoRecord, err error) {
	err = json.Unmarshal([]byte(text), &also)
	return also, err
}

// directory adds the fields of directory entries that hold a value which is to go.
func (d *Desk) directory(ctx context.Context, order *ledger.Order, gone *doomed) error {
	if len(gone.rows) == 0 {
		return nil
	}
	var tables, ids []string
	for key := range gone.rows {
		tables, ids = append(tables, key[0]), append(ids, key[1])
	}
	found := map[uint64][]ledger.OrderField{}
	leaves := map[uint64]ledger.Hash{}
	err := d.w.Read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT e.seq, e.leaf_hash, u.i, u.val FROM audit.entry e, unnest(e.paths, e.states, e.vals) WITH ORDINALITY u(path, state, val, i)
			WHERE e.chain = $1 AND e.kind = 12 AND u.path = 'row' AND u.state = 1
			  AND (u.val::jsonb ->> 'table', u.val::jsonb ->> 'row') IN (SELECT * FROM unnest($2::text[], $3::text[])) ORDER BY e.seq, u.i`, d.chain, tables, ids)
		if err != nil {
			return err
		}
		var seq, at int64
		var leaf []byte
		var text string
		_, err = pgx.ForEachRow(rows, []any{&seq, &leaf, &at, &text}, func() error {
			var row struct {
				Table string `json:"table"`
				Row   string `json:"row"`
				State struct{ Cur, Prev map[string]*string }
			}
			if err := json.Unmarshal([]byte(text), &row); err != nil || len(leaf) != len(ledger.Hash{}) {
				return fmt.Errorf("entry %d: a row of the directory is not readable", seq)
			}
			values := gone.rows[[2]string{row.Table, row.Row}]
			for _, image := range []map[string]*string{row.State.Cur, row.State.Prev} {
				for column, value := range image {
					if value != nil && *value != row.Row && values[column+"\x00"+*value] {
						leaves[uint64(seq)] = ledger.Hash(leaf)
						field := ledger.OrderField{Index: ledger.NumFixed + int(at) - 1, Path: "row"}
						if !slices.Contains(found[uint64(seq)], field) {
							found[uint64(seq)] = append(found[uint64(seq)], field)
						}
					}
				}
			}
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("look for the values in the directory's entries: %w", err)
	}
	for _, t := range order.Targets {
		delete(found, t.Seq)
	}
	for seq, fields := range found {
		order.Targets = append(order.Targets, ledger.Target{Seq: seq, Leaf: leaves[seq], Fields: fields})
	}
	slices.SortFunc(order.Targets, func(a, b ledger.Target) int { return int(int64(a.Seq) - int64(b.Seq)) })
	return nil
}

// elsewhere are the entries outside of the order that hold a name which is to go.
func (d *Desk) elsewhere(ctx context.Context, order *ledger.Order, gone *doomed) ([]uint64, error) {
	if len(gone.names) == 0 {
		return nil, nil
	}
	var in []int64
	for _, t := range order.Targets {
		in = append(in, int64(t.Seq))
	}
	names := slices.Sorted(maps.Keys(gone.names))
	list, err := d.seqs(ctx, `SELECT e.seq FROM audit.entry e WHERE e.chain = $1 AND e.kind IN (1, 12, 15) AND NOT e.seq = ANY ($3)
		AND EXISTS (SELECT FROM unnest($2::text[]) n WHERE e.record_name = n OR e.row_name = n OR strpos(e.summary, n) > 0
		  OR EXISTS (SELECT FROM unnest(e.vals) v WHERE strpos(v, n) > 0)) ORDER BY e.seq LIMIT `+fmt.Sprint(maxAlso), d.chain, names, in)
	if err != nil {
		return nil, fmt.Errorf("look for the names in other entries: %w", err)
	}
	return list, nil
}
