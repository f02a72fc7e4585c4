package mapping

import (
	"unsafe"

	"casebook.example/audit/ledger"
)

// memory hands out what entries are made of, cut from larger pieces: a batch of entries lives and dies together, so one
// piece for many costs less than many. Nothing that was handed out is written again.
type memory struct {
	text    []byte
	fields  []ledger.Field
	entries []ledger.Entry
	handed  int // bytes, since its owner last looked
}

const (
	textPiece   = 32 << 10
	fieldPiece  = 256
	entryPiece  = 32
	largestText = textPiece / 8 // more gets memory of its own
)

// keep copies a text.
func (m *memory) keep(s string) string {
	n := len(s)
	m.handed += n
	switch {
	case n == 0:
		return ""
	case n > largestText:
		return string([]byte(s))
	case cap(m.text)-len(m.text) < n:
		m.text = make([]byte, 0, textPiece)
	}
	at := len(m.text)
	m.text = append(m.text, s...)
	return unsafe.String(&m.text[at], n)
}

func (m *memory) keepBytes(b []byte) string { return m.keep(peek(b)) }

func (m *memory) keepFields(f []ledger.Field) []ledger.Field {
	n := len(f)
	m.handed += n * int(unsafe.Sizeof(ledger.Field{}))
	switch {
	case n == 0:
		return nil
	case n > fieldPiece/4:
		return append([]ledger.Field(nil), f...)
	case cap(m.fields)-len(m.fields) < n:
		m.fields = make([]ledger.Field, 0, fieldPiece)
	}
	at := len(m.fields)
	m.fields = append(m.fields, f...)
	return m.fields[at : at+n : at+n]
}

func (m *memory) entry() *ledger.Entry {
	m.handed += int(unsafe.Sizeof(ledger.Entry{}))
	if len(m.entries) == 0 {
		m.entries = make([]ledger.Entry, entryPiece)
	}
	e := &m.entries[0]
	m.entries = m.entries[1:]
	return e
}
