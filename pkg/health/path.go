package health

import (
	"math"
	"time"
)

const (
	// rtoMin and rtoMax bound the time after which a ping is overdue. The least
	// is far below the 1 s of RFC 6298 section 2.4, because nothing is sent
	// again for it: it only makes us look closer.
	rtoMin = 50 * time.Millisecond
	rtoMax = time.Second
	// recentPings is how many of the latest pings a recent loss is taken of.
	recentPings = 256
)

// Path is what a transfer needs to know about the way to a receiver.
type Path struct {
	SRTT    time.Duration `json:"srtt_ns"`   // smoothed round trip; 0: no reply yet
	RTTVAR  time.Duration `json:"rttvar_ns"` // its mean deviation
	RTO     time.Duration `json:"rto_ns"`    // RFC 6298, within 50 ms and 1 s
	Loss    float64       `json:"loss"`      // share of the last 256 pings that got no reply in time, 0 to 1
	Samples uint64        `json:"samples"`   // round trips measured
}

// Lanes suggests how many lanes to begin with, from 1 to limit: one for each
// 20 ms of round trip, because windows grow a round trip at a time, and twice
// as many with loss of 0.1 % and more, because each loss halves the rate of one
// lane only. Without a measurement it is 4, or limit when that is less. On the
// 80 ms link that this was fitted to, four lanes carried 327 of 400 Mbit/s
// without loss (one: 250, eight: 331).
func (p Path) Lanes(limit int) int {
	n := 4
	if p.Samples > 0 {
		n = 1 + int(math.Round(p.SRTT.Seconds()/0.020))
		n = min(n, 4)
		if p.Loss >= 0.001 {
			n *= 2
		}
	}
	return max(1, min(n, limit))
}

// Timeout returns how long to wait for one answer that takes a round trip and
// the given work: a second and ten RTOs at least, so that three losses in a row
// do not look like an end.
func (p Path) Timeout(work time.Duration) time.Duration {
	return work + time.Second + 10*max(p.RTO, rtoMin)
}

// estimator is SRTT, RTTVAR and RTO as RFC 6298 section 2 has them, with α = 1/8
// and β = 1/4.
type estimator struct {
	srtt, rttvar time.Duration
	samples      uint64
}

func (e *estimator) add(rtt time.Duration) {
	if e.samples++; e.samples == 1 {
		e.srtt, e.rttvar = rtt, rtt/2
		return
	}
	e.rttvar += ((e.srtt - rtt).Abs() - e.rttvar) / 4
	e.srtt += (rtt - e.srtt) / 8
}

// rto is rtoMax until there is a sample, as RFC 6298 rule 2.1 has it.
func (e *estimator) rto() time.Duration {
	if e.samples == 0 {
		return rtoMax
	}
	return min(max(e.srtt+4*e.rttvar, rtoMin), rtoMax)
}

// jitter is the interarrival jitter of RFC 3550 section 6.4.1: a running mean,
// with a gain of 1/16, of how much each transit differs from the one before.
type jitter struct {
	mean  float64 // ns
	last  time.Duration
	begun bool
}

func (j *jitter) add(transit time.Duration) {
	if j.begun {
		j.mean += (math.Abs(float64(transit-j.last)) - j.mean) / 16
	}
	j.begun, j.last = true, transit
}

func (j *jitter) value() time.Duration { return time.Duration(j.mean) }

// recent counts losses among the last pings.
type recent struct {
	lost  [recentPings]bool
	next  int
	count int
	sum   int
}

func (r *recent) add(lost bool) {
	if r.count < recentPings {
		r.count++
	} else if r.lost[r.next] {
		r.sum--
	}
	r.lost[r.next] = lost
	if lost {
		r.sum++
	}
	r.next = (r.next + 1) % recentPings
}

func (r *recent) loss() float64 {
	if r.count == 0 {
		return 0
	}
	return float64(r.sum) / float64(r.count)
}
