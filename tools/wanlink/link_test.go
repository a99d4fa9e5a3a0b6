//go:build linux

package main

import (
	"testing"
	"time"
)

// held makes a packet of n bytes.
func held(n int) packet {
	data := make([]byte, n)
	return packet{size: n, data: &data}
}

func TestPacketsAreDueAfterHalfTheRoundTripAndTheirTimeOnTheWire(t *testing.T) {
	// 8 Mbit/s carry 1000 bytes in 1 ms.
	d := newDirection(shape{rtt: 80 * time.Millisecond, rate: 8, queue: 10_000}, nil, nil)
	now := time.Now()
	for i := range 3 {
		if first, ok := d.hold(held(1000), now); !ok || first != (i == 0) {
			t.Fatalf("packet %d: first %v, ok %v", i, first, ok)
		}
	}
	if ready, wait := d.take(now); len(ready) != 0 || wait != 41*time.Millisecond {
		t.Errorf("at once: %d packets, then %v; want none, then 41ms", len(ready), wait)
	}
	if ready, wait := d.take(now.Add(42 * time.Millisecond)); len(ready) != 2 || wait != time.Millisecond {
		t.Errorf("after 42 ms: %d packets, then %v; want 2, then 1ms", len(ready), wait)
	}
}

func TestAFullQueueDropsWhatComes(t *testing.T) {
	d := newDirection(shape{rate: 8, queue: 2500}, nil, nil)
	now := time.Now()
	for i, want := range []bool{true, true, false} {
		if _, ok := d.hold(held(1000), now); ok != want {
			t.Errorf("packet %d of 1000 bytes, queue of 2500: kept %v, want %v", i, ok, want)
		}
	}
	if _, ok := d.hold(held(1000), now.Add(time.Millisecond)); !ok {
		t.Error("a packet was dropped although the wire had carried one")
	}
}

func TestReorderedPacketsComeLater(t *testing.T) {
	d := newDirection(shape{rtt: 40 * time.Millisecond, reorder: 1}, nil, nil)
	now := time.Now()
	d.hold(held(1), now)
	d.reorder = 0
	if first, _ := d.hold(held(2), now); !first {
		t.Fatal("the packet after a reordered one is not the first due")
	}
	ready, wait := d.take(now.Add(20 * time.Millisecond))
	if len(ready) != 1 || ready[0].size != 2 || wait != 10*time.Millisecond {
		t.Errorf("got %d packets, then %v; want the second alone, then 10ms", len(ready), wait)
	}
}
