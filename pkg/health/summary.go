package health

import (
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

// Summary is what a [Pinger] has found so far. Durations are in nanoseconds in
// JSON.
type Summary struct {
	Target        string        `json:"target"`
	Authenticated bool          `json:"authenticated"`
	Elapsed       time.Duration `json:"elapsed_ns"` // since the first ping

	Sent        uint64  `json:"sent"`
	Received    uint64  `json:"received"` // pings that got a reply, late ones included
	Pending     uint64  `json:"pending"`  // neither answered nor given up
	Lost        uint64  `json:"lost"`     // given up, and no reply since
	LossPercent float64 `json:"loss_percent"`

	// Directional says that the reflector counts its replies, so that LostForward
	// and LostBack are known. Pings lost after the last reply are in neither.
	Directional bool   `json:"directional"`
	LostForward uint64 `json:"lost_forward"`
	LostBack    uint64 `json:"lost_back"`

	Duplicates uint64 `json:"duplicates"` // further replies to one ping
	Reordered  uint64 `json:"reordered"`  // replies to a ping sent before one that was answered already
	Late       uint64 `json:"late"`       // replies after the ping was given up
	Rejected   uint64 `json:"rejected"`   // datagrams that answered nothing we sent
	Refused    uint64 `json:"refused"`    // "port unreachable" from the far side
	SendFailed uint64 `json:"send_failed"`

	Min  time.Duration `json:"rtt_min_ns"`
	P50  time.Duration `json:"rtt_p50_ns"`
	P90  time.Duration `json:"rtt_p90_ns"`
	P99  time.Duration `json:"rtt_p99_ns"`
	Max  time.Duration `json:"rtt_max_ns"`
	Mean time.Duration `json:"rtt_mean_ns"`

	Jitter        time.Duration `json:"jitter_ns"`         // of the round trip, RFC 3550
	JitterForward time.Duration `json:"jitter_forward_ns"` // of the way there
	JitterBack    time.Duration `json:"jitter_back_ns"`    // of the way back
	SRTT          time.Duration `json:"srtt_ns"`
	RTTVAR        time.Duration `json:"rttvar_ns"`
	RTO           time.Duration `json:"rto_ns"`

	ResidenceMean time.Duration `json:"residence_mean_ns"` // within the reflector
	ResidenceMax  time.Duration `json:"residence_max_ns"`

	// DelayForward and DelayBack are those of the last reply; nil unless both
	// clocks say that they are synchronised.
	DelayForward *time.Duration `json:"delay_forward_ns,omitempty"`
	DelayBack    *time.Duration `json:"delay_back_ns,omitempty"`

	// ClockOffset is how far the reflector's clock is ahead of ours, to within
	// ClockError, by the reply with the shortest round trip. nil without a reply.
	ClockOffset *time.Duration `json:"clock_offset_ns,omitempty"`
	ClockError  time.Duration  `json:"clock_error_ns"`

	HopsForward int `json:"hops_forward"` // -1: unknown
	HopsBack    int `json:"hops_back"`    // -1: unknown

	// Status is what the receiver said last; nil when it never did.
	Status *stamp.Status `json:"status,omitempty"`
	// Restarts counts changes of the receiver's incarnation.
	Restarts uint64 `json:"restarts"`
}

// Alive reports that at least one reply came.
func (s *Summary) Alive() bool { return s.Received > 0 }

// Serving reports that a reply came and that the last status says SERVING.
func (s *Summary) Serving() bool {
	return s.Alive() && s.Status != nil && s.Status.Serving == stamp.ServingYes
}

// Summary returns what was found so far. It may be called while Run runs.
func (p *Pinger) Summary() Summary {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tally.summary(p.cfg.Addr)
}

// Path returns the round trip and the recent loss. It may be called while Run
// runs.
func (p *Pinger) Path() Path {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &p.tally
	return Path{SRTT: t.rtt.srtt, RTTVAR: t.rtt.rttvar, RTO: t.rtt.rto(), Loss: t.recent.loss(), Samples: t.rtt.samples}
}
