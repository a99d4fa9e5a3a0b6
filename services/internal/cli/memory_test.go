package cli

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

func TestPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 4 << 20: 400, 8 << 20: 200, 16 << 20: 100, 32 << 20: 50, 105 << 20: 40, 1 << 40: 40} {
		if got := percent(live); got != want {
			t.Errorf("%d octets: %d %%, want %d", live, got, want)
		}
	}
}

// What is alive decides after each cycle, up and down.
func TestTuneMemory(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	now := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	TuneMemory()
	if p := now(); p != maxPercent {
		t.Errorf("at first: %d %%", p)
	}
	live := make([]byte, 64<<20)
	for now() != minPercent { // the cleanup runs some time after the cycle
		runtime.GC()
	}
	runtime.KeepAlive(live)
	for now() != maxPercent {
		runtime.GC()
	}
}
