package mapping

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"casebook.example/audit/ledger"
)

// Rebuilder makes the directory anew from the entries of a chain, in their order, and from nothing else. What it gives is
// byte for byte what the daemon stored.
type Rebuilder struct {
	dir   *directory
	load  func(context.Context, []Key) ([]StoredRow, error)
	carry map[Key][]byte // rows of the directory before, which nobody has taken yet
}

// NewRebuilder makes one. load reads rows that the caller has stored before; the rules come with the entries.
func NewRebuilder(load func(context.Context, []Key) ([]StoredRow, error)) *Rebuilder {
	return &Rebuilder{load: load, carry: map[Key][]byte{}}
}

// TakeDirty gives the rows that changed since the last take; the caller stores them, so that load finds them.
func (b *Rebuilder) TakeDirty() []StoredRow {
	var rows []StoredRow
	for key, state := range b.carry {
		rows = append(rows, StoredRow{key, state})
	}
	clear(b.carry)
	if b.dir != nil {
		rows = append(rows, b.dir.takeDirty(false)...)
	}
	return rows
}

// Apply takes the next entry.
func (b *Rebuilder) Apply(ctx context.Context, e *ledger.Entry) error {
	err := b.apply(ctx, e)
	if err != nil {
		return fmt.Errorf("rebuild the directory, commit LSN %s, ordinal %d: %w", e.CommitLSN, e.Ordinal, err)
	}
	return nil
}

// follow begins again with other rules, or after another snapshot; what was made so far stays.
func (b *Rebuilder) follow(rules *Rules, seededAt ledger.LSN) {
	if b.dir != nil {
		for _, r := range b.dir.takeDirty(false) {
			b.carry[r.Key] = r.State
		}
	}
	b.dir = newDirectory(Config{Rules: rules, SeededAt: seededAt, Load: func(ctx context.Context, keys []Key) ([]StoredRow, error) {
		var found []StoredRow
		var rest []Key
		for _, k := range keys {
			if state, ok := b.carry[k]; ok {
				found = append(found, StoredRow{k, state})
			} else {
				rest = append(rest, k)
			}
		}
		more, err := b.load(ctx, rest)
		return append(found, more...), err
	}})
}

// configuration takes the rules that count from here on, or the place of a snapshot.
func (b *Rebuilder) configuration(e *ledger.Entry) error {
	for _, f := range e.Fields {
		switch {
		case f.Path == pathMappingText:
			rules, err := Parse("mapping", []byte(f.Value))
			if err != nil {
				return err
			}
			seeded := ledger.LSN(0)
			if b.dir != nil {
				seeded = b.dir.seededAt
			}
			b.follow(rules, seeded)
			b.carry[storedRules] = rules.Stored().State
		case f.Path == PathSeededAt && b.dir != nil:
			at, err := ledger.ParseLSN(f.Value)
			if err != nil {
				return err
			}
			b.follow(b.dir.rules, at)
		}
	}
	return nil
}

func (b *Rebuilder) apply(ctx context.Context, e *ledger.Entry) error {
	if e.Kind == ledger.KindConfiguration {
		return b.configuration(e)
	}
	if b.dir == nil {
		return nil // the log has not begun
	}
	if err := b.dir.pin(ctx); err != nil {
		return err
	}
	switch e.Kind {
	case ledger.KindDirectory:
		return b.rows(ctx, e)
	case ledger.KindRelation:
		return b.shape(ctx, e)
	case ledger.KindTruncate:
		if t := b.dir.rules.tables[e.Table]; t != nil && t.target {
			if err := b.dir.complete(ctx, e.CommitLSN); err != nil {
				return err
			}
			b.dir.truncate(t, e.CommitLSN)
		}
	case ledger.KindChange:
		return b.change(ctx, e)
	case ledger.KindTransaction:
		if err := b.dir.complete(ctx, e.CommitLSN); err != nil {
			return err
		}
		b.dir.trim()
	}
	return nil
}

// at gives a row, loaded or new.
func (b *Rebuilder) at(ctx context.Context, t *table, key string) (*row, error) {
	if r := b.dir.get(t, key); r != nil {
		return r, nil
	}
	if err := b.dir.want(ctx, map[Key]struct{}{{t.name, key}: {}}); err != nil {
		return nil, err
	}
	return b.dir.get(t, key), nil
}

