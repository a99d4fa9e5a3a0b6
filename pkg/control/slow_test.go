package control

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// realEngine is a receiver over a new directory, with lanes.
func realEngine(t *testing.T) (engine *recv.Receiver, root string) {
	t.Helper()
	root = t.TempDir()
	st, err := store.Open(store.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	lanes, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(lanes.Addr().String()) // at the host of the control plane
	engine, err = recv.New(recv.Config{Store: st, DataAddrs: func() []string { return []string{":" + port} }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- engine.ServeLanes(ctx, lanes) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		engine.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return engine, root
}

// transferOne sends a file of 3 MiB through the client and compares it.
func transferOne(t *testing.T, c *Client, root, name string) {
	t.Helper()
	file, content := filepath.Join(t.TempDir(), name), bytes.Repeat([]byte("sluice"), 512<<10)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := source.Scan(within(t), source.Config{Roots: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var d net.Dialer
	_, err = send.Send(within(t), send.Config{
		Receiver: c, Source: src,
		DialLane: func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) },
	})
	if err != nil {
		t.Fatalf("the honest transfer failed: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%s: %d octets arrived, %v", name, len(got), err)
	}
}

// gushing is a real engine of which a watch has more to say than anybody reads.
type gushing struct {
	View

	ended chan<- error
}

func (g *gushing) Watch(_ context.Context, _ []transfer.ID, f func(transfer.Info) error) error {
	label := strings.Repeat("x", 1000)
	for {
		if err := f(transfer.Info{ID: transfer.NewID(), State: transfer.StateOpen, Label: label}); err != nil {
			g.ended <- err
			return err
		}
	}
}

func serveGushing(t *testing.T, limit time.Duration) (s *running, root string, ended chan error) {
	t.Helper()
	engine, root := realEngine(t)
	ended = make(chan error, MaxStreams)
	view := ReceiverView(engine)
	s = serve(t, ServerConfig{SendTimeout: limit}, ReceiverConfig{View: func(p auth.Principal, policy auth.Policy) View {
		return &gushing{View: view(p, policy), ended: ended}
	}}, time.Second)
	return s, root, ended
}

// TestUnreadStreamsEnd: streams that nobody reads end, with a status that says
// why, while another client's transfer goes on.
func TestUnreadStreamsEnd(t *testing.T) {
	s, root, ended := serveGushing(t, 50*time.Millisecond)
	greedy := s.dial(ClientConfig{})
	var streams []pb.ReceiverService_WatchTransfersClient
	for range 20 {
		w, err := greedy.rpc.WatchTransfers(within(t), &pb.WatchTransfersRequest{})
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, w)
	}
	transferOne(t, s.dial(ClientConfig{}), root, "honest.bin")
	for range streams {
		select {
		case err := <-ended:
			if transfer.KindOf(err) != transfer.Busy || !strings.Contains(err.Error(), "has not read") {
				t.Errorf("the watch ended with %v", err)
			}
		case <-within(t).Done():
			t.Fatal("a stream that nobody reads goes on")
		}
	}
	for _, w := range streams { // a caller that wakes up is told
		var err error
		for err == nil {
			_, err = w.Recv()
		}
		if err = FromStatus(err); transfer.KindOf(err) != transfer.Busy || transfer.HintOf(err) == "" {
			t.Errorf("the caller hears %v", err)
		}
	}
}

// TestUnreadConnectionEnds: a client that allows any amount and leaves it in its
// socket loses the connection, although it still sends.
func TestUnreadConnectionEnds(t *testing.T) {
	s, root, ended := serveGushing(t, 50*time.Millisecond)
	conn, fr := raw(t, s.addr)
	if err := errors.Join(
		fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}),
		fr.WriteWindowUpdate(0, 1<<31-1<<16),
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers(pb.ReceiverService_WatchTransfers_FullMethodName), EndHeaders: true}),
		fr.WriteData(1, true, make([]byte, 5)),
	); err != nil {
		t.Fatal(err)
	}
	transferOne(t, s.dial(ClientConfig{}), root, "honest.bin")
	bound, cancel := context.WithTimeout(within(t), 20*time.Second) // grpc's pings would close it after 40 s
	defer cancel()
	select {
	case err := <-ended:
		t.Logf("the stream ended: %v", err)
	case <-bound.Done():
		t.Fatal("a connection that nobody reads goes on")
	}
	// Reading now could free the write that is stuck just before its time. A socket
	// that is closed answers what is sent to it with a reset. grpc ignores PRIORITY.
	for fr.WritePriority(1, http2.PriorityParam{Weight: 1}) == nil {
		if bound.Err() != nil {
			t.Fatal("the connection is still open")
		}
		time.Sleep(5 * time.Millisecond)
	}
	_ = conn.Close()
}
