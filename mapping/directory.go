package mapping

import (
	"context"
	"fmt"

	"strings"

	"casebook.example/audit/capture"
	"casebook.example/audit/ledger"
)

// side says which state of a row is meant: before the transaction at hand or after it.
type side uint8

const (
	before side = iota
	after
)

type valueState uint8

const (
	unknown valueState = iota
	null
	known
)

type value struct {
	s  string
	st valueState
}

// image is one state of a row: the directory's columns, as in table.dir.
type image []value

func (img image) text(i int) string {
	if i < 0 || i >= len(img) {
		return ""
	}
	return img[i].s
}

func (img image) get(i int) value {
	if i < 0 || i >= len(img) {
		return value{}
	}
	return img[i]
}

// row is a row of the source as the directory knows it: its state after the last transaction that changed it, and the one
// before that transaction. With both, every change is resolved exactly, whatever order a transaction has. A deleted row
// keeps its last state: the entries of its children need it.
type row struct {
	t     *table
	key   string
	known bool // false: looked for and never seen
	gone  bool // deleted
	lsn   ledger.LSN
	cur   image
	prev  image // nil: there was no row; shares cur's memory when nothing changed
	name  string
	named bool // name is that of cur; only where the row's own columns make the name

	partial      bool     // waits for what is stored to fill in what the stream did not tell
	bytes        int      // that it counts for, see weigh
	lists        []string // of the table's links: the row that it names, as the lists have it
	dirty, taken bool
	older, newer *row // least recently used first
}

// at gives the state to look at. Where there is none on that side, a parent made or deleted in the same transaction, the
// other side is the truth.
func (r *row) at(commit ledger.LSN, s side) image {
	if s == before && r.lsn == commit && commit != 0 && r.prev != nil {
		return r.prev
	}
	return r.cur
}

// directory is the cache of rows in front of the audit database. Its owner is the mapper's goroutine.
type directory struct {
	load     func(ctx context.Context, keys []Key) ([]StoredRow, error)
	rules    *Rules
	seededAt ledger.LSN
	seeded   ledger.LSN        // rows that are older went in a stretch that was not seen
	rows     []map[string]*row // by table.at
	bytes    int               // of all rows, about
	limit    int
	dirty    []*row
	fresh    int // bytes of the dirty ones
	taken    []*row

	pinned  bool   // the rows that stay are loaded
	linking []*row // that changed, while their lists don't know

	ends    row // ring of all rows: ends.newer is the oldest
	partial []*row
	spilled bool // some rows of this transaction are already stored
}

const (
	cacheBytes = 40 << 20
	loadBatch  = 5_000
)

func newDirectory(cfg Config) *directory {
	rules := cfg.Rules
	d := &directory{load: cfg.Load, rules: rules, seeded: asOf(cfg.SeededAt), seededAt: cfg.SeededAt, limit: cacheBytes, rows: make([]map[string]*row, len(rules.order)+len(rules.own))}
	for _, tables := range [][]*table{rules.order, rules.own} {
		for _, t := range tables {
			if t.target {
				d.rows[t.at] = map[string]*row{}
			}
		}
	}
	d.ends.older, d.ends.newer = &d.ends, &d.ends
	return d
}

func (d *directory) unlink(r *row) {
	r.older.newer, r.newer.older = r.newer, r.older
}

func (d *directory) pushNewest(r *row) {
	r.older, r.newer = d.ends.older, &d.ends
	r.older.newer, d.ends.older = r, r
}

// get gives a row of the cache, or nil.
func (d *directory) get(t *table, key string) *row {
	r := d.rows[t.at][key]
	if r != nil && d.ends.older != r {
		d.unlink(r)
		d.pushNewest(r)
	}
	return r
}

// find is get for a row that is needed: a miss is noted, to be loaded with the others.
func (d *directory) find(w *work, t *table, key string) *row {
	if r := d.get(t, key); r != nil {
		return r
	}
	w.misses[Key{t.name, strings.Clone(key)}] = struct{}{}
	return nil
}

// add takes a row into the cache.
func (d *directory) add(t *table, key string) *row {
	r := &row{t: t, key: strings.Clone(key)}
	d.rows[t.at][r.key] = r
	d.weigh(r)
	d.pushNewest(r)
	return r
}

