package health

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// startAgain is the pause after a pinger that could not start: the name did not
// resolve, or no session was to be had.
const startAgain = time.Second

// MonitorConfig sets up a [Monitor].
type MonitorConfig struct {
	// ID names the receiver in Group and in errors; "" means Ping.Addr.
	ID string
	// Ping says how to reach its reflector. Interval and Count are ignored: the
	// monitor chooses them. OnEvent hears each ping.
	Ping PingerConfig
	// HealthCheck asks the receiver's gRPC health and returns nil when it
	// answered, whatever it said: also NOT_SERVING and Denied are signs of life.
	// It must end when ctx does. Required.
	HealthCheck func(ctx context.Context) error
	// Group is the receivers that are watched together; nil: none.
	Group *Group
	// OnEvent hears each change of state, in order, from a goroutine of Run. It
	// may call the monitor's methods but must not block. nil: nobody hears.
	OnEvent func(MonitorEvent)
}

// MonitorEvent is a change of state, or a restart of the receiver.
type MonitorEvent struct {
	ID        string        `json:"receiver"`
	At        time.Time     `json:"at"`
	From      State         `json:"from"`
	To        State         `json:"to"`
	Restarted bool          `json:"restarted"`
	Reason    string        `json:"reason"`
	Silence   time.Duration `json:"silence_ns"` // since the receiver was heard last
}

// Monitor watches one receiver, idle or during transfers. Make it with
// [NewMonitor], call Run once, and tell it by Watch that a transfer begins and
// by Progress that data moves. Its methods are safe for concurrent use.
type Monitor struct {
	cfg    MonitorConfig
	pinger *Pinger
	kick   chan struct{} // holds one: there is something in todo, or a deadline moved
	health chan error    // holds one: the result of a check

	mu       sync.Mutex // guards what follows
	detector *Detector
	todo     []Action
	interval time.Duration
	watchers map[*watcher]struct{}
}

type watcher struct{ cancel context.CancelCauseFunc }

// NewMonitor checks the configuration. The error is Invalid.
func NewMonitor(cfg MonitorConfig) (*Monitor, error) {
	if cfg.HealthCheck == nil {
		return nil, transfer.Errorf(transfer.Invalid, "watch receiver", cfg.Ping.Addr, "no health check is given")
	}
	if cfg.ID == "" {
		cfg.ID = cfg.Ping.Addr
	}
	m := &Monitor{
		cfg: cfg, kick: make(chan struct{}, 1), health: make(chan error, 1),
		interval: idleInterval, watchers: make(map[*watcher]struct{}),
	}
	ping := cfg.Ping
	ping.Interval, ping.Count, ping.OnEvent = idleInterval, 0, m.onPing
	p, err := NewPinger(ping)
	if err != nil {
		return nil, err
	}
	m.pinger = p
	m.detector = NewDetector(DetectorConfig{ID: cfg.ID, Group: cfg.Group}, time.Now())
	return m, nil
}

// State returns what is believed about the receiver.
func (m *Monitor) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.detector.State()
}

// Progress says that the receiver acknowledged so many octets of chunks. Octets
// that a kernel took are no progress. Zero and less are ignored.
func (m *Monitor) Progress(octets int64) {
	if octets > 0 {
		m.input(func(now time.Time) []Action { return m.detector.Progress(now) })
	}
}

// Path returns the round trip and the recent loss.
func (m *Monitor) Path() Path { return m.pinger.Path() }

// Summary returns the statistics of the pings.
func (m *Monitor) Summary() Summary { return m.pinger.Summary() }

// Candidate returns what [Choose] wants to know.
func (m *Monitor) Candidate() Candidate {
	return Candidate{ID: m.cfg.ID, State: m.State(), Path: m.pinger.Path(), Status: m.pinger.Summary().Status}
}

// Watch tells that a transfer begins: pings come more often until stop is
// called. The context that it returns is cancelled when the receiver is found
// dead or started again; its cause is then an Unavailable error that says so.
// It is cancelled at once when the receiver is dead already.
func (m *Monitor) Watch(ctx context.Context) (watched context.Context, stop context.CancelFunc) {
	watched, cancel := context.WithCancelCause(ctx)
	w := &watcher{cancel: cancel}
	m.mu.Lock()
	m.watchers[w] = struct{}{}
	dead := m.detector.State() == Dead
	m.mu.Unlock()
	if dead {
		cancel(m.gone("is not reachable", "it did not answer before the transfer began"))
	}
	m.activity()
	return watched, func() {
		cancel(context.Canceled)
		m.mu.Lock()
		delete(m.watchers, w)
		m.mu.Unlock()
		m.activity()
	}
}

