package send

import (
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// measured is how long a lane must have been open before its rate means anything:
// a new one is in slow start, and rates are smoothed over 0.8 s.
const measured = 3 * time.Second

// watch is what the monitor remembers of a lane between two looks. Octets are those
// that the receiver's kernel has: acknowledgements of chunks come too seldom to
// tell a slow lane from a dead one, one in four seconds for 1 MiB at 256 KiB/s.
type watch struct {
	octets int64
	moved  time.Time // when octets changed last
	rate   float64   // octets a second, while they moved
}

// look notes how far the lane is; known is false where the kernel does not say.
func (w *watch) look(l *lane, now time.Time) (known bool) {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return false
	}
	octets, known := delivered(conn)
	if known && octets != w.octets {
		if octets > w.octets { // else it is another connection
			w.rate += (float64(octets-w.octets)/progressEvery.Seconds() - w.rate) / 8
		}
		w.octets, w.moved = octets, now
	}
	return known
}

// replaceSlow cuts the lane that holds up the end: nothing waits in the queue,
// another lane is idle, and this one is silent for longer than patience, or needs
// more than four times what the fastest would for what it has in flight. Where
// nothing is known of a lane but its acknowledgements, it has half a minute.
func (s *session) replaceSlow(seen map[*lane]*watch, patience time.Duration) bool {
	waiting, _, pending, idle, _, _ := s.q.look()
	s.mu.Lock()
	lanes := append([]*lane(nil), s.lanes...)
	s.mu.Unlock()
	now, best := time.Now(), 0.0
	known := make(map[*lane]bool, len(lanes))
	for _, l := range lanes {
		w := seen[l]
		if w == nil {
			w = &watch{}
			seen[l] = w
		}
		known[l] = w.look(l, now)
		best = max(best, w.rate)
	}
	stalled := 30 * time.Second
	if t := s.t.patience() / 2; t < stalled {
		stalled = t
	}
	for _, l := range lanes {
		w := seen[l]
		l.mu.Lock()
		flying, up := l.inFlight, l.conn != nil && l.dead == nil
		heard := l.lastAck
		young := now.Sub(l.opened) < measured
		l.mu.Unlock()
		if !up || flying == 0 {
			continue
		}
		if w.moved.After(heard) {
			heard = w.moved
		}
		silent := now.Sub(heard)
		slow := silent > patience
		if !slow && !young && w.rate > 0 && best > 4*w.rate {
			slow = float64(flying)/w.rate > patience.Seconds()+4*float64(flying)/best
		}
		others := idle
		if l.resting.Load() {
			others--
		}
		if silent > stalled || (known[l] && !waiting && pending > 0 && others > 0 && slow) {
			l.mu.Lock()
			l.replaced = silent <= stalled
			l.mu.Unlock()
			l.kill(transfer.Errorf(transfer.Unavailable, "send over data lane", "", "the lane made no progress for %s", silent.Round(time.Millisecond)))
			return true
		}
	}
	return false
}
