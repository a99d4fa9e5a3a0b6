package send

import (
	"errors"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

const (
	adaptMost  = 8 // lanes at most when their number is chosen
	maxStrikes = 4 // failures of lanes without an acknowledgement before the receiver is asked again
)

// slot keeps one lane open while there is work for it.
func (s *session) slot(num int) {
	var l *lane // most slots of a small transfer never need one
	failures, careful := 0, false
	for s.q.worth(num) {
		if l == nil {
			l = newLane(s, num)
		}
		addr := s.addrs[(num+failures)%len(s.addrs)]
		s.opened(l)
		err := l.run(s.ctx, addr, careful)
		s.closed(l)
		s.q.laneDown()
		if err == nil || s.ctx.Err() != nil {
			s.t.obs.lane(LaneState{Lane: num, Addr: addr, Event: "closed"})
			if s.ctx.Err() != nil {
				return
			}
			failures, careful = 0, false
			continue // a repair may want it again
		}
		if l.total > 0 {
			failures = 0
		}
		if end := (laneEnd{}); errors.As(err, &end) && end.kind == transfer.OK {
			// The transfer is committed: nothing more is to be sent.
			s.t.obs.lane(LaneState{Lane: num, Addr: addr, Event: "closed"})
			return
		}
		failures++
		careful = !l.greeted
		event := "failed"
		if l.replaced {
			event = "replaced"
		}
		s.t.obs.lane(LaneState{Lane: num, Addr: addr, Event: event, Err: err})
		if !l.replaced && s.laneFailed(l, addr, err, failures > 1 || !l.greeted) {
			return
		}
		if s.t.cfg.Clock.Sleep(s.ctx, backoff(minLaneBackoff, maxLaneBackoff, failures, s.t.cfg.Rand)) != nil {
			return
		}
	}
}

func (s *session) opened(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes = append(s.lanes, l)
}

func (s *session) closed(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range s.lanes {
		if x == l {
			s.lanes = append(s.lanes[:i], s.lanes[i+1:]...)
			return
		}
	}
}

// greeted is called with the lane's lock held, when its hello was accepted.
func (s *session) greeted(l *lane) {
	l.s.t.log.DebugContext(s.ctx, "lane open", "lane", l.num, "addr", l.addr, "rtt", l.rtt)
}

// maxInvalid is how many lanes of a session the receiver may end because it did
// not understand what arrived: headers carry no checksum of their own.
const maxInvalid = 3

// laneFailed judges why a lane broke; true when the session ends. Strike says
// that the failure counts: a lane that was open may break once for nothing.
func (s *session) laneFailed(l *lane, addr string, err error, strike bool) bool {
	s.t.log.InfoContext(s.ctx, "lane failed", "lane", l.num, "addr", addr, "error", err)
	var se sourceError
	if errors.As(err, &se) {
		s.sourceFailed(se)
		return true
	}
	var end laneEnd
	if errors.As(err, &end) {
		switch end.kind {
		case transfer.Invalid:
			// A bit that flipped in a header looks like this, too; ours do not come
			// again and again.
			if s.invalid.Add(1) > maxInvalid {
				s.fail(endError(end.kind, addr))
				return true
			}
			return false
		case transfer.Fenced, transfer.NoSpace, transfer.Internal, transfer.Corrupt, transfer.Exists, transfer.Canceled:
			s.fail(endError(end.kind, addr))
			return true
		case transfer.Busy:
			if _, _, _, _, live, wanted := s.q.look(); live > 0 {
				s.q.want(max(1, min(wanted, live)))
			}
		case transfer.Denied, transfer.NotFound, transfer.Unavailable:
			s.strikes.Add(1) // an old token or a new run of the receiver: ask again soon
		}
	}
	if transfer.KindOf(err) == transfer.Invalid {
		s.fail(err)
		return true
	}
	_, _, _, _, live, _ := s.q.look()
	if strike && s.strikes.Add(1) >= maxStrikes && live == 0 {
		s.fail(&transfer.Error{
			Kind: transfer.Unavailable, Op: "open data lane to " + transfer.Quote(addr), Msg: "no lane works", Err: err,
			Hint: "check that the receiver runs and that its data port can be reached from here (--data-advertise, firewall)",
		})
		return true
	}
	return false
}

// sourceFailed ends the session for a file that cannot be sent. With KeepGoing
// another one begins without it, since a frame was cut short.
func (s *session) sourceFailed(se sourceError) {
	if src := s.t.cfg.Source; src.KeepGoing() && src.Stream() == nil {
		s.leaveOut(se.file, se.error)
		s.fail(errAgain)
		return
	}
	s.fail(se)
}

func endError(k transfer.Kind, addr string) error {
	e := &transfer.Error{Kind: k, Op: "send over data lane to " + transfer.Quote(addr), Msg: "the receiver ended the lane: " + k.String(), Remote: true}
	switch k {
	case transfer.NoSpace:
		e.Msg = "the receiver ran out of space"
		e.Hint = "free space at the receiver and run the same command again: what it holds is not sent twice"
	case transfer.Fenced:
		e.Msg = "another run of the sender took this transfer over"
	case transfer.Invalid:
		e.Msg = "the receiver did not accept what was sent"
	case transfer.Canceled:
		e.Msg = "the transfer was aborted at the receiver"
	}
	return e
}

// monitor reports progress, adds lanes while that helps and replaces the lane
// that would hold the end.
func (s *session) monitor(stop <-chan struct{}) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	seen := make(map[*lane]*watch)
	patience := time.Second
	ad := adapter{fixed: s.t.cfg.Lanes > 0}
	lastLanding := int64(-1)
	for {
		select {
		case <-stop:
			s.t.obs.progress(s.progress())
			return
		case <-tick.C:
		}
		s.t.obs.progress(s.progress())
		landed := s.landing.chunks.Load()
		if landed != lastLanding {
			s.strikes.Store(0)
			s.refusal.Store(0)
			lastLanding = landed
		}
		ad.look(s)
		if s.replaceSlow(seen, patience) {
			patience = min(2*patience, 30*time.Second)
		}
	}
}

