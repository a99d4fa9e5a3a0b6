package health

import (
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

const (
	// activeInterval and idleInterval are the distances of pings during a
	// transfer (or a round trip, if that is longer) and otherwise.
	activeInterval = 100 * time.Millisecond
	idleInterval   = time.Second
	// probes is how many fresh pings are sent before a silence is believed.
	probes = 3
	// leastSilence is the shortest silence that counts.
	leastSilence = 300 * time.Millisecond
	// selfFactor stretches the silence while we suspect ourselves.
	selfFactor = 3
	// activeCheck and idleCheck are how long one health check may take: at least
	// during a transfer (or four RTOs), and otherwise, which is also the most.
	activeCheck = 500 * time.Millisecond
	idleCheck   = 2 * time.Second
	// blockedRecheck is how often gRPC is asked while only UDP is lost and no
	// data moves; deadRecheck the same for a receiver that was declared dead.
	blockedRecheck = time.Second
	deadRecheck    = 2 * time.Second
	// leastLag is by how much a deadline must be missed before we blame
	// ourselves for the silence.
	leastLag = 250 * time.Millisecond
)

// State is what we believe about a receiver.
type State uint8

// The states, with where they come from and lead to.
const (
	// Unknown: nothing was heard yet. Leads to Alive and Suspect.
	Unknown State = iota
	// Alive: it answers. From any; leads to Suspect.
	Alive
	// Suspect: an answer is overdue and we look closer. From Unknown and Alive;
	// leads to Alive, UDPBlocked and Dead.
	Suspect
	// Dead: it answers neither pings nor gRPC, and no data moves. From Suspect
	// and UDPBlocked; leads to Alive and UDPBlocked.
	Dead
	// UDPBlocked: pings are lost, but data moves or gRPC answers. A transfer goes
	// on. From Suspect and Dead; leads to Alive and Dead.
	UDPBlocked
)

// String returns a word for the state.
func (s State) String() string {
	names := [...]string{"unknown", "alive", "suspect", "dead", "udp-blocked"}
	if int(s) < len(names) {
		return names[s]
	}
	return "invalid"
}

// MarshalText writes the word.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ActionKind says what a [Detector] wants done.
type ActionKind uint8

// What a detector wants.
const (
	// SendProbe: send a ping now and report it by Sent.
	SendProbe ActionKind = iota + 1
	// CheckHealth: ask gRPC health, within Timeout, and report the result by
	// Health. One at a time is asked for.
	CheckHealth
	// Declare: the state changed From, To; Reason says why.
	Declare
	// DeclareRestarted: the receiver is another process than before; what it had
	// in memory is gone. The state is Alive.
	DeclareRestarted
)

// Action is one of them.
type Action struct {
	Kind     ActionKind
	Timeout  time.Duration
	From, To State
	Reason   string
	Silence  time.Duration // since the receiver was heard last
}

// DetectorConfig sets up a [Detector].
type DetectorConfig struct {
	// ID names the receiver in Group.
	ID string
	// Group is the receivers that are watched together; nil: none.
	Group *Group
}

// Detector decides whether a receiver is alive. It is a state machine without
// clock, socket or goroutine: every input carries the time, and returns what is
// to be done. Times must not go backwards. It serves one goroutine at a time.
type Detector struct {
	cfg         DetectorConfig
	state       State
	active      bool
	rtt         estimator
	incarnation uint64
	known       bool // incarnation is

	heard    time.Time // last reply, or when we began to listen
	progress time.Time // last acknowledged chunk
	sent     []unanswered

	probes  int       // sent in this suspicion
	overdue time.Time // when the last of them is

	asking  bool          // a health check runs
	asked   time.Time     // when it, or the last one, began
	allowed time.Duration // its timeout
	void    bool          // we got no processor while it ran: its failure means nothing
	checked bool          // the last one ended, in this state
	healthy bool          // and how

	out []Action
}

type unanswered struct {
	seq uint32
	at  time.Time
}

// NewDetector returns a detector that begins to listen now.
func NewDetector(cfg DetectorConfig, now time.Time) *Detector {
	d := &Detector{cfg: cfg, heard: now}
	cfg.Group.set(cfg.ID, Unknown)
	return d
}

// State returns what is believed.
func (d *Detector) State() State { return d.state }

// Interval returns the distance that pings should have now.
func (d *Detector) Interval() time.Duration {
	if d.active {
		return min(max(activeInterval, d.rtt.srtt), idleInterval)
	}
	return idleInterval
}

// Silence returns how long nothing must be heard before a receiver may be dead:
// 300 ms, three intervals, or an interval and four RTOs, whichever is longest,
// and three times as long while we suspect ourselves.
func (d *Detector) Silence() time.Duration {
	i := d.Interval()
	s := max(leastSilence, 3*i, i+4*d.rtt.rto())
	if d.cfg.Group.SelfSuspect() {
		s *= selfFactor
	}
	return s
}

// SetActive says whether a transfer runs. The silence so far counts for nothing
// when it begins: pings were rare.
func (d *Detector) SetActive(now time.Time, active bool) []Action {
	d.begin(now)
	if active && !d.active && d.state <= Alive {
		d.heard = now
	}
	d.active = active
	return d.decide(now)
}

// Sent says that a ping left.
func (d *Detector) Sent(now time.Time, seq uint32) []Action {
	d.begin(now)
	d.sent = append(d.sent, unanswered{seq, now})
	return d.decide(now)
}

// Replied says that a ping was answered; status is nil when there was none.
func (d *Detector) Replied(now time.Time, seq uint32, rtt time.Duration, status *stamp.Status) []Action {
	d.out = nil
	d.rtt.add(rtt)
	d.heard = now
	keep := d.sent[:0]
	for _, s := range d.sent {
		if int32(s.seq-seq) > 0 {
			keep = append(keep, s)
		}
	}
	d.sent = keep
	if d.state != Alive {
		d.become(now, Alive, "it answers pings")
	}
	if status != nil {
		if d.known && d.incarnation != status.Incarnation {
			d.out = append(d.out, Action{Kind: DeclareRestarted, From: Alive, To: Alive, Reason: "it was started again"})
		}
		d.known, d.incarnation = true, status.Incarnation
	}
	return d.decide(now)
}

// Refused says that the far side's kernel reported that nothing listens on the
// ping's port, or that no ping could be sent at all. It makes us look closer at
// once, and no more: such reports can be forged.
func (d *Detector) Refused(now time.Time) []Action {
	d.begin(now)
	if d.state <= Alive {
		d.suspect(now, "its port is closed")
	}
	if d.state == Suspect {
		d.probes, d.overdue = probes, now
		d.ask(now)
	}
	return d.decide(now)
}

// Progress says that the receiver acknowledged a chunk.
func (d *Detector) Progress(now time.Time) []Action {
	d.begin(now)
	d.progress = now
	if d.state == Suspect && now.Sub(d.heard) >= d.Silence() || d.state == Dead {
		d.become(now, UDPBlocked, "pings are lost, but data moves")
	}
	return d.decide(now)
}

// Health says how the health check ended that was asked for; nil means that the
// receiver answered, whatever it answered.
func (d *Detector) Health(now time.Time, err error) []Action {
	d.begin(now)
	d.asking, d.checked, d.healthy = false, err == nil || !d.void, err == nil
	if late := now.Sub(d.asked) - d.allowed; err != nil && d.starved(late) {
		d.listenAgain(now)
	}
	return d.decide(now)
}

// Tick says that the time of Next has come.
func (d *Detector) Tick(now time.Time) []Action {
	d.begin(now)
	return d.decide(now)
}

// begin starts an input.
func (d *Detector) begin(now time.Time) {
	d.out = nil
	if due := d.Next(); !due.IsZero() && d.starved(now.Sub(due)) {
		d.listenAgain(now)
	}
}

// starved reports that something came so late that we were stopped or got no
// processor, and that what looks like the receiver's silence is our own.
func (d *Detector) starved(late time.Duration) bool { return late >= max(leastLag, d.Silence()/2) }

// listenAgain begins the silence anew, and forgets the pings whose answers we
// could not hear and the health check, ended or not, that we could not wait for.
func (d *Detector) listenAgain(now time.Time) {
	d.heard, d.sent = now, d.sent[:0]
	if d.state == Suspect {
		d.probes, d.overdue = 0, now
	}
	if !d.healthy {
		d.checked = false
	}
	d.void = d.asking
}

// Next returns when Tick is to be called unless another input comes first; zero
// means not at all. It is in the past when a decision is due.
func (d *Detector) Next() time.Time {
	switch d.state {
	case Unknown, Alive:
		if len(d.sent) > 0 {
			return d.sent[0].at.Add(d.rtt.rto())
		}
	case Suspect:
		if d.probes < probes || d.overdue.After(d.heard.Add(d.Silence())) {
			return d.overdue
		}
		if d.asking {
			return time.Time{} // Health comes
		}
		return latest(d.heard, d.progress).Add(d.Silence())
	case UDPBlocked:
		if !d.asking {
			return latest(d.asked, d.progress).Add(max(blockedRecheck, d.Silence()))
		}
	case Dead:
		if !d.asking {
			return d.asked.Add(deadRecheck)
		}
	}
	return time.Time{}
}

// decide moves on as far as the time allows and returns what is to be done.
func (d *Detector) decide(now time.Time) []Action {
	switch d.state {
	case Unknown, Alive:
		if len(d.sent) > 0 && !now.Before(d.sent[0].at.Add(d.rtt.rto())) {
			d.suspect(now, "an answer is overdue")
		}
	case Suspect:
		d.look(now)
	case UDPBlocked, Dead:
		d.recheck(now)
	}
	if len(d.sent) > 2*probes { // only the oldest and the latest matter
		d.sent = append(d.sent[:1], d.sent[len(d.sent)-probes:]...)
	}
	return d.out
}

func (d *Detector) suspect(now time.Time, why string) {
	d.become(now, Suspect, why)
	d.probes, d.overdue, d.checked = 0, now, false
	d.look(now)
}

// look sends the probes of a suspicion, asks gRPC, and judges. Previous: Alive,
// Unknown. Next: Alive (by Replied), UDPBlocked, Dead.
func (d *Detector) look(now time.Time) {
	if now.Before(d.overdue) {
		return
	}
	if d.probes < probes {
		d.probes++
		d.overdue = now.Add(d.rtt.rto())
		d.out = append(d.out, Action{Kind: SendProbe})
		if d.probes > 1 { // one lost probe is worth a question
			d.ask(now)
		}
		return
	}
	silence := d.Silence()
	switch {
	case now.Sub(d.heard) < silence:
	case d.checked && d.healthy:
		d.become(now, UDPBlocked, "pings are lost, but gRPC answers")
	case !d.checked || now.Sub(d.asked) > 2*silence+idleCheck:
		d.checked = false
		d.ask(now)
	case now.Sub(d.progress) >= silence:
		d.become(now, Dead, "it answers neither pings nor gRPC, and no data moves")
	}
}

// recheck asks gRPC now and then where pings cannot tell. Previous: Suspect,
// and each other. Next: Alive (by Replied), and each other.
func (d *Detector) recheck(now time.Time) {
	switch {
	case d.state == UDPBlocked && d.checked && !d.healthy && now.Sub(d.progress) >= d.Silence():
		d.become(now, Dead, "gRPC answers no more, and no data moves")
	case d.state == Dead && d.checked && d.healthy:
		d.become(now, UDPBlocked, "pings are lost, but gRPC answers")
	default:
		if due := d.Next(); !due.IsZero() && !now.Before(due) {
			d.checked = false
			d.ask(now)
		}
	}
}

func (d *Detector) ask(now time.Time) {
	if d.asking || d.checked {
		return
	}
	d.asking, d.void, d.asked, d.allowed = true, false, now, idleCheck
	if d.active {
		d.allowed = min(max(activeCheck, 4*d.rtt.rto()), idleCheck)
	}
	d.out = append(d.out, Action{Kind: CheckHealth, Timeout: d.allowed})
}

func (d *Detector) become(now time.Time, to State, why string) {
	d.out = append(d.out, Action{Kind: Declare, From: d.state, To: to, Reason: why, Silence: now.Sub(d.heard)})
	d.state = to
	d.checked = false
	if to != Suspect {
		d.asked = now
	}
	d.cfg.Group.set(d.cfg.ID, to)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
