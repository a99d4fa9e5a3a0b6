package recv_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/e27efefb/sluice/pkg/recv/recvtest"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

const mib = 1 << 20

// job is a transfer of one file, offered.
type job struct {
	t       testing.TB
	h       *house
	id      transfer.ID
	session transfer.Session
	a       *transfer.Answer
	data    []byte
}

func offerPart(id transfer.ID, session transfer.Session, name string, size int64) *transfer.OfferPart {
	return &transfer.OfferPart{
		ID: id, Session: session, Last: true,
		Options: transfer.Options{Algorithm: transfer.BLAKE3, TotalBytes: transfer.UnknownSize},
		Entries: []transfer.Entry{{Path: transfer.Path(name), Size: size}},
	}
}

// offer offers a file of n octets as "name".
func (h *house) offer(name string, n int) *job {
	h.t.Helper()
	j := &job{t: h.t, h: h, id: transfer.NewID(), session: transfer.NewSession(), data: bytes.Repeat([]byte("sluice! "), n/8+1)[:n]}
	var err error
	if j.a, err = h.as("alice").Negotiate(testContext(h.t), offerPart(j.id, j.session, name, int64(n))); err != nil {
		h.t.Fatal(err)
	}
	return j
}

// lane opens a lane whose hello was accepted.
func (j *job) lane() *recvtest.Lane {
	j.t.Helper()
	l, err := recvtest.OpenLane(testContext(j.t), j.h.dial, j.id, j.a.Epoch, j.a.Token, nil)
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() { _ = l.Close() })
	expect(j.t, l, wire.Ack{Type: wire.AckHello})
	return l
}

func expect(t testing.TB, l *recvtest.Lane, want wire.Ack) {
	t.Helper()
	if got, err := l.Ack(); err != nil || got != want {
		t.Fatalf("record %+v, %v; want %+v", got, err, want)
	}
}

func end(k transfer.Kind) wire.Ack { return wire.Ack{Type: wire.AckEnd, Kind: k} }

func chunks(first, count uint32) wire.Ack {
	return wire.Ack{Type: wire.AckWritten, Chunk: first, Count: count}
}

// commit sends the digest of what the job has.
func (j *job) commit() (*transfer.CommitResult, error) {
	d := blake3.Sum256(j.data)
	return j.h.as("alice").Commit(testContext(j.t), &transfer.CommitPart{
		ID: j.id, Session: j.session, Last: true,
		Files: []transfer.FileDigest{{Size: int64(len(j.data)), Digest: transfer.Digest{Algorithm: transfer.BLAKE3, Sum: d[:]}}},
	})
}

// finish sends everything on a lane and commits: the receiver still serves.
func (j *job) finish() *transfer.Receipt {
	j.t.Helper()
	l := j.lane()
	if err := l.Frame(0, 0, j.data); err != nil {
		j.t.Fatal(err)
	}
	want := transfer.Chunks(int64(len(j.data)), mib)
	for got := uint32(0); got < want; {
		a, err := l.Ack()
		if err != nil || a.Type != wire.AckWritten {
			j.t.Fatalf("record %+v, %v", a, err)
		}
		got += a.Count
	}
	_ = l.Close()
	r, err := j.commit()
	if err != nil || r.Receipt == nil {
		j.t.Fatalf("commit: %+v, %v", r, err)
	}
	return r.Receipt
}

func kindOf(t *testing.T, err error, want transfer.Kind) {
	t.Helper()
	if transfer.KindOf(err) != want {
		t.Errorf("%v: %v, want %v", err, transfer.KindOf(err), want)
	}
}

// closed checks that nothing more comes.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(recvtest.Patience))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || isTimeout(err) {
		t.Errorf("%d octets, %v; want a closed connection", n, err)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func raw(t *testing.T, h *house) *recvtest.Lane {
	t.Helper()
	c, err := h.dial(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(recvtest.Patience))
	return &recvtest.Lane{Conn: c}
}

