package netdiag_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/netdiag"
)

// fakeProber answers with fixed figures, or with fail.
type fakeProber struct {
	ping netdiag.PingStats
	tcp  netdiag.Throughput
	udp  netdiag.Throughput
	fail map[string]error
}

func (f *fakeProber) TCPConnect(context.Context) (netdiag.Connected, error) {
	return netdiag.Connected{Elapsed: 2 * time.Millisecond, Congestion: "bbr"}, f.fail["connect"]
}

func (f *fakeProber) TCPRoundTrip(context.Context) (time.Duration, error) {
	return time.Millisecond, f.fail["round trip"]
}

func (f *fakeProber) TCPThroughput(context.Context, time.Duration) (netdiag.Throughput, error) {
	return f.tcp, f.fail["tcp"]
}

func (f *fakeProber) UDPPing(context.Context, time.Duration) (netdiag.PingStats, error) {
	return f.ping, f.fail["ping"]
}

func (f *fakeProber) UDPThroughput(context.Context, time.Duration) (netdiag.Throughput, error) {
	return f.udp, f.fail["udp"]
}

func healthy() *fakeProber {
	return &fakeProber{
		ping: netdiag.PingStats{Sent: 200, Received: 198, Reordered: 1, MedianRTT: time.Millisecond, P99RTT: 3 * time.Millisecond},
		tcp:  netdiag.Throughput{Bytes: 2e9, Elapsed: 2 * time.Second, Packets: 1000, Lost: 5},
		udp:  netdiag.Throughput{Bytes: 2e7, Elapsed: 2 * time.Second, Packets: 1000, Capped: 1e7},
		fail: map[string]error{},
	}
}

// cpu makes a clock of processor time that advances by step at each reading.
func cpu(step time.Duration) func() (time.Duration, error) {
	var now time.Duration
	return func() (time.Duration, error) { now += step; return now, nil }
}

func TestCompare(t *testing.T) {
	c, err := netdiag.Compare(t.Context(), "host:7400", healthy(), netdiag.CompareConfig{CPUTime: cpu(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := netdiag.WriteComparison(&out, c); err != nil {
		t.Fatal(err)
	}
	// 1 s of processor time for 2 GB and for 20 MB; 2 of 200 pings lost.
	const want = `host:7400               TCP        UDP
connection set-up       2ms        none
round trip, median      1ms        1ms
round trip, 99 %        1ms        3ms
lost (TCP: sent again)  0.5 %      1.0 %
out of order            0 %        0.5 %
throughput              1.00 GB/s  10.0 MB/s (held at 10.0 MB/s)
processor time per GB   500ms      50s
congestion control      bbr        none

Files: TCP. It carried 1.00 GB/s in order and whole, although 0.5 % of its segments had to be sent again.

Over UDP 1.0 % of the datagrams were missing and 0.5 % came out of order: a program that needs them all would have to repair and sort, which is TCP again.

Small, timely messages (pings, live sound and pictures): UDP. A first answer takes 1ms without set-up; over a new TCP connection 3ms, over an open one 1ms.

For each gigabyte UDP took 100.0 times the processor time of TCP on this side. The kernel cuts segments for TCP, the program sends each datagram itself; and at the rate at which UDP was held it sleeps and wakes for each of them, which a faster sender would not.

The throughput of UDP is no measure of the path: it was held at 10.0 MB/s, the most that the guards of the ping allow. UDP does not slow down for others, so what a path could carry is not tried.
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
	out.Reset()
	if err := netdiag.WriteJSON(&out, c); err != nil {
		t.Fatal(err)
	}
	var back netdiag.Comparison
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || *back.TCP.Throughput != 1e9 || len(back.Advice) != 5 {
		t.Errorf("JSON: %v\n%s", err, out.String())
	}
}

func TestCompareBlockedUDP(t *testing.T) {
	p := healthy()
	p.ping = netdiag.PingStats{Sent: 10}
	p.fail["udp"] = errors.New("timed out")
	c, err := netdiag.Compare(t.Context(), "x", p, netdiag.CompareConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.UDP.Problems) != 2 || c.UDP.RTT != nil || !strings.Contains(strings.Join(c.Advice, "\n"), "UDP was not answered") {
		t.Errorf("%+v", c)
	}
	var out bytes.Buffer
	if err := netdiag.WriteComparison(&out, c); err != nil || !strings.Contains(out.String(), "UDP not measured: throughput: timed out") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestCompareFailures(t *testing.T) {
	down := errors.New("down")
	p := &fakeProber{fail: map[string]error{"connect": down, "round trip": down, "tcp": down, "ping": down, "udp": down}}
	if _, err := netdiag.Compare(t.Context(), "x", p, netdiag.CompareConfig{}); !errors.Is(err, down) {
		t.Errorf("nothing measured: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := netdiag.Compare(ctx, "x", healthy(), netdiag.CompareConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The real clock of processor time moves when work is done.
func TestCompareProcessorTime(t *testing.T) {
	p := &worker{fakeProber: healthy()}
	c, err := netdiag.Compare(t.Context(), "x", p, netdiag.CompareConfig{})
	if err != nil || c.TCP.CPUPerGB == nil || *c.TCP.CPUPerGB <= 0 {
		t.Errorf("%+v, %v", c.TCP, err)
	}
}

// worker keeps a processor busy in TCPThroughput.
type worker struct{ *fakeProber }

func (w *worker) TCPThroughput(ctx context.Context, _ time.Duration) (netdiag.Throughput, error) {
	n := uint32(1)
	for range 50_000_000 {
		n = n*1664525 + 1013904223
	}
	w.tcp.Packets += int64(n % 2)
	return w.tcp, ctx.Err()
}
