package health

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Limits of a [Pinger]. They keep one from hurting a network or a receiver: the
// shortest interval with the largest datagram makes 1.2 Mbit/s.
const (
	// MinInterval is the shortest interval to another machine.
	MinInterval = 10 * time.Millisecond
	// MinLoopbackInterval is the shortest one on loopback.
	MinLoopbackInterval = time.Millisecond
	// MaxInterval is the longest one.
	MaxInterval = time.Hour
	// MaxSize is the largest datagram in octets: what Ethernet carries over IPv4
	// in one piece, 1,500 less the headers.
	MaxSize = 1472
	// MaxTimeout is the longest time to wait for one reply.
	MaxTimeout = time.Minute

	defaultInterval = time.Second
	defaultTimeout  = 2 * time.Second
)

// EventKind says what happened to a ping.
type EventKind uint8

// What happens.
const (
	PingSent     EventKind = iota + 1
	PingReplied            // in time or, with Late, after PingLost
	PingLost               // no reply within the timeout
	PingRepeated           // a further reply to one that was answered
	PingRefused            // "port unreachable": nothing listens there
	PingRejected           // a datagram came that answers nothing we sent
	PingFailed             // it could not be sent; Err says why
)

// String returns a word for the kind.
func (k EventKind) String() string {
	names := [...]string{"", "sent", "reply", "lost", "duplicate", "refused", "rejected", "failed"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// MarshalText writes the word.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Event is one thing that happened. Fields that a kind has no use for are zero.
type Event struct {
	Kind        EventKind     `json:"event"`
	At          time.Time     `json:"at"`
	Seq         uint32        `json:"seq"`
	Size        int           `json:"size"` // octets of the datagram
	RTT         time.Duration `json:"rtt_ns"`
	Residence   time.Duration `json:"residence_ns"`
	Late        bool          `json:"late"`
	Reordered   bool          `json:"reordered"`
	HopsForward int           `json:"hops_forward"` // -1: unknown
	HopsBack    int           `json:"hops_back"`    // -1: unknown
	Status      *stamp.Status `json:"status,omitempty"`
	Err         error         `json:"-"`
}

// PingerConfig sets up a [Pinger].
type PingerConfig struct {
	// Addr is where the reflector listens, "host:port". A name is resolved once,
	// when Run begins.
	Addr string
	// Interval between pings; each is shortened by up to a quarter, at random,
	// so that many pingers do not fall into step. 0 means 1 s.
	Interval time.Duration
	// Timeout after which a ping is given up; 0 means 2 s.
	Timeout time.Duration
	// Count of pings after which Run returns; 0 means never.
	Count int
	// Size of a datagram in octets. 0 means no padding: 80 octets
	// unauthenticated, 168 authenticated.
	Size int
	// Plain leaves out the request for the status, for reflectors of others.
	Plain bool
	// Session authenticates; nil sends unauthenticated pings.
	Session *Session
	// Open opens a session: when Run begins, unless Session is given, and again
	// when replies have stayed away for a while, because a receiver that was
	// restarted has forgotten its sessions. nil: no sessions but Session.
	Open func(ctx context.Context) (Session, error)
	// OnEvent hears everything, in order, from the goroutine of Run. It may call
	// the pinger's methods but must not block. nil: nobody hears.
	OnEvent func(Event)
	// Random returns a number in [0, 1) for the intervals; nil means
	// math/rand/v2.
	Random func() float64
}

// Pinger is a Session-Sender: it sends pings to one reflector and computes
// statistics of the replies. Make it with [NewPinger] and call Run once; the
// other methods are safe for concurrent use.
type Pinger struct {
	cfg   PingerConfig
	probe chan struct{} // holds one
	kick  chan struct{} // holds one: the interval changed

	mu       sync.Mutex // guards what follows
	interval time.Duration
	tally    tally
}

// NewPinger checks the configuration. The error is Invalid, with a hint.
func NewPinger(cfg PingerConfig) (*Pinger, error) {
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	least := cfg.leastSize()
	if cfg.Size == 0 {
		cfg.Size = least
	}
	bad := func(hint, format string, args ...any) (*Pinger, error) {
		return nil, transfer.Errorf(transfer.Invalid, "set up ping", "", format, args...).WithHint("%s", hint)
	}
	switch {
	case cfg.Interval < MinLoopbackInterval || cfg.Interval > MaxInterval:
		return bad(fmt.Sprintf("choose from %v (loopback: %v) to %v", MinInterval, MinLoopbackInterval, MaxInterval),
			"an interval of %v is not allowed", cfg.Interval)
	case cfg.Timeout < time.Millisecond || cfg.Timeout > MaxTimeout:
		return bad(fmt.Sprintf("choose from 1ms to %v", MaxTimeout), "a timeout of %v is not allowed", cfg.Timeout)
	case cfg.Count < 0:
		return bad("choose 0 for no end", "a count of %d is not allowed", cfg.Count)
	case cfg.Size < least || cfg.Size > MaxSize || cfg.Size > least && cfg.Size < least+stamp.TLVHeader:
		return bad(fmt.Sprintf("choose %d, or from %d to %d", least, least+stamp.TLVHeader, MaxSize),
			"a datagram of %d octets is not possible", cfg.Size)
	}
	if _, _, err := net.SplitHostPort(cfg.Addr); err != nil {
		return bad("write HOST:PORT, such as receiver.example:7402", "the address %s is not usable", transfer.Quote(cfg.Addr))
	}
	p := &Pinger{cfg: cfg, interval: cfg.Interval, probe: make(chan struct{}, 1), kick: make(chan struct{}, 1)}
	p.tally.sum.Authenticated = cfg.authenticated()
	return p, nil
}

func (c *PingerConfig) authenticated() bool { return c.Session != nil || c.Open != nil }

// leastSize is the size of a datagram without padding.
func (c *PingerConfig) leastSize() int {
	n, status := stamp.BaseLen, stamp.TLVHeader+stamp.StatusLen
	if c.authenticated() {
		n = stamp.AuthLen
		status += stamp.TLVHeader + stamp.MACLen
	}
	if !c.Plain {
		n += status
	}
	return n
}

// Probe sends a ping at once, besides those of the interval, but never within
// 10 ms (on loopback 1 ms) of another.
func (p *Pinger) Probe() { wake(p.probe) }

// SetInterval changes the interval from the next ping on; values outside of the
// limits are moved to them.
func (p *Pinger) SetInterval(d time.Duration) {
	p.mu.Lock()
	p.interval = min(max(d, MinLoopbackInterval), MaxInterval)
	p.mu.Unlock()
	wake(p.kick)
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Measure pings count times and returns the summary: what a sender wants to
// know before it begins. OnEvent and the rest of cfg are as for [NewPinger].
func Measure(ctx context.Context, cfg PingerConfig, count int) (Summary, error) {
	cfg.Count = count
	p, err := NewPinger(cfg)
	if err != nil {
		return Summary{}, err
	}
	err = p.Run(ctx)
	return p.Summary(), err
}

// Run pings until ctx ends or the count is reached and answered or given up; it
// then returns nil. A far side that is silent or refuses is not an error. The
// error is Unavailable when the name does not resolve or no socket can be had,
// Invalid when the interval is too short for a far side that is not on
// loopback, and that of Open when the first session cannot be opened.
func (p *Pinger) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unavailable := func(err error) error {
		return transfer.Errorf(transfer.Unavailable, "ping", p.cfg.Addr, "%w", err).
			WithHint("check the name and the port of the receiver's ping")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", p.cfg.Addr)
	if err != nil {
		return unavailable(err)
	}
	conn := c.(*net.UDPConn)
	defer func() { _ = conn.Close() }()
	if err := setUp(conn); err != nil {
		return unavailable(err)
	}
	remote := conn.RemoteAddr().(*net.UDPAddr).AddrPort()
	r := &run{p: p, conn: conn, least: MinInterval, estimate: clockEstimate()}
	if remote.Addr().Unmap().IsLoopback() {
		r.least = MinLoopbackInterval
	}
	if p.cfg.Interval < r.least {
		return transfer.Errorf(transfer.Invalid, "ping", p.cfg.Addr, "an interval of %v is too short for another machine", p.cfg.Interval).
			WithHint("choose at least %v", MinInterval)
	}
	session := p.cfg.Session
	if session == nil && p.cfg.Open != nil {
		s, err := p.cfg.Open(ctx)
		if err != nil {
			return err
		}
		session = &s
	}
	if session != nil {
		r.begin(*session)
	} else {
		r.ssid = uint16(1 + rand.IntN(1<<16-1))
	}
	return r.run(ctx, cancel)
}