// weigh counts a row's memory anew: its texts, and what a row, its places in the images and in the map take.
func (d *directory) weigh(r *row) {
	if r.t.pinned {
		return // they are few, and don't count
	}
	n := 240 + 2*len(r.key) + len(r.name)
	for _, v := range r.cur {
		n += 24 + len(v.s)
	}
	if len(r.prev) > 0 && (len(r.cur) == 0 || &r.prev[0] != &r.cur[0]) {
		for _, v := range r.prev {
			n += 24 + len(v.s)
		}
	}
	d.bytes += n - r.bytes
	r.bytes = n
}

// trim lets go of the rows that were not used for the longest time. What is not stored yet stays.
func (d *directory) trim() {
	for r := d.ends.newer; d.bytes > d.limit && r != &d.ends; {
		next := r.newer
		if !r.dirty && !r.taken && !r.partial && !r.t.pinned {
			d.unlink(r)
			delete(d.rows[r.t.at], r.key)
			d.bytes -= r.bytes
		}
		r = next
	}
}

// begin prepares a change of the row by the transaction.
func (r *row) begin(commit ledger.LSN) {
	if r.lsn == commit {
		return
	}
	r.lsn = commit
	r.prev = nil
	if r.known && !r.gone {
		r.prev = r.cur
	}
}

func (d *directory) mark(r *row) {
	r.name, r.named = "", false
	d.weigh(r)
	d.fresh += r.bytes
	if !r.dirty {
		r.dirty = true
		d.dirty = append(d.dirty, r)
	}
}

// feed takes a row change into the directory.
func (d *directory) feed(p *plan, c *capture.Change, commit ledger.LSN, old []capture.Value) *row {
	tuple := c.New
	if c.Op == capture.OpDelete {
		tuple = c.Old
	}
	key := p.rowKey(tuple, old)
	if key == "" {
		return nil
	}
	r := d.get(p.t, key)
	switch c.Op {
	case capture.OpInsert:
		if r == nil {
			r = d.add(p.t, key)
			if d.spilled {
				d.wait(r)
			}
		}
		r.begin(commit)
		r.known, r.gone = true, false
		r.cur = p.image(c.New, nil, nil)
		d.mark(r)
	case capture.OpUpdate:
		if oldKey := p.rowKey(old, nil); old != nil && oldKey != "" && oldKey != key {
			d.move(p, oldKey, c, commit, old)
			if r = d.get(p.t, key); r == nil || !r.known {
				r = d.fromOld(p, r, key, commit, old)
				clear(r.lists) // under this key it stands in none yet
			}
		} else if p.sameImage(old, c.New) {
			return nil
		}
		if r == nil || !r.known {
			r = d.fromOld(p, r, key, commit, old)
		}
		r.begin(commit)
		r.known, r.gone = true, false
		r.cur = p.image(c.New, old, r.cur)
		d.mark(r)
	case capture.OpDelete:
		if r == nil || !r.known {
			r = d.fromOld(p, r, key, commit, old)
		}
		r.begin(commit)
		r.gone = true
		d.mark(r)
	}
	return r
}

// move is an update of the key: the row goes, and comes under another key.
func (d *directory) move(p *plan, oldKey string, c *capture.Change, commit ledger.LSN, old []capture.Value) {
	r := d.get(p.t, oldKey)
	if r == nil || !r.known {
		r = d.fromOld(p, r, strings.Clone(oldKey), commit, old)
	}
	r.begin(commit)
	r.gone = true
	d.mark(r)
	d.link(r)
}

// fromOld makes the row of a change from its old tuple, so that no query is needed: the tuple is the state before.
func (d *directory) fromOld(p *plan, r *row, key string, commit ledger.LSN, old []capture.Value) *row {
	if r == nil {
		r = d.add(p.t, key)
	}
	r.known = true
	r.cur = p.image(old, nil, nil)
	r.listAs(r.cur, false)
	for i := range r.cur {
		if r.cur[i].st == unknown || d.spilled {
			d.wait(r)
			break
		}
	}
	return r
}

func (d *directory) wait(r *row) {
	if !r.partial {
		r.partial = true
		d.partial = append(d.partial, r)
	}
}

