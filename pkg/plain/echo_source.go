package plain

import (
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// replySource finds the address that a datagram was sent to, so that the reply
// leaves from it. A socket bound to one address needs nothing; on a wildcard
// the kernel would choose by route, and the client would not know the answer
// (ip(7) IP_PKTINFO, RFC 3542 section 6.1).
type replySource struct {
	wildcard bool
	v4       bool
}

func newReplySource(conn *net.UDPConn) (*replySource, error) {
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	s := &replySource{wildcard: local.IsUnspecified(), v4: local.Unmap().Is4()}
	if !s.wildcard {
		return s, nil
	}
	var err error
	if s.v4 {
		err = ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true)
	} else {
		err = ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst, true)
	}
	if err != nil {
		return nil, failure(transfer.Invalid, err, "ask the kernel for the address of each datagram on %s", conn.LocalAddr()).
			WithHint("listen on one address instead of all")
	}
	return s, nil
}

// reply returns the control message for answering a datagram that came with
// oob, and false if it must not be answered: it was sent to a group or to
// everybody, where one request would draw an answer from each machine.
func (s *replySource) reply(oob []byte) ([]byte, bool) {
	if !s.wildcard {
		return nil, true
	}
	var dst net.IP
	if s.v4 {
		var cm ipv4.ControlMessage
		if cm.Parse(oob) != nil {
			return nil, false
		}
		dst = cm.Dst
	} else {
		var cm ipv6.ControlMessage
		if cm.Parse(oob) != nil {
			return nil, false
		}
		dst = cm.Dst
	}
	to, ok := netip.AddrFromSlice(dst)
	if !ok || to.Unmap().IsMulticast() || to.Unmap() == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return nil, false
	}
	if to.Unmap().Is4() {
		// An IPv6 socket sends to mapped addresses by IPv4, with its messages.
		return (&ipv4.ControlMessage{Src: dst}).Marshal(), true
	}
	return (&ipv6.ControlMessage{Src: dst}).Marshal(), true
}
