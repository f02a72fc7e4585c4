package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// span is a length of time as people keep records: years, months and days of the calendar.
type span struct{ years, months, days int }

// parseSpan reads "35d", "6m", "7y" or several of them: "1y6m".
func parseSpan(text string) (a span, err error) {
	bad := fmt.Errorf("%q: use years, months and days, such as 7y, 6m or 35d", text)
	units, last := map[byte]*int{'y': &a.years, 'm': &a.months, 'd': &a.days}, -1
	for rest := text; rest != ""; {
		i := strings.IndexAny(rest, "ymd")
		if i < 1 {
			return span{}, bad
		}
		n, err := strconv.ParseUint(rest[:i], 10, 16)
		if place := strings.IndexByte("ymd", rest[i]); err != nil || place <= last {
			return span{}, bad
		} else {
			last = place
		}
		*units[rest[i]] = int(n)
		rest = rest[i+1:]
	}
	if a == (span{}) {
		return span{}, bad
	}
	return a, nil
}

func (a span) after(t time.Time) time.Time  { return t.AddDate(a.years, a.months, a.days) }
func (a span) before(t time.Time) time.Time { return t.AddDate(-a.years, -a.months, -a.days) }
