package health

import (
	"math"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

// tally is the statistics of one pinger.
type tally struct {
	sum       Summary // its counters; the rest is filled in by summary
	first     time.Time
	now       time.Time // of the last thing that happened
	rtts      histogram
	rtt       estimator
	jitter    jitter // of round trips
	forward   jitter
	back      jitter
	residence time.Duration // sum
	recent    recent
	answered  bool
	highest   uint32 // sequence answered
	way       direction
}

// measure is what one valid reply says.
type measure struct {
	reply     stamp.Reflected
	rtt       time.Duration
	residence time.Duration
	there     time.Duration // T2-T1, with the offset of the clocks in it
	back      time.Duration // T4-T3, the same
	delays    bool          // there and back are delays: both clocks are synchronised
	ttl       uint8
	status    stamp.Status
	hasStatus bool
}

// add counts a valid reply to a ping that had none.
func (t *tally) add(m *measure, late bool) (reordered bool) {
	t.sum.Received++
	t.sum.Pending--
	if late {
		t.sum.Late++
	}
	seq := m.reply.SenderSeq
	reordered = t.answered && int32(seq-t.highest) < 0
	if reordered {
		t.sum.Reordered++
	} else {
		t.highest = seq
	}
	t.answered = true
	t.way.add(seq, m.reply.Seq)
	if !late {
		t.recent.add(false)
	}
	t.rtts.add(m.rtt)
	t.rtt.add(m.rtt)
	t.jitter.add(m.rtt)
	t.forward.add(m.there)
	t.back.add(m.back)
	t.residence += m.residence
	t.sum.ResidenceMax = max(t.sum.ResidenceMax, m.residence)
	t.sum.DelayForward, t.sum.DelayBack = nil, nil
	if m.delays {
		there, back := m.there, m.back
		t.sum.DelayForward, t.sum.DelayBack = &there, &back
	}
	if t.sum.ClockOffset == nil || m.rtt/2 < t.sum.ClockError {
		// RFC 5905 section 8: half of the difference, wrong by half a round trip at most.
		offset := (m.there - m.back) / 2
		t.sum.ClockOffset, t.sum.ClockError = &offset, m.rtt/2
	}
	t.sum.HopsForward, t.sum.HopsBack = hops(m.reply.SenderTTL), hops(m.ttl)
	if m.hasStatus {
		if t.sum.Status != nil && t.sum.Status.Incarnation != m.status.Incarnation {
			t.sum.Restarts++
		}
		status := m.status
		t.sum.Status = &status
	}
	return reordered
}

// hops counts routers from a TTL that began at 255. 255 itself may mean that it
// is unknown, and then also stands for no hop.
func hops(ttl uint8) int {
	if ttl < 128 { // sent with a smaller TTL than STAMP asks for
		return -1
	}
	return 255 - int(ttl)
}

func (t *tally) summary(target string) Summary {
	s := t.sum
	s.Target = target
	if !t.first.IsZero() {
		s.Elapsed = t.now.Sub(t.first)
	}
	if done := s.Received + s.Lost; done > 0 {
		s.LossPercent = math.Round(float64(s.Lost)/float64(done)*1e6) / 1e4
	}
	s.Min, s.Max, s.Mean = t.rtts.min, t.rtts.max, t.rtts.mean()
	s.P50, s.P90, s.P99 = t.rtts.quantile(0.50), t.rtts.quantile(0.90), t.rtts.quantile(0.99)
	s.Jitter, s.JitterForward, s.JitterBack = t.jitter.value(), t.forward.value(), t.back.value()
	s.SRTT, s.RTTVAR, s.RTO = t.rtt.srtt, t.rtt.rttvar, t.rtt.rto()
	if t.rtt.samples > 0 {
		s.ResidenceMean = t.residence / time.Duration(t.rtt.samples)
	}
	if !t.answered {
		s.HopsForward, s.HopsBack = -1, -1
	}
	s.LostForward, s.LostBack = t.way.losses()
	if t.way.counted {
		s.Directional = true
		// Pings still on their way are not lost yet.
		s.LostBack = min(s.LostBack, s.Lost)
		s.LostForward = min(s.LostForward, s.Lost-s.LostBack)
	}
	if s.Status != nil {
		status := *s.Status
		s.Status = &status
	}
	return s
}

// direction tells losses apart. In one session the reflector numbers its
// replies from 0: what it has not numbered was lost on the way there, what it
// numbered and did not arrive was lost on the way back.
type direction struct {
	counted  bool   // there is a session
	begun    bool   // a reply came in it
	first    uint32 // sequence of the first ping of the session
	sent     uint32 // highest sequence answered
	replied  uint32 // highest number of a reply
	received uint64

	forward, backward uint64 // of the sessions before
}

// session begins a session whose first ping has the sequence first.
func (d *direction) session(first uint32) {
	d.forward, d.backward = d.losses()
	d.counted, d.begun, d.first, d.received = true, false, first, 0
}

func (d *direction) add(seq, reply uint32) {
	if int32(seq-d.first) < 0 {
		return
	}
	if !d.begun || int32(seq-d.sent) > 0 {
		d.sent = seq
	}
	if !d.begun || int32(reply-d.replied) > 0 {
		d.replied = reply
	}
	d.begun = true
	d.received++
}

func (d *direction) losses() (forward, backward uint64) {
	if !d.counted || !d.begun {
		return d.forward, d.backward
	}
	sent, replied := int64(d.sent-d.first)+1, int64(d.replied)+1
	return d.forward + uint64(max(0, sent-replied)), d.backward + uint64(max(0, replied-int64(d.received)))
}
