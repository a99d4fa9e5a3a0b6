package health

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/pkg/transfer"
)

const (
	// unknownError is the clock error that is told when the kernel does not know
	// it: NTP's own limit for a usable clock (RFC 5905 section 7.3, MAXDISP).
	unknownError = 16 * time.Second
	// estimateEvery is how often the kernel is asked about its clock.
	estimateEvery = time.Minute
	// staleAfter is the age at which a request is not answered any more: its
	// sender has given up, and this process was stopped in between. It stays
	// below the 10 s within which a reply is recognised as one.
	staleAfter = 5 * time.Second
	// busyRate is how many datagrams a second make reading by batch worth while:
	// below some 40,000 one at a time is ready when we come to read it, and a
	// batch of one costs 3 % more than a plain read; with 64 waiting, batches
	// answer twice as many a second (BenchmarkReplies, 2 cores, loopback).
	busyRate = 40_000
	// readErrors is how many reads in a row may fail before serving ends.
	readErrors = 100
)

// ReflectorConfig sets up a [Reflector]. The zero value answers loopback and
// sessions.
type ReflectorConfig struct {
	// Open also answers unauthenticated packets from the network. Loopback
	// always may send them.
	Open bool
	// LowPorts also answers source ports below 1,024, which belong to services
	// that answer by themselves.
	LowPorts bool
	// Status is told in TLV 251; nil leaves that TLV unrecognised. It is called
	// for each request that carries TLVs, must not block and be safe for
	// concurrent use.
	Status func() stamp.Status
	// Lifetime of a session without authenticated packets; 0 means 10 minutes.
	Lifetime time.Duration
	// Sessions bounds the sessions at once; 0 means 4,096, at most 32,768.
	Sessions int
	// PrincipalSessions bounds those of one principal; 0 means 256.
	PrincipalSessions int
	// SourceRate is how many unauthenticated packets a second one source (an
	// IPv4 address or an IPv6 /64) gets answered; 0 means 200. Loopback has no
	// limit of its own.
	SourceRate int
	// TotalRate is the same for all unauthenticated packets together; 0 means
	// 20,000.
	TotalRate int
	// SessionRate is the same for the packets of one session; 0 means 1,000.
	SessionRate int
	// Sources bounds the table of sources; 0 means 2,048.
	Sources int
	// Now is the clock of rates and lifetimes; nil means time.Now.
	Now func() time.Time
	// Logger gets a record when serving ends; nil discards it.
	Logger *slog.Logger
}

// ReflectorStats counts datagrams since the reflector was made.
type ReflectorStats struct {
	Received  uint64 // read from the socket
	Answered  uint64 // replies that the kernel took
	Malformed uint64 // too short, truncated, or older than 5 s
	Refused   uint64 // ports and addresses that are never answered
	Loops     uint64 // replies of another reflector
	Denied    uint64 // not authenticated, or not rightly
	Replayed  uint64 // sequences of a session that came before
	Limited   uint64 // over a rate
	Failed    uint64 // replies that the kernel did not take
}

// Reflector is a Session-Reflector. It is stateless for unauthenticated packets
// and stateful for those of its sessions. Make it with [NewReflector]; its
// methods are safe for concurrent use.
type Reflector struct {
	cfg  ReflectorConfig
	busy float64 // datagrams a second from which on they are read by batch

	mu        sync.Mutex // guards what follows
	stats     ReflectorStats
	limit     *limiter
	sessions  map[uint16]*session
	estimate  stamp.ErrorEstimate
	estimated time.Time
	status    stamp.Status // scratch
}

