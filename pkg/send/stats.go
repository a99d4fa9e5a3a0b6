package send

import (
	"sync/atomic"
	"time"
)

// Stats is what a transfer cost.
type Stats struct {
	Sent     int64 // octets of content written to lanes
	Resent   int64 // of these, sent more than once
	Hashed   int64 // octets read only to be hashed, because the receiver held them
	Lanes    int   // most lanes at once
	Sessions int   // 1 unless the receiver had to be asked again
	Repaired int64 // chunks sent again after verification
	Elapsed  time.Duration

	// Where lanes spent their time, added up over lanes.
	Reading time.Duration // waiting for the source
	Hashing time.Duration
	Writing time.Duration // waiting for the connection to take octets
	Acks    time.Duration // waiting for acknowledgements with a full window
	Idle    time.Duration // waiting for the scan and the receiver's answers

	// ReceiverSlow is the share (0 to 1) of the lanes' busy time in which the
	// receiver's window was closed (tcpi_rwnd_limited, tcp(7)); -1: not known.
	ReceiverSlow float64
	// BoundBy says in words what the time went to: "source disk", "hashing",
	// "network", "destination", "rate limit", "scan and offer", or "" when too
	// little was sent to tell.
	BoundBy string
}

// counters are the running sums behind Stats, in octets and nanoseconds.
type counters struct {
	sent, acked, hashed, repaired         atomic.Int64
	reading, hashing, writing, acks, idle atomic.Int64
	busyMicros, rwndMicros                atomic.Int64
	known                                 atomic.Bool
	lanes, mostLanes                      atomic.Int64
}

func (c *counters) laneUp() {
	n := c.lanes.Add(1)
	for m := c.mostLanes.Load(); n > m && !c.mostLanes.CompareAndSwap(m, n); m = c.mostLanes.Load() {
	}
}

func (c *counters) result(elapsed time.Duration, sessions int, limit int64) Stats {
	s := Stats{
		Sent: c.sent.Load(), Hashed: c.hashed.Load(), Lanes: int(c.mostLanes.Load()), Sessions: sessions,
		Repaired: c.repaired.Load(), Elapsed: elapsed,
		Reading: time.Duration(c.reading.Load()), Hashing: time.Duration(c.hashing.Load()),
		Writing: time.Duration(c.writing.Load()), Acks: time.Duration(c.acks.Load()), Idle: time.Duration(c.idle.Load()),
		ReceiverSlow: -1,
	}
	s.Resent = max(0, s.Sent-c.acked.Load())
	if busy := c.busyMicros.Load(); c.known.Load() && busy > 0 {
		s.ReceiverSlow = min(1, float64(c.rwndMicros.Load())/float64(busy))
	}
	s.BoundBy = s.boundBy(limit)
	return s
}

func (s *Stats) boundBy(limit int64) string {
	out := s.Writing + s.Acks
	switch most := max(s.Reading, s.Hashing, out, s.Idle); {
	case s.Sent == 0 || most == 0:
		return ""
	case most == s.Reading:
		return "source disk"
	case most == s.Hashing:
		return "hashing"
	case most == s.Idle:
		return "scan and offer"
	case limit > 0 && s.Elapsed > 0 && float64(s.Sent)/s.Elapsed.Seconds() > 0.8*float64(limit):
		return "rate limit"
	case s.ReceiverSlow > 0.5 || s.Acks > s.Writing:
		return "destination"
	default:
		return "network"
	}
}
