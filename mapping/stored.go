package mapping

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"casebook.example/audit/ledger"
)

// storedState is the JSON of a row. Columns stand by name, so that a changed mapping still reads it.
type storedState struct {
	LSN  string             `json:"lsn,omitempty"`
	Gone bool               `json:"gone,omitempty"`
	Cur  map[string]*string `json:"cur"`
	Prev map[string]*string `json:"prev"`           // absent: there was no row
	Same bool               `json:"same,omitempty"` // prev is cur
}

func (d *directory) decode(s *StoredRow) (*row, error) {
	t := d.rules.tables[s.Table]
	if t == nil || !t.target {
		return nil, nil // the mapping no longer needs it
	}
	var state storedState
	if err := json.Unmarshal(s.State, &state); err != nil {
		return nil, fmt.Errorf("directory row of %s is not readable: %w", s.Table, err)
	}
	r := &row{t: t, key: s.Row, known: true, gone: state.Gone}
	if state.LSN != "" {
		lsn, err := ledger.ParseLSN(state.LSN)
		if err != nil {
			return nil, fmt.Errorf("directory row of %s is not readable: %w", s.Table, err)
		}
		r.lsn = lsn
	}
	r.cur = t.imageOf(state.Cur)
	switch {
	case state.Same:
		r.prev = r.cur
	case state.Prev != nil:
		r.prev = t.imageOf(state.Prev)
	}
	if r.lsn < d.seeded {
		if t.from != nil {
			r.cur, r.prev = image{r.cur[0], {"", known}}, nil
		} else {
			r.gone = true
		}
	}
	d.outlived(r)
	return r, nil
}

func (t *table) imageOf(columns map[string]*string) image {
	img := make(image, len(t.dir))
	for i, name := range t.dir {
		if v, ok := columns[name]; ok {
			img[i].st = null
			if v != nil {
				img[i] = value{*v, known}
			}
		}
	}
	return img
}

func (r *row) encode() StoredRow {
	b := make([]byte, 0, 256)
	b = append(b, '{')
	if r.lsn != 0 {
		b = append(b, `"lsn":"`...)
		b = append(b, r.lsn.String()...)
		b = append(b, `",`...)
	}
	if r.gone {
		b = append(b, `"gone":true,`...)
	}
	b = append(b, `"cur":`...)
	b = r.t.encodeImage(b, r.cur)
	switch {
	case r.prev == nil:
	case len(r.prev) > 0 && &r.prev[0] == &r.cur[0]:
		b = append(b, `,"same":true`...)
	default:
		b = append(b, `,"prev":`...)
		b = r.t.encodeImage(b, r.prev)
	}
	return StoredRow{Key: Key{r.t.name, r.key}, State: append(b, '}')}
}

func (t *table) encodeImage(b []byte, img image) []byte {
	b = append(b, '{')
	comma := false
	for i, v := range img {
		if v.st == unknown {
			continue
		}
		if comma {
			b = append(b, ',')
		}
		comma = true
		b = appendJSON(b, t.dir[i])
		b = append(b, ':')
		if v.st == null {
			b = append(b, "null"...)
		} else {
			b = appendJSON(b, v.s)
		}
	}
	return append(b, '}')
}

// appendJSON writes a text as encoding/json does, without its allocations.
func appendJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '\b':
			b = append(b, '\\', 'b')
		case c == '\f':
			b = append(b, '\\', 'f')
		case c < 0x20 || c == '<' || c == '>' || c == '&':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				b = append(b, `\ufffd`...)
			case r == '\u2028' || r == '\u2029':
				b = append(b, `\u202`...)
				b = append(b, hex[r&15])
			default:
				b = append(b, s[i:i+n]...)
			}
			i += n - 1
		}
	}
	return append(b, '"')
}
