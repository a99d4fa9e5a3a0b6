package health

import (
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

// receive takes one datagram, or an error of the socket.
func (r *run) receive(a *arrived) {
	e := Event{At: a.at, Size: a.n}
	if a.err != nil {
		e.Kind, e.Err = PingFailed, a.err
		if isRefused(a.err) {
			e.Kind, e.Err = PingRefused, nil
			r.tally(func(t *tally) { t.sum.Refused++ })
		}
		r.emit(e)
		return
	}
	m, ok := r.parse(a.buf[:a.n])
	g := r.find(m.reply)
	if !ok || g == nil {
		e.Kind = PingRejected
		r.tally(func(t *tally) { t.sum.Rejected++ })
		r.emit(e)
		return
	}
	e.Seq = g.seq
	if g.state == answered {
		e.Kind = PingRepeated
		r.tally(func(t *tally) { t.sum.Duplicates++ })
		r.emit(e)
		return
	}
	m.ttl = a.ttl
	m.times(g, a.at)
	e.Kind, e.Late = PingReplied, g.state == givenUp
	g.state = answered
	r.lastReply = a.at
	r.tally(func(t *tally) {
		t.now = a.at
		if e.Late {
			t.sum.Lost--
			t.sum.Pending++ // add takes it off again
		}
		e.Reordered = t.add(&m, e.Late)
	})
	e.RTT, e.Residence = m.rtt, m.residence
	e.HopsForward, e.HopsBack = hops(m.reply.SenderTTL), hops(m.ttl)
	if m.hasStatus {
		e.Status = &m.status
	}
	r.emit(e)
}

// parse reads a reply. ok is false when it is not one of this session.
func (r *run) parse(b []byte) (m measure, ok bool) {
	if r.mac == nil {
		reply, err := stamp.ParseReflected(b)
		// An RFC 8762 reflector knows no SSID and leaves zero.
		if err != nil || reply.SSID != 0 && reply.SSID != r.ssid {
			return m, false
		}
		m.reply = reply
		if len(b) > stamp.BaseLen {
			m.status, m.hasStatus = stamp.FindStatus(b[stamp.BaseLen:])
		}
		return m, true
	}
	if !r.mac.Verify(b) { // too short included
		return m, false
	}
	m.reply, _ = stamp.ParseReflectedAuth(b)
	if m.reply.SSID != r.ssid {
		return m, false
	}
	if stamp.VerifyTLVs(b, r.mac) {
		m.status, m.hasStatus = stamp.FindStatus(b[stamp.AuthLen:])
	}
	return m, true
}

// find returns the ping that the reply answers: one whose sequence and whose
// timestamp come back exactly.
func (r *run) find(reply stamp.Reflected) *ping {
	if len(r.pings) == 0 {
		return nil
	}
	i := reply.SenderSeq - r.pings[0].seq
	if uint64(i) >= uint64(len(r.pings)) || r.pings[i].t1 != reply.T1 {
		return nil
	}
	return &r.pings[i]
}

// times computes the durations of a reply that arrived at t4. The round trip is
// (T4-T1)-(T3-T2), of which T4-T1 is taken from the monotonic clock, so that
// setting the clock does not show.
func (m *measure) times(g *ping, t4 time.Time) {
	p := &m.reply
	whole := max(0, t4.Sub(g.at))
	m.residence = min(max(0, p.Error.Sub(p.T3, p.T2)), whole)
	m.rtt = whole - m.residence
	t2, t3 := p.Error.Instant(p.T2, t4), p.Error.Instant(p.T3, t4)
	m.there, m.back = t2.Sub(g.at.Round(0)), t4.Round(0).Sub(t3)
	m.delays = p.Error.Synchronized() && p.SenderError.Synchronized() && !p.Error.PTP()
}