// complete ends the feeding of a transaction, or of a part of it.
func (d *directory) complete(ctx context.Context, commit ledger.LSN) error {
	if err := d.fill(ctx); err != nil {
		return err
	}
	return d.settleLinks(ctx, commit, false)
}

// fill completes rows that the stream told only in part with what is stored.
func (d *directory) fill(ctx context.Context) error {
	if len(d.partial) == 0 {
		return nil
	}
	keys := make([]Key, len(d.partial))
	waiting := make(map[Key]*row, len(d.partial))
	for i, r := range d.partial {
		keys[i] = Key{r.t.name, r.key}
		waiting[keys[i]] = r
	}
	err := d.fetch(ctx, keys, func(stored *row) {
		r := waiting[Key{stored.t.name, stored.key}]
		past := stored.cur
		if stored.lsn == r.lsn { // changed by this very transaction, in a part that is stored already
			past = stored.prev
			r.prev = stored.prev
		} else if r.prev == nil && !stored.gone {
			r.prev = past
		}
		complete := func(img, from image) image {
			for i := range img {
				if img[i].st == unknown && i < len(from) {
					img[i] = from[i]
				}
			}
			return img
		}
		r.prev = complete(r.prev, past)
		r.cur = complete(r.cur, stored.cur)
		r.name, r.named = "", false
		r.listAs(stored.cur, stored.gone)
		d.weigh(r)
	})
	for _, r := range d.partial {
		r.partial = false
	}
	d.partial = d.partial[:0]
	return err
}

// want loads the rows that were missed, and the rows that those need, level by level.
func (d *directory) want(ctx context.Context, misses map[Key]struct{}) error {
	for len(misses) > 0 {
		keys := make([]Key, 0, len(misses))
		for k := range misses {
			keys = append(keys, k)
		}
		for _, k := range keys { // a row that is stored nowhere is remembered as such: it isn't asked for again
			if t := d.rules.tables[k.Table]; d.rows[t.at][k.Row] == nil {
				d.add(t, k.Row)
			}
		}
		next := map[Key]struct{}{}
		err := d.fetch(ctx, keys, func(stored *row) {
			r := d.rows[stored.t.at][stored.key]
			r.known, r.gone, r.lsn, r.cur, r.prev, r.name, r.named = true, stored.gone, stored.lsn, stored.cur, stored.prev, "", false
			r.listAs(r.cur, r.gone)
			d.weigh(r)
			for _, img := range []image{r.cur, r.prev} {
				r.t.needs(r.key, img, func(t *table, key string) {
					if d.rows[t.at][key] == nil {
						next[Key{t.name, key}] = struct{}{}
					}
				})
			}
		})
		if err != nil {
			return err
		}
		misses = next
	}
	return nil
}

// needs tells which rows a row's owner, name and tenant lead to.
func (t *table) needs(key string, img image, need func(*table, string)) {
	if img == nil {
		return
	}
	if t.from != nil {
		for _, key := range splitKeys(img.text(1)) {
			need(t.from, key)
		}
		return
	}
	chosen := false
	for i := range t.owner {
		o := &t.owner[i]
		if o.links != nil {
			need(o.links, key)
			continue
		}
		if chosen {
			continue
		}
		if v := img.get(t.dirAt[o.column]); v.st == known {
			typ := ""
			if o.typ != "" {
				typ = img.text(t.dirAt[o.typ])
			}
			if to := o.target(typ); to != nil {
				need(to, v.s)
			}
			chosen = true
		}
	}
	for column, ref := range t.refs {
		if at, ok := t.dirAt[column]; ok && img.get(at).st == known && t.namesRef(ref) {
			need(ref.t, img[at].s)
		}
	}
}

// fetch reads stored rows in batches.
func (d *directory) fetch(ctx context.Context, keys []Key, each func(*row)) error {
	for len(keys) > 0 {
		n := min(len(keys), loadBatch)
		found, err := d.load(ctx, keys[:n])
		if err != nil {
			return fmt.Errorf("read the directory: %w", err)
		}
		for i := range found {
			r, err := d.decode(&found[i])
			if err != nil {
				return err
			}
			if r != nil {
				each(r)
			}
		}
		keys = keys[n:]
	}
	return nil
}
