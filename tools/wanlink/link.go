//go:build linux

package main

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxPacket is the most that one read of a TUN device returns, bytes: the
// largest IP packet (RFC 791, total length of 16 bits).
const maxPacket = 65536

// shape is what the link does to packets. Its zero value is a wire without
// delay, loss or limit.
type shape struct {
	rtt     time.Duration // added by both directions together
	rate    float64       // of each direction, Mbit/s; 0 for no limit
	loss    float64       // share of packets dropped at random, 0 to 1
	reorder float64       // share of packets delayed by rtt/4 more, 0 to 1
	queue   int           // bytes that may wait for the wire; more are dropped
}

// direction is one way over the link: read takes packets off one end and says
// when each is due, write puts them into the other end at that time.
type direction struct {
	shape

	from, to *os.File
	wake     chan struct{} // tells write that the first packet has changed

	mu   sync.Mutex
	held packets
	free time.Time // when the wire is next idle

	buffers sync.Pool // of *[]byte, maxPacket long

	carried, bytes, lost, overflowed, refused atomic.Int64
}

func newDirection(s shape, from, to *os.File) *direction {
	d := &direction{shape: s, from: from, to: to, wake: make(chan struct{}, 1)}
	d.buffers.New = func() any { b := make([]byte, maxPacket); return &b }
	return d
}

func (d *direction) String() string {
	return fmt.Sprintf("carried %d packets, %d bytes; lost %d; overflowed %d; refused by the device %d",
		d.carried.Load(), d.bytes.Load(), d.lost.Load(), d.overflowed.Load(), d.refused.Load())
}

// packet is held until it is due.
type packet struct {
	due  time.Time
	size int
	data *[]byte // from the pool
}

// packets is a heap, the first due on top.
type packets []packet

func (p packets) Len() int           { return len(p) }
func (p packets) Less(i, j int) bool { return p[i].due.Before(p[j].due) }
func (p packets) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }

// Push implements heap.Interface.
func (p *packets) Push(x any) { *p = append(*p, x.(packet)) }

// Pop implements heap.Interface.
func (p *packets) Pop() any {
	old := *p
	last := old[len(old)-1]
	*p = old[:len(old)-1]
	return last
}

// read takes packets until the end is closed.
func (d *direction) read() error {
	for {
		data := d.buffers.Get().(*[]byte)
		n, err := d.from.Read(*data)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a packet: %w", err)
		}
		if d.loss > 0 && rand.Float64() < d.loss {
			d.lost.Add(1)
			d.buffers.Put(data)
			continue
		}
		first, ok := d.hold(packet{size: n, data: data}, time.Now())
		if !ok {
			d.overflowed.Add(1)
			d.buffers.Put(data)
			continue
		}
		if first {
			select {
			case d.wake <- struct{}{}:
			default:
			}
		}
	}
}

// hold gives p its time and keeps it. It reports whether p is now the first
// due, and ok = false when the queue before the wire is full.
func (d *direction) hold(p packet, now time.Time) (first, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	start := d.free
	if start.Before(now) {
		start = now
	}
	if d.rate > 0 {
		bytesPerSecond := d.rate * 1e6 / 8
		if int(start.Sub(now).Seconds()*bytesPerSecond)+p.size > d.queue {
			return false, false
		}
		start = start.Add(time.Duration(float64(p.size) / bytesPerSecond * float64(time.Second)))
	}
	d.free = start
	p.due = start.Add(d.rtt / 2)
	if d.reorder > 0 && rand.Float64() < d.reorder {
		p.due = p.due.Add(d.rtt / 4)
	}
	heap.Push(&d.held, p)
	return d.held[0].data == p.data, true
}

// take removes what is due at now, and says how long until the next is.
func (d *direction) take(now time.Time) (ready []packet, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.held) > 0 {
		if wait = d.held[0].due.Sub(now); wait > 0 {
			return ready, wait
		}
		ready = append(ready, heap.Pop(&d.held).(packet))
	}
	return ready, time.Hour // nothing is held: wake ends the wait
}

// write delivers what is due until ctx ends.
func (d *direction) write(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		ready, wait := d.take(time.Now())
		for _, p := range ready {
			if _, err := d.to.Write((*p.data)[:p.size]); err != nil {
				d.refused.Add(1) // a device that is not up yet, or no longer
			} else {
				d.carried.Add(1)
				d.bytes.Add(int64(p.size))
			}
			d.buffers.Put(p.data)
		}
		if len(ready) > 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-d.wake:
		case <-ctx.Done():
			return nil
		}
	}
}
