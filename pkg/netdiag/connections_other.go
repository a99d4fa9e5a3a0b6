//go:build !linux

package netdiag

import (
	"net/netip"
	"strings"
	"syscall"

	psnet "github.com/shirou/gopsutil/v4/net"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// dump lists the sockets that keep wants, without queues and TCP_INFO.
func dump(keep func(Conn) bool) ([]Conn, error) {
	some, err := psnet.Connections("tcp")
	if err != nil {
		return nil, failure(transfer.Unavailable, err, "list TCP connections").WithHint("try netstat -an")
	}
	var all []Conn
	for _, s := range some {
		c := Conn{Local: addrPort(s.Laddr), Remote: addrPort(s.Raddr), State: stateNamed(s.Status)}
		if c.State != StateClosed && keep(c) {
			all = append(all, c)
		}
	}
	return all, nil
}

func addrPort(a psnet.Addr) netip.AddrPort {
	ip, err := netip.ParseAddr(strings.Trim(a.IP, "[]"))
	if err != nil {
		ip = netip.IPv4Unspecified() // "*" of lsof(8)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(a.Port))
}

// stateNamed reads the names of lsof(8) and of GetExtendedTcpTable.
func stateNamed(s string) State {
	switch s {
	case "SYN_RCVD", "SYN_RECV":
		return StateSynReceived
	case "FIN_WAIT1":
		return StateFinWait1
	case "FIN_WAIT2":
		return StateFinWait2
	case "CLOSE", "DELETE", "NONE", "":
		return StateClosed
	default:
		return State(s)
	}
}

// InfoOf has no source on this system; the error is ErrUnsupported.
func InfoOf(syscall.Conn) (*TCPInfo, error) {
	return nil, failure(transfer.Invalid, ErrUnsupported, "read TCP_INFO")
}
