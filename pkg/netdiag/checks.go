package netdiag

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// slowConnect is the time in which a connection should open. A lost SYN is sent
// again after 1 s (RFC 6298 section 2.1), so more than that is loss, not
// distance.
const slowConnect = time.Second

// CheckTCP examines whether addr accepts TCP connections. Do is what to do when
// it does not, such as which flag of the receiver opens the port.
func CheckTCP(name, addr, do string) Check {
	return Check{Name: name, Run: func(ctx context.Context) Result {
		m, err := MeasureConnect(ctx, addr)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return Fail(do, "%s: connection refused: the machine is there, but nothing listens on the port", addr)
		case isTimeout(err):
			return Fail("check the address, and that no firewall drops TCP to this port; "+do, "%s: no answer", addr)
		case err != nil:
			return Fail(do, "%v", err)
		case m.Elapsed >= slowConnect:
			return Warn("a SYN was probably lost: look at the loss of the ping, and at firewalls that limit new connections", "%s: connected only after %s", addr, duration(m.Elapsed))
		}
		return Okay("%s: connected in %s", addr, duration(m.Elapsed))
	}}
}

// PingStats is what a series of UDP pings found.
type PingStats struct {
	// Sent and Received count pings and their distinct answers.
	Sent     int `json:"sent"`
	Received int `json:"received"`
	// Reordered counts answers that came after the answer to a later ping.
	Reordered int `json:"reordered"`
	// MinRTT, MedianRTT and P99RTT are round trips without the far side's
	// processing.
	MinRTT    time.Duration `json:"min_rtt_ns"`
	MedianRTT time.Duration `json:"median_rtt_ns"`
	P99RTT    time.Duration `json:"p99_rtt_ns"`
}

// Loss is the share of pings without an answer, 0 to 1.
func (p PingStats) Loss() float64 {
	if p.Sent == 0 {
		return 0
	}
	return float64(p.Sent-p.Received) / float64(p.Sent)
}

// CheckPing examines what ping measured. No answer is a warning only: transfers
// need no UDP.
func CheckPing(ping func(ctx context.Context) (PingStats, error)) Check {
	// One lost ping in a hundred slows a loss-based TCP visibly (Mathis et al.,
	// 1997: rate ~ 1/√loss).
	const muchLoss = 0.01
	return Check{Name: "UDP ping", Run: func(ctx context.Context) Result {
		p, err := ping(ctx)
		switch {
		case p.Received == 0 && err != nil:
			return Warn("transfers work without it, but a stuck receiver is noticed later; open the ping port for UDP", "no answer: %v", err)
		case p.Received == 0:
			return Warn("transfers work without it, but a stuck receiver is noticed later; open the ping port for UDP", "none of %d pings was answered: UDP is blocked, or the reflector is off", p.Sent)
		case p.Loss() >= muchLoss:
			return Warn("look for the lossy part of the path; prefer congestion control bbr and more lanes", "%.1f %% of %d pings lost, round trip %s", 100*p.Loss(), p.Sent, duration(p.MedianRTT))
		}
		return Okay("%d of %d answered, round trip %s, 99 %% within %s", p.Received, p.Sent, duration(p.MedianRTT), duration(p.P99RTT))
	}}
}

// CheckClock examines how far the receiver's clock is ahead of ours, and how
// exactly that is known.
func CheckClock(measure func(ctx context.Context) (offset, uncertainty time.Duration, err error)) Check {
	const (
		tolerable = time.Second     // file times and logs stay comparable
		dangerous = 5 * time.Minute // certificates and tokens are misjudged
	)
	return Check{Name: "clock", Run: func(ctx context.Context) Result {
		off, unc, err := measure(ctx)
		if err != nil {
			return Warn("run the doctor again when the ping is answered", "difference unknown: %v", err)
		}
		ahead := "ahead"
		if off < 0 {
			off, ahead = -off, "behind"
		}
		detail := fmt.Sprintf("the receiver is %s %s, to within %s", duration(off), ahead, duration(unc))
		switch {
		case off-unc >= dangerous:
			return Fail("set both clocks, by NTP or chrony: certificates and tokens are judged by time", "%s", detail)
		case off-unc >= tolerable:
			return Warn("set both clocks, by NTP or chrony, or times in logs will not fit together", "%s", detail)
		}
		return Okay("%s", detail)
	}}
}

// CheckDisk examines the space that measure reports, in bytes.
func CheckDisk(name string, measure func(ctx context.Context) (free, total int64, err error)) Check {
	const low, full = 0.10, 0.01 // shares of the disk
	return Check{Name: name, Run: func(ctx context.Context) Result {
		free, total, err := measure(ctx)
		if err != nil {
			return Warn("look at the disk by hand", "space unknown: %v", err)
		}
		detail := fmt.Sprintf("%s of %s free", Bytes(float64(free)), Bytes(float64(total)))
		switch share := float64(free) / float64(max(1, total)); {
		case share < full:
			return Fail("make room: new transfers will be refused", "%s", detail)
		case share < low:
			return Warn("make room before large transfers", "%s", detail)
		}
		return Okay("%s", detail)
	}}
}

// CheckVersions compares our version with what ask reports for the far side.
func CheckVersions(ours string, ask func(ctx context.Context) (string, error)) Check {
	return Check{Name: "versions", Run: func(ctx context.Context) Result {
		theirs, err := ask(ctx)
		switch {
		case err != nil:
			return Warn("a receiver that cannot tell its version is old, or not one of ours", "unknown: %v", err)
		case theirs != ours:
			return Warn("both sides speak protocol v1, but upgrade the older one when it suits", "sender %s, receiver %s", ours, theirs)
		}
		return Okay("both %s", ours)
	}}
}

