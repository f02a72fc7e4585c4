package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// results are all figures of a run. What was not measured is empty and not printed.
type results struct {
	rows     int
	drains   [len(backlogs)][len(consumers)][]drain
	ours     []time.Duration // from commit to stored, sorted
	copied   []time.Duration
	atRest   int64
	tps      [len(variants)][]float64
	mapping  []string
	postgres string
	settings map[string]string
}

func (r *results) print(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer t.Flush()
	r.printRatios(t)
	r.printDrains(t)
	r.printLatency(t)
	if len(r.tps[0]) > 0 {
		fmt.Fprintf(t, "\nCost on the primary: pgbench, one-row updates, 2 clients\tTPS median\tmin\tmax\n")
		for i, v := range variants {
			low, mid, high := spread(r.tps[i])
			fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.0f\n", v.title, mid, low, high)
		}
	}
	if r.atRest > 0 || r.peak() > 0 {
		fmt.Fprintf(t, "\nMemory of the daemon\t\n")
		fmt.Fprintf(t, "at rest\t%s\npeak while draining\t%s\n", mib(r.atRest), mib(r.peak()))
	}
	if len(r.mapping) > 0 {
		fmt.Fprintf(t, "\nMapping alone (go test -bench)\t\n")
		for _, line := range r.mapping {
			fmt.Fprintln(t, line)
		}
	}
	r.printMachine(t)
}

// printRatios is what to look at first.
func (r *results) printRatios(t io.Writer) {
	if len(r.drains[0][ours]) > 0 {
		fmt.Fprintf(t, "casebook-audit against\tthe subscription\tpg_recvlogical\n")
		for i, size := range backlogs {
			mine := r.rate(i, ours)
			fmt.Fprintf(t, "transactions of %d\t%.2f x\t%.2f x\n", size, mine/r.rate(i, peer), mine/r.rate(i, nowhere))
		}
		var took [len(consumers)]float64
		for i := range backlogs {
			for c := range consumers {
				took[c] += 1 / r.rate(i, c)
			}
		}
		fmt.Fprintf(t, "all three\t%.2f x\t%.2f x\n", took[peer]/took[ours], took[nowhere]/took[ours])
	}
	if len(r.ours) > 0 {
		fmt.Fprintf(t, "\ncommit to stored, p99, against the subscription\t%.2f x\t(less is better)\n",
			float64(percentile(r.ours, 99))/float64(percentile(r.copied, 99)))
	}
	if len(r.tps[0]) > 0 {
		_, plain, _ := spread(r.tps[0])
		_, identity, _ := spread(r.tps[1])
		_, stamped, _ := spread(r.tps[2])
		fmt.Fprintf(t, "\nTPS of the primary\tagainst no audit\tagainst FULL alone\n")
		fmt.Fprintf(t, "REPLICA IDENTITY FULL\t%+.1f %%\t\nFULL and stamps\t%+.1f %%\t%+.1f %%\n",
			100*(identity/plain-1), 100*(stamped/plain-1), 100*(stamped/identity-1))
	}
}

func (r *results) printDrains(t io.Writer) {
	if len(r.drains[0][ours]) == 0 {
		return
	}
	fmt.Fprintf(t, "\nBacklogs of %d row changes, rows a second", r.rows)
	for _, size := range backlogs {
		fmt.Fprintf(t, "\ttransactions of %d", size)
	}
	fmt.Fprintln(t)
	for c, consumer := range consumers {
		fmt.Fprint(t, consumer.title)
		for i := range backlogs {
			low, mid, high := spread(r.rates(i, c))
			fmt.Fprintf(t, "\t%.0f", mid)
			if len(r.drains[i][c]) > 1 {
				fmt.Fprintf(t, " (%.0f to %.0f)", low, high)
			}
		}
		fmt.Fprintln(t)
	}
	r.printBundles(t)
	fmt.Fprintf(t, "\nProcessor time, microseconds a row\t\n")
	for _, part := range []struct {
		title    string
		consumer int
		of       func(d drain) time.Duration
	}{
		{"subscription: walsender", peer, func(d drain) time.Duration { return d.walsender }},
		{"subscription: apply worker", peer, func(d drain) time.Duration { return d.backend }},
		{"casebook-audit: walsender", ours, func(d drain) time.Duration { return d.walsender }},
		{"casebook-audit: daemon", ours, func(d drain) time.Duration { return d.client }},
		{"casebook-audit: audit database", ours, func(d drain) time.Duration { return d.backend }},
	} {
		fmt.Fprint(t, part.title)
		for i := range backlogs {
			var sum time.Duration
			for _, d := range r.drains[i][part.consumer] {
				sum += part.of(d)
			}
			fmt.Fprintf(t, "\t%.1f", float64(sum.Microseconds())/float64(r.rows*len(r.drains[i][part.consumer])))
		}
		fmt.Fprintln(t)
	}
}

// printBundles tells how well our daemon bundles, for each backlog.
func (r *results) printBundles(t io.Writer) {
	fmt.Fprint(t, "casebook-audit: rows a commit")
	for i := range backlogs {
		commits := 0
		for _, d := range r.drains[i][ours] {
			commits += d.commits
		}
		fmt.Fprintf(t, "\t%d", r.rows*len(r.drains[i][ours])/max(1, commits))
	}
	fmt.Fprintln(t)
}

func (r *results) printLatency(t io.Writer) {
	if len(r.ours) == 0 {
		return
	}
	fmt.Fprintf(t, "\nCommit to stored, %d transactions a second\tp50\tp99\tmax\tof\n", smallRate)
	for _, l := range []struct {
		title string
		took  []time.Duration
	}{{consumers[peer].title, r.copied}, {consumers[ours].title, r.ours}} {
		fmt.Fprintf(t, "%s\t%.1f ms\t%.1f ms\t%.1f ms\t%d\n", l.title,
			ms(percentile(l.took, 50)), ms(percentile(l.took, 99)), ms(l.took[len(l.took)-1]), len(l.took))
	}
}

func (r *results) printMachine(t io.Writer) {
	fmt.Fprintf(t, "\nMachine\t%s, %d cores, %s of memory\n", procLine("/proc/cpuinfo", "model name"), runtime.NumCPU(), procLine("/proc/meminfo", "MemTotal"))
	fmt.Fprintf(t, "Versions\t%s, Postgres %s\n", runtime.Version(), r.postgres)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(r.settings)) {
		list = append(list, name+"="+r.settings[name])
	}
	fmt.Fprintf(t, "All servers\t%s\n", strings.Join(list, " "))
	fmt.Fprintf(t, "Stored means\tcasebook-audit: committed with synchronous_commit=on; subscription: applied with its own off, flushed at the end\n")
}

func (r *results) rates(backlog, consumer int) []float64 {
	var rates []float64
	for _, d := range r.drains[backlog][consumer] {
		rates = append(rates, float64(r.rows)/d.took.Seconds())
	}
	return rates
}

func (r *results) rate(backlog, consumer int) float64 {
	_, mid, _ := spread(r.rates(backlog, consumer))
	return mid
}

func (r *results) peak() (peak int64) {
	for i := range backlogs {
		for _, d := range r.drains[i][ours] {
			peak = max(peak, d.peak)
		}
	}
	return peak
}

// spread gives the least, the median and the greatest.
func spread(values []float64) (low, mid, high float64) {
	if len(values) == 0 {
		return 0, 0, 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return sorted[0], (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[n-1]
}

func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func mib(n int64) string {
	if n == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
}

// procLine gives the first value of a name in one of the kernel's tables.
func procLine(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
