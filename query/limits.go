package query

import (
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"

	"golang.org/x/time/rate"
)

const (
	defaultRate  = 20     // requests a second of one caller, in the long run
	burst        = 10     // seconds of them that may come at once
	strangerRate = 0.25   // of that for an address that has not said who it is
	maxStrangers = 10_000 // addresses that are remembered
)

// limits keeps one caller from taking the endpoint from the others, and strangers from filling the log with refusals: what
// is over a limit is answered with 429 before it is recorded. Strangers are told apart by their address, callers by name.
type limits struct {
	perSecond float64

	mu        sync.Mutex
	callers   map[string]*rate.Limiter // as many as there are tokens
	strangers map[string]*rate.Limiter
}

func newLimits(perSecond float64) *limits {
	if perSecond == 0 {
		perSecond = defaultRate
	}
	return &limits{perSecond: perSecond, callers: map[string]*rate.Limiter{}, strangers: map[string]*rate.Limiter{}}
}

// over is the problem of a request that comes too soon, which says when to come again; nil: it may pass.
func (l *limits) over(w http.ResponseWriter, r *Request) *Problem {
	reservation := l.limiter(r).Reserve()
	wait := reservation.Delay()
	if wait <= 0 {
		return nil
	}
	reservation.Cancel() // it is turned away, so it takes nothing
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	return NewProblem(http.StatusTooManyRequests, "too many requests; come again after the time in Retry-After")
}

func (l *limits) limiter(r *Request) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, key, perSecond := l.callers, "", l.perSecond
	if r.Caller != nil {
		key = r.Caller.Name
	} else {
		if len(l.strangers) >= maxStrangers {
			clear(l.strangers) // to forget them is harmless
		}
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		from, key, perSecond = l.strangers, host, l.perSecond*strangerRate
	}
	limiter := from[key]
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond*burst)))
		from[key] = limiter
	}
	return limiter
}
