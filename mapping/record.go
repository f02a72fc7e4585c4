package mapping

import (
	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// The directory in the log. Its rows follow from the entries alone (Rebuild), so that what it says can be checked. Most
// do from row changes; those that no entry tells of are entries of a kind of their own: the rows of the snapshot, and those
// of tables that only lend their names.

const (
	directoryType = "directory" // of the field
	directoryRows = 500         // that one entry holds at most
	directorySize = 256 << 10   // and about their bytes
)

// directoryEntry is the entry for a change of a table without entries that the directory keeps; nil for others.
func (m *Mapper) directoryEntry(w *work, p *plan, c *capture.Change) *ledger.Entry {
	if !p.t.target || c.Op == capture.OpTruncate {
		return nil
	}
	old := p.trustedOld(c)
	tuple := c.New
	if c.Op == capture.OpDelete {
		tuple = c.Old
	}
	key := p.rowKey(tuple, old)
	if key == "" {
		return nil
	}
	r := m.dir.find(w, p.t, key)
	if r == nil || r.lsn != w.commit {
		return nil
	}
	e := w.entry()
	e.Kind, e.Ordinal, e.Action, e.Initiator = ledger.KindDirectory, int64(c.Ordinal), "directory", ledger.InitiatorSystem
	e.Summary = "Row of the directory"
	stored := r.encode()
	e.Fields = []ledger.Field{directoryField(&stored)}
	return e
}

func directoryField(r *StoredRow) ledger.Field {
	b := append(make([]byte, 0, len(r.State)+len(r.Table)+len(r.Row)+40), `{"table":`...)
	b = appendJSON(b, r.Table)
	b = append(b, `,"row":`...)
	b = appendJSON(b, r.Row)
	b = append(b, `,"state":`...)
	b = append(b, r.State...)
	return ledger.Field{Path: "row", Type: directoryType, State: ledger.FieldValue, Value: string(append(b, '}'))}
}

// SeedEntries are the entries for rows of a snapshot. Lists are not told: they follow from the rows.
func (r *Rules) SeedEntries(rows []StoredRow) []*ledger.Entry {
	var entries []*ledger.Entry
	var e *ledger.Entry
	size := 0
	for i := range rows {
		if t := r.tables[rows[i].Table]; t == nil || t.from != nil {
			continue
		}
		if e == nil || len(e.Fields) == directoryRows || size > directorySize {
			e = &ledger.Entry{Kind: ledger.KindDirectory, Action: "directory", Initiator: ledger.InitiatorSystem, Summary: "Rows of the directory, from the snapshot"}
			entries, size = append(entries, e), 0
		}
		f := directoryField(&rows[i])
		e.Fields = append(e.Fields, f)
		size += len(f.Value)
	}
	return entries
}
