package health

import (
	"errors"
	"slices"
	"testing"
	"time"
)

func TestFreeze(t *testing.T) {
	for _, rtt := range []time.Duration{50 * time.Microsecond, 20 * time.Millisecond, 80 * time.Millisecond, 200 * time.Millisecond} {
		w := newWorld(t, 1, nil)
		p := w.peers[0]
		p.rtt = rtt
		p.transfer(5 * time.Millisecond)
		w.run(10 * time.Second)
		p.want("alive")
		p.frozen, p.progress = true, 0
		froze := w.now
		w.run(10 * time.Second)
		p.want("suspect", "dead")
		took := p.deadAt.Sub(froze)
		if limit := max(time.Second, 10*rtt); took > limit || took < leastSilence {
			t.Errorf("round trip %v: found dead after %v, want within %v", rtt, took, limit)
		}
		t.Logf("round trip %v: suspect after %v, dead after %v", rtt, p.suspectAt.Sub(froze), took)
		p.frozen = false
		w.run(5 * time.Second)
		p.want("alive")
	}
}

func TestFreezeIdle(t *testing.T) {
	w := newWorld(t, 1, nil)
	w.run(10 * time.Second)
	w.peers[0].frozen = true
	w.run(10 * time.Second)
	w.peers[0].want("alive", "suspect", "dead")
}

func TestNeverThere(t *testing.T) {
	w := newWorld(t, 1, nil)
	w.peers[0].frozen = true
	w.run(20 * time.Second)
	w.peers[0].want("suspect", "dead")
}

// TestLoss loses every 20th, and then half of all pings, for 20 minutes: nobody is
// declared dead or blocked, with data moving or not.
func TestLoss(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(seq uint32) bool
		busy bool
	}{
		{"5 %", func(seq uint32) bool { return seq%20 == 7 }, true},
		{"5 %, idle", func(seq uint32) bool { return seq%20 == 7 }, false},
		{"every second", func(seq uint32) bool { return seq%2 == 1 }, true},
		{"three in a row", func(seq uint32) bool { return seq%30 < 3 }, true},
		{"three in a row, idle", func(seq uint32) bool { return seq%30 < 3 }, false},
	} {
		w := newWorld(t, 1, nil)
		p := w.peers[0]
		p.rtt, p.lose = 80*time.Millisecond, c.lose
		if c.busy {
			p.transfer(50 * time.Millisecond)
		}
		w.run(20 * time.Minute)
		if !slices.Contains(p.log, "suspect") && c.name != "every second" {
			t.Errorf("%s: a lost ping raised no suspicion", c.name)
		}
		for _, s := range p.log {
			if s == "dead" || s == "udp-blocked" {
				t.Fatalf("%s: declared %s", c.name, s)
			}
		}
	}
}

// TestStalledDataLossyUDP: the data stalls and three pings in a row are lost;
// gRPC answers, so nobody is dead.
func TestStalledDataLossyUDP(t *testing.T) {
	w := newWorld(t, 1, nil)
	p := w.peers[0]
	p.rtt = 20 * time.Millisecond
	p.transfer(0)
	p.lose = func(seq uint32) bool { return seq%100 < 10 }
	w.run(10 * time.Minute)
	if slices.Contains(p.log, "dead") {
		t.Error("declared dead though gRPC answers")
	}
}

func TestUDPBlocked(t *testing.T) {
	for _, moving := range []bool{true, false} {
		w := newWorld(t, 1, nil)
		p := w.peers[0]
		p.transfer(5 * time.Millisecond)
		w.run(5 * time.Second)
		p.want("alive")
		p.blocked = true
		if !moving {
			p.progress = 0
		}
		w.run(20 * time.Minute)
		p.want("suspect", "udp-blocked")
		// Then it dies.
		p.frozen, p.progress = true, 0
		died := w.now
		w.run(time.Minute)
		p.want("dead")
		if took := p.deadAt.Sub(died); took > 4*time.Second {
			t.Errorf("found dead after %v", took)
		}
		// It comes back without UDP, and at last with it.
		p.frozen = false
		w.run(time.Minute)
		p.want("udp-blocked")
		p.blocked = false
		w.run(time.Minute)
		p.want("alive")
	}
}

// TestProgressOutlivesHealth: gRPC and UDP are silent, but chunks are
// acknowledged: the transfer goes on.
func TestProgressOutlivesHealth(t *testing.T) {
	w := newWorld(t, 1, nil)
	p := w.peers[0]
	p.transfer(20 * time.Millisecond)
	w.run(5 * time.Second)
	p.frozen = true // and yet acknowledges
	w.run(20 * time.Minute)
	p.want("alive", "suspect", "udp-blocked")
}

