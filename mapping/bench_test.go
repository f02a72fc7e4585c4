package mapping

import (
	"syscall"
	"testing"

	"casebook.example/audit/ledger"
)

// BenchmarkMap maps real transactions over a warm cache: a batch of one kind, and a mixed day of small ones. An operation
// is one entry.
func BenchmarkMap(b *testing.B) {
	bed := newBed(b)
	for _, section := range []string{"S14", "S01", "S02", "S03", "S04", "S06", "S08", "S10", "S11", "S13", "S16", "S17", "S20", "S23"} {
		bed.db.Section(b, section)
	}
	txs := bed.transactions(b)
	for _, tx := range txs {
		bed.mapTx(b, tx)
	}
	run := func(name string, from, to int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			entries := 0
			b.ResetTimer()
			cpu := cpuTime(b)
			for entries < b.N {
				for _, tx := range txs[from:to] {
					err := bed.mapper.Map(b.Context(), tx, 0, func(*ledger.Entry) error {
						entries++
						return nil
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				bed.mapper.TakeDirty()
				bed.mapper.Stored()
				bed.mapper.TakeNames()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(entries), "ns/entry")
			b.ReportMetric(float64(cpuTime(b)-cpu)/float64(entries), "cpu-ns/entry") // also on a machine that is busy
		})
	}
	loads := bed.store.loads
	run("batch", 0, 1)
	run("day", 1, len(txs))
	if bed.store.loads != loads {
		b.Errorf("a warm cache asked the audit database %d times", bed.store.loads-loads)
	}
}

// cpuTime is what this process has used so far, the garbage collector included.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
