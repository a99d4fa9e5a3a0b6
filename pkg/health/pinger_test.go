package health

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestPing(t *testing.T) {
	_, where, _ := serve(t, ReflectorConfig{Status: func() stamp.Status { return servingStatus }}, "127.0.0.1:0")
	for _, size := range []int{0, 84, 200, MaxSize} {
		var kinds []EventKind
		s, err := Measure(within(t), PingerConfig{
			Addr: where, Interval: time.Millisecond, Timeout: patience, Size: size,
			OnEvent: func(e Event) { kinds = append(kinds, e.Kind) },
		}, 20)
		if err != nil {
			t.Fatal(err)
		}
		if s.Sent != 20 || s.Received != 20 || s.Lost != 0 || s.Pending != 0 || s.Rejected != 0 || len(kinds) != 40 {
			t.Errorf("size %d: %+v, %d events", size, s, len(kinds))
		}
		if !s.Serving() || *s.Status != servingStatus || s.Restarts != 0 {
			t.Errorf("size %d: status %+v", size, s.Status)
		}
		if s.Min <= 0 || s.Min > s.P50 || s.P50 > s.P90 || s.P90 > s.P99 || s.P99 > s.Max || s.SRTT <= 0 || s.RTO < rtoMin {
			t.Errorf("size %d: round trips %+v", size, s)
		}
		if s.HopsForward != 0 || s.HopsBack != 0 || s.ResidenceMean <= 0 || s.Directional {
			t.Errorf("size %d: %+v", size, s)
		}
	}
}

func TestPingIPv6(t *testing.T) {
	_, where, _ := serve(t, ReflectorConfig{Status: func() stamp.Status { return servingStatus }}, "[::1]:0")
	s, err := Measure(within(t), PingerConfig{Addr: where, Interval: time.Millisecond, Timeout: patience}, 5)
	if err != nil || s.Received != 5 || s.HopsForward != 0 || s.HopsBack != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestPingAuthenticated(t *testing.T) {
	r, where, _ := serve(t, ReflectorConfig{Status: func() stamp.Status { return servingStatus }}, "127.0.0.1:0")
	session, err := r.NewSession("alice")
	if err != nil {
		t.Fatal(err)
	}
	cfg := PingerConfig{Addr: where, Interval: time.Millisecond, Timeout: patience, Session: &session}
	s, err := Measure(within(t), cfg, 20)
	if err != nil || s.Received != 20 || !s.Serving() || !s.Directional || s.LostForward+s.LostBack != 0 || !s.Authenticated {
		t.Errorf("%+v, %v", s, err)
	}

	// Another key is not answered, nor is a sequence that was used before.
	before := r.Stats()
	other := session
	other.Key[0]++
	cfg.Session, cfg.Timeout = &other, 50*time.Millisecond
	if s, err = Measure(within(t), cfg, 3); err != nil || s.Received != 0 || s.Lost != 3 {
		t.Errorf("with another key: %+v, %v", s, err)
	}
	cfg.Session = &session
	if s, err = Measure(within(t), cfg, 3); err != nil || s.Received != 0 {
		t.Errorf("with used sequences: %+v, %v", s, err)
	}
	eventually(t, "the count of three forged and three repeated packets", func() bool {
		st := r.Stats()
		return st.Denied-before.Denied == 3 && st.Replayed-before.Replayed == 3
	})
	r.EndSession(session.SSID)
	if n := r.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestPingOpensSessions lets the reflector forget its sessions: the pinger must
// get a new one by itself.
func TestPingOpensSessions(t *testing.T) {
	r, where, _ := serve(t, ReflectorConfig{}, "127.0.0.1:0")
	var mu sync.Mutex
	var ids []uint16
	replies := make(chan uint16, 1000)
	p, err := NewPinger(PingerConfig{
		Addr: where, Interval: 20 * time.Millisecond,
		Open: func(context.Context) (Session, error) {
			s, err := r.NewSession("alice")
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, s.SSID)
			return s, err
		},
		OnEvent: func(e Event) {
			if e.Kind == PingReplied {
				mu.Lock()
				defer mu.Unlock()
				select {
				case replies <- ids[len(ids)-1]:
				default:
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	run0(t, p.Run)
	first := <-replies
	r.EndSession(first)
	deadline := time.After(patience)
	for {
		select {
		case id := <-replies:
			if id != first {
				return
			}
		case <-deadline:
			t.Fatal("no new session was opened")
		}
	}
}

// TestRefused pings a port that nothing listens on, then one that somebody does:
// the error on the connected socket must not end anything.
func TestRefused(t *testing.T) {
	conn := listen(t, "127.0.0.1:0")
	where := conn.LocalAddr().String()
	_ = conn.Close()
	refused, replied := make(chan struct{}, 1), make(chan struct{}, 1)
	p, err := NewPinger(PingerConfig{Addr: where, Interval: 5 * time.Millisecond, OnEvent: func(e Event) {
		switch e.Kind {
		case PingRefused:
			wake(refused)
		case PingReplied:
			wake(replied)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	run0(t, p.Run)
	wait(t, refused, "a refusal")
	serve(t, ReflectorConfig{}, where)
	wait(t, replied, "a reply after refusals")
	if s := p.Summary(); s.Refused == 0 {
		t.Errorf("%+v", s)
	}
}

func wait(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("no sign of %s within %v", what, patience)
	}
}

func TestPingerRefusesHurt(t *testing.T) {
	ok := PingerConfig{Addr: "127.0.0.1:7402"}
	if _, err := NewPinger(ok); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*PingerConfig){
		"interval":          func(c *PingerConfig) { c.Interval = MinLoopbackInterval - 1 },
		"negative interval": func(c *PingerConfig) { c.Interval = -1 },
		"long interval":     func(c *PingerConfig) { c.Interval = MaxInterval + 1 },
		"count":             func(c *PingerConfig) { c.Count = -1 },
		"size":              func(c *PingerConfig) { c.Size = MaxSize + 1 },
		"small size":        func(c *PingerConfig) { c.Size = 79 },
		"size of no TLV":    func(c *PingerConfig) { c.Size = 83 },
		"negative size":     func(c *PingerConfig) { c.Size = -1 },
		"timeout":           func(c *PingerConfig) { c.Timeout = MaxTimeout + 1 },
		"address":           func(c *PingerConfig) { c.Addr = "receiver" },
	} {
		c := ok
		change(&c)
		_, err := NewPinger(c)
		if transfer.KindOf(err) != transfer.Invalid || transfer.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The interval for loopback is refused elsewhere. 192.0.2.1 is for
	// documentation (RFC 5737); nothing is sent to it.
	p, err := NewPinger(PingerConfig{Addr: "192.0.2.1:7402", Interval: 9 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(within(t)); transfer.KindOf(err) != transfer.Invalid {
		t.Errorf("9 ms to another machine: %v", err)
	}
	p, _ = NewPinger(PingerConfig{Addr: "127.0.0.1:1", Open: func(context.Context) (Session, error) {
		return Session{}, &transfer.Error{Kind: transfer.Denied}
	}})
	if err := p.Run(within(t)); !errors.Is(err, &transfer.Error{Kind: transfer.Denied}) {
		t.Errorf("denied session: %v", err)
	}
}