func TestRestart(t *testing.T) {
	w := newWorld(t, 1, nil)
	p := w.peers[0]
	p.transfer(5 * time.Millisecond)
	w.run(5 * time.Second)
	p.incarnation = 2 // faster than a ping
	w.run(5 * time.Second)
	p.want("alive", "restarted")
	p.frozen, p.progress = true, 0
	w.run(5 * time.Second)
	p.frozen, p.incarnation = false, 3
	w.run(5 * time.Second)
	p.want("suspect", "dead", "alive", "restarted")
}

// TestRefused: a closed port alone is no proof.
func TestRefusedIsNoProof(t *testing.T) {
	w := newWorld(t, 1, nil)
	p := w.peers[0]
	p.transfer(0)
	w.run(5 * time.Second)
	p.do(p.Refused(w.now))
	w.run(5 * time.Second)
	p.want("alive", "suspect", "alive")

	p.frozen = true
	w.run(20 * time.Millisecond)
	p.do(p.Refused(w.now))
	if p.State() != Suspect {
		t.Error("a closed port raises no suspicion")
	}
	w.run(5 * time.Second)
	p.want("suspect", "dead")
}

// TestHalfAtOnce: two of four fall silent together. We wait three times as
// long; if they come back within that, nobody was declared dead.
func TestHalfAtOnce(t *testing.T) {
	silence := func(both bool) (took time.Duration, w *world) {
		w = newWorld(t, 4, &Group{})
		for _, p := range w.peers {
			p.transfer(5 * time.Millisecond)
		}
		w.run(5 * time.Second)
		for _, p := range w.peers {
			p.want("alive")
		}
		for i, p := range w.peers[:2] {
			if i == 0 || both {
				p.frozen, p.progress = true, 0
			}
		}
		froze := w.now
		w.run(10 * time.Second)
		w.peers[0].want("suspect", "dead")
		return w.peers[0].deadAt.Sub(froze), w
	}
	one, w := silence(false)
	for _, p := range w.peers[1:] {
		p.want()
	}
	two, w := silence(true)
	w.peers[1].want("suspect", "dead")
	for _, p := range w.peers[2:] {
		p.want()
	}
	if two <= one || two < 2*leastSilence {
		t.Errorf("one silent: dead after %v; half silent: after %v, want longer", one, two)
	}

	w = newWorld(t, 4, &Group{})
	for _, p := range w.peers {
		p.transfer(5 * time.Millisecond)
	}
	w.run(5 * time.Second)
	for _, p := range w.peers[:3] {
		p.frozen, p.progress = true, 0
	}
	w.run(one + one/4)
	for _, p := range w.peers[:3] {
		p.frozen = false
		p.transfer(5 * time.Millisecond)
	}
	w.run(10 * time.Second)
	for _, p := range w.peers[:3] {
		p.want("alive", "suspect", "alive")
	}
}

func TestGroup(t *testing.T) {
	var none *Group
	none.set("a", Suspect)
	none.Remove("a")
	if none.SelfSuspect() {
		t.Error("no group suspects us")
	}
	g := &Group{}
	for _, c := range []struct {
		id    string
		state State
		want  bool
	}{
		{"a", Suspect, false}, // one is no half
		{"b", Alive, false},
		{"c", Alive, false},
		{"d", Suspect, true},
		{"e", Alive, false}, // 2 of 5
		{"e", Dead, true},   // the dead do not count
		{"a", Dead, false},
	} {
		if g.set(c.id, c.state); g.SelfSuspect() != c.want {
			t.Errorf("after %s is %v: %v", c.id, c.state, !c.want)
		}
	}
}

// TestWeWereStopped: our own process stands still for a minute in the middle of
// everything. The silence is ours, and nobody is declared dead.
func TestWeWereStopped(t *testing.T) {
	for offset := range 120 {
		w := newWorld(t, 1, nil)
		p := w.peers[0]
		p.transfer(5 * time.Millisecond)
		w.run(5*time.Second + time.Duration(offset)*time.Millisecond)
		// Stopped: what was on its way is lost, nothing was sent.
		p.events = nil
		w.now = w.now.Add(time.Minute)
		w.run(time.Minute)
		if slices.Contains(p.log, "dead") || p.State() != Alive {
			t.Fatalf("stopped %d ms into an interval: %v", offset, p.log)
		}
	}
	// And at each moment of a suspicion: probes and checks ran out while we stood
	// still, and the receiver, frozen for a moment, is back.
	for offset := range 560 {
		pause := time.Minute
		if offset%2 == 1 {
			pause = 1500 * time.Millisecond
		}
		w := newWorld(t, 1, nil)
		p := w.peers[0]
		p.transfer(5 * time.Millisecond)
		w.run(2 * time.Second)
		p.frozen, p.closed, p.progress = true, offset/2%2 == 1, 0
		w.run(time.Duration(offset/4) * 5 * time.Millisecond)
		if slices.Contains(p.log, "dead") {
			if offset/4*5 < 300 {
				t.Fatalf("dead after %d ms already", offset/4*5)
			}
			continue // it was dead before we stopped
		}
		p.frozen, p.closed = false, false
		w.now = w.now.Add(pause)
		w.run(10 * time.Second)
		if slices.Contains(p.log, "dead") || p.State() != Alive {
			t.Fatalf("stopped for %v, %d ms into the silence: %v", pause, offset/4*5, p.log)
		}
	}
}

