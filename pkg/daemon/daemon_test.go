package daemon

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder notes what happens, in order.
type recorder struct {
	mu     sync.Mutex
	events []string
}

func (r *recorder) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, s)
}

func (r *recorder) task(name string) Task {
	return Task{
		Name: name,
		Run: func(ctx context.Context) error {
			<-ctx.Done()
			r.add("end " + name)
			return nil
		},
		Stop: func(context.Context) error {
			r.add("stop " + name)
			return nil
		},
	}
}

func TestStopsInReverse(t *testing.T) {
	var r recorder
	var g Group
	g.Add(r.task("a"))
	g.Add(r.task("b"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx, 10*time.Second); err != nil {
		t.Error(err)
	}
	if got := strings.Join(r.events, ", "); got != "stop b, end b, stop a, end a" {
		t.Error(got)
	}
}

func TestFailureStopsAll(t *testing.T) {
	var r recorder
	var g Group
	errBoom := errors.New("boom")
	g.Add(r.task("a"))
	g.Add(Task{Name: "bad", Run: func(context.Context) error { return errBoom }})
	err := g.Run(t.Context(), 10*time.Second)
	if !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "bad: boom") {
		t.Error(err)
	}
	if got := strings.Join(r.events, ", "); got != "stop a, end a" {
		t.Error(got)
	}
}

func TestEarlyEndAndPanic(t *testing.T) {
	var g Group
	g.Add(Task{Name: "short", Run: func(context.Context) error { return nil }})
	if err := g.Run(t.Context(), 10*time.Second); err == nil || !strings.Contains(err.Error(), "short: ended unexpectedly") {
		t.Error(err)
	}
	var p Group
	p.Add(Task{Name: "bad", Run: func(context.Context) error { panic("x") }})
	if err := p.Run(t.Context(), 10*time.Second); err == nil || !strings.Contains(err.Error(), "bad: panic: x") {
		t.Error(err)
	}
}

func TestStopIsBounded(t *testing.T) {
	var g Group
	release := make(chan struct{})
	ended := make(chan struct{})
	g.Add(Task{Name: "stuck", Run: func(context.Context) error {
		<-release
		close(ended)
		return nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := g.Run(ctx, time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "stop stuck: not done within 1ms") {
		t.Error(err)
	}
	close(release)
	<-ended
}

func TestSignalCancels(t *testing.T) {
	ctx, stop := Signals(t.Context())
	defer stop()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := self.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), ErrSignal) {
		t.Error(context.Cause(ctx))
	}
}
