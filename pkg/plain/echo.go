package plain

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

const (
	// echoBuffer is the size of a datagram buffer in bytes: the largest UDP
	// payload over IPv4 is 65,507 bytes (RFC 768, RFC 791), over IPv6 without
	// jumbograms 65,527; one more shows truncation.
	echoBuffer = 65_536
	// echoControl fits the packet information of both address families.
	echoControl = 128
	// lowestPort is the first source port that is answered unless LowPorts is
	// set: services such as echo (7), chargen (19) and DNS (53) live below it,
	// and answering them can start a loop.
	lowestPort = 1024
)

// EchoConfig sets up an [Echo]. The zero value is the simple form with its
// limits.
type EchoConfig struct {
	// Workers chooses the form. 0 is the simple one: read a datagram, answer
	// it, read the next. N > 0 is the concurrent one: one loop reads, N
	// goroutines answer, 2·N buffers of 64 KiB go round between them.
	Workers int
	// SourceRate is how many datagrams a second one source (an IPv4 address or
	// an IPv6 /64) gets answered; 0 means 1,000. Bursts of a tenth of a second
	// more, at least 100, pass.
	SourceRate int
	// TotalRate is the same for all sources together; 0 means 20,000.
	TotalRate int
	// Sources bounds the table of sources; 0 means 4,096. When it is full, the
	// ones heard least recently are forgotten.
	Sources int
	// LowPorts also answers source ports below 1,024.
	LowPorts bool
	// Now is the clock of the rate limits; nil means time.Now.
	Now func() time.Time
	// Logger gets a record when serving ends; nil discards it.
	Logger *slog.Logger
}

// EchoStats counts datagrams. Received = Answered + Limited + Refused + Failed,
// apart from those in flight.
type EchoStats struct {
	// Received counts everything read from the socket.
	Received uint64
	// Answered counts replies handed to the kernel.
	Answered uint64
	// Limited counts datagrams over a rate limit, and those that looked like a
	// loop.
	Limited uint64
	// Refused counts datagrams from ports, or to addresses, that are never
	// answered, and truncated ones.
	Refused uint64
	// Failed counts replies that the kernel did not take.
	Failed uint64
}

// Echo answers each datagram to its source with the same bytes. Make it with
// [NewEcho]; use it for one socket.
type Echo struct {
	cfg   EchoConfig
	limit *limiter

	received, answered, limited, refused, failed atomic.Uint64
}

// NewEcho returns an echo server with the given configuration.
func NewEcho(cfg EchoConfig) *Echo {
	if cfg.SourceRate <= 0 {
		cfg.SourceRate = 1000
	}
	if cfg.TotalRate <= 0 {
		cfg.TotalRate = 20_000
	}
	if cfg.Sources <= 0 {
		cfg.Sources = 4096
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Echo{cfg: cfg, limit: newLimiter(cfg.SourceRate, cfg.TotalRate, cfg.Sources)}
}

// Stats returns the counts so far.
func (e *Echo) Stats() EchoStats {
	return EchoStats{
		Received: e.received.Load(), Answered: e.answered.Load(), Limited: e.limited.Load(),
		Refused: e.refused.Load(), Failed: e.failed.Load(),
	}
}

// datagram is one packet with what is needed to answer it.
type datagram struct {
	buf  []byte // echoBuffer bytes, of which n are used
	n    int
	oob  []byte // echoControl bytes
	oobn int
	from netip.AddrPort
}

func newDatagram() *datagram {
	return &datagram{buf: make([]byte, echoBuffer), oob: make([]byte, echoControl)}
}

// Serve answers datagrams on conn until ctx ends, closes conn, and returns nil,
// or the error that made reading impossible.
func (e *Echo) Serve(ctx context.Context, conn *net.UDPConn) error {
	src, err := newReplySource(conn)
	if err != nil {
		_ = conn.Close()
		return err
	}
	unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		unhook()
		_ = conn.Close()
		st := e.Stats()
		e.cfg.Logger.Info("echo: stopped", "received", st.Received, "answered", st.Answered, "limited", st.Limited, "refused", st.Refused, "failed", st.Failed)
	}()
	if e.cfg.Workers == 0 {
		d := newDatagram()
		for {
			if err := e.next(ctx, conn, d); err != nil {
				return ending(ctx, err)
			}
			e.answer(conn, src, d)
		}
	}
	return e.concurrent(ctx, conn, src)
}

// concurrent reads in this goroutine and answers in a pool. A buffer is in
// exactly one place: the free list, the work queue, or a goroutine's hands.
// With none free, reading waits and the kernel drops what overflows its queue.
func (e *Echo) concurrent(ctx context.Context, conn *net.UDPConn, src *replySource) error {
	free := make(chan *datagram, 2*e.cfg.Workers)
	work := make(chan *datagram, 2*e.cfg.Workers)
	for range cap(free) {
		free <- newDatagram()
	}
	var wg sync.WaitGroup
	for range e.cfg.Workers {
		wg.Go(func() {
			for d := range work {
				e.answer(conn, src, d)
				free <- d
			}
		})
	}
	defer wg.Wait()
	defer close(work)
	for {
		d := <-free // workers never stop giving back while work is open
		if err := e.next(ctx, conn, d); err != nil {
			return ending(ctx, err)
		}
		work <- d
	}
}

// next reads into d until a datagram may be answered.
func (e *Echo) next(ctx context.Context, conn *net.UDPConn, d *datagram) error {
	own := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	for {
		n, oobn, flags, from, err := conn.ReadMsgUDPAddrPort(d.buf, d.oob)
		if err != nil {
			// An ICMP error for an earlier reply is no reason to stop.
			if ctx.Err() == nil && isUnreachable(err) {
				continue
			}
			return err
		}
		e.received.Add(1)
		d.n, d.oobn, d.from = n, oobn, from
		switch port := from.Port(); {
		case port == 0, port == own, port < lowestPort && !e.cfg.LowPorts, n == echoBuffer, flags&msgTrunc != 0:
			e.refused.Add(1)
		case !e.limit.allow(e.cfg.Now(), from.Addr(), d.buf[:n]):
			e.limited.Add(1)
		default:
			return nil
		}
	}
}

// answer sends d back, from the address that was asked.
func (e *Echo) answer(conn *net.UDPConn, src *replySource, d *datagram) {
	oob, ok := src.reply(d.oob[:d.oobn])
	if !ok {
		e.refused.Add(1)
		return
	}
	if n, _, err := conn.WriteMsgUDPAddrPort(d.buf[:d.n], oob, d.from); err != nil || n != d.n {
		e.failed.Add(1)
		return
	}
	e.answered.Add(1)
}

func ending(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return failure(transfer.Unavailable, err, "read datagrams")
}