// CheckMTU examines the path MTU towards addr, a UDP port there; see PathMTU.
func CheckMTU(addr string) Check {
	const least = 1280 // what IPv6 demands of every link, RFC 8200 section 5
	return Check{Name: "path MTU", Run: func(ctx context.Context) Result {
		m, err := PathMTU(ctx, addr)
		switch {
		case errors.Is(err, ErrUnsupported):
			return Okay("not known on this system")
		case err != nil:
			return Warn("look at the route to the receiver", "unknown: %v", err)
		case m.Path < least:
			return Warn("a tunnel takes more than it should; every packet carries little", "%d bytes", m.Path)
		case m.Path < m.Link:
			return Warn("TCP adapts as long as ICMP passes; do not filter ICMP type 3 code 4, or set the interface to the smaller MTU", "%d bytes, while the interface has %d: a tunnel or VPN lies between", m.Path, m.Link)
		}
		return Okay("%d bytes, as the interface", m.Path)
	}}
}

// CheckBuffers examines whether the kernel's largest socket buffers hold
// bandwidth × delay for the given number of lanes. Measure reports the round
// trip and the bandwidth that is wanted, in bytes a second; 0 for the bandwidth
// means that nothing particular is wanted.
func CheckBuffers(lanes int, measure func(ctx context.Context) (rtt time.Duration, bandwidth float64, err error)) Check {
	return Check{Name: "socket buffers", Run: func(ctx context.Context) Result {
		rtt, bandwidth, err := measure(ctx)
		if err != nil {
			return Warn("run the doctor again when the round trip is known", "round trip unknown: %v", err)
		}
		b, err := SocketBuffers()
		switch {
		case errors.Is(err, ErrUnsupported):
			return Okay("the limits are not known on this system")
		case err != nil:
			return Warn("look at sysctl net.ipv4.tcp_wmem and tcp_rmem", "%v", err)
		}
		return judgeBuffers(b, max(1, lanes), rtt, bandwidth)
	}}
}

func judgeBuffers(b Buffers, lanes int, rtt time.Duration, bandwidth float64) Result {
	// Half of a buffer is the window: the kernel counts its own structures
	// too (ip-sysctl, tcp_adv_win_scale = 1).
	window := float64(b.MaxWrite) / 2
	most := window / max(rtt, time.Microsecond).Seconds() * float64(lanes)
	detail := fmt.Sprintf("%s to send, %s to receive at most: at a round trip of %s, %d lanes carry up to %s",
		Bytes(float64(b.MaxWrite)), Bytes(float64(b.MaxRead)), duration(rtt), lanes, Rate(most))
	if bandwidth == 0 || most >= bandwidth {
		return Okay("%s", detail)
	}
	// The next power of two in MiB for each lane.
	need := 2 * bandwidth * rtt.Seconds() / float64(lanes)
	size := int64(1 << 20)
	for float64(size) < need {
		size *= 2
	}
	return Warn(fmt.Sprintf("on both machines: sysctl -w net.ipv4.tcp_wmem='4096 16384 %d' net.ipv4.tcp_rmem='4096 131072 %d', or use more lanes", size, size),
		"%s, less than the %s of the path", detail, Rate(bandwidth))
}

// Buffers are the limits to which the kernel grows the buffers of a TCP socket,
// in bytes.
type Buffers struct {
	MaxRead  int64 `json:"max_read"`  // net.ipv4.tcp_rmem, third figure
	MaxWrite int64 `json:"max_write"` // net.ipv4.tcp_wmem, third figure
}

// MTU is the largest packet in bytes, IP header included.
type MTU struct {
	Path int `json:"path"` // as far as the kernel has learnt
	Link int `json:"link"` // of the interface that leads there
}

// Connected is one opened TCP connection, measured.
type Connected struct {
	// Elapsed is the time of the three-way open, with one round trip in it, and
	// without the lookup of the name.
	Elapsed time.Duration `json:"elapsed_ns"`
	// RTT is what the kernel measured between SYN and SYN+ACK; zero where the
	// system does not tell.
	RTT time.Duration `json:"rtt_ns"`
	// Congestion is the congestion control it would use; empty if unknown.
	Congestion string `json:"congestion,omitempty"`
}

// MeasureConnect opens a TCP connection to addr and closes it again. The error
// is a *transfer.Error with Kind Unavailable; the cause says why.
func MeasureConnect(ctx context.Context, addr string) (Connected, error) {
	tos, err := resolve(ctx, addr)
	if err != nil {
		return Connected{}, err
	}
	var d net.Dialer
	var c net.Conn
	var elapsed time.Duration
	for _, to := range tos {
		start := time.Now()
		c, err = d.DialContext(ctx, "tcp", to)
		elapsed = time.Since(start)
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return Connected{}, failure(transfer.Unavailable, err, "connect to %s", addr)
	}
	defer c.Close()
	m := Connected{Elapsed: elapsed}
	if sc, ok := c.(syscall.Conn); ok {
		if info, err := InfoOf(sc); err == nil {
			m.RTT, m.Congestion = info.RTT, info.Congestion
		}
	}
	return m, nil
}

// resolve looks up the host of addr, so that measurements leave the lookup out,
// and returns an address for each of its IP addresses.
func resolve(ctx context.Context, addr string) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, failure(transfer.Invalid, err, "read the address %q", addr).WithHint("write HOST:PORT")
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, failure(transfer.Unavailable, err, "look up %q", host)
	}
	var out []string
	for _, ip := range ips {
		out = append(out, net.JoinHostPort(ip.Unmap().String(), port))
	}
	return out, nil
}

func isTimeout(err error) bool {
	ne, ok := errors.AsType[net.Error](err)
	return ok && ne.Timeout() || errors.Is(err, context.DeadlineExceeded)
}
