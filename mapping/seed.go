package mapping

import (
	"fmt"
	"slices"
	"strings"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// Seeding turns the rows of one table of a snapshot, one after another, into what is stored. Each stored row says as of
// which position it was read: what the directory holds from before, and the snapshot did not have, is gone.
type Seeding struct {
	rules *Rules
	t     *table
	lsn   ledger.LSN
	list  seedList
}

// Seeding begins a table of SeedTables. at is where the snapshot was taken.
func (r *Rules) Seeding(t SeedTable, at ledger.LSN) *Seeding {
	return &Seeding{rules: r, t: t.t, lsn: asOf(at)}
}

// asOf is a position that no transaction has, right before one that may have one.
func asOf(at ledger.LSN) ledger.LSN {
	if at == 0 {
		return 0
	}
	return at - 1
}

// Row takes the values of a row's Columns, in that order; they are only lent. emit gets what became of it, which may
// be nothing yet.
func (s *Seeding) Row(values []capture.Value, emit func(StoredRow, *RecordName, *UserName) error) error {
	t := s.t
	if t.from != nil {
		if done := s.list.add(t, s.lsn, values); done != nil {
			return emit(*done, nil, nil)
		}
		return nil
	}
	if len(values) != len(t.dir) {
		return fmt.Errorf("seed the directory: a row of %s has %d columns instead of %d", t.name, len(values), len(t.dir))
	}
	img := make(image, len(values))
	for i := range values {
		img[i] = tupleValue(values, nil, i)
		img[i].s = strings.Clone(img[i].s)
	}
	keys := make([]string, len(t.key))
	for i := range keys {
		if img[i].st != known {
			return fmt.Errorf("seed the directory: a row of %s has no %s", t.name, t.key[i])
		}
		keys[i] = img[i].s
	}
	r := &row{t: t, key: RowKey(keys...), lsn: s.lsn, cur: img}
	record, user := s.rules.nameOfRow(t, r.key, img)
	return emit(r.encode(), record, user)
}

// End gives what is left after the last row.
func (s *Seeding) End(emit func(StoredRow, *RecordName, *UserName) error) error {
	if s.t.from == nil {
		return nil
	}
	if done := s.list.end(s.t, s.lsn); done != nil {
		return emit(*done, nil, nil)
	}
	return nil
}

// seedList collects the rows of a list, which come together.
type seedList struct {
	id   string
	keys []string
}

// add takes one row; where it begins another list, the one before is returned.
func (l *seedList) add(t *table, lsn ledger.LSN, values []capture.Value) *StoredRow {
	id := tupleValue(values, nil, 0)
	if id.st != known {
		return nil
	}
	key := make([]string, len(values)-1)
	for i := range key {
		key[i] = tupleValue(values, nil, i+1).s
	}
	var done *StoredRow
	if id.s != l.id {
		done = l.end(t, lsn)
		l.id = strings.Clone(id.s)
	}
	l.keys = append(l.keys, strings.Clone(RowKey(key...)))
	return done
}

func (l *seedList) end(t *table, lsn ledger.LSN) *StoredRow {
	if len(l.keys) == 0 {
		return nil
	}
	slices.Sort(l.keys)
	r := &row{t: t, key: l.id, lsn: lsn, cur: image{{l.id, known}, {string(appendKey(nil, l.keys)), known}}}
	l.keys = l.keys[:0]
	stored := r.encode()
	return &stored
}
