package recv

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

const (
	// userTimeout ends a connection whose sent octets nobody acknowledges
	// (TCP_USER_TIMEOUT, RFC 5482); keepalive does the same for silent ones.
	userTimeout = 30 * time.Second
	// lingerTime and lingerBytes bound how long a refused lane is read, so that the
	// record that says why is not destroyed by a reset.
	lingerTime  = 2 * time.Second
	lingerBytes = 64 << 20
	// maxNonces bounds the hellos of one epoch; 16 octets each.
	maxNonces = 1 << 16

	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// waiting counts connections that have not identified themselves yet.
type waiting struct {
	mu    sync.Mutex
	n     int
	by    map[string]int // by address
	brief int            // beyond the limit of their address; not in n
}

// enter says how long a connection may take to its hello, and how it leaves the
// count; 0 refuses it.
//
// An honest sender of many transfers connects for all of them together and says
// hello at once, so those beyond the limit of its address are not refused: they
// must be brief. They have places of their own, hence keep no other address out of
// what it had.
func (w *waiting) enter(addr string, limits *Limits) (hello time.Duration, leave func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.n < limits.Unidentified && w.by[addr] < limits.UnidentifiedPer:
		w.n++
		w.by[addr]++
		return limits.HelloTimeout, func() { w.leave(addr) }
	case w.brief < limits.Unidentified:
		w.brief++
		return min(limits.HelloBrief, limits.HelloTimeout), w.leaveBrief
	}
	return 0, nil
}

func (w *waiting) leave(addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n--
	if w.by[addr]--; w.by[addr] <= 0 {
		delete(w.by, addr)
	}
}

func (w *waiting) leaveBrief() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.brief--
}

// ServeLanes accepts lanes on ln until ctx ends, then closes ln, ends its lanes
// (Unavailable) and returns when they are gone. A lack of descriptors is waited
// out; any other failure of Accept is returned. ln may speak TLS.
func (r *Receiver) ServeLanes(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer func() {
		if stop() {
			_ = ln.Close()
		}
		cancel()
		conns.Wait()
	}()
	pause := acceptPauseMin
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			pause = acceptPauseMin
			conns.Go(func() { r.serveConn(ctx, conn) })
			continue
		case ctx.Err() != nil:
			return nil
		case !outOfResources(err):
			return transfer.Errorf(transfer.Unavailable, "accept lanes", "", "%w", err)
		}
		r.log.Warn("accept lane: waiting", "err", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, acceptPauseMax)
	}
}

// hostOf returns the address without the port; 64 bits of an IPv6 address, which
// is what one host can choose from freely.
func hostOf(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	addr := ap.Addr().Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}

// serveConn is the life of one connection.
func (r *Receiver) serveConn(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	addr := hostOf(conn.RemoteAddr())
	hello, leave := r.waiting.enter(addr, &r.cfg.Limits)
	if hello == 0 {
		r.log.Warn("refuse lane: too many connections without hello", "peer", addr)
		return
	}
	tune(conn)
	l, err := r.greet(ctx, conn, hello)
	if err != nil {
		defer leave()
		r.log.Info("refuse lane", "peer", addr, "err", err)
		if hello == r.cfg.Limits.HelloTimeout || !errors.Is(err, os.ErrDeadlineExceeded) { // no word for one of too many
			r.refuse(ctx, conn, transfer.KindOf(err))
		}
		return
	}
	leave()
	if kind := l.serve(); kind != laneGone {
		r.refuse(ctx, conn, kind)
	} else if _, ok := conn.(*tls.Conn); ok { // another has sent its FIN, or is broken
		stop := linger(ctx, conn)
		defer stop()
		closeAfter(conn)
	}
}

// tune sets keepalive and, where the system has it, TCP_USER_TIMEOUT.
func tune(conn net.Conn) {
	if t := rawTCP(conn); t != nil {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: userTimeout / 2, Interval: userTimeout / 6, Count: 3})
		setUserTimeout(t, userTimeout)
	}
}

func rawTCP(conn net.Conn) *net.TCPConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	t, _ := conn.(*net.TCPConn)
	return t
}

