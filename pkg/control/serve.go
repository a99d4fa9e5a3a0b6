package control

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Serve takes connections from ln until ctx ends, then stops: health says
// NOT_SERVING, streams are ended, calls that run may finish, and after limit
// they are cut. It closes ln, returns when nothing of the server runs any more,
// and can be called once. The error is nil after ctx ended.
func (s *Server) Serve(ctx context.Context, ln net.Listener, limit time.Duration) error {
	s.metrics.InitializeMetrics(s.grpc)
	served := make(chan error, 1)
	bounded := &boundedListener{Listener: ln, all: s.cfg.Connections, per: s.cfg.ConnectionsPer, limit: s.cfg.SendTimeout, by: map[netip.Addr]int{}}
	go func() { served <- s.grpc.Serve(bounded) }()
	var err error
	select {
	case err = <-served:
		served <- nil
	case <-ctx.Done():
	}
	s.stop()
	stopWithin(s.grpc, limit)
	if e := <-served; err == nil && !errors.Is(e, grpc.ErrServerStopped) {
		err = e
	}
	s.cleanup()
	if s.cfg.Metrics != nil {
		s.cfg.Metrics.Unregister(s.metrics)
	}
	if err != nil {
		return transfer.Errorf(transfer.Internal, "serve control plane", ln.Addr().String(), "%w", err)
	}
	return nil
}

// stopWithin stops gracefully, and by force after limit.
func stopWithin(g *grpc.Server, limit time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.GracefulStop()
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		g.Stop() // makes GracefulStop return, too
		<-done
	}
}

// boundedListener closes connections beyond the limits as soon as they come, so
// that no address can keep others out by connecting only.
type boundedListener struct {
	net.Listener

	all, per int
	limit    time.Duration // of a write

	mu    sync.Mutex
	total int
	by    map[netip.Addr]int
}

// Accept satisfies net.Listener.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOfConn(c)
		if l.enter(source) {
			return &boundedConn{Conn: c, limit: l.limit, leave: sync.OnceFunc(func() { l.leave(source) })}, nil
		}
		_ = c.Close() // nothing was promised to it
	}
}

func sourceOfConn(c net.Conn) netip.Addr {
	if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		return sourceOf(a.Addr())
	}
	return netip.Addr{}
}

func (l *boundedListener) enter(source netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.all || l.by[source] >= l.per {
		return false
	}
	l.total++
	l.by[source]++
	return true
}

func (l *boundedListener) leave(source netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.by[source]--; l.by[source] <= 0 {
		delete(l.by, source)
	}
}

type boundedConn struct {
	net.Conn

	limit time.Duration
	leave func()
}

// Close satisfies net.Conn.
func (c *boundedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