func TestGarbageOnDataPort(t *testing.T) {
	h := newHouse(t, nil)
	j := h.offer("good", 100)
	for _, garbage := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + string(make([]byte, 100)), string(make([]byte, 200)), "SLUC\x02" + string(make([]byte, 75))} {
		c := raw(t, h)
		if _, err := c.Write([]byte(garbage)); err != nil {
			t.Fatal(err)
		}
		expect(t, c, end(transfer.Invalid))
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		closed(t, c)
	}
	short := raw(t, h)
	_, _ = short.Write([]byte("SLUC\x01"))
	_ = short.Conn.(*net.TCPConn).CloseWrite()
	expect(t, short, end(transfer.Invalid))
	j.finish()
}

func TestHelloNeverComes(t *testing.T) {
	h := newHouse(t, func(h *house) { h.cfg.Limits.HelloTimeout = 50 * time.Millisecond })
	c := raw(t, h)
	expect(t, c, end(transfer.Invalid))
	_ = c.Close()
	h.offer("good", 100).finish()
}

func TestTooManyWithoutHello(t *testing.T) {
	h := newHouse(t, func(h *house) {
		h.cfg.Limits.UnidentifiedPer = 3
		h.cfg.Limits.HelloTimeout = recvtest.Patience
		h.cfg.Limits.HelloBrief = time.Millisecond
	})
	j := h.offer("good", 100)
	var silent []net.Conn
	for range 3 {
		silent = append(silent, raw(t, h))
	}
	soon(t, "a fourth is closed", func() bool { // the first three may not be counted yet
		c := raw(t, h)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		if isTimeout(err) {
			silent = append(silent, c)
			return false
		}
		return true
	})
	for _, c := range silent {
		_ = c.Close()
	}
	soon(t, "lanes are welcome again", func() bool {
		l, err := recvtest.OpenLane(testContext(t), h.dial, j.id, j.a.Epoch, j.a.Token, nil)
		if err != nil {
			return false
		}
		defer func() { _ = l.Close() }()
		_, err = l.Ack()
		return err == nil
	})
	j.finish()
}

func TestExpiredToken(t *testing.T) {
	var late atomic.Int64
	h := newHouse(t, func(h *house) {
		h.cfg.Clock = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
		h.cfg.Limits.TokenTTL = time.Hour
	})
	j := h.offer("file", 2*mib)
	open := j.lane()
	late.Store(int64(2 * time.Hour))
	l, err := recvtest.OpenLane(testContext(t), h.dial, j.id, j.a.Epoch, j.a.Token, nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, l, end(transfer.Unavailable))
	_ = l.Close()
	if err := open.Frame(0, 0, j.data); err != nil { // expiry ends no lane that is open
		t.Fatal(err)
	}
	expect(t, open, chunks(0, 1))
	expect(t, open, chunks(1, 1))
}

func TestFramesThatCannotBePlaced(t *testing.T) {
	h := newHouse(t, nil)
	for name, f := range map[string]wire.Header{
		"off a border":     {Offset: 1, Length: 10},
		"past the end":     {Offset: 0, Length: 3*mib + 1},
		"inside a chunk":   {Offset: 0, Length: mib - 1},
		"beyond the file":  {Offset: 64 * mib, Length: mib},
		"unknown file":     {File: 7, Length: mib},
		"overflow":         {Offset: 1 << 62, Length: 1 << 62},
		"no octets at all": {},
	} {
		j := h.offer("bad "+name, 3*mib)
		l := j.lane()
		if _, err := l.Write(f.Append(nil)); err != nil {
			t.Fatal(err)
		}
		_, _ = l.Write(make([]byte, 4096))
		expect(t, l, end(transfer.Invalid))
		j.finish()
	}
}

