package ledger

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in the source's write-ahead log, written as Postgres writes it: "16/B374D848".
type LSN uint64

func (l LSN) String() string { return string(l.append(nil)) }

// append writes the text form behind b.
func (l LSN) append(b []byte) []byte {
	const digits = "0123456789ABCDEF"
	hex := func(b []byte, v uint32) []byte {
		shift := 28
		for shift > 0 && v>>shift == 0 {
			shift -= 4
		}
		for ; shift >= 0; shift -= 4 {
			b = append(b, digits[v>>shift&15])
		}
		return b
	}
	b = append(hex(b, uint32(l>>32)), '/')
	return hex(b, uint32(l))
}

// ParseLSN reads the text form. It takes what Postgres' pg_lsn takes: two hexadecimal numbers of up to eight digits.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if ok && len(hi) >= 1 && len(hi) <= 8 && len(lo) >= 1 && len(lo) <= 8 {
		h, err1 := strconv.ParseUint(hi, 16, 32)
		l, err2 := strconv.ParseUint(lo, 16, 32)
		if err1 == nil && err2 == nil {
			return LSN(h<<32 | l), nil
		}
	}
	return 0, fmt.Errorf("%q is not a WAL position like 16/B374D848", s)
}
