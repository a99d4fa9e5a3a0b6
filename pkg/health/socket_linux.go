package health

import (
	"encoding/binary"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// msgTrunc is the flag of a datagram that did not fit the buffer, recvmsg(2).
	msgTrunc = unix.MSG_TRUNC
	// controlSize in octets fits what setUp asks for: both kinds of packet
	// information, TTL and hop limit, and the time stamp, with their headers.
	controlSize = 256
)

// setUp asks the kernel for the destination, the TTL and the receive time of
// each datagram, and sends with a TTL of 255, from which the far side counts
// hops (RFC 8762 section 4.2.1). A socket of one family refuses the options of
// the other; what is not granted is reported as unknown later.
func setUp(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) {
		for _, o := range [...]struct{ level, name, value int }{
			{unix.SOL_IP, unix.IP_PKTINFO, 1},
			{unix.SOL_IP, unix.IP_RECVTTL, 1},
			{unix.SOL_IP, unix.IP_TTL, 255},
			{unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1},
			{unix.SOL_IPV6, unix.IPV6_RECVHOPLIMIT, 1},
			{unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS, 255},
			{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1},
		} {
			_ = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
		}
	})
}

// parse reads the control messages of one datagram. It walks them by hand
// because the parser of x/sys allocates for each.
func (c *control) parse(oob []byte) {
	*c = control{ttl: ttlUnknown}
	for len(oob) >= unix.SizeofCmsghdr {
		n := cmsgLen(oob)
		if n < unix.CmsgLen(0) || n > len(oob) {
			return
		}
		level := binary.NativeEndian.Uint32(oob[unix.SizeofCmsghdr-8:])
		kind := binary.NativeEndian.Uint32(oob[unix.SizeofCmsghdr-4:])
		c.one(level, kind, oob[unix.CmsgLen(0):n])
		oob = oob[min(unix.CmsgSpace(n-unix.CmsgLen(0)), len(oob)):]
	}
}

func (c *control) one(level, kind uint32, data []byte) {
	switch {
	case level == unix.SOL_IP && kind == unix.IP_PKTINFO && len(data) >= 12:
		// ip(7): interface, local address of the packet, destination in the header.
		// The two differ for broadcast and multicast. The local address is zero
		// for what arrived before IP_PKTINFO was set; a broadcast address, should
		// it be one, is then no source that the kernel accepts for a reply.
		spec, dst := [4]byte(data[4:8]), [4]byte(data[8:12])
		c.v4, c.v6 = true, false
		copy(c.local[:], dst[:])
		c.group = dst[0] >= 224 || spec != dst && spec != [4]byte{}
	case level == unix.SOL_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= 20 && !c.v4:
		c.v6 = true
		copy(c.local[:], data[:16])
		c.group = data[0] == 0xff
		if data[0] == 0xfe && data[1]&0xc0 == 0x80 { // link-local needs its interface
			c.ifindex = binary.NativeEndian.Uint32(data[16:])
		}
	case level == unix.SOL_IP && kind == unix.IP_TTL && len(data) >= 4,
		level == unix.SOL_IPV6 && kind == unix.IPV6_HOPLIMIT && len(data) >= 4:
		c.ttl = uint8(binary.NativeEndian.Uint32(data))
	case level == unix.SOL_SOCKET && kind == unix.SO_TIMESTAMPNS && len(data) >= 16:
		c.at = time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
	case level == unix.SOL_SOCKET && kind == unix.SO_TIMESTAMPNS && len(data) == 8:
		c.at = time.Unix(int64(int32(binary.NativeEndian.Uint32(data))), int64(binary.NativeEndian.Uint32(data[4:])))
	}
}

// reply returns the control message that sends a reply from the address that
// was asked, in a buffer of c's own.
func (c *control) reply() []byte {
	switch {
	case c.v4:
		data := c.header(unix.SOL_IP, unix.IP_PKTINFO, 12)
		copy(data[4:8], c.local[:4])
		return c.out[:unix.CmsgSpace(12)]
	case c.v6:
		data := c.header(unix.SOL_IPV6, unix.IPV6_PKTINFO, 20)
		copy(data, c.local[:])
		binary.NativeEndian.PutUint32(data[16:], c.ifindex)
		return c.out[:unix.CmsgSpace(20)]
	}
	return nil
}

func (c *control) header(level, kind uint32, n int) []byte {
	clear(c.out[:])
	if unix.SizeofPtr == 8 {
		binary.NativeEndian.PutUint64(c.out[:], uint64(unix.CmsgLen(n)))
	} else {
		binary.NativeEndian.PutUint32(c.out[:], uint32(unix.CmsgLen(n)))
	}
	binary.NativeEndian.PutUint32(c.out[unix.SizeofCmsghdr-8:], level)
	binary.NativeEndian.PutUint32(c.out[unix.SizeofCmsghdr-4:], kind)
	return c.out[unix.CmsgLen(0):]
}

func cmsgLen(b []byte) int {
	if unix.SizeofPtr == 8 {
		return int(binary.NativeEndian.Uint64(b))
	}
	return int(binary.NativeEndian.Uint32(b))
}