// NewReflector returns a reflector with the given configuration.
func NewReflector(cfg ReflectorConfig) *Reflector {
	orDefault(&cfg.Sessions, 4096)
	orDefault(&cfg.PrincipalSessions, 256)
	orDefault(&cfg.SourceRate, 200)
	orDefault(&cfg.TotalRate, 20_000)
	orDefault(&cfg.SessionRate, 1000)
	orDefault(&cfg.Sources, 2048)
	cfg.Sessions = min(cfg.Sessions, 1<<15)
	if cfg.Lifetime <= 0 {
		cfg.Lifetime = 10 * time.Minute
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Reflector{
		cfg:      cfg,
		busy:     busyRate,
		limit:    newLimiter(cfg.SourceRate, cfg.TotalRate, cfg.Sources),
		sessions: make(map[uint16]*session),
	}
}

func orDefault(n *int, value int) {
	if *n <= 0 {
		*n = value
	}
}

// Stats returns the counts so far.
func (r *Reflector) Stats() ReflectorStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Sessions returns how many sessions are kept, expired ones that nobody asked
// for since included.
func (r *Reflector) Sessions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// Serve answers requests on conn until ctx ends, closes conn, and returns nil,
// or an Unavailable error when reading became impossible. It may run on several
// sockets at once.
func (r *Reflector) Serve(ctx context.Context, conn *net.UDPConn) error {
	defer func() { _ = conn.Close() }()
	if err := setUp(conn); err != nil {
		return transfer.Errorf(transfer.Unavailable, "set up ping socket", "", "%w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	err := r.loop(ctx, conn)
	st := r.Stats()
	r.cfg.Logger.Info("ping reflector: stopped", "received", st.Received, "answered", st.Answered,
		"malformed", st.Malformed, "refused", st.Refused, "loops", st.Loops, "denied", st.Denied,
		"replayed", st.Replayed, "limited", st.Limited, "failed", st.Failed)
	return err
}

// loop reads one datagram at a time, and many while they come fast.
func (r *Reflector) loop(ctx context.Context, conn *net.UDPConn) error {
	var c control
	var b *batch
	q := request{own: conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
	buf, oob := make([]byte, bufferSize), make([]byte, controlSize)
	errs, pace := readFailures{ctx: ctx}, pace{rate: r.busy, from: time.Now()}
	for {
		n, oobn, flags, from, err := conn.ReadMsgUDPAddrPort(buf, oob)
		now := time.Now()
		if again, err := errs.check(err); !again {
			return err
		}
		if err != nil && !isOversized(err) {
			continue
		}
		c.parse(oob[:oobn])
		q.at, q.age = c.arrival(now)
		q.buf, q.from, q.ttl, q.group = buf[:n], from, c.ttl, c.group
		q.cut = err != nil || n == bufferSize || flags&msgTrunc != 0
		if r.answer(&q) {
			m, _, err := conn.WriteMsgUDPAddrPort(q.buf, c.reply(), from)
			r.sent(err == nil && m == n)
		}
		if canBatch && pace.fast(now) {
			if b == nil {
				b = newBatch(conn)
			}
			if again, err := b.serve(r, &errs, q.own); !again {
				return err
			}
			pace.from = time.Now()
		}
	}
}

func (r *Reflector) sent(ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ok {
		r.stats.Answered++
	} else {
		r.stats.Failed++
	}
}

// readFailures decides what an error of a read means.
type readFailures struct {
	ctx context.Context
	row int // failures since the last success
}

// check reports whether to go on, and if not, what to return.
func (f *readFailures) check(err error) (again bool, result error) {
	switch {
	case err == nil || isOversized(err):
		f.row = 0
		return true, nil
	case f.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
		return false, nil
	case isRefused(err): // an ICMP error for an earlier reply
		return true, nil
	}
	if f.row++; f.row < readErrors {
		return true, nil
	}
	return false, transfer.Errorf(transfer.Unavailable, "read pings", "", "%w", err)
}

// pace measures how fast datagrams come.
type pace struct {
	rate  float64 // a second, from which on they come fast
	from  time.Time
	count int
}

// paceWindow is over how many datagrams the rate is taken.
const paceWindow = 256

// fast counts one datagram and reports that the last 256 came fast.
func (p *pace) fast(now time.Time) bool {
	if p.count++; p.count < paceWindow {
		return false
	}
	fast := float64(p.count) >= p.rate*now.Sub(p.from).Seconds()
	p.from, p.count = now, 0
	return fast
}
