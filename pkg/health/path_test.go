package health

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

const ms = time.Millisecond

func TestEstimator(t *testing.T) {
	var e estimator
	if e.rto() != time.Second {
		t.Errorf("before the first: %v", e.rto())
	}
	for _, c := range []struct{ rtt, srtt, rttvar, rto time.Duration }{
		{80 * ms, 80 * ms, 40 * ms, 240 * ms},
		{80 * ms, 80 * ms, 30 * ms, 200 * ms},
		{160 * ms, 90 * ms, 42500 * time.Microsecond, 260 * ms}, // 30·3/4 + 80/4; 80·7/8 + 160/8
		{10 * time.Second, 1328750 * time.Microsecond, 2509375 * time.Microsecond, time.Second},
	} {
		if e.add(c.rtt); e.srtt != c.srtt || e.rttvar != c.rttvar || e.rto() != c.rto {
			t.Errorf("after %v: %v, %v, %v; want %v, %v, %v", c.rtt, e.srtt, e.rttvar, e.rto(), c.srtt, c.rttvar, c.rto)
		}
	}
	e = estimator{}
	for range 100 {
		e.add(time.Microsecond)
	}
	if e.rto() != 50*ms {
		t.Errorf("least: %v", e.rto())
	}
}

func TestJitter(t *testing.T) {
	var j jitter
	for _, c := range []struct{ transit, want time.Duration }{
		{100 * ms, 0}, {116 * ms, ms}, {116 * ms, ms - ms/16}, {100 * ms, ms - ms/16 + (16*ms-(ms-ms/16))/16},
	} {
		if j.add(c.transit); (j.value() - c.want).Abs() > 1 {
			t.Errorf("after %v: %v, want %v", c.transit, j.value(), c.want)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	if h.quantile(0.5) != 0 || h.mean() != 0 {
		t.Error("an empty one says something")
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	var all []time.Duration
	for range 20_000 {
		d := time.Duration(rnd.ExpFloat64() * float64(20*ms))
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		want := all[int(q*float64(len(all)-1))]
		if got := h.quantile(q); (got - want).Abs() > want/64+1 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	if h.min != all[0] || h.max != all[len(all)-1] || h.quantile(1) > h.max || h.quantile(0) < h.min {
		t.Errorf("min %v, max %v", h.min, h.max)
	}
	last := -1
	for d := time.Duration(0); d < 100*time.Second; d = d*33/32 + 1 {
		c := class(d)
		if c < last || c >= len(h.counts) {
			t.Fatalf("class of %v is %d after %d", d, c, last)
		}
		if m := middle(c); d < 60*time.Second && (m-d).Abs() > d/64+1 {
			t.Fatalf("%v is in the class of %v", d, m)
		}
		last = c
	}
	h.add(-time.Second)
	h.add(time.Hour)
	if h.min != 0 || h.max != time.Hour {
		t.Error("extremes")
	}
}

func TestRecent(t *testing.T) {
	var r recent
	if r.loss() != 0 {
		t.Error("loss without pings")
	}
	r.add(true)
	r.add(false)
	if r.loss() != 0.5 {
		t.Errorf("%v", r.loss())
	}
	for range recentPings - 1 {
		r.add(false)
	}
	if r.loss() != 0 {
		t.Errorf("%v: old losses are not forgotten", r.loss())
	}
	for i := range recentPings {
		r.add(i%2 == 0)
	}
	if r.loss() != 0.5 {
		t.Errorf("%v", r.loss())
	}
}

func TestLanes(t *testing.T) {
	for _, c := range []struct {
		path  Path
		limit int
		want  int
	}{
		{Path{}, 16, 4},
		{Path{}, 2, 2},
		{Path{SRTT: 100 * time.Microsecond, Samples: 1}, 16, 1},
		{Path{SRTT: 20 * ms, Samples: 1}, 16, 2},
		{Path{SRTT: 80 * ms, Samples: 1}, 16, 4},
		{Path{SRTT: 80 * ms, Samples: 1, Loss: 0.01}, 16, 8},
		{Path{SRTT: 80 * ms, Samples: 1, Loss: 0.01}, 0, 1},
	} {
		if got := c.path.Lanes(c.limit); got != c.want {
			t.Errorf("%+v, at most %d: %d, want %d", c.path, c.limit, got, c.want)
		}
	}
	if got := (Path{RTO: 100 * ms}).Timeout(time.Minute); got != time.Minute+2*time.Second {
		t.Errorf("timeout %v", got)
	}
}

// TestLossByDirection plays a session in which known pings and replies are lost.
func TestLossByDirection(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	var d direction
	if f, b := d.losses(); f != 0 || b != 0 || d.counted {
		t.Error("loss without a session")
	}
	var wantF, wantB uint64
	seq := uint32(0xffffff00) // across the wrap
	for range 3 {
		d.session(seq)
		replies := uint32(0)
		var held []uint32 // reordered on the way back
		for range 1000 {
			s := seq
			seq++
			if rnd.IntN(10) == 0 {
				wantF++
				continue
			}
			n := replies
			replies++
			if rnd.IntN(20) == 0 {
				wantB++
				continue
			}
			if rnd.IntN(7) == 0 {
				held = append(held, s, n)
				continue
			}
			d.add(s, n)
			if len(held) > 8 {
				d.add(held[0], held[1])
				held = held[2:]
			}
		}
		for ; len(held) > 0; held = held[2:] {
			d.add(held[0], held[1])
		}
		d.add(seq, replies) // the last one arrives
		seq++
	}
	if f, b := d.losses(); f != wantF || b != wantB {
		t.Errorf("forward %d, back %d; want %d, %d", f, b, wantF, wantB)
	}
}

func TestHops(t *testing.T) {
	for ttl, want := range map[uint8]int{255: 0, 254: 1, 200: 55, 128: 127, 127: -1, 64: -1, 0: -1} {
		if got := hops(ttl); got != want {
			t.Errorf("TTL %d: %d hops, want %d", ttl, got, want)
		}
	}
}

// TestTimes computes the round trip and the delays from known stamps.
func TestTimes(t *testing.T) {
	t1 := time.Now()
	g := &ping{at: t1, t1: stamp.TimestampOf(t1)}
	sync, loose := stamp.NewErrorEstimate(true, ms), stamp.NewErrorEstimate(false, ms)
	const offset = 3 * time.Hour // of the reflector's clock
	reply := func(there, stay time.Duration, e stamp.ErrorEstimate) measure {
		t2 := t1.Add(offset + there)
		return measure{reply: stamp.Reflected{
			T2: stamp.TimestampOf(t2), T3: stamp.TimestampOf(t2.Add(stay)), Error: e, SenderError: sync,
		}}
	}
	m := reply(30*ms, 5*ms, sync)
	m.times(g, t1.Add(80*ms))
	if m.rtt != 75*ms || m.residence != 5*ms || m.there != offset+30*ms || m.back != 45*ms-offset || !m.delays {
		t.Errorf("%+v", m)
	}
	m = reply(30*ms, 5*ms, loose)
	if m.times(g, t1.Add(80*ms)); m.delays {
		t.Error("delays from a clock that is not synchronised")
	}
	// Clocks that were set in between, or lie, give no negative times.
	for _, stay := range []time.Duration{-time.Hour, time.Hour} {
		m = reply(30*ms, stay, sync)
		if m.times(g, t1.Add(80*ms)); m.rtt < 0 || m.rtt > 80*ms || m.residence < 0 || m.residence > 80*ms {
			t.Errorf("stay of %v: %+v", stay, m)
		}
	}
}
