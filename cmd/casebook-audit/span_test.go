package main

import (
	"testing"
	"time"
)

func TestParseSpan(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 31, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{"7y": "2033-03-31", "35d": "2026-05-05", "1y6m": "2027-10-01", "2y1m3d": "2028-05-04"} {
		s, err := parseSpan(text)
		if got := s.after(at).Format(time.DateOnly); err != nil || got != want {
			t.Errorf("%s: %s, want %s (%v)", text, got, want, err)
		}
	}
	for _, text := range []string{"", "y", "7", "7w", "1m1y", "1y1y", "-1y", "0d", "1y ", "99999999y", "1.5y"} {
		if s, err := parseSpan(text); err == nil {
			t.Errorf("%q was read as %+v", text, s)
		}
	}
}

func FuzzParseSpan(f *testing.F) {
	f.Add("1y6m3d")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseSpan(text); err == nil && s == (span{}) {
			t.Errorf("%q is no time at all", text)
		}
	})
}
