package health

import (
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

// hysteresis is how much cheaper another receiver must be before we leave the
// one that we have: 20 %, so that equals do not trade places at each look.
const hysteresis = 0.20

// Candidate is what is known about one receiver of a group.
type Candidate struct {
	ID     string
	State  State
	Path   Path
	Status *stamp.Status // nil: it did not say
}

// ready reports that it says it would take a transfer.
func (c *Candidate) ready() bool {
	return c.State == Alive && c.Status != nil && c.Status.Serving == stamp.ServingYes &&
		c.Status.FreeSlots > 0 && c.Status.Flags&(stamp.Draining|stamp.ReadOnly) == 0
}

// possible reports that it may take one: it does not say, because pings do not
// reach it or it is too new.
func (c *Candidate) possible() bool {
	return c.State == UDPBlocked || c.State != Dead && c.State != Suspect && c.Status == nil
}

// cost is lower for nearer, steadier and less loaded receivers. One whose path
// is not measured yet counts as a second away.
func (c *Candidate) cost() float64 {
	way := c.Path.SRTT + 4*c.Path.RTTVAR
	if c.Path.Samples == 0 {
		way = time.Second
	}
	load := 1.0
	if c.Status != nil {
		load += float64(c.Status.Load) / 100
	}
	return way.Seconds() * load
}

// Choose picks the receiver for the next transfer and returns its place among
// the candidates. Those that serve and have free slots come first; only when
// there are none, those that do not say. Of two taken at random the cheaper one
// wins, so that many senders do not all run to the same (Mitzenmacher, "The
// Power of Two Choices in Randomized Load Balancing", 2001). The current
// receiver, "" for none, stays unless the winner is 20 % cheaper. random returns
// a number in [0, n). ok is false when none can be used.
func Choose(candidates []Candidate, current string, random func(n int) int) (index int, ok bool) {
	pool := filter(candidates, (*Candidate).ready)
	if len(pool) == 0 {
		pool = filter(candidates, (*Candidate).possible)
	}
	if len(pool) == 0 {
		return 0, false
	}
	a := random(len(pool))
	best := pool[a]
	if len(pool) > 1 {
		b := random(len(pool) - 1)
		if b >= a {
			b++
		}
		if candidates[pool[b]].cost() < candidates[best].cost() {
			best = pool[b]
		}
	}
	for _, i := range pool {
		if candidates[i].ID == current && candidates[best].cost() > (1-hysteresis)*candidates[i].cost() {
			return i, true
		}
	}
	return best, true
}

func filter(candidates []Candidate, keep func(*Candidate) bool) []int {
	var out []int
	for i := range candidates {
		if keep(&candidates[i]) {
			out = append(out, i)
		}
	}
	return out
}
