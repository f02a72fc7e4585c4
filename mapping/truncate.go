package mapping

import "casebook.example/audit/ledger"

// A TRUNCATE takes all rows of a table at once. The directory notes when, and treats every row that is older as deleted
// by that transaction: no row is looked up, and none is written.

// truncate notes it, and applies it to the rows at hand.
func (d *directory) truncate(t *table, commit ledger.LSN) {
	note := d.get(d.rules.truncated, t.name)
	note.begin(commit)
	note.known, note.gone, note.cur = true, false, image{{t.name, known}}
	d.mark(note)
	tables := append([]*table{t}, t.links...)
	for _, t := range tables {
		for _, r := range d.rows[t.at] {
			r.truncate(commit)
			d.weigh(r)
		}
	}
}

// truncate is what a TRUNCATE of the table does to a row, or to a list of its rows.
func (r *row) truncate(commit ledger.LSN) {
	if !r.known || r.lsn > commit {
		return
	}
	r.begin(commit)
	if r.t.from != nil {
		r.cur = image{r.cur[0], {"", known}}
		return
	}
	r.gone = true
	clear(r.lists)
}

// outlived applies the last TRUNCATE of its table to a row that was stored before it.
func (d *directory) outlived(r *row) {
	of := r.t
	if of.from != nil {
		of = of.from
	}
	if of.pinned {
		return
	}
	if note := d.rows[d.rules.truncated.at][of.name]; note != nil && note.known && r.lsn < note.lsn {
		r.truncate(note.lsn)
	}
}
