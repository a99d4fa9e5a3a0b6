//go:build !linux

package health

import (
	"net"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	msgTrunc    = 0 // a datagram that fills the buffer counts as truncated
	controlSize = 0
)

// setUp sends with a TTL of 255, from which the far side counts hops. The
// destination, the TTL and the kernel's time of arriving datagrams stay unknown
// here: replies leave from the address that the routing table chooses.
func setUp(conn *net.UDPConn) error {
	_ = ipv4.NewConn(conn).SetTTL(255)
	_ = ipv6.NewConn(conn).SetHopLimit(255)
	return nil
}

func (c *control) parse([]byte) { *c = control{ttl: ttlUnknown} }

func (c *control) reply() []byte { return nil }
