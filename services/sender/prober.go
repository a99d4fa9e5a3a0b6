package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/e27efefb/sluice/pkg/health"
	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// prober is netdiag.Prober over a real receiver.
type prober struct {
	target string
	far    *cli.Far
	most   int64
	lanes  int
	ping   string
	open   bool // the control connection was used
}

// TCPConnect opens the control port.
func (p *prober) TCPConnect(ctx context.Context) (netdiag.Connected, error) {
	return netdiag.MeasureConnect(ctx, p.target)
}

// TCPRoundTrip asks the health service, the smallest request there is.
func (p *prober) TCPRoundTrip(ctx context.Context) (time.Duration, error) {
	if !p.open {
		if _, err := p.far.Control.Serving(ctx); err != nil {
			return 0, err
		}
		p.open = true
	}
	start := time.Now()
	_, err := p.far.Control.Serving(ctx)
	return time.Since(start), err
}

// UDPPing measures with the receiver's reflector.
func (p *prober) UDPPing(ctx context.Context, d time.Duration) (netdiag.PingStats, error) {
	const interval = 20 * time.Millisecond
	s, err := p.measure(ctx, d, interval, 0)
	return pingStats(&s), err
}

// loopbackInterval stays below the 1,000 a second that a session gets answered,
// although intervals are shortened at random by up to a quarter.
const loopbackInterval = 2 * time.Millisecond

// UDPThroughput sends the largest pings at the highest rate that package health
// allows towards another machine; all of a ping comes back, so half of what the
// path carries is counted.
func (p *prober) UDPThroughput(ctx context.Context, d time.Duration) (netdiag.Throughput, error) {
	interval := health.MinInterval
	if cli.Loopback(p.target) {
		interval = loopbackInterval
	}
	s, err := p.measure(ctx, d, interval, health.MaxSize)
	if err != nil {
		return netdiag.Throughput{}, err
	}
	return netdiag.Throughput{
		Bytes: int64(s.Received) * health.MaxSize, Elapsed: min(d, s.Elapsed), //nolint:gosec // a count of pings
		Packets: int64(s.Sent), Lost: int64(s.Lost), Reordered: int64(s.Reordered), //nolint:gosec // counts of pings
		Capped: health.MaxSize / interval.Seconds(),
	}, nil
}

func (p *prober) measure(ctx context.Context, d, interval time.Duration, size int) (health.Summary, error) {
	addr, session := pingAddr(ctx, p.far, p.target, p.ping)
	return health.Measure(ctx, health.PingerConfig{Addr: addr, Session: session, Interval: interval, Timeout: time.Second, Size: size}, max(1, int(d/interval)))
}

// TCPThroughput sends random octets for d, or until the most that may be sent,
// and gives the transfer up: the receiver throws away what it has. XXH3 costs
// the least of the digests that every receiver on a plain path takes; one that
// insists on BLAKE3 gets it.
func (p *prober) TCPThroughput(ctx context.Context, d time.Duration) (netdiag.Throughput, error) {
	var t netdiag.Throughput
	var err error
	for _, a := range []transfer.Algorithm{transfer.XXH3, transfer.BLAKE3} {
		t, err = p.upload(ctx, d, a)
		if k := transfer.KindOf(err); err == nil || k != transfer.Invalid && k != transfer.Denied {
			break
		}
	}
	return t, err
}

