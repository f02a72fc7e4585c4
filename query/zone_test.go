package query_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"casebook.example/audit/query"
)

func TestZone(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Local", "Nowhere/Atlantis", "../../etc/passwd", "utc\x00"} {
		if _, err := query.Zone(name); err == nil {
			t.Errorf("%q is a zone", name)
		}
	}
}

// TestDayStart: a day begins at the first moment that has its date, in zones that change their clocks at night, at
// midnight, and by whole days.
func TestDayStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ zone, day, want string }{
		{"UTC", "2026-03-08", "2026-03-08T00:00:00Z"},
		{"America/New_York", "2026-03-08", "2026-03-08T05:00:00Z"},
		{"America/New_York", "2026-03-09", "2026-03-09T04:00:00Z"},  // a day of 23 hours before it
		{"America/New_York", "2026-11-02", "2026-11-02T05:00:00Z"},  // and one of 25
		{"America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"}, // 00:00 does not exist
		{"America/Havana", "2026-11-01", "2026-11-01T04:00:00Z"},    // 00:00 happens twice
		{"Asia/Beirut", "2026-03-29", "2026-03-28T22:00:00Z"},
		{"Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z"}, // the day before it does not exist
	} {
		zone, err := query.Zone(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		date, _ := time.Parse(time.DateOnly, c.day)
		if got := query.DayStart(date, zone).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%s in %s begins at %s, want %s", c.day, c.zone, got, c.want)
		}
	}
	zones := []string{"America/New_York", "America/Havana", "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "Asia/Tehran", "Australia/Lord_Howe", "Europe/Dublin", "America/Asuncion", "America/Santiago"}
	t.Run("any", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			zone, err := query.Zone(rapid.SampledFrom(zones).Draw(t, "zone"))
			if err != nil {
				t.Fatal(err)
			}
			date := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 365*55).Draw(t, "day"))
			start := query.DayStart(date, zone)
			want := date.Format(time.DateOnly)
			if got := start.In(zone).Format(time.DateOnly); got != want {
				t.Fatalf("%s begins on %s", want, got)
			}
			if before := start.Add(-time.Nanosecond).In(zone).Format(time.DateOnly); before >= want {
				t.Fatalf("a moment before %s begins it is %s", want, before)
			}
		})
	})
}