// adapter adds lanes one by one while the transfer gets faster by it.
type adapter struct {
	fixed, settled bool
	since          time.Time
	landed         int64
	rate           float64
}

// adaptFrom is the round trip from which more lanes than cores may help: below
// it, the connection is no limit.
const adaptFrom = 2 * time.Millisecond

func (a *adapter) look(s *session) {
	if a.fixed || a.settled {
		return
	}
	now, landed := time.Now(), s.landing.octets.Load()
	_, octets, _, _, live, wanted := s.q.look()
	if octets < 2*spanBytes || live < wanted || landed == 0 {
		a.since, a.landed = now, landed
		return
	}
	if a.since.IsZero() {
		a.since, a.landed = now, landed
		return
	}
	if now.Sub(a.since) < time.Second {
		return
	}
	if s.shortestRTT() < adaptFrom {
		a.settled = true
		return
	}
	rate := float64(landed-a.landed) / now.Sub(a.since).Seconds()
	if rate < 1.1*a.rate || wanted >= s.most {
		a.settled = true
		return
	}
	a.rate, a.since, a.landed = rate, now, landed
	if float64(octets) > 2*rate { // a lane that opens at the end only gets in the way
		s.q.want(wanted + 1)
	}
}

// farFrom is the time of a dial from which the path is taken for a long one. A
// busy machine alone may need a few milliseconds on loopback.
const farFrom = 5 * time.Millisecond

// dialled asks for four lanes at once when a dial (one round trip, more with TLS)
// shows a long path that no hint told of: adding them one by one would take
// longer than a small transfer.
func (s *session) dialled(d time.Duration) {
	if s.t.cfg.Lanes > 0 || d < farFrom {
		return
	}
	if _, _, _, _, _, wanted := s.q.look(); wanted < min(4, s.most) {
		s.q.want(min(4, s.most))
	}
}

func (s *session) shortestRTT() time.Duration {
	s.mu.Lock()
	lanes := append([]*lane(nil), s.lanes...)
	s.mu.Unlock()
	best := time.Duration(0)
	for _, l := range lanes {
		l.mu.Lock()
		if l.greeted && (best == 0 || l.rtt < best) {
			best = l.rtt
		}
		l.mu.Unlock()
	}
	return best
}

func (s *session) progress() Progress {
	c, scanned := s.t.cfg.Source.Counts()
	_, _, _, _, live, _ := s.q.look()
	return Progress{
		Acked: s.landing.octets.Load(), Held: s.held.Load(), Skipped: s.skipped.Load(),
		Total: c.Bytes, Files: s.landing.files.Load(), Entries: c.Files + c.Dirs + c.Links, Scanned: scanned,
		Lanes: live, Session: s.t.sessions,
	}
}
