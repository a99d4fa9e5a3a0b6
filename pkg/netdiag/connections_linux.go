package netdiag

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Sizes in bytes from linux/inet_diag.h.
const (
	sizeofDiagRequest = 56 // struct inet_diag_req_v2
	sizeofDiagMessage = 72 // struct inet_diag_msg
)

// diagRequest asks for every TCP socket of one family with its TCP_INFO and
// the name of its congestion control, which netlink.SocketDiagTCPInfo leaves
// out:
//
//	0      family
//	1      protocol
//	2      extensions, bit n-1 for INET_DIAG_n
//	3      padding
//	4–7    states, one bit each
//	8–55   socket id, zero: any
type diagRequest struct{ family uint8 }

func (diagRequest) Len() int { return sizeofDiagRequest }

func (r diagRequest) Serialize() []byte {
	b := make([]byte, sizeofDiagRequest)
	b[0] = r.family
	b[1] = unix.IPPROTO_TCP
	b[2] = 1<<(netlink.INET_DIAG_INFO-1) | 1<<(netlink.INET_DIAG_CONG-1)
	const allStates = 0xfff
	binary.NativeEndian.PutUint32(b[4:], allStates)
	return b
}

// dump lists the sockets that keep wants.
func dump(keep func(Conn) bool) ([]Conn, error) {
	var all []Conn
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		some, err := dumpFamily(family, keep)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func dumpFamily(family uint8, keep func(Conn) bool) ([]Conn, error) {
	// A table that changes while it is read is read again; under load the last
	// reading has to do.
	const attempts = 3
	var all []Conn
	for range attempts {
		all = all[:0]
		req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		req.AddData(diagRequest{family: family})
		err := req.ExecuteIter(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY, func(msg []byte) bool {
			if c, ok := parseDiag(msg, keep); ok {
				all = append(all, c)
			}
			return true
		})
		switch {
		case err == nil:
			return all, nil
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAFNOSUPPORT):
			return nil, nil // a kernel without this family
		case !errors.Is(err, nl.ErrDumpInterrupted):
			return nil, failure(transfer.Unavailable, err, "list TCP connections by sock_diag(7)")
		}
	}
	return all, nil
}

// parseDiag reads a struct inet_diag_msg and its attributes:
//
//	0      family
//	1      state
//	2–3    timer, retransmissions
//	4–5    local port, big-endian
//	6–7    remote port, big-endian
//	8–23   local address
//	24–39  remote address
//	40–51  interface, cookie
//	52–55  expiry
//	56–59  receive queue
//	60–63  send queue
//	64–71  user, inode
func parseDiag(msg []byte, keep func(Conn) bool) (Conn, bool) {
	if len(msg) < sizeofDiagMessage {
		return Conn{}, false
	}
	c := Conn{
		State:     stateOf(msg[1]),
		Local:     diagAddr(msg[0], msg[8:24], msg[4:6]),
		Remote:    diagAddr(msg[0], msg[24:40], msg[6:8]),
		RecvQueue: binary.NativeEndian.Uint32(msg[56:]),
		SendQueue: binary.NativeEndian.Uint32(msg[60:]),
	}
	if c.State == StateClosed || !keep(c) {
		return Conn{}, false
	}
	attrs, err := nl.ParseRouteAttr(msg[sizeofDiagMessage:])
	if err != nil {
		return c, true
	}
	congestion := ""
	for _, a := range attrs {
		switch a.Attr.Type {
		case netlink.INET_DIAG_INFO:
			if c.State != StateListen {
				c.Info = parseTCPInfo(a.Value)
			}
		case netlink.INET_DIAG_CONG:
			congestion = unix.ByteSliceToString(a.Value)
		}
	}
	if c.Info != nil {
		c.Info.Congestion = congestion
	}
	return c, true
}

func diagAddr(family uint8, addr, port []byte) netip.AddrPort {
	p := binary.BigEndian.Uint16(port)
	if family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), p)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr)).Unmap(), p)
}

// stateOf names a state of include/net/tcp_states.h.
func stateOf(s uint8) State {
	switch s {
	case unix.BPF_TCP_ESTABLISHED:
		return StateEstablished
	case unix.BPF_TCP_SYN_SENT:
		return StateSynSent
	case unix.BPF_TCP_SYN_RECV, unix.BPF_TCP_NEW_SYN_RECV:
		return StateSynReceived
	case unix.BPF_TCP_FIN_WAIT1:
		return StateFinWait1
	case unix.BPF_TCP_FIN_WAIT2:
		return StateFinWait2
	case unix.BPF_TCP_TIME_WAIT:
		return StateTimeWait
	case unix.BPF_TCP_CLOSE_WAIT:
		return StateCloseWait
	case unix.BPF_TCP_LAST_ACK:
		return StateLastAck
	case unix.BPF_TCP_LISTEN:
		return StateListen
	case unix.BPF_TCP_CLOSING:
		return StateClosing
	default:
		return StateClosed
	}
}

// parseTCPInfo reads a struct tcp_info, of which older kernels send less: what
// is missing is zero.
func parseTCPInfo(b []byte) *TCPInfo {
	var t unix.TCPInfo
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&t)), unsafe.Sizeof(t)), b)
	return infoOf(&t)
}

func infoOf(t *unix.TCPInfo) *TCPInfo {
	micros := func(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
	info := &TCPInfo{
		RTT:           micros(t.Rtt),
		RTTVar:        micros(t.Rttvar),
		MinRTT:        micros(t.Min_rtt),
		Window:        t.Snd_cwnd,
		MSS:           t.Snd_mss,
		PeerWindow:    t.Snd_wnd,
		Retransmits:   t.Total_retrans,
		Segments:      t.Segs_out,
		Lost:          t.Lost,
		DeliveryRate:  t.Delivery_rate,
		BytesAcked:    t.Bytes_acked,
		BytesReceived: t.Bytes_received,
	}
	if t.Min_rtt == math.MaxUint32 {
		info.MinRTT = 0 // the kernel's word for "none yet"
	}
	return info
}

// InfoOf asks the kernel about one connection of this process, by getsockopt(2)
// TCP_INFO. The connection must be a TCP connection, or wrap none. Elsewhere
// than on Linux the error is ErrUnsupported.
func InfoOf(conn syscall.Conn) (*TCPInfo, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, failure(transfer.Unavailable, err, "read TCP_INFO")
	}
	var t *unix.TCPInfo
	var congestion string
	cerr := raw.Control(func(fd uintptr) {
		if t, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			congestion, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		}
	})
	if err := errors.Join(cerr, err); err != nil {
		return nil, failure(transfer.Unavailable, err, "read TCP_INFO")
	}
	info := infoOf(t)
	info.Congestion = congestion
	return info, nil
}
