package netdiag

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// maxPacket is the largest IP packet in bytes (RFC 791 section 3.1); loopback
// has an MTU of one more.
const maxPacket = 65_535

// PathMTU finds the path MTU towards addr, a UDP port: it sends zeroed datagrams
// of the largest size that the kernel thinks fits, with "don't fragment", and
// reads what the kernel learns from ICMP (ip(7) IP_MTU, IP_MTU_DISCOVER;
// RFC 1191, RFC 8201). Whoever listens there must not mind a few datagrams. A
// router that drops without ICMP is not found out.
func PathMTU(ctx context.Context, addr string) (MTU, error) {
	tos, err := resolve(ctx, addr)
	if err != nil {
		return MTU{}, err
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "udp", tos[0])
	if err != nil {
		return MTU{}, failure(transfer.Unavailable, err, "find a route to %s", addr)
	}
	defer nc.Close()
	conn := nc.(*net.UDPConn)
	v6 := conn.RemoteAddr().(*net.UDPAddr).IP.To4() == nil
	headers := 20 + 8 // IPv4 and UDP
	if v6 {
		headers = 40 + 8
	}
	path, err := mtu(conn, v6, true)
	if err != nil {
		return MTU{}, failure(transfer.Unavailable, err, "read the path MTU to %s", addr)
	}
	m := MTU{Path: path, Link: path}
	if link := linkMTU(conn.LocalAddr().(*net.UDPAddr).IP); link > 0 {
		m.Link = min(link, maxPacket) // path may be remembered from earlier traffic
	}
	// Each narrower link answers once; an answer takes a round trip. A probe or its
	// answer may be lost, so silence is believed only the third time.
	const rounds, wait, look, silences = 6, 250 * time.Millisecond, 10 * time.Millisecond, 3
	silent := 0
	for range rounds {
		probe := make([]byte, max(0, m.Path-headers))
		// ECONNREFUSED answers an earlier probe, EMSGSIZE means news.
		if _, err := conn.Write(probe); err != nil && !errors.Is(err, syscall.EMSGSIZE) && !errors.Is(err, syscall.ECONNREFUSED) {
			return m, failure(transfer.Unavailable, err, "probe the path MTU to %s", addr)
		}
		before := m.Path
		for end := time.Now().Add(wait); time.Now().Before(end) && m.Path == before; {
			if m.Path, err = mtu(conn, v6, false); err != nil {
				return m, failure(transfer.Unavailable, err, "read the path MTU to %s", addr)
			}
			// On a link to oneself there is no router to answer.
			if before >= maxPacket {
				break
			}
			select {
			case <-time.After(look):
			case <-ctx.Done():
				return m, failure(transfer.Unavailable, context.Cause(ctx), "probe the path MTU to %s", addr)
			}
		}
		if m.Path < before {
			silent = 0
		} else if silent++; silent == silences || before >= maxPacket {
			break
		}
	}
	return m, nil
}

// mtu reads IP_MTU, after forbidding fragments if first is set.
func mtu(conn *net.UDPConn, v6, first bool) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	level, discover, do, opt := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO, unix.IP_MTU
	if v6 {
		level, discover, do, opt = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO, unix.IPV6_MTU
	}
	n := 0
	cerr := raw.Control(func(fd uintptr) {
		if first {
			err = unix.SetsockoptInt(int(fd), level, discover, do)
		}
		if err == nil {
			n, err = unix.GetsockoptInt(int(fd), level, opt)
		}
	})
	return n, errors.Join(cerr, err)
}

// linkMTU returns the MTU of the interface that has the address ip, or 0.
func linkMTU(ip net.IP) int {
	all, err := net.Interfaces()
	if err != nil {
		return 0
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
				return i.MTU
			}
		}
	}
	return 0
}

// SocketBuffers reads the limits of this machine's network namespace (tcp(7),
// tcp_rmem and tcp_wmem; they hold for IPv6 too).
func SocketBuffers() (Buffers, error) {
	read, err := third("/proc/sys/net/ipv4/tcp_rmem")
	if err != nil {
		return Buffers{}, err
	}
	write, err := third("/proc/sys/net/ipv4/tcp_wmem")
	if err != nil {
		return Buffers{}, err
	}
	return Buffers{MaxRead: read, MaxWrite: write}, nil
}

func third(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, failure(transfer.Unavailable, err, "read the socket buffer limits")
	}
	fields := strings.Fields(string(b))
	if len(fields) != 3 {
		return 0, failure(transfer.Unavailable, nil, "read the socket buffer limits: %s has %d figures, not 3", path, len(fields))
	}
	n, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return 0, failure(transfer.Unavailable, err, "read the socket buffer limits in %s", path)
	}
	return n, nil
}