func (p *prober) upload(ctx context.Context, d time.Duration, algorithm transfer.Algorithm) (netdiag.Throughput, error) {
	ctx, enough := context.WithCancelCause(ctx)
	defer enough(nil)
	noise, err := newNoise(ctx, p.most)
	if err != nil {
		return netdiag.Throughput{}, err
	}
	id := transfer.NewID()
	src, err := source.Stream(".compare-"+id.String(), transfer.Posix, noise)
	if err != nil {
		return netdiag.Throughput{}, err
	}
	defer src.Close()
	m := &meter{dial: p.far.DialLane, limit: d, most: p.most, enough: func() { enough(errEnough) }}
	_, err = send.Send(ctx, send.Config{
		Receiver: p.far, DialLane: m.dialLane, Source: src, ID: id, Lanes: p.lanes, Retries: -1, Observer: m,
		Options: transfer.Options{Algorithm: algorithm, Label: "sender compare", MaxBytes: p.most},
	})
	// What was begun is always given up, also when ctx has ended.
	actx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	abortErr := p.far.Abort(actx, id, transfer.Session{}, "a measurement of sender compare")
	m.stop()
	switch {
	case errors.Is(context.Cause(ctx), errEnough):
		if abortErr != nil {
			return netdiag.Throughput{}, fmt.Errorf("give the measurement up: %w", abortErr)
		}
		return m.result(), nil
	case err == nil:
		return netdiag.Throughput{}, errors.New("the measurement ended by itself")
	default:
		return netdiag.Throughput{}, err
	}
}

var errEnough = errors.New("measured for long enough")

// noise is an endless stream of random octets: a block that is repeated, because
// making them would cost more than sending them. After most octets it waits
// for the end.
type noise struct {
	ctx   context.Context //nolint:containedctx // ends Read
	block []byte
	at    int
	left  int64
}

func newNoise(ctx context.Context, most int64) (*noise, error) {
	n := &noise{ctx: ctx, block: make([]byte, 4<<20), left: most}
	_, err := rand.Read(n.block)
	return n, err
}

// Read satisfies io.Reader. It never says EOF: the file must not be published.
func (n *noise) Read(p []byte) (int, error) {
	if n.left == 0 {
		<-n.ctx.Done()
	}
	if n.ctx.Err() != nil {
		return 0, context.Cause(n.ctx)
	}
	k := copy(p[:min(int64(len(p)), n.left)], n.block[n.at:])
	n.at = (n.at + k) % len(n.block)
	n.left -= int64(k)
	return k, nil
}

// meter watches a transfer: what was acknowledged when, and what the kernel says
// of the lanes. It ends the transfer in time.
type meter struct {
	dial   func(ctx context.Context, addr string) (net.Conn, error)
	limit  time.Duration
	most   int64
	enough func()

	mu           sync.Mutex
	lanes        []syscall.Conn
	start, last  time.Time
	acked        int64
	timer        *time.Timer
	ended        bool
	packets, bad int64
}

func (m *meter) dialLane(ctx context.Context, addr string) (net.Conn, error) {
	c, err := m.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	raw := c
	if t, ok := c.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if sc, ok := raw.(syscall.Conn); ok {
		m.lanes = append(m.lanes, sc)
	}
	if m.start.IsZero() {
		m.start = time.Now()
		m.timer = time.AfterFunc(m.limit, m.end)
	}
	return c, nil
}

// end asks the kernel while the lanes are open, and ends the transfer. Only the
// first call finds them so.
func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return
	}
	m.ended = true
	for _, l := range m.lanes {
		if info, err := netdiag.InfoOf(l); err == nil {
			m.packets += int64(info.Segments)
			m.bad += int64(info.Retransmits)
		}
	}
	m.enough()
}

func (m *meter) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.timer != nil {
		m.timer.Stop()
	}
}

func (m *meter) result() netdiag.Throughput {
	m.mu.Lock()
	defer m.mu.Unlock()
	return netdiag.Throughput{Bytes: m.acked, Elapsed: m.last.Sub(m.start), Packets: m.packets, Lost: m.bad}
}

// Progress notes what arrived. All of the most that may be sent is enough.
func (m *meter) Progress(p send.Progress) {
	m.mu.Lock()
	if p.Acked > m.acked {
		m.acked, m.last = p.Acked, time.Now()
	}
	all := m.acked >= m.most
	m.mu.Unlock()
	if all {
		m.end()
	}
}

// Offer, Answer, Lane and Receipt are of no interest.
func (m *meter) Offer(*transfer.OfferPart)       {}
func (m *meter) Answer(uint32, *transfer.Answer) {}
func (m *meter) Lane(send.LaneState)             {}
func (m *meter) Receipt(*transfer.Receipt)       {}
