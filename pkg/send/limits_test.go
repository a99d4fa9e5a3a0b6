package send

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestCommittedAlready(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	cfg := config(t, f, dir)
	if _, err := Send(testCtx(t), cfg); err != nil {
		t.Fatal(err)
	}
	lanes := f.lanes
	res, err := Send(testCtx(t), cfg)
	if err != nil || res.Receipt != f.receipt || f.lanes != lanes {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestLimitHoldsAndChangesLive(t *testing.T) {
	p := filepath.Join(t.TempDir(), "file")
	write(t, p, junk(24*mib))
	f := newFake(t)
	cfg := config(t, f, p)
	cfg.Limit = 64 << 10 // would take six minutes
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.hello = func(int) transfer.Kind { tr.SetLimit(0); return transfer.OK }
	if _, err := tr.Run(testCtx(t)); err != nil {
		t.Fatal(err)
	}
	cfg = config(t, newFake(t), p)
	cfg.Receiver.(*fake).hello = nil
	cfg.DialLane = cfg.Receiver.(*fake).dial
	cfg.Limit = 40 * mib
	start := time.Now()
	if _, err := Send(testCtx(t), cfg); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 300*time.Millisecond {
		t.Errorf("24 MiB took %v at 40 MiB/s", d)
	}
}

func TestBadConfig(t *testing.T) {
	f := newFake(t)
	src, _ := source.Stream("in", transfer.Posix, bytes.NewReader(nil))
	for _, cfg := range []Config{
		{},
		{Receiver: f, Source: src},
		{Receiver: f, Source: src, DialLane: f.dial, Lanes: -1},
		{Receiver: f, Source: src, DialLane: f.dial, Limit: -1},
		{Receiver: f, Source: src, DialLane: f.dial, Options: transfer.Options{Algorithm: transfer.SHA256}},
	} {
		if _, err := New(cfg); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("got %v", err)
		}
	}
}

func TestReadErrorOfStream(t *testing.T) {
	src, _ := source.Stream("in", transfer.Posix, &failing{})
	f := newFake(t)
	_, err := Send(testCtx(t), Config{Receiver: f, DialLane: f.dial, Source: src})
	if err == nil || !strings.Contains(err.Error(), "read standard input") {
		t.Errorf("got %v", err)
	}
}

type failing struct{ n int }

func (r *failing) Read(b []byte) (int, error) {
	if r.n++; r.n > 3 {
		return 0, errors.New("pipe burst")
	}
	return len(b), nil
}

func TestRefusedChunksAreSentAgain(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	var mu sync.Mutex
	seen := map[string]bool{}
	f.refuse = func(x *fakeFile, i uint32) bool {
		mu.Lock()
		defer mu.Unlock()
		key := fmt.Sprint(x.e.Path, i)
		first := !seen[key] && len(seen)%17 == 0
		seen[key] = true
		f.mu.Lock()
		defer f.mu.Unlock()
		return first || x.e.Path == "tree/big" && i == 2 && len(f.got) < 300
	}
	if _, err := Send(testCtx(t), config(t, f, dir)); err != nil {
		t.Fatal(err)
	}
	f.expect(dir)
	f = newFake(t)
	f.refuse = func(*fakeFile, uint32) bool { return true }
	if _, err := Send(testCtx(t), config(t, f, dir)); transfer.KindOf(err) != transfer.Corrupt {
		t.Errorf("refused for ever: got %v", err)
	}
}

func TestNothingIsEverAcknowledged(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	f.ack = func(int) bool { return false }
	cfg := config(t, f, dir)
	cfg.Timeout, cfg.Retries = 400*time.Millisecond, -1
	if _, err := Send(testCtx(t), cfg); transfer.KindOf(err) != transfer.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestDialFails(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	cfg := config(t, f, dir)
	var n atomic.Int64
	cfg.DialLane = func(ctx context.Context, addr string) (net.Conn, error) {
		if n.Add(1) <= 2 {
			return nil, errors.New("no route")
		}
		return f.dial(ctx, addr)
	}
	if _, err := Send(testCtx(t), cfg); err != nil {
		t.Fatal(err)
	}
	f.expect(dir)
	cfg = config(t, f, dir)
	f.receipt = nil
	cfg.ID, cfg.Retries = transfer.NewID(), -1
	f.kept = map[transfer.Path]*fakeFile{}
	cfg.DialLane = func(context.Context, string) (net.Conn, error) { return nil, errors.New("no route") }
	_, err := Send(testCtx(t), cfg)
	if transfer.KindOf(err) != transfer.Unavailable || !strings.Contains(err.Error(), "no route") || transfer.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
}

// TestBucketLimits covers connections that the kernel does not pace.
func TestBucketLimits(t *testing.T) {
	p := filepath.Join(t.TempDir(), "file")
	write(t, p, junk(6*mib))
	f := newFake(t)
	cfg := config(t, f, p)
	cfg.DialLane = func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := f.dial(ctx, addr)
		return struct{ net.Conn }{c}, err
	}
	cfg.Limit = 10 * mib
	start := time.Now()
	res, err := Send(testCtx(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := os.ReadFile(p); !bytes.Equal(f.content("file"), want) {
		t.Error("content differs")
	}
	if d := time.Since(start); d < 300*time.Millisecond {
		t.Errorf("6 MiB took %v at 10 MiB/s", d)
	}
	if res.Stats.ReceiverSlow != -1 {
		t.Errorf("got %+v", res.Stats)
	}
}

func TestManyRefusalsOfTheReceiver(t *testing.T) {
	const files = 1300 // more than one part, since the paths are long
	long := strings.Repeat("x", 240) + "/"
	dir := filepath.Join(t.TempDir(), "tree")
	for i := range files {
		write(t, filepath.Join(dir, long+long+long+long+fmt.Sprint(i)), nil)
	}
	f := newFake(t)
	parts := 0
	f.offerErr = func(p *transfer.OfferPart) error {
		parts++
		e := &transfer.Error{Kind: transfer.Exists, Remote: true}
		for _, x := range p.Entries {
			if x.Type == transfer.Regular {
				e.Problems = append(e.Problems, transfer.Problem{Path: string(x.Path), Kind: transfer.Exists})
			}
		}
		return e
	}
	_, err := Send(testCtx(t), config(t, f, dir))
	var e *transfer.Error
	if !errors.As(err, &e) || len(e.Problems) != files {
		t.Errorf("got %d problems: %v", len(e.Problems), err)
	}
	if parts < 2 {
		t.Error("there was only one part")
	}
}

func TestBoundBy(t *testing.T) {
	s := time.Second
	for _, c := range []struct {
		s     Stats
		limit int64
		want  string
	}{
		{Stats{}, 0, ""},
		{Stats{Sent: 1, Reading: 3 * s, Hashing: s}, 0, "source disk"},
		{Stats{Sent: 1, Reading: s, Hashing: 3 * s}, 0, "hashing"},
		{Stats{Sent: 1, Writing: 3 * s, ReceiverSlow: 0.1}, 0, "network"},
		{Stats{Sent: 1, Writing: 3 * s, ReceiverSlow: 0.9}, 0, "destination"},
		{Stats{Sent: 1, Acks: 3 * s, ReceiverSlow: -1}, 0, "destination"},
		{Stats{Sent: 100, Writing: 3 * s, Elapsed: s}, 100, "rate limit"},
		{Stats{Sent: 1, Idle: s}, 0, "scan and offer"},
	} {
		if got := c.s.boundBy(c.limit); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.s, got, c.want)
		}
	}
}

func TestObserverHearsEverything(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	cfg := config(t, f, dir)
	o := &listener{}
	cfg.Observer = o
	if _, err := Send(testCtx(t), cfg); err != nil {
		t.Fatal(err)
	}
	c, _ := cfg.Source.Counts()
	if o.offers == 0 || o.answers != o.offers || o.receipts != 1 || o.last.Acked != c.Bytes || o.last.Files != c.Files || !o.last.Scanned || o.lanes == 0 {
		t.Errorf("got %+v, want %+v", o, c)
	}
	if o.token {
		t.Error("the observer was given the token")
	}
}

type listener struct {
	offers, answers, receipts, lanes int
	token                            bool
	last                             Progress
}

func (l *listener) Offer(*transfer.OfferPart) { l.offers++ }
func (l *listener) Answer(_ uint32, a *transfer.Answer) {
	l.answers++
	l.token = l.token || a.Token != transfer.Token{}
}
func (l *listener) Progress(p Progress)       { l.last = p }
func (l *listener) Lane(LaneState)            { l.lanes++ }
func (l *listener) Receipt(*transfer.Receipt) { l.receipts++ }

// A cancelled transfer opens no lane anew, at whatever moment it is cancelled.
func TestCancelledInTheMiddle(t *testing.T) {
	p := filepath.Join(t.TempDir(), "file")
	write(t, p, junk(12*mib))
	for i := range 100 {
		f := newFake(t)
		ctx, cancel := context.WithCancel(testCtx(t))
		var chunks, after atomic.Int64
		f.chunk = func(int, *fakeFile, uint32, []byte) bool {
			if chunks.Add(1) == int64(1+i%12) {
				cancel()
			}
			return true
		}
		cfg := config(t, f, p)
		cfg.Lanes = 4
		cfg.DialLane = func(ctx context.Context, addr string) (net.Conn, error) {
			if ctx.Err() != nil {
				after.Add(1)
			}
			return f.dial(ctx, addr)
		}
		_, err := Send(ctx, cfg)
		cancel()
		if transfer.KindOf(err) != transfer.Canceled && err != nil {
			t.Fatalf("%v, want canceled", err)
		}
		if after.Load() > int64(cfg.Lanes) { // each may have been about to dial
			t.Errorf("run %d: %d lanes were dialled after the end", i, after.Load())
		}
	}
}