func TestStalledLane(t *testing.T) {
	h := newHouse(t, func(h *house) { h.cfg.Limits.StallTimeout = 150 * time.Millisecond })
	j := h.offer("file", 2*mib)
	l := j.lane()
	if _, err := l.Write(append(wire.Header{Length: 2 * mib}.Append(nil), j.data[:mib+5]...)); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(0, 1))
	expect(t, l, end(transfer.Unavailable))
	idle := j.lane() // between frames silence is allowed
	_, err := j.commit()
	kindOf(t, err, transfer.Invalid)
	time.Sleep(200 * time.Millisecond) // longer than StallTimeout: must not matter
	if err := idle.Frame(0, mib, j.data[mib:]); err != nil {
		t.Fatal(err)
	}
	expect(t, idle, chunks(1, 1))
	if r, err := j.commit(); err != nil || r.Receipt == nil {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestChunkCutShort(t *testing.T) {
	h := newHouse(t, nil)
	j := h.offer("file", 2*mib)
	l := j.lane()
	if _, err := l.Write(append(wire.Header{Length: 2 * mib}.Append(nil), j.data[:mib+5]...)); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(0, 1))
	_ = l.Close()
	_, err := j.commit()
	kindOf(t, err, transfer.Invalid)
	j.finish()
}

// TestOneWriterPerChunk: a chunk that comes again while a lane is in the middle of
// it is taken from the newcomer.
func TestOneWriterPerChunk(t *testing.T) {
	h := newHouse(t, nil)
	j := h.offer("file", 2*mib)
	slow := j.lane()
	if _, err := slow.Write(append(wire.Header{Length: mib}.Append(nil), make([]byte, 1000)...)); err != nil {
		t.Fatal(err)
	}
	soonBusy(j)
	fast := j.lane()
	if err := fast.Frame(0, 0, j.data[:mib]); err != nil {
		t.Fatal(err)
	}
	expect(t, fast, chunks(0, 1))
	expect(t, slow, end(transfer.Unavailable))
	if err := fast.Frame(0, mib, j.data[mib:]); err != nil {
		t.Fatal(err)
	}
	expect(t, fast, chunks(1, 1))
	if r, err := j.commit(); err != nil || r.Receipt == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if !bytes.Equal(h.read("file"), j.data) {
		t.Error("content differs")
	}
}

// soonBusy gives the receiver time to begin the chunk; without it the test is
// merely weaker.
func soonBusy(*job) { time.Sleep(20 * time.Millisecond) }

// TestNewSessionFences: the old lane is ended in the middle of a chunk before the
// answer comes, and what is written is kept.
func TestNewSessionFences(t *testing.T) {
	h := newHouse(t, nil)
	j := h.offer("file", 3*mib)
	old := j.lane()
	if _, err := old.Write(append(wire.Header{Length: 3 * mib}.Append(nil), j.data[:mib+1000]...)); err != nil {
		t.Fatal(err)
	}
	expect(t, old, chunks(0, 1))
	oldSession, epoch := j.session, j.a.Epoch
	j.session = transfer.NewSession()
	var err error
	if j.a, err = h.as("alice").Negotiate(testContext(t), offerPart(j.id, j.session, "file", 3*mib)); err != nil {
		t.Fatal(err)
	}
	if j.a.Epoch != epoch+1 {
		t.Errorf("epoch %d after %d", j.a.Epoch, epoch)
	}
	if n := h.r.Status(testContext(t)).Lanes; n != 0 {
		t.Errorf("%d lanes are open after the answer", n)
	}
	expect(t, old, end(transfer.Fenced))
	if held := j.a.Files[0].Held; held.Count() != 1 || !held.Has(0) {
		t.Errorf("held %v, want chunk 0", held)
	}
	_, err = h.as("alice").Negotiate(testContext(t), offerPart(j.id, oldSession, "file", 3*mib))
	kindOf(t, err, transfer.Fenced)
	j.finish()
}

