package control

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/realip"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// raw opens an HTTP/2 connection by hand.
func raw(t *testing.T, addr string) (net.Conn, *http2.Framer) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	fr := http2.NewFramer(conn, conn)
	if err := fr.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return conn, fr
}

func headers(method string, more ...hpack.HeaderField) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: method},
		{Name: ":authority", Value: "x"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	}, more...) {
		_ = enc.WriteField(f)
	}
	return b.Bytes()
}

// honest makes calls until stop is closed and reports the first error.
func honest(t *testing.T, c *Client, stop <-chan struct{}) <-chan error {
	t.Helper()
	ctx, out := within(t), make(chan error, 1)
	go func() {
		for calls := 0; ; calls++ {
			if _, err := c.Get(ctx, transfer.NewID()); err != nil {
				out <- err
				return
			}
			select {
			case <-stop:
				if calls > 0 {
					out <- nil
					return
				}
			default:
			}
		}
	}()
	return out
}

func floodServer(t *testing.T) *running {
	t.Helper()
	v := &fakeView{
		get:   func(transfer.ID) (transfer.Info, error) { return transfer.Info{ID: transfer.NewID()}, nil },
		watch: watchForever,
	}
	return serve(t, ServerConfig{CallsPerSecond: -1}, viewOf(v), time.Second)
}

// slowGuard takes its time with callers that show the token "slow": until release
// is closed. It counts how many of them it has at once.
type slowGuard struct {
	Authenticator

	release  chan struct{}
	now, top atomic.Int64
}

func (g *slowGuard) Authenticate(ctx context.Context, authorization string, chain []*x509.Certificate) (auth.Principal, error) {
	if authorization != "Bearer slow" {
		return g.Authenticator.Authenticate(ctx, authorization, chain)
	}
	n := g.now.Add(1)
	defer g.now.Add(-1)
	for top := g.top.Load(); n > top && !g.top.CompareAndSwap(top, n); top = g.top.Load() {
	}
	<-g.release
	return "", transfer.Errorf(transfer.Denied, "authenticate", "", "too late")
}

// TestRapidReset opens and resets streams as fast as a raw framer can
// (CVE-2023-44487) while an honest client works. A call whose stream was reset
// before it ended stays one of the MaxStreams that a connection may have at work.
func TestRapidReset(t *testing.T) {
	g := &slowGuard{Authenticator: openGuard(t), release: make(chan struct{})}
	v := &fakeView{get: func(transfer.ID) (transfer.Info, error) { return transfer.Info{ID: transfer.NewID()}, nil }}
	s := serve(t, ServerConfig{Auth: g, CallsPerSecond: -1}, viewOf(v), time.Second)
	defer close(g.release)
	stop := make(chan struct{})
	result := honest(t, s.dial(ClientConfig{}), stop)
	conn, fr := raw(t, s.addr)
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	drained := make(chan struct{})
	go func() { defer close(drained); _, _ = io.Copy(io.Discard, conn) }()
	block := headers(pb.ReceiverService_WatchTransfers_FullMethodName, hpack.HeaderField{Name: "authorization", Value: "Bearer slow"})
	for i := range uint32(10 * MaxStreams) { // which the socket takes although the server stops reading
		id := 2*i + 1
		if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}) != nil || fr.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // the server may close the connection
		}
	}
	for deadline := time.Now().Add(time.Minute); g.now.Load() < MaxStreams; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d calls came, want %d", g.now.Load(), MaxStreams)
		}
	}
	again := honest(t, s.dial(ClientConfig{}), stop)
	close(stop)
	for _, calls := range []<-chan error{result, again} {
		if err := <-calls; err != nil {
			t.Errorf("the honest call failed: %v", err)
		}
	}
	if n := g.top.Load(); n > MaxStreams {
		t.Errorf("one connection has %d calls at work, want at most %d", n, MaxStreams)
	}
	_ = conn.Close()
	<-drained
}

