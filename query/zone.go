package query

import (
	"errors"
	"time"
	_ "time/tzdata" // zones do not depend on the machine
)

// Zone finds a time zone by its IANA name. "" is UTC; the machine's own zone is none.
func Zone(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return time.UTC, errors.New("is not the name of a time zone, such as America/New_York or UTC")
	}
	return zone, nil
}

// DayStart is the first moment of a day in a zone. Where the clocks are put forward at midnight, the day begins later than
// 00:00; where they are put back to it, it begins at the first of two midnights.
func DayStart(day time.Time, zone *time.Location) time.Time {
	y, m, d := day.Date()
	t := time.Date(y, m, d, 0, 0, 0, 0, zone)
	changed, next := t.ZoneBounds()
	if t.Day() != d { // 00:00 does not exist, and Date gave a moment of the day before
		return next
	}
	if changed.IsZero() {
		return t
	}
	before := changed.Add(-time.Nanosecond)
	_, offset := before.Zone()
	if first := time.Date(y, m, d, 0, 0, 0, 0, time.FixedZone("", offset)); first.Before(changed) {
		return first.In(zone)
	}
	if t.Hour() != 0 { // likewise, and Date gave a moment after the gap
		return changed
	}
	return t
}
