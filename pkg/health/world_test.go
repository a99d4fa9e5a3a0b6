package health

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

var errNoHealth = errors.New("deadline exceeded")

// world plays receivers, paths and gRPC for detectors, on a clock of its own.
// It steps from one thing that is due to the next, so nothing depends on the
// speed of the machine.
type world struct {
	t     *testing.T
	now   time.Time
	start time.Time
	peers []*peer
}

type peer struct {
	*Detector
	w    *world
	name string

	rtt         time.Duration
	frozen      bool // answers nothing
	blocked     bool // UDP is lost, gRPC is not
	closed      bool // frozen, and gRPC is refused at once
	lose        func(seq uint32) bool
	incarnation uint64
	progress    time.Duration // distance of acknowledged chunks; 0: none

	seq          uint32
	nextPing     time.Time
	nextProgress time.Time
	events       []due // in the order of time
	log          []string
	deadAt       time.Time
	suspectAt    time.Time
}

type due struct {
	at time.Time
	do func()
}

func newWorld(t *testing.T, peers int, group *Group) *world {
	t.Helper()
	start := time.Unix(1_800_000_000, 0)
	w := &world{t: t, now: start, start: start}
	for i := range peers {
		p := &peer{w: w, name: fmt.Sprintf("r%d", i), rtt: time.Millisecond, incarnation: 1, nextPing: start}
		p.Detector = NewDetector(DetectorConfig{ID: p.name, Group: group}, start)
		w.peers = append(w.peers, p)
	}
	return w
}

func (p *peer) after(d time.Duration, do func()) {
	p.events = append(p.events, due{p.w.now.Add(d), do})
	slices.SortStableFunc(p.events, func(a, b due) int { return a.at.Compare(b.at) })
}

func (p *peer) ping() {
	seq, now := p.seq, p.w.now
	p.seq++
	p.do(p.Sent(now, seq))
	if p.frozen || p.blocked || p.lose != nil && p.lose(seq) {
		return
	}
	status := stamp.Status{Serving: stamp.ServingYes, Incarnation: p.incarnation}
	p.after(p.rtt, func() { p.do(p.Replied(p.w.now, seq, p.rtt, &status)) })
}

func (p *peer) do(actions []Action) {
	for _, a := range actions {
		switch a.Kind {
		case SendProbe:
			p.after(0, p.ping)
		case CheckHealth:
			switch {
			case p.closed:
				p.after(p.rtt, func() { p.do(p.Health(p.w.now, errNoHealth)) })
			case p.frozen:
				p.after(a.Timeout, func() { p.do(p.Health(p.w.now, errNoHealth)) })
			default:
				p.after(p.rtt, func() { p.do(p.Health(p.w.now, nil)) })
			}
		case Declare:
			p.log = append(p.log, a.To.String())
			switch a.To {
			case Dead:
				p.deadAt = p.w.now
			case Suspect:
				p.suspectAt = p.w.now
			}
			if a.To != p.State() || a.Reason == "" {
				p.w.t.Errorf("%s: declared %v while it is %v, because %q", p.name, a.To, p.State(), a.Reason)
			}
		case DeclareRestarted:
			p.log = append(p.log, "restarted")
		}
	}
}

// next returns the first thing that is due, and when.
func (p *peer) next() (time.Time, func()) {
	at, do := p.nextPing, func() {
		p.nextPing = p.w.now.Add(p.Interval())
		p.ping()
	}
	if t := p.Next(); !t.IsZero() && t.Before(at) {
		at, do = t, func() { p.do(p.Tick(p.w.now)) }
	}
	if p.progress > 0 && p.nextProgress.Before(at) {
		at, do = p.nextProgress, func() {
			p.nextProgress = p.w.now.Add(p.progress)
			p.do(p.Progress(p.w.now))
		}
	}
	if len(p.events) > 0 && !p.events[0].at.After(at) {
		e := p.events[0]
		at, do = e.at, func() { p.events = p.events[1:]; e.do() }
	}
	return at, do
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for steps := 0; ; steps++ {
		at, do := end.Add(1), func() {}
		for _, p := range w.peers {
			if a, f := p.next(); a.Before(at) {
				at, do = a, f
			}
		}
		if at.After(end) {
			w.now = end
			return
		}
		if at.After(w.now) {
			w.now = at
		}
		if steps > 1_000_000 {
			w.t.Fatal("the detector spins")
		}
		do()
	}
}

func (p *peer) transfer(every time.Duration) {
	p.progress, p.nextProgress = every, p.w.now
	p.do(p.SetActive(p.w.now, true))
}

func (p *peer) want(states ...string) {
	p.w.t.Helper()
	if !slices.Equal(p.log, states) {
		p.w.t.Errorf("%s went %s, want %s", p.name, strings.Join(p.log, " → "), strings.Join(states, " → "))
	}
	p.log = nil
}
