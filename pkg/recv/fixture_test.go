package recv_test

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/recv/recvtest"
	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

const protocolDoc = "../../docs/protocol.md"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a running receiver over a directory.
type house struct {
	t    testing.TB
	root string
	cfg  recv.Config
	wrap func(store.Store) store.Store // nil: the disk as it is
	disk *store.Disk
	r    *recv.Receiver
	addr string
	stop func()
}

// newHouse starts a receiver; change may alter its configuration.
func newHouse(t testing.TB, change func(*house)) *house {
	t.Helper()
	h := &house{t: t, root: t.TempDir()}
	h.cfg.AllowNone = true
	if change != nil {
		change(h)
	}
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

func (h *house) start() {
	h.t.Helper()
	var err error
	if h.disk, err = store.Open(store.Config{Root: h.root}); err != nil {
		h.t.Fatal(err)
	}
	cfg := h.cfg
	cfg.Store = h.disk
	if h.wrap != nil {
		cfg.Store = h.wrap(h.disk)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	cfg.DataAddrs = func() []string { return []string{ln.Addr().String()} }
	if h.r, err = recv.New(cfg); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.r.ServeLanes(ctx, ln); err != nil {
			h.t.Errorf("ServeLanes: %v", err)
		}
	})
	h.stop = func() {
		h.r.Close()
		cancel()
		wg.Wait()
		if err := h.disk.Close(); err != nil {
			h.t.Errorf("close store: %v", err)
		}
		h.stop = func() {}
	}
}

func (h *house) restart() {
	h.t.Helper()
	h.stop()
	h.start()
}

func (h *house) as(principal string) *recv.View {
	return h.r.As(recv.Caller{Principal: principal})
}

func (h *house) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", h.addr)
}

func (h *house) read(name string) []byte {
	h.t.Helper()
	b, err := os.ReadFile(h.root + "/" + name)
	if err != nil {
		h.t.Error(err)
	}
	return b
}

// visible returns the names in the root but the private directory.
func (h *house) visible() []string {
	h.t.Helper()
	list, err := os.ReadDir(h.root)
	if err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		if e.Name() != transfer.StageDir {
			names = append(names, e.Name())
		}
	}
	return names
}

func fixture(h *house) *recvtest.Fixture {
	return &recvtest.Fixture{
		As:   func(principal string) recvtest.Endpoint { return h.as(principal) },
		Dial: func(ctx context.Context) (net.Conn, error) { return h.dial(ctx) },
		Root: h.root,
		Restart: func(t *testing.T) {
			h.t = t
			h.restart()
		},
	}
}

// soon waits until ok, and fails the test when that takes too long.
func soon(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(recvtest.Patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*recvtest.Patience)
	t.Cleanup(cancel)
	return ctx
}
