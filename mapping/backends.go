package mapping

import "github.com/prometheus/client_golang/prometheus"

// backends counts from how many server processes one and the same user was named lately. SET for a session, behind a
// pooler that hands sessions on, makes one user appear on all of them: a leaking pool.
type backends struct {
	gauge prometheus.Gauge
	users map[string]map[uint32]bool // the processes of each
	until int64                      // when the window at hand ends
	most  int                        // in this window
}

const (
	backendsWindow = 600e6 // microseconds of the source's clock
	maxWatched     = 2000  // users in one window; more are not watched
)

func newBackends(reg prometheus.Registerer) *backends {
	return &backends{users: map[string]map[uint32]bool{}, gauge: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "context_backends", Help: "Server processes from which the one user who was named from the most of them was named within ten minutes.",
	}))}
}

func (b *backends) saw(user string, pid uint32, at int64) {
	if user == "" || pid == 0 {
		return
	}
	if at > b.until {
		clear(b.users)
		b.until, b.most = at+backendsWindow, 0
	}
	pids := b.users[user]
	if pids == nil {
		if len(b.users) == maxWatched {
			return
		}
		pids = map[uint32]bool{}
		b.users[user] = pids
	}
	pids[pid] = true
	if len(pids) > b.most {
		b.most = len(pids)
		b.gauge.Set(float64(b.most))
	}
}

// register gives the collector that is registered already under the same name, or c.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	if there, ok := err.(prometheus.AlreadyRegisteredError); ok {
		if old, ok := there.ExistingCollector.(C); ok {
			return old
		}
	}
	return c
}