// TestStarvedDuringCheck: a health check that ran out while we got no processor
// is no proof; another one, begun after that, is.
func TestStarvedDuringCheck(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	d := NewDetector(DetectorConfig{ID: "r"}, now)
	d.SetActive(now, true)
	for seq := range uint32(20) {
		d.Sent(now, seq)
		now = now.Add(time.Millisecond)
		d.Replied(now, seq, time.Millisecond, nil)
	}
	d.Sent(now, 20)
	checks := 0
	count := func(todo []Action) {
		for _, a := range todo {
			if a.Kind == CheckHealth {
				checks++
			}
		}
	}
	for checks == 0 { // as fast as it wants
		now = d.Next()
		count(d.Tick(now))
	}
	now = d.Next().Add(leastLag)
	count(d.Tick(now)) // late
	count(d.Health(now, errors.New("deadline exceeded")))
	for range 20 {
		if next := d.Next(); !next.IsZero() {
			now = next
			count(d.Tick(now))
		}
	}
	if d.State() != Suspect || checks != 2 {
		t.Fatalf("%v after %d checks, want suspect while the second runs", d.State(), checks)
	}
	now = now.Add(activeCheck)
	count(d.Health(now, errors.New("deadline exceeded")))
	if d.State() != Dead {
		t.Errorf("%v after %d checks, want dead", d.State(), checks)
	}
}

// TestLastAcknowledgement: chunks that were on their way when the receiver froze
// are acknowledged late; the silence of the data counts from the last of them.
func TestLastAcknowledgement(t *testing.T) {
	for _, late := range []time.Duration{100 * time.Millisecond, 250 * time.Millisecond, 600 * time.Millisecond} {
		w := newWorld(t, 1, nil)
		p := w.peers[0]
		p.transfer(5 * time.Millisecond)
		w.run(5 * time.Second)
		p.frozen, p.progress = true, 0
		p.after(late, func() { p.do(p.Progress(p.w.now)) })
		last := w.now.Add(late)
		w.run(time.Minute)
		if p.log[len(p.log)-1] != "dead" {
			t.Fatalf("%v: %v", late, p.log)
		}
		if quiet := p.deadAt.Sub(last); quiet < leastSilence {
			t.Errorf("dead %v after an acknowledgement", quiet)
		}
	}
	// The check fails just after an acknowledgement.
	w := newWorld(t, 1, nil)
	p := w.peers[0]
	p.transfer(5 * time.Millisecond)
	w.run(5 * time.Second)
	p.frozen, p.progress = true, 0
	w.run(250 * time.Millisecond)
	p.do(p.Progress(w.now))
	p.do(p.Health(w.now, errNoHealth))
	last := w.now
	w.run(time.Minute)
	if quiet := p.deadAt.Sub(last); quiet < leastSilence {
		t.Errorf("dead %v after an acknowledgement", quiet)
	}
}

func TestIntervals(t *testing.T) {
	w := newWorld(t, 1, nil)
	p := w.peers[0]
	if p.Interval() != time.Second {
		t.Errorf("idle: %v", p.Interval())
	}
	p.rtt = 300 * time.Millisecond
	w.run(time.Minute)
	if p.Interval() != time.Second {
		t.Errorf("idle: %v", p.Interval())
	}
	p.transfer(0)
	if i := p.Interval(); i < 290*time.Millisecond || i > 310*time.Millisecond {
		t.Errorf("300 ms away: %v", i)
	}
	if s := p.Silence(); s < 3*p.Interval() || s < p.Interval()+4*p.Detector.rtt.rto() {
		t.Errorf("silence of %v", s)
	}
	near := newWorld(t, 1, nil).peers[0]
	near.transfer(0)
	for range 100 {
		near.Replied(near.w.now, 0, time.Microsecond, nil)
	}
	if near.Interval() != activeInterval || near.Silence() != leastSilence {
		t.Errorf("near: interval %v, silence %v", near.Interval(), near.Silence())
	}
}
