package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"casebook.example/audit/deploy/reference"
	"casebook.example/audit/internal/cluster"
	"casebook.example/audit/internal/pgtest"
)

// The working day gives the same entries on every version of Postgres, and the log of each verifies.
func TestEveryVersion(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Postgres: not with -short")
	}
	var mu sync.Mutex
	counts := map[int]string{}
	t.Run("day", func(t *testing.T) {
		for _, version := range []int{14, 15, 16, 17, 18} {
			t.Run(fmt.Sprintf("pg%d", version), func(t *testing.T) {
				t.Parallel()
				pgtest.Need(t, version)
				count := day(t, version)
				mu.Lock()
				defer mu.Unlock()
				counts[version] = count
			})
		}
	})
	want, ok := counts[cluster.DefaultVersion]
	if !ok {
		t.Fatalf("Postgres %d did not get through the day: there is nothing to compare with", cluster.DefaultVersion)
	}
	t.Logf("on each:\n%s", want)
	for version, have := range counts {
		if have != want {
			t.Errorf("Postgres %d gives\n%s\nPostgres %d\n%s", version, have, cluster.DefaultVersion, want)
		}
	}
}

// day plays the scenarios and counts the entries by application, resource and action.
func day(t *testing.T, version int) string {
	w := newWorld(t, options{version: version})
	w.makeOracle(t)
	before := w.snapshot(t)
	w.start(t)
	w.streaming(t)
	for _, s := range cluster.ParseSections(reference.Scenarios) {
		// Schema changes and TRUNCATE are a DBA's, the rest an application's.
		user := appRole
		if strings.HasPrefix(s.ID, "E") && s.ID != "E1" {
			user = cluster.Superuser
		}
		if err := cluster.RunSQL(t.Context(), w.source.DSN(sourceDB, user), s.SQL); err != nil {
			t.Fatalf("%s: %v", s.ID, err)
		}
	}
	w.caughtUp(t, time.Minute)
	entries := w.entries(t)
	checkTransactions(t, entries, w.oracle(t))
	checkFold(t, w.meanings(t), before, entries, w.snapshot(t))
	w.checkChain(t)
	return w.auditValue(t, `select string_agg(line, e'\n' order by line) from (
		select format('%s | %s | %s | %s', application, resource, action, count(*)) line
		from audit.entry where kind in (1, 2) group by application, resource, action) c`)
}
