package query

import "time"

// SetClock is the time that sessions go by.
func (h *Service) SetClock(now func() time.Time) { h.sessions.now = now }