// rows takes rows that the log holds as they are.
func (b *Rebuilder) rows(ctx context.Context, e *ledger.Entry) error {
	for i := range e.Fields {
		if e.Fields[i].State != ledger.FieldValue {
			continue // redacted
		}
		var stored struct {
			Table string          `json:"table"`
			Row   string          `json:"row"`
			State json.RawMessage `json:"state"`
		}
		if err := json.Unmarshal([]byte(e.Fields[i].Value), &stored); err != nil {
			return fmt.Errorf("a row of the directory is not readable: %w", err)
		}
		t := b.dir.rules.tables[stored.Table]
		if t == nil || !t.target {
			continue
		}
		r, err := b.at(ctx, t, stored.Row)
		if err != nil {
			return err
		}
		as, err := b.dir.decode(&StoredRow{Key{stored.Table, stored.Row}, stored.State})
		if err != nil {
			return err
		}
		r.known, r.gone, r.lsn, r.cur, r.prev = true, as.gone, as.lsn, as.cur, as.prev
		b.dir.mark(r)
		b.dir.link(r)
		if e.CommitLSN == 0 { // of a snapshot: its lists are as of the same place
			if err := b.dir.settleLinks(ctx, r.lsn, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *Rebuilder) shape(ctx context.Context, e *ledger.Entry) error {
	var lines []string
	for _, f := range e.Fields {
		if f.Path == pathIdentity {
			lines = append(lines, "\x1f"+f.Value)
			continue
		}
		lines = append(lines, strings.TrimPrefix(f.Path, "column.")+"\x1f"+f.Value)
	}
	r, err := b.at(ctx, b.dir.rules.shapes, e.Table)
	if err != nil {
		return err
	}
	r.begin(e.CommitLSN)
	r.known, r.gone, r.cur = true, false, image{{e.Table, known}, {strings.Join(lines, lineBreak), known}}
	b.dir.mark(r)
	return nil
}

// change applies a row change to the directory.
func (b *Rebuilder) change(ctx context.Context, e *ledger.Entry) error {
	t := b.dir.rules.tables[e.Table]
	if t == nil || !t.target || e.RowID == "" {
		return nil
	}
	r, err := b.at(ctx, t, e.RowID)
	if err != nil {
		return err
	}
	created, deleted := false, false
	switch e.Action {
	case ledger.ActionCreate:
		created = true
	case ledger.ActionDelete:
		deleted = !slices.ContainsFunc(e.Fields, func(f ledger.Field) bool { return f.Path == pathSoft })
	}
	img, changed, was := t.imageAfter(e, r, created)
	switch {
	case created:
		r.begin(e.CommitLSN)
		r.known, r.gone, r.cur = true, false, img
	case deleted:
		r.begin(e.CommitLSN)
		r.gone = true
	case was != "":
		old, err := b.at(ctx, t, was)
		if err != nil {
			return err
		}
		old.begin(e.CommitLSN)
		old.gone = true
		b.dir.mark(old)
		b.dir.link(old)
		if !r.known {
			r.known, r.cur = true, old.cur
		}
		img, _, _ = t.imageAfter(e, r, false)
		r.begin(e.CommitLSN)
		r.known, r.gone, r.cur = true, false, img
	case !changed:
		return nil
	default:
		r.begin(e.CommitLSN)
		r.known, r.gone, r.cur = true, false, img
	}
	b.dir.mark(r)
	b.dir.link(r)
	return nil
}

// imageAfter is the row's image after a change, whether the change touched it, and the row's key before where that is
// another one.
func (t *table) imageAfter(e *ledger.Entry, r *row, created bool) (img image, changed bool, was string) {
	img = make(image, len(t.dir))
	copy(img, r.cur)
	keys := []string{e.RowID}
	if len(t.key) > 1 {
		keys = splitKeys(e.RowID)
	}
	before := slices.Clone(keys)
	for i := range img {
		if created {
			img[i] = value{st: null}
		}
		if i < len(t.key) && i < len(keys) {
			img[i] = value{keys[i], known}
		}
	}
	if created && t.tenantOf == "" {
		if at, ok := t.dirAt[t.tenant]; ok && e.TenantID != "" {
			img[at] = value{e.TenantID, known}
		}
	}
	for _, f := range e.Fields {
		side, column, _ := strings.Cut(f.Path, ".")
		at, ok := t.dirAt[column]
		if !ok || side != "old" && side != "new" {
			continue
		}
		if side == "old" {
			if f.State == ledger.FieldUnknown {
				changed = true
			}
			if at < len(before) && f.State == ledger.FieldValue && !created && f.Value != before[at] {
				before[at] = f.Value
			}
			continue
		}
		changed = true
		switch f.State {
		case ledger.FieldValue:
			img[at] = value{f.Value, known}
		case ledger.FieldNull:
			img[at] = value{st: null}
		default:
			img[at] = value{}
		}
	}
	if e.Action != ledger.ActionDelete && !slices.Equal(before, keys) {
		was = RowKey(before...)
	}
	return img, changed, was
}
