package stored_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"casebook.example/audit/ledger"
	"casebook.example/audit/stored"
)

// FuzzDecodeRow: whatever stands in the columns is a row, a broken entry or an error of reading.
func FuzzDecodeRow(f *testing.F) {
	var row []byte
	value := func(v ...byte) { row = append(append(row, byte(len(v))), v...) }
	number := func(n uint64) { value(binary.BigEndian.AppendUint64(nil, n)...) }
	number(7)
	value(0, 1)
	value(make([]byte, 32)...)
	number(1)
	for range 3 {
		value(make([]byte, 32)...)
	}
	number(0x1000)
	number(0)
	number(77)
	number(5)
	for range 19 {
		value('x')
	}
	number(42)
	row = append(row, 0xff)
	array := func(v ...byte) {
		b := []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, byte(len(v))}
		value(append(b, v...)...)
	}
	array('p')
	array('t')
	array(0, 1)
	array('v')
	f.Add(row)
	f.Fuzz(func(t *testing.T, data []byte) {
		var values [stored.NumRaw]string
		var null [stored.NumRaw]bool
		for i := range values {
			null[i] = true
			if len(data) == 0 {
				continue
			}
			size := int(data[0])
			data = data[1:]
			if size == 0xff || size > len(data) {
				continue
			}
			null[i] = false
			values[i], data = string(data[:size]), data[size:]
		}
		r, err := stored.DecodeRow(&values, &null)
		var broken *ledger.BrokenError
		switch {
		case err == nil:
			_ = ledger.NewHasher().Commitment(&r.Entry, &r.Salt)
		case errors.As(err, &broken) && broken.Reason == "":
			t.Error("no reason")
		}
	})
}

func TestDecodeRow(t *testing.T) {
	var values [stored.NumRaw]string
	var null [stored.NumRaw]bool
	if _, err := stored.DecodeRow(&values, &null); err == nil {
		t.Error("empty values are taken for numbers")
	}
}