// TestStreamsNeverRead opens all streams that a connection may have and reads
// nothing of them.
func TestStreamsNeverRead(t *testing.T) {
	s := floodServer(t)
	greedy := s.dial(ClientConfig{})
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	for range MaxStreams {
		if _, err := greedy.rpc.WatchTransfers(ctx, &pb.WatchTransfersRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	short, end := context.WithTimeout(ctx, 200*time.Millisecond)
	defer end()
	if _, err := greedy.Get(short, transfer.NewID()); transfer.KindOf(err) != transfer.Unavailable {
		t.Errorf("call %d on one connection: %v, want it to wait", MaxStreams+1, err)
	}
	if _, err := s.dial(ClientConfig{}).Get(within(t), transfer.NewID()); err != nil {
		t.Errorf("the honest call failed: %v", err)
	}
}

func TestHugeHeadersAreRefused(t *testing.T) {
	s := floodServer(t)
	conn, fr := raw(t, s.addr)
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	block := headers(pb.ReceiverService_GetTransfer_FullMethodName, hpack.HeaderField{Name: "x", Value: string(bytes.Repeat([]byte("\x01~\x02"), MaxHeaderList))})
	first := true
	for len(block) > 0 {
		n := min(len(block), 16000)
		var err error
		if first {
			err = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:n], EndHeaders: n == len(block)})
		} else {
			err = fr.WriteContinuation(1, n == len(block), block[:n])
		}
		if err != nil {
			break
		}
		block, first = block[n:], false
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			break // closed
		}
		if _, ok := f.(*http2.RSTStreamFrame); ok {
			break
		}
		if h, ok := f.(*http2.HeadersFrame); ok && h.StreamEnded() {
			break // an error, since nothing else ends a call without a body
		}
	}
	if _, err := s.dial(ClientConfig{}).Get(within(t), transfer.NewID()); err != nil {
		t.Errorf("the honest call failed: %v", err)
	}
}

func TestConnectionsOfOneAddressAreBounded(t *testing.T) {
	s := serve(t, ServerConfig{ConnectionsPer: 2}, viewOf(&fakeView{}), time.Second)
	for i := range 3 {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() // only read
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		_, err = conn.Read(make([]byte, 1)) // the server speaks first: SETTINGS
		if closed := err != nil; closed != (i == 2) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}

func TestLimiterBoundsItsTable(t *testing.T) {
	l := newLimiter(1, 1)
	now := time.Unix(1000, 0)
	l.now = func() time.Time { return now }
	from := func(a netip.Addr) error { return l.allow(withAddr(t, a)) }
	for i := range maxSources + 100 {
		_ = from(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if n := len(l.sources); n > maxSources+1 {
		t.Errorf("%d sources are kept", n)
	}
	now = now.Add(time.Hour)
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	if from(a) != nil || from(b) == nil {
		t.Error("two addresses of one /64 are not one source")
	}
	if from(netip.MustParseAddr("::ffff:9.9.9.9")) != nil || from(netip.MustParseAddr("9.9.9.9")) == nil {
		t.Error("an IPv4 address and its IPv6 form are not one source")
	}
}

// withAddr runs the realip interceptor's work for one address.
func withAddr(t *testing.T, a netip.Addr) context.Context {
	t.Helper()
	var out context.Context
	ctx := peerContext(a)
	_, _ = realip.UnaryServerInterceptorOpts()(ctx, nil, nil, func(ctx context.Context, _ any) (any, error) {
		out = ctx       //nolint:fatcontext // it is what the test looks at
		return nil, nil //nolint:nilnil // nothing is returned
	})
	return out
}

func TestCorpusIsThere(t *testing.T) {
	files, err := os.ReadDir("testdata/fuzz/FuzzOffer")
	if err != nil || len(files) == 0 {
		t.Errorf("no checked-in corpus: %v", err)
	}
}
