package mapping

import (
	"context"
	"slices"
	"strings"

	"casebook.example/audit/ledger"
)

// A shared row, like the address of a family, has no column that leads to a record: rows of other tables name it. For such
// a way back the directory keeps lists: of each row, the keys of the rows that name it. A list is a directory row like
// others, of a table that exists only here, with the state before the last transaction that changed it and the one after.

// linksColumn is the list's one column beside its key.
const linksColumn = "rows"

// linksTable gives the lists for an owner {from: people.person_addresses, by: address_id}: each row of the table from that
// names this one by that column, the owners are those of such rows.
func (c *tableCompiler) linksTable(o fileOwner, key string, i int) (*table, error) {
	path := []any{"tables", c.t.name, key, i}
	from, err := c.find(o.From, append(path, "from")...)
	if err != nil {
		return nil, err
	}
	if len(c.t.key) != 1 {
		return nil, c.src.fail(path, "%s has a key of %d columns: one column of %s cannot name its rows", c.t.name, len(c.t.key), from.name)
	}
	return c.listOf(from, o.By), nil
}

// listOf gives the lists of a table's rows by a column.
func (c *compiler) listOf(from *table, by string) *table {
	name := from.name + "(" + by + ")"
	for _, t := range c.rules.own {
		if t.name == name {
			return t
		}
	}
	t := c.ownTable(name, by, linksColumn)
	t.from = from
	from.names(by)
	from.links = append(from.links, t)
	return t
}

// ownTable makes a table that the source does not have.
func (c *compiler) ownTable(name, key string, columns ...string) *table {
	t := &table{name: name, target: true, key: []string{key}, dir: append([]string{key}, columns...), dirAt: map[string]int{key: 0}}
	for i, column := range columns {
		t.dirAt[column] = i + 1
	}
	c.rules.tables[name] = t
	c.rules.own = append(c.rules.own, t)
	return t
}

// splitKeys undoes appendKey.
func splitKeys(list string) []string {
	if list == "" {
		return nil
	}
	var keys []string
	var b strings.Builder
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == '\\' && i+1 < len(list):
			i++
			b.WriteByte(list[i])
		case list[i] == ',':
			keys = append(keys, b.String())
			b.Reset()
		default:
			b.WriteByte(list[i])
		}
	}
	return append(keys, b.String())
}

// link notes that a row of a table with lists changed; settleLinks looks at what that means for them.
func (d *directory) link(r *row) {
	if len(r.t.links) > 0 {
		d.linking = append(d.linking, r)
	}
}

// settleLinks brings the lists up to date with the rows that changed since the last call; first says that they are those of a
// snapshot, before which nothing is known.
func (d *directory) settleLinks(ctx context.Context, commit ledger.LSN, first bool) error {
	if len(d.linking) == 0 {
		return nil
	}
	type move struct {
		list     *table
		row      string
		from, to string
	}
	var moves []move
	misses := map[Key]struct{}{}
	for _, r := range d.linking {
		for i, list := range r.t.links {
			to := ""
			if !r.gone {
				to = r.cur.text(r.t.dirAt[list.key[0]])
			}
			from := r.listed(i)
			if from == to {
				continue
			}
			moves = append(moves, move{list, r.key, from, to})
			r.lists[i] = to
			for _, id := range []string{from, to} {
				if id != "" && d.get(list, id) == nil {
					misses[Key{list.name, id}] = struct{}{}
				}
			}
		}
	}
	d.linking = d.linking[:0]
	if err := d.want(ctx, misses); err != nil {
		return err
	}
	for _, m := range moves {
		for _, id := range []string{m.from, m.to} {
			if id != "" {
				if l := d.relist(m.list, id, m.row, id == m.to, commit); first {
					l.prev = nil
				}
			}
		}
	}
	return nil
}

// relist puts a row into a list, or takes it out.
func (d *directory) relist(list *table, id, key string, in bool, commit ledger.LSN) *row {
	l := d.get(list, id)
	keys := splitKeys(l.cur.text(1))
	at, found := slices.BinarySearch(keys, key)
	if found == in {
		return l
	}
	l.begin(commit)
	if !l.known { // nobody named it: that is a state too
		l.prev = image{{l.key, known}, {"", known}}
	}
	if in {
		keys = slices.Insert(keys, at, key)
	} else {
		keys = slices.Delete(keys, at, at+1)
	}
	l.known = true
	l.cur = image{{l.key, known}, {string(appendKey(nil, keys)), known}}
	d.mark(l)
	return l
}

// listed tells in which list of t.links[i] the row stands: under which id. "" is in none.
func (r *row) listed(i int) string {
	if r.lists == nil {
		r.lists = make([]string, len(r.t.links))
	}
	return r.lists[i]
}

// listAs notes where the row stands as it was stored, or as the stream says that it was.
func (r *row) listAs(img image, gone bool) {
	for i, list := range r.t.links {
		r.listed(i)
		r.lists[i] = ""
		if !gone {
			r.lists[i] = img.text(r.t.dirAt[list.key[0]])
		}
	}
}