func (m *Monitor) activity() {
	m.input(func(now time.Time) []Action { return m.detector.SetActive(now, len(m.watchers) > 0) })
}

func (m *Monitor) gone(what, why string) error {
	return transfer.Errorf(transfer.Unavailable, "watch receiver", m.cfg.ID, "it %s: %s", what, why).
		WithHint("check the receiver; the transfer resumes from what it holds")
}

// input feeds the detector and leaves what is to be done to Run.
func (m *Monitor) input(f func(now time.Time) []Action) {
	m.mu.Lock()
	before := m.detector.Next()
	m.todo = append(m.todo, f(time.Now())...)
	changed := len(m.todo) > 0 || !m.detector.Next().Equal(before)
	interval := m.detector.Interval()
	moved := (interval - m.interval).Abs() > m.interval/10
	if moved {
		m.interval = interval
	}
	m.mu.Unlock()
	if moved {
		m.pinger.SetInterval(interval)
	}
	if changed {
		wake(m.kick)
	}
}

func (m *Monitor) onPing(e Event) {
	switch e.Kind {
	case PingSent:
		m.input(func(now time.Time) []Action { return m.detector.Sent(now, e.Seq) })
	case PingReplied:
		m.input(func(now time.Time) []Action { return m.detector.Replied(now, e.Seq, e.RTT, e.Status) })
	case PingRefused, PingFailed:
		m.input(func(now time.Time) []Action { return m.detector.Refused(now) })
	}
	if m.cfg.Ping.OnEvent != nil {
		m.cfg.Ping.OnEvent(e)
	}
}

// Run watches until ctx ends and then returns nil. A receiver that cannot be
// reached is not an error: it is found dead. The error is Invalid when the
// configuration turns out to be wrong.
func (m *Monitor) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer m.cfg.Group.Remove(m.cfg.ID)
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		if err := m.ping(ctx); err != nil {
			cancel(err)
		}
	})
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); transfer.KindOf(err) == transfer.Invalid && !errors.Is(err, ctx.Err()) {
				return err
			}
			return nil
		case <-m.kick:
		case err := <-m.health:
			m.input(func(now time.Time) []Action { return m.detector.Health(now, err) })
		case <-timer.C:
			m.input(func(now time.Time) []Action { return m.detector.Tick(now) })
		}
		m.perform(ctx, &wg)
		m.mu.Lock()
		next := m.detector.Next()
		m.mu.Unlock()
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(0, time.Until(next)))
		}
	}
}

// ping runs the pinger, again if it could not start.
func (m *Monitor) ping(ctx context.Context) error {
	for {
		err := m.pinger.Run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if transfer.KindOf(err) == transfer.Invalid {
			return err
		}
		m.input(func(now time.Time) []Action { return m.detector.Refused(now) })
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(startAgain):
		}
	}
}

// perform does what the detector wants.
func (m *Monitor) perform(ctx context.Context, wg *sync.WaitGroup) {
	m.mu.Lock()
	todo := m.todo
	m.todo = nil
	m.mu.Unlock()
	for _, a := range todo {
		switch a.Kind {
		case SendProbe:
			m.pinger.Probe()
		case CheckHealth:
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, a.Timeout)
				defer cancel()
				m.health <- m.cfg.HealthCheck(ctx) // one at a time: never blocks
			})
		case Declare, DeclareRestarted:
			m.declare(a)
		}
	}
}

func (m *Monitor) declare(a Action) {
	switch {
	case a.Kind == DeclareRestarted:
		m.cancelAll(m.gone("was started again", "what it had in memory is gone"))
	case a.To == Dead:
		m.cancelAll(m.gone("is gone or frozen", a.Reason))
	}
	if m.cfg.OnEvent != nil {
		m.cfg.OnEvent(MonitorEvent{
			ID: m.cfg.ID, At: time.Now(), From: a.From, To: a.To,
			Restarted: a.Kind == DeclareRestarted, Reason: a.Reason, Silence: a.Silence,
		})
	}
}

func (m *Monitor) cancelAll(cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.watchers {
		w.cancel(cause)
	}
}

// Status returns what the receiver said last about itself; ok is false when it
// never did.
func (m *Monitor) Status() (s stamp.Status, ok bool) {
	if p := m.pinger.Summary().Status; p != nil {
		return *p, true
	}
	return s, false
}
