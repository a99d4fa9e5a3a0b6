package health

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// watched is a monitor of a reflector that can be told to fall silent.
type watched struct {
	*Monitor
	events chan MonitorEvent
	grpc   atomic.Bool // gRPC answers
}

func newWatched(t *testing.T, cfg MonitorConfig) *watched {
	t.Helper()
	w := &watched{events: make(chan MonitorEvent, 100)}
	w.grpc.Store(true)
	cfg.HealthCheck = func(ctx context.Context) error {
		if w.grpc.Load() {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	cfg.OnEvent = func(e MonitorEvent) { w.events <- e }
	m, err := NewMonitor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Monitor = m
	run0(t, m.Run)
	return w
}

// until returns the first event that leads to the state.
func (w *watched) until(t *testing.T, to State) MonitorEvent {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e := <-w.events:
			if e.To == to {
				return e
			}
		case <-deadline:
			t.Fatalf("it did not become %v within %v; it is %v", to, patience, w.State())
		}
	}
}

func TestMonitorNoticesSilence(t *testing.T) {
	t.Parallel()
	var incarnation atomic.Uint64
	incarnation.Store(1)
	cfg := ReflectorConfig{Status: func() stamp.Status {
		s := servingStatus
		s.Incarnation = incarnation.Load()
		return s
	}}
	_, where, stop := serve(t, cfg, "127.0.0.1:0")
	w := newWatched(t, MonitorConfig{ID: "receiver", Ping: PingerConfig{Addr: where}})
	ctx, done := w.Watch(within(t))
	defer done()
	w.until(t, Alive)
	if s, ok := w.Status(); !ok || s != func() stamp.Status { s := servingStatus; s.Incarnation = 1; return s }() {
		t.Errorf("status %+v, %v", s, ok)
	}
	if c := w.Candidate(); c.ID != "receiver" || c.State != Alive || c.Status == nil || c.Path.Samples == 0 {
		t.Errorf("candidate %+v", c)
	}
	if w.Path().SRTT <= 0 || w.Summary().Received == 0 {
		t.Error("no statistics")
	}

	// The reflector goes, gRPC does not: the transfer must not notice.
	stop()
	e := w.until(t, UDPBlocked)
	if e.ID != "receiver" || e.Reason == "" || e.Silence < leastSilence || ctx.Err() != nil {
		t.Errorf("%+v, context %v", e, ctx.Err())
	}
	// gRPC goes too.
	w.grpc.Store(false)
	w.until(t, Dead)
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Fatal("the transfer was not told")
	}
	err := context.Cause(ctx)
	if transfer.KindOf(err) != transfer.Unavailable || transfer.HintOf(err) == "" || !strings.Contains(err.Error(), "receiver") {
		t.Errorf("cause %v", err)
	}
	// A transfer that begins now hears it at once.
	late, doneLate := w.Watch(within(t))
	defer doneLate()
	if transfer.KindOf(context.Cause(late)) != transfer.Unavailable {
		t.Errorf("a transfer to a dead receiver: %v", context.Cause(late))
	}
	// It comes back as another process.
	incarnation.Store(2)
	again, doneAgain := w.Watch(context.Background())
	doneAgain()
	if !errors.Is(context.Cause(again), &transfer.Error{Kind: transfer.Unavailable}) && transfer.KindOf(context.Cause(again)) != transfer.Unavailable {
		t.Error(context.Cause(again))
	}
	serve(t, cfg, where)
	w.until(t, Alive)
	for e := w.until(t, Alive); !e.Restarted; e = w.until(t, Alive) {
	}
}

func TestMonitorTellsRestart(t *testing.T) {
	t.Parallel()
	var incarnation atomic.Uint64
	_, where, _ := serve(t, ReflectorConfig{Status: func() stamp.Status {
		return stamp.Status{Incarnation: incarnation.Load()}
	}}, "127.0.0.1:0")
	w := newWatched(t, MonitorConfig{Ping: PingerConfig{Addr: where}})
	w.until(t, Alive)
	ctx, done := w.Watch(within(t))
	defer done()
	incarnation.Store(7)
	for !w.until(t, Alive).Restarted {
	}
	<-ctx.Done()
	if err := context.Cause(ctx); transfer.KindOf(err) != transfer.Unavailable || !strings.Contains(err.Error(), "started again") {
		t.Errorf("cause %v", err)
	}
}

// TestMonitorProgress blocks UDP and gRPC, but data moves.
func TestMonitorProgress(t *testing.T) {
	t.Parallel()
	_, where, block := serve(t, ReflectorConfig{}, "127.0.0.1:0")
	w := newWatched(t, MonitorConfig{Ping: PingerConfig{Addr: where}})
	w.until(t, Alive)
	w.grpc.Store(false)
	ctx, done := w.Watch(within(t))
	defer done()
	stop := run0(t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			w.Progress(1)
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	block()
	w.until(t, UDPBlocked)
	if ctx.Err() != nil {
		t.Errorf("the transfer was cut: %v", context.Cause(ctx))
	}
	stop()
	w.until(t, Dead)
}

// TestMonitorCannotStart: a name that does not resolve is a receiver that is not
// there, not an end.
func TestMonitorCannotStart(t *testing.T) {
	t.Parallel()
	w := newWatched(t, MonitorConfig{Ping: PingerConfig{Addr: "127.0.0.1:1", Open: func(context.Context) (Session, error) {
		return Session{}, errors.New("no session")
	}}})
	w.grpc.Store(false)
	w.until(t, Dead)
	w.grpc.Store(true)
	w.until(t, UDPBlocked)
}

func TestMonitorConfigIsChecked(t *testing.T) {
	if _, err := NewMonitor(MonitorConfig{Ping: PingerConfig{Addr: "127.0.0.1:1"}}); transfer.KindOf(err) != transfer.Invalid {
		t.Errorf("no health check: %v", err)
	}
	ok := func(context.Context) error { return nil }
	if _, err := NewMonitor(MonitorConfig{Ping: PingerConfig{Addr: "nowhere"}, HealthCheck: ok}); transfer.KindOf(err) != transfer.Invalid {
		t.Errorf("no port: %v", err)
	}
}