// greet reads the hello, which may take so long, and admits the lane. The error is
// a *transfer.Error.
func (r *Receiver) greet(ctx context.Context, conn net.Conn, within time.Duration) (*lane, error) {
	_ = conn.SetReadDeadline(time.Now().Add(within))
	unpoke := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer unpoke()
	h, err := wire.ReadHello(conn)
	if err != nil {
		var e *transfer.Error
		switch {
		case errors.As(err, &e):
			return nil, e
		case ctx.Err() != nil:
			return nil, stopping()
		default:
			return nil, transfer.Errorf(transfer.Invalid, "read hello", "", "none within %v: %w", within, err)
		}
	}
	m := r.find(h.ID)
	if m == nil {
		return nil, lost()
	}
	return m.admit(ctx, &h, conn)
}

// admit checks a hello against the epoch and registers the lane.
func (m *movement) admit(ctx context.Context, h *wire.Hello, conn net.Conn) (*lane, error) {
	denied := func(format string, args ...any) error {
		return transfer.Errorf(transfer.Denied, "open lane", "", format, args...)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.token == transfer.Token{}:
		return nil, lost()
	case h.Epoch < m.epoch:
		return nil, fenced()
	case h.Epoch > m.epoch || !h.Verify(m.token):
		return nil, denied("the hello does not prove the token of epoch %d", m.epoch)
	case m.state == transfer.StateCommitted:
		return nil, errCommitted
	case m.state.Final():
		return nil, m.failure
	case m.fault != nil:
		return nil, m.fault
	case !m.accepting && m.refusal != nil:
		return nil, m.refusal
	case !m.accepting:
		return nil, lost()
	case m.r.now().After(m.until):
		return nil, transfer.Errorf(transfer.Unavailable, "open lane", "", "the token has expired").WithHint("negotiate again in a new session")
	}
	if _, again := m.nonces[h.Nonce]; again {
		return nil, denied("the nonce was used before")
	}
	lim := &m.r.cfg.Limits
	switch {
	case len(m.lanes) >= lim.LanesPerTransfer:
		return nil, transfer.Errorf(transfer.Busy, "open lane", "", "the transfer has %d lanes, its limit", len(m.lanes))
	case len(m.nonces) >= maxNonces:
		return nil, transfer.Errorf(transfer.Busy, "open lane", "", "%d lanes were opened in this epoch, the limit", len(m.nonces))
	case m.r.lanes.Add(1) > int64(lim.Lanes):
		m.r.lanes.Add(-1)
		return nil, transfer.Errorf(transfer.Busy, "open lane", "", "the receiver has %d lanes, its limit", lim.Lanes)
	}
	m.nonces[h.Nonce] = struct{}{}
	l := newLane(ctx, m, conn)
	m.lanes[l] = struct{}{}
	m.r.obs.Lane(1, transfer.OK)
	m.r.watch.changed(m.id)
	return l, nil
}

// errCommitted ends a lane that comes after the commit: nothing is to be sent.
var errCommitted = &transfer.Error{Kind: transfer.OK, Op: "open lane", Msg: "the transfer is committed"}

// refuse sends the last record of a lane, half-closes, and reads on for a moment.
func (r *Receiver) refuse(ctx context.Context, conn net.Conn, kind transfer.Kind) {
	stop := linger(ctx, conn)
	defer stop()
	var b [wire.AckLen]byte
	if _, err := conn.Write(wire.Ack{Type: wire.AckEnd, Kind: kind}.Append(b[:0])); err != nil {
		return
	}
	closeAfter(conn)
}

// linger bounds what is still done with a connection.
func linger(ctx context.Context, conn net.Conn) (stop func() bool) {
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(lingerTime / 8)) })
}

// closeAfter half-closes and reads on until the sender has closed, so that its end
// is the one that the kernel keeps in TIME_WAIT. On an encrypted lane a half-close
// is a record (close_notify, RFC 8446, section 6.1), and FIN comes after it.
func closeAfter(conn net.Conn) {
	c, ok := conn.(interface{ CloseWrite() error })
	if !ok || c.CloseWrite() != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
	if t, ok := conn.(*tls.Conn); ok {
		_, _ = io.CopyN(io.Discard, t.NetConn(), lingerBytes)
	}
}
