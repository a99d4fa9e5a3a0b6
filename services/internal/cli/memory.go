package cli

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// minPercent makes the collector run when a large heap grew by two fifths instead
	// of doubled: a manifest of a million files lives as about 105 MB, and a process is
	// to stay under 200 MiB with it. By half it took 185 to 197 MiB, by this 174.
	minPercent = 40
	// maxPercent and gcRoom let a small heap grow by 16 MiB: with minPercent alone
	// 20,000 small files cost a receiver 0.74 CPU seconds instead of 0.47, for
	// collections of 2 MB that each stop the world and wake every thread.
	maxPercent = 400
	gcRoom     = 16 << 20
)

// TuneMemory sets the collector, now and after each of its cycles, unless the
// environment does (GOGC, GOMEMLIMIT).
func TuneMemory() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(maxPercent) // of 4 MB, which is the least (runtime/debug)
		afterCycle(newTuner())
	}
}

// percent says by how much of its live part a heap may grow until it is collected.
func percent(live uint64) int {
	return int(min(max(gcRoom*100/max(live, 1), minPercent), maxPercent)) //nolint:gosec // between the two
}

// tuner follows what the collector finds alive.
type tuner struct {
	now     int
	samples []metrics.Sample
}

func newTuner() *tuner {
	return &tuner{now: maxPercent, samples: []metrics.Sample{
		// What the percentage is taken of (runtime/debug.SetGCPercent).
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}}
}

func (t *tuner) cycle() {
	metrics.Read(t.samples)
	var live uint64
	for _, s := range t.samples {
		if s.Value.Kind() == metrics.KindUint64 {
			live += s.Value.Uint64()
		}
	}
	// Setting it stops the world, so small changes are not worth it.
	if p := percent(live); p > t.now+t.now/4 || p < t.now-t.now/4 || p == minPercent && t.now != p {
		t.now = p
		debug.SetGCPercent(p)
	}
}

// afterCycle has the collector call t.cycle whenever it has freed an object that
// nothing but itself refers to.
func afterCycle(t *tuner) {
	runtime.AddCleanup(&struct{ *tuner }{}, func(t *tuner) {
		t.cycle()
		afterCycle(t)
	}, t)
}
