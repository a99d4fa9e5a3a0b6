package netdiag

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"
)

// State is the state of a TCP connection (RFC 9293 section 3.3.2), spelled as
// Windows and BSD netstat spell it; Linux netstat leaves out the second
// underscore of FIN_WAIT_1 and FIN_WAIT_2.
type State string

// The states of a connection.
const (
	StateListen      State = "LISTEN"
	StateSynSent     State = "SYN_SENT"
	StateSynReceived State = "SYN_RECEIVED"
	StateEstablished State = "ESTABLISHED"
	StateFinWait1    State = "FIN_WAIT_1"
	StateFinWait2    State = "FIN_WAIT_2"
	StateCloseWait   State = "CLOSE_WAIT"
	StateClosing     State = "CLOSING"
	StateLastAck     State = "LAST_ACK"
	StateTimeWait    State = "TIME_WAIT"
	// StateClosed is a connection that has no socket any more. It is in no
	// list; Watch reports it as the state after the last.
	StateClosed State = "CLOSED"
)

// Conn is one end of a TCP connection, or a listening socket.
type Conn struct {
	// Local and Remote are the addresses. The remote address of a listening
	// socket is unspecified, port 0. IPv4 over an IPv6 socket is shown as IPv4.
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	State  State          `json:"state"`
	// RecvQueue and SendQueue are the bytes not yet read by the program, and
	// not yet acknowledged by the far side. For a listening socket they are the
	// connections that wait to be accepted and the most that may wait.
	RecvQueue uint32 `json:"recv_queue"`
	SendQueue uint32 `json:"send_queue"`
	// Label is what Query.Label said, such as a transfer id.
	Label string `json:"label,omitempty"`
	// Info is what the kernel knows about the path, on Linux, while the
	// connection has a full socket (not SYN_RECEIVED, not TIME_WAIT).
	Info *TCPInfo `json:"tcp_info,omitempty"`
}

// TCPInfo is a part of the kernel's TCP_INFO (tcp(7), linux/tcp.h).
type TCPInfo struct {
	// RTT is the smoothed round trip and RTTVar its mean deviation (RFC 6298).
	RTT    time.Duration `json:"rtt_ns"`
	RTTVar time.Duration `json:"rttvar_ns"`
	// MinRTT is the least round trip that was seen; zero when unknown.
	MinRTT time.Duration `json:"min_rtt_ns"`
	// Congestion is the name of the congestion control, such as "cubic".
	Congestion string `json:"congestion"`
	// Window is the congestion window, in segments of MSS bytes.
	Window uint32 `json:"cwnd"`
	MSS    uint32 `json:"mss"`
	// PeerWindow is the window the far side advertised last, in bytes.
	PeerWindow uint32 `json:"peer_window"`
	// Retransmits counts segments sent again since the connection opened.
	Retransmits uint32 `json:"retransmits"`
	// Segments counts segments sent, those sent again among them.
	Segments uint32 `json:"segments"`
	// Lost is the kernel's present estimate of segments lost.
	Lost uint32 `json:"lost"`
	// DeliveryRate is the most recent rate at which data was acknowledged, in
	// bytes a second; it is low when the program had nothing to send.
	DeliveryRate uint64 `json:"delivery_rate"`
	// BytesAcked and BytesReceived count payload, in bytes.
	BytesAcked    uint64 `json:"bytes_acked"`
	BytesReceived uint64 `json:"bytes_received"`
}

// Query chooses connections: those whose local port is in LocalPorts or whose
// remote port is in RemotePorts, or all of the machine when both are empty.
type Query struct {
	LocalPorts  []uint16
	RemotePorts []uint16
	// Label names a connection, for instance by the transfer whose lane it is;
	// nil leaves the labels empty.
	Label func(local, remote netip.AddrPort) string
}

func (q Query) match(c Conn) bool {
	if len(q.LocalPorts) == 0 && len(q.RemotePorts) == 0 {
		return true
	}
	return slices.Contains(q.LocalPorts, c.Local.Port()) || slices.Contains(q.RemotePorts, c.Remote.Port())
}

// Connections lists the TCP connections of this machine's network namespace
// that q chooses, listening sockets first, then by local and remote address.
// It needs no privileges. On Linux it takes about 0.5 ms; elsewhere the error
// is ErrUnsupported.
func Connections(q Query) ([]Conn, error) {
	all, err := dump(q.match)
	if err != nil {
		return nil, err
	}
	if q.Label != nil {
		for i := range all {
			all[i].Label = q.Label(all[i].Local, all[i].Remote)
		}
	}
	slices.SortFunc(all, func(a, b Conn) int {
		return cmp.Or(
			cmp.Compare(order(a.State), order(b.State)),
			a.Local.Compare(b.Local),
			a.Remote.Compare(b.Remote),
		)
	})
	return all, nil
}

func order(s State) int {
	if s == StateListen {
		return 0
	}
	return 1
}

// Change is a connection that appeared, changed its state, or went away.
type Change struct {
	// At is when the change was seen, at most one interval after it happened.
	At time.Time `json:"at"`
	// From is the state before, StateClosed for a connection that appeared.
	From State `json:"from"`
	// Conn is the connection now. When it went away its State is StateClosed
	// and the rest is what was seen last.
	Conn
}

// DefaultInterval is how often Watch looks: 2 ms costs about a quarter of one
// processor and shows every state that lasts longer than a local round trip.
const DefaultInterval = 2 * time.Millisecond

// Watch looks at the connections that q chooses every interval (0 means
// DefaultInterval) and calls emit for each change, the present ones first, as
// if they appeared. It returns nil when ctx ends, and the error of emit or of
// the kernel otherwise.
//
// States that begin and end between two looks are not seen: on one machine the
// three-way handshake is over in microseconds. Watch never invents them.
func Watch(ctx context.Context, q Query, interval time.Duration, emit func(Change) error) error {
	if interval <= 0 {
		interval = DefaultInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	w := watch{last: make(map[pair]Conn)}
	for {
		now, err := Connections(q)
		if err != nil {
			return err
		}
		for _, c := range w.diff(time.Now(), now) {
			if err := emit(c); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// pair identifies an end of a connection.
type pair struct{ local, remote netip.AddrPort }

type watch struct {
	last map[pair]Conn
}

// diff compares a list with the one before.
func (w *watch) diff(at time.Time, now []Conn) []Change {
	var out []Change
	seen := make(map[pair]Conn, len(now))
	for _, c := range now {
		p := pair{c.Local, c.Remote}
		seen[p] = c
		before, ok := w.last[p]
		switch {
		case !ok:
			out = append(out, Change{At: at, From: StateClosed, Conn: c})
		case before.State != c.State:
			if c.Label == "" {
				c.Label = before.Label // a label dies with its lane, TIME_WAIT lives on
				seen[p] = c
			}
			out = append(out, Change{At: at, From: before.State, Conn: c})
		}
	}
	var gone []Change
	for p, c := range w.last {
		if _, ok := seen[p]; !ok {
			before := c.State
			c.State = StateClosed
			gone = append(gone, Change{At: at, From: before, Conn: c})
		}
	}
	slices.SortFunc(gone, func(a, b Change) int {
		return cmp.Or(a.Local.Compare(b.Local), a.Remote.Compare(b.Remote))
	})
	w.last = seen
	return append(out, gone...)
}
