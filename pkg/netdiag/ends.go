package netdiag

import (
	"net"
	"net/netip"
)

// Ends are the two addresses of a TCP connection as this machine sees them, by
// which Query.Label finds its name. IPv4 over an IPv6 socket is IPv4.
type Ends struct{ Local, Remote netip.AddrPort }

// EndsOf returns the ends of a connection; false when it is not over TCP.
func EndsOf(local, remote net.Addr) (Ends, bool) {
	l, lok := local.(*net.TCPAddr)
	r, rok := remote.(*net.TCPAddr)
	if !lok || !rok {
		return Ends{}, false
	}
	return Ends{unmapPort(l.AddrPort()), unmapPort(r.AddrPort())}, true
}

func unmapPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
