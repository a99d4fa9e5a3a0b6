package health

import (
	"context"
	"math"
	"net"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/e27efefb/sluice/pkg/stamp"
)

// BenchmarkReplies compares reflectors over loopback: ns/op is the time of one
// request and its reply, client included. "plain" reads and writes back and
// does nothing else; "single" and "batch" are the reflector kept from choosing
// by itself; waiting is how many requests are on their way at once.
func BenchmarkReplies(b *testing.B) {
	for _, kind := range []struct {
		name string
		loop func(ctx context.Context, conn *net.UDPConn) error
	}{
		{"plain", plainLoop},
		{"reflector", func(ctx context.Context, conn *net.UDPConn) error { return benchReflector().Serve(ctx, conn) }},
		{"single", func(ctx context.Context, conn *net.UDPConn) error {
			r := benchReflector()
			r.busy = math.Inf(1)
			return r.Serve(ctx, conn)
		}},
		{"batch", func(ctx context.Context, conn *net.UDPConn) error {
			r := benchReflector()
			r.busy = alwaysBatch
			return r.Serve(ctx, conn)
		}},
	} {
		for _, waiting := range []int{1, 64} {
			b.Run(kind.name+"/waiting="+map[int]string{1: "1", 64: "64"}[waiting], func(b *testing.B) {
				conn := listen(b, "127.0.0.1:0")
				where := conn.LocalAddr().String()
				run0(b, func(ctx context.Context) error { return kind.loop(ctx, conn) })
				flood(b, where, waiting)
			})
		}
	}
}

// BenchmarkAnswer is what a reflector does between reading and writing.
func BenchmarkAnswer(b *testing.B) {
	r := benchReflector()
	session, err := r.NewSession("bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("plain", func(b *testing.B) {
		req := plainRequest(1)
		q := ask(make([]byte, len(req)), stranger)
		b.ReportAllocs()
		for b.Loop() {
			copy(q.buf, req)
			if !r.answer(q) {
				b.Fatal("no answer")
			}
		}
	})
	b.Run("authenticated", func(b *testing.B) {
		mac := stamp.NewMAC(session.Key[:])
		buf := make([]byte, 0, 200)
		seq := uint32(0)
		b.ReportAllocs()
		for b.Loop() { // sealing the request is in the figure
			seq++
			req := stamp.AppendHMAC(stamp.AppendStatusRequest(stamp.Sender{Seq: seq, T1: 1 << 40, SSID: session.SSID}.AppendAuth(buf)), mac)
			mac.Seal(req)
			if !r.answer(ask(req, stranger)) {
				b.Fatal("no answer")
			}
		}
	})
}

func benchReflector() *Reflector {
	return NewReflector(ReflectorConfig{
		Open: true, SourceRate: 1e9, TotalRate: 1e9, SessionRate: 1e9,
		Status: func() stamp.Status { return servingStatus },
	})
}

// flood keeps so many requests on their way until b.N were answered. It sends
// and receives by batch, so that the reflector is the slower side. A lost
// datagram is made up for after a while.
func flood(b *testing.B, where string, waiting int) {
	c, err := net.Dial("udp", where)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	pc, req := ipv4.NewPacketConn(c.(*net.UDPConn)), plainRequest(1)
	out, in := make([]ipv4.Message, waiting), make([]ipv4.Message, waiting)
	for i := range out {
		out[i].Buffers = [][]byte{req}
		in[i].Buffers = [][]byte{make([]byte, 200)}
	}
	b.ResetTimer()
	begin := time.Now()
	for sent, got := 0, 0; got < b.N; {
		for sent < b.N && sent-got < waiting {
			n, err := pc.WriteBatch(out[:min(b.N-sent, waiting-(sent-got))], 0)
			if err != nil {
				b.Fatal(err)
			}
			sent += n
		}
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := pc.ReadBatch(in, 0)
		if got += n; err != nil {
			sent = got
		}
	}
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "replies/s")
}

func plainLoop(ctx context.Context, conn *net.UDPConn) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	buf := make([]byte, bufferSize)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return nil
		}
		if _, err := conn.WriteToUDPAddrPort(buf[:n], from); err != nil {
			return nil
		}
	}
}
