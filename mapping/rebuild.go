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
	rules  *Rules
	dir    *directory
	cfg    Config
	commit ledger.LSN
}

// NewRebuilder makes one. cfg.Load reads rows that were stored by the rebuilder's owner before.
func NewRebuilder(cfg Config) *Rebuilder {
	return &Rebuilder{rules: cfg.Rules, dir: newDirectory(cfg), cfg: cfg}
}

// TakeDirty gives the rows that changed since the last take; the caller stores them, so that Load finds them.
func (b *Rebuilder) TakeDirty() []StoredRow { return b.dir.takeDirty(false) }

// Apply takes the next entry.
func (b *Rebuilder) Apply(ctx context.Context, e *ledger.Entry) error {
	err := b.apply(ctx, e)
	if err != nil {
		return fmt.Errorf("rebuild the directory, commit LSN %s, ordinal %d: %w", e.CommitLSN, e.Ordinal, err)
	}
	return nil
}

func (b *Rebuilder) apply(ctx context.Context, e *ledger.Entry) error {
	if err := b.dir.pin(ctx); err != nil {
		return err
	}
	switch e.Kind {
	case ledger.KindDirectory:
		return b.rows(ctx, e)
	case ledger.KindRelation:
		return b.shape(ctx, e)
	case ledger.KindTruncate:
		if t := b.rules.tables[e.Table]; t != nil && t.target {
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
		t := b.rules.tables[stored.Table]
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
			if err := b.dir.settleLinks(ctx, r.lsn); err != nil {
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
	r, err := b.at(ctx, b.rules.shapes, e.Table)
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
	t := b.rules.tables[e.Table]
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
