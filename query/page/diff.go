package page

import (
	"bytes"
	"slices"
	"unicode"
)

// maxEdits bounds the work on two texts: what differs in more places than this is shown as one text for another.
const maxEdits = 400

// edit is a stretch of a comparison.
type edit struct {
	Op   byte // '=' in both, '-' before only, '+' after only
	Text string
}

// diff compares two texts word by word, with the shortest list of edits (E. Myers, "An O(ND) Difference Algorithm and Its
// Variations", 1986). Joining all but '+' gives the text before, all but '-' the one after.
func diff(before, after string) []edit {
	a, b := words(before), words(after)
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	x, y := a[head:len(a)-tail], b[head:len(b)-tail]
	path := shortest(x, y)
	if path == nil {
		path = slices.Concat(bytes.Repeat([]byte{'-'}, len(x)), bytes.Repeat([]byte{'+'}, len(y)))
	}
	path = slices.Concat(bytes.Repeat([]byte{'='}, head), path, bytes.Repeat([]byte{'='}, tail))

	// Words stand one after the other, so a run of them is a stretch of the text.
	var list []edit
	i, j, from, to := 0, 0, 0, 0 // word and byte, before and after
	for n := 0; n < len(path); {
		op, start, other := path[n], from, to
		for ; n < len(path) && path[n] == op; n++ {
			if op != '+' {
				from += len(a[i])
				i++
			}
			if op != '-' {
				to += len(b[j])
				j++
			}
		}
		if op == '+' {
			list = append(list, edit{op, after[other:to]})
		} else {
			list = append(list, edit{op, before[start:from]})
		}
	}
	return list
}

// words splits a text into words, and what stands between them, rune by rune.
func words(s string) []string {
	var list []string
	start, inWord := 0, false
	for i, r := range s {
		w := unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || r == '\''
		if i > start && (!w || !inWord) {
			list = append(list, s[start:i])
			start = i
		}
		inWord = w
	}
	if start < len(s) {
		list = append(list, s[start:])
	}
	return list
}

// shortest gives the edits that make b of a, one byte a word; nil: there are more than maxEdits.
func shortest(a, b []string) []byte {
	n, m := len(a), len(b)
	limit := min(n+m, maxEdits)
	v := make([]int, 2*limit+3)
	at := func(k int) *int { return &v[k+limit+1] }
	var trace [][]int
	for d := 0; d <= limit; d++ {
		trace = append(trace, append([]int(nil), v[limit+1-d:limit+2+d]...)) // the diagonals -d to d, as they were before step d
		for k := -d; k <= d; k += 2 {
			x := 0
			if k == -d || k != d && *at(k - 1) < *at(k + 1) {
				x = *at(k + 1)
			} else {
				x = *at(k - 1) + 1
			}
			for x < n && x-k < m && a[x] == b[x-k] {
				x++
			}
			*at(k) = x
			if x >= n && x-k >= m {
				return walkBack(trace, n, m, d)
			}
		}
	}
	return nil
}

func walkBack(trace [][]int, x, y, d int) []byte {
	var back []byte
	for ; d >= 0; d-- {
		before := func(k int) int { return trace[d][k+d] }
		k := x - y
		down := k == -d || k != d && d > 0 && before(k-1) < before(k+1)
		fromX, fromY := 0, 0
		if d > 0 {
			if down {
				fromX = before(k + 1)
				fromY = fromX - (k + 1)
			} else {
				fromX = before(k - 1)
				fromY = fromX - (k - 1)
			}
		}
		startX, startY := fromX, fromY
		if d > 0 && down {
			startY++
		} else if d > 0 {
			startX++
		}
		for x > startX && y > startY {
			back = append(back, '=')
			x, y = x-1, y-1
		}
		if d > 0 {
			if down {
				back = append(back, '+')
			} else {
				back = append(back, '-')
			}
		}
		x, y = fromX, fromY
	}
	for i, j := 0, len(back)-1; i < j; i, j = i+1, j-1 {
		back[i], back[j] = back[j], back[i]
	}
	return back
}
