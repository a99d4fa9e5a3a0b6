package send

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userTimeout is how long sent octets may stay unacknowledged by the receiver's
// kernel before the connection is given up (TCP_USER_TIMEOUT, tcp(7)).
const userTimeout = 30 * time.Second

// rawConn returns the descriptor's access below TLS, or nil.
func rawConn(c net.Conn) syscall.RawConn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	if sc, ok := c.(*net.TCPConn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

func tuneConn(c net.Conn) {
	if raw := rawConn(c); raw != nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
		})
	}
}

// resetOnClose makes Close discard what was not sent.
func resetOnClose(c net.Conn) {
	if raw := rawConn(c); raw != nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		})
	}
}

// paceConn sets the most octets a second that the kernel sends (SO_MAX_PACING_RATE,
// socket(7)); 0 lifts the limit. It reports whether the kernel does so.
func paceConn(c net.Conn, limit int64) bool {
	raw := rawConn(c)
	if raw == nil {
		return false
	}
	v := uint64(limit) //nolint:gosec // never negative
	if limit == 0 {
		v = ^uint64(0)
	}
	var err error
	if cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, v) }); cerr != nil {
		return false
	}
	return err == nil
}

// delivered returns how many octets the receiver's kernel has acknowledged
// (tcpi_bytes_acked of TCP_INFO, tcp(7)); ok is false when that is not known.
func delivered(c net.Conn) (octets int64, ok bool) {
	raw := rawConn(c)
	if raw == nil {
		return 0, false
	}
	cerr := raw.Control(func(fd uintptr) {
		if ti, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			octets, ok = int64(ti.Bytes_acked), true //nolint:gosec // octets of one connection
		}
	})
	return octets, ok && cerr == nil
}

// noteTCP adds what the kernel knows of where the connection's time went.
func (l *lane) noteTCP() {
	raw := rawConn(l.conn)
	if raw == nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if ti, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			l.s.t.stats.busyMicros.Add(int64(ti.Busy_time))    //nolint:gosec // microseconds
			l.s.t.stats.rwndMicros.Add(int64(ti.Rwnd_limited)) //nolint:gosec // microseconds
			l.s.t.stats.known.Store(true)
		}
	})
}
