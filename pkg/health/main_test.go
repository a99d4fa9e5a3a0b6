package health

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/pkg/stamp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

var servingStatus = stamp.Status{Serving: stamp.ServingYes, Load: 10, Incarnation: 42, Active: 1, FreeSlots: 7, FreeMiB: 1000, IdleMillis: 5}

func listen(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP("udp", a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// serve runs a reflector on addr until the test ends or stop is called.
func serve(t testing.TB, cfg ReflectorConfig, addr string) (r *Reflector, where string, stop func()) {
	t.Helper()
	r = NewReflector(cfg)
	conn := listen(t, addr)
	where = conn.LocalAddr().String()
	return r, where, run0(t, func(ctx context.Context) error { return r.Serve(ctx, conn) })
}

// run0 runs f until the test ends or stop is called; f must return nil.
func run0(t testing.TB, f func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("it did not end")
		}
	}
	t.Cleanup(stop)
	return stop
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until ok or patience ends.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s did not happen within %v", what, patience)
}