func TestLimitOfLanes(t *testing.T) {
	h := newHouse(t, func(h *house) { h.cfg.Limits.LanesPerTransfer, h.cfg.Limits.Lanes = 2, 3 })
	a, b := h.offer("a", 100), h.offer("b", 100)
	a.lane()
	a.lane()
	b.lane()
	for _, j := range []*job{a, b} {
		l, err := recvtest.OpenLane(testContext(t), h.dial, j.id, j.a.Epoch, j.a.Token, nil)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, l, end(transfer.Busy))
		_ = l.Close()
	}
	if a.a.MaxLanes != 2 {
		t.Errorf("the answer allows %d lanes, want 2", a.a.MaxLanes)
	}
}

// poorListener has no descriptors for a while.
type poorListener struct {
	net.Listener

	poor atomic.Int32
}

func (l *poorListener) Accept() (net.Conn, error) {
	if l.poor.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestNoDescriptorsAtAccept(t *testing.T) {
	h := newHouse(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	poor := &poorListener{Listener: ln}
	poor.poor.Store(3)
	ctx, cancel := context.WithCancel(testContext(t))
	served := make(chan error, 1)
	go func() { served <- h.r.ServeLanes(ctx, poor) }()
	h.addr = ln.Addr().String()
	h.offer("file", 100).finish()
	if poor.poor.Load() >= 0 {
		t.Error("the listener never failed")
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	broken := &brokenListener{ln}
	kindOf(t, h.r.ServeLanes(testContext(t), broken), transfer.Unavailable)
}

type brokenListener struct{ net.Listener }

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("broken") }

// pipeListener gives one end of a net.Pipe, whose writes wait for a reader.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestAcknowledgementsNotTaken: a sender that never reads loses its lane only.
func TestAcknowledgementsNotTaken(t *testing.T) {
	h := newHouse(t, func(h *house) { h.cfg.Limits.StallTimeout = 100 * time.Millisecond })
	ln := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	ctx, cancel := context.WithCancel(testContext(t))
	served := make(chan error, 1)
	go func() { served <- h.r.ServeLanes(ctx, ln) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	j := h.offer("file", 100)
	ours, theirs := net.Pipe()
	ln.conns <- theirs
	hello := wire.Hello{ID: j.id, Epoch: j.a.Epoch}
	if _, err := ours.Write(hello.Append(nil, j.a.Token)); err != nil {
		t.Fatal(err)
	}
	// Nothing is read; the receiver must close by itself, which fails this write.
	_ = ours.SetWriteDeadline(time.Now().Add(recvtest.Patience))
	var err error
	for err == nil {
		_, err = ours.Write(make([]byte, 1))
	}
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v, want a closed connection", err)
	}
	soon(t, "the lane is gone", func() bool { return h.r.Status(ctx).Lanes == 0 })
	j.finish()
}

func TestStoppingEndsLanes(t *testing.T) {
	h := newHouse(t, nil)
	j := h.offer("file", 2*mib)
	l := j.lane()
	if err := l.Frame(0, 0, j.data[:mib]); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(0, 1))
	if err := h.r.Drain(testContext(t)); err != nil {
		t.Fatal(err)
	}
	expect(t, l, end(transfer.Unavailable))
	_, err := h.as("alice").Negotiate(testContext(t), offerPart(transfer.NewID(), transfer.NewSession(), "x", 1))
	kindOf(t, err, transfer.Unavailable)
	if s := h.r.Status(testContext(t)); s.Serving || !s.Draining || s.Active != 0 {
		t.Errorf("%+v", s)
	}
	h.restart()
	j.session = transfer.NewSession()
	if j.a, err = h.as("alice").Negotiate(testContext(t), offerPart(j.id, j.session, "file", 2*mib)); err != nil {
		t.Fatal(err)
	}
	if !j.a.Files[0].Held.Has(0) {
		t.Errorf("held %v after draining, want chunk 0", j.a.Files[0].Held)
	}
	j.finish()
}
