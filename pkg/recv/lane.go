package recv

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

const (
	// smallBuffer holds small files as they arrive, many at a read. 256 KiB stays
	// in a core's L2 cache; larger files are read straight into the store's buffer.
	smallBuffer = 256 << 10
	// ackBatch and ackOctets are how many records of small files, and for how many
	// octets of them, are written together at most; what waits is written before a
	// read that blocks. For 20,000 files of 4 KiB that makes 30 writes of 400, each
	// with a way through TCP and a sender that wakes: 331 -> 309 ms.
	ackBatch  = 256
	ackOctets = 1 << 20
	// reportBytes is how many octets may pass until the observer hears of them.
	reportBytes = 4 << 20
	// armEvery is how often the deadline of a moving lane is moved.
	armEvery = time.Second
	// minRate is what a spliced chunk must make on average, in octets a second,
	// beyond Limits.StallTimeout; its single reads cannot be seen.
	minRate = 64 << 10
	// limiterBurst is the least that a rate-limited read may take, in octets.
	limiterBurst = 256 << 10

	// laneGone is what a lane that needs no last record ends with.
	laneGone transfer.Kind = 255
	running  uint32        = 256 // no kind: the lane was not told to stop
)

var small = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, smallBuffer) }} //nolint:gochecknoglobals // a cache

// lane is one data connection that proved its token. Its goroutine owns all
// fields but ended and done.
type lane struct {
	m     *movement
	stage store.Stage
	conn  net.Conn
	tcp   *net.TCPConn // for splicing; nil when something must see the octets
	// read reads and calls idle once before it waits for octets; nil where the
	// octets are limited or it cannot be known whether a read would block.
	read   func(p []byte, idle func() error) (int, error)
	rate   *rate.Limiter
	ctx    context.Context //nolint:containedctx // the lane's life
	cancel context.CancelFunc

	br    *bufio.Reader // not nil while small files pass
	armed time.Time     // when the read deadline was last set

	head    [wire.HeaderLen]byte
	acks    []byte
	waiting int64    // octets that acks and last are about
	last    wire.Ack // being extended; Count 0: none
	written int64    // since the observer was told

	ended atomic.Uint32 // the kind it was told to stop with, or running
	done  chan struct{} // closed when it will write nothing more
}

// newLane makes a lane; movement.mu is held.
func newLane(ctx context.Context, m *movement, conn net.Conn) *lane {
	l := &lane{m: m, stage: m.stage, conn: conn, rate: m.rate, done: make(chan struct{}), acks: make([]byte, 0, ackBatch*wire.AckLen)}
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.ended.Store(running)
	t, plain := conn.(*net.TCPConn)
	if plain && l.rate == nil {
		l.read = newReader(t)
	}
	if plain && l.rate == nil && m.manifest.options.Algorithm == transfer.None {
		l.tcp = t
	}
	return l
}

// stop makes the lane end with kind; wait for done. Only the first call counts.
func (l *lane) stop(kind transfer.Kind) {
	if l.ended.CompareAndSwap(running, uint32(kind)) {
		l.cancel()
		// Wakes a read that blocks. A deadline that the lane sets after this is
		// harmless: it looks at ended after setting it.
		_ = l.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// serve runs the lane to its end and returns the kind for its last record, or
// laneGone.
func (l *lane) serve() (kind transfer.Kind) {
	r := l.m.r
	unpoke := context.AfterFunc(l.ctx, func() { l.stop(transfer.Unavailable) })
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("panic in lane", "transfer", l.m.id, "panic", p, "stack", string(debug.Stack()))
			kind = transfer.Internal
		}
		unpoke()
		l.cancel()
		l.leave(kind)
	}()
	err := l.hello()
	if err == nil {
		err = l.frames()
	}
	if err == nil {
		err = l.flush()
	}
	return l.verdict(err)
}

// verdict turns the error that ended the lane into the kind of its last record.
func (l *lane) verdict(err error) transfer.Kind {
	if k := l.ended.Load(); k != running {
		_ = l.flush()
		return transfer.Kind(k) //nolint:gosec // below running it is a kind
	}
	var e *transfer.Error
	switch {
	case err == nil:
		return laneGone
	case errors.As(err, &e):
		l.m.r.log.Warn("end lane", "transfer", l.m.id, "peer", l.conn.RemoteAddr().String(), "err", err)
		_ = l.flush()
		return e.Kind
	case errors.Is(err, os.ErrDeadlineExceeded):
		l.m.r.log.Warn("lane stalled", "transfer", l.m.id, "peer", l.conn.RemoteAddr().String())
		_ = l.flush()
		return transfer.Unavailable
	default: // the connection broke
		l.m.r.log.Info("lane broke", "transfer", l.m.id, "peer", l.conn.RemoteAddr().String(), "err", err)
		return laneGone
	}
}

// leave takes the lane off its transfer.
func (l *lane) leave(kind transfer.Kind) {
	if l.br != nil {
		l.br.Reset(nil)
		small.Put(l.br)
		l.br = nil
	}
	l.report()
	m := l.m
	m.mu.Lock()
	delete(m.lanes, l)
	m.updated = m.r.now()
	m.mu.Unlock()
	m.r.lanes.Add(-1)
	if kind == laneGone {
		kind = transfer.OK
	}
	m.r.obs.Lane(-1, kind)
	m.r.watch.changed(m.id)
	close(l.done)
}

func (l *lane) hello() error {
	l.acks = wire.Ack{Type: wire.AckHello}.Append(l.acks)
	return l.flush()
}

// frames takes frames until the sender half-closes.
func (l *lane) frames() error {
	for {
		h, err := l.header()
		if err == io.EOF { //nolint:errorlint // header returns it as it is
			return nil
		}
		if err == nil {
			err = l.frame(h)
		}
		if err != nil {
			return err
		}
	}
}

// header reads the next frame header. Between frames a lane may idle. The header
// is read exactly, so that what follows can go straight to the store, unless
// small files are passing and it is in the buffer already.
func (l *lane) header() (wire.Header, error) {
	b := l.head[:]
	if l.br != nil && l.br.Buffered() > 0 {
		if l.br.Buffered() < wire.HeaderLen {
			if err := l.flushBeforeRead(); err != nil {
				return wire.Header{}, err
			}
		}
		if _, err := io.ReadFull(l.br, b); err != nil {
			return wire.Header{}, cut(err)
		}
		return wire.ParseHeader(b)
	}
	if l.br != nil {
		small.Put(l.br)
		l.br = nil
	}
	if err := l.flush(); err != nil {
		return wire.Header{}, err
	}
	l.report()
	if err := l.arm(0); err != nil {
		return wire.Header{}, err
	}
	n, err := l.conn.Read(b)
	if n == 0 && err != nil {
		return wire.Header{}, err
	}
	if n < len(b) {
		if _, err := io.ReadFull(netReader{l}, b[n:]); err != nil {
			return wire.Header{}, cut(err)
		}
	}
	return wire.ParseHeader(b)
}

// cut turns an end inside a frame into an error that is not io.EOF.
func cut(err error) error {
	if err == io.EOF { //nolint:errorlint // readers return it as it is
		return io.ErrUnexpectedEOF
	}
	return err
}

// arm sets the read deadline to d from now, or to none for 0, and notices a stop.
func (l *lane) arm(d time.Duration) error {
	var at time.Time
	l.armed = time.Time{}
	if d > 0 {
		l.armed = time.Now()
		at = l.armed.Add(d)
	}
	if err := l.conn.SetReadDeadline(at); err != nil {
		return err
	}
	if l.ended.Load() != running {
		return context.Canceled
	}
	return nil
}

// netReader reads from the connection: each octet gives it StallTimeout more.
type netReader struct{ l *lane }

func (n netReader) Read(p []byte) (int, error) {
	l := n.l
	if time.Since(l.armed) > armEvery {
		if err := l.arm(l.m.r.cfg.Limits.StallTimeout); err != nil {
			return 0, err
		}
	}
	if l.read != nil {
		return l.read(p, l.flush)
	}
	if l.rate == nil {
		return l.conn.Read(p)
	}
	c, err := l.conn.Read(p[:min(len(p), limiterBurst)])
	if c > 0 {
		if werr := l.rate.WaitN(l.ctx, c); werr != nil && err == nil {
			err = werr
		}
		l.armed = time.Time{} // the wait was ours, not the sender's
	}
	return c, err
}

// Read gives what is buffered and then what the connection brings. It makes the
// lane the reader of a chunk.
func (l *lane) Read(p []byte) (int, error) {
	if l.br != nil && l.br.Buffered() > 0 {
		return l.br.Read(p[:min(len(p), l.br.Buffered())])
	}
	return netReader{l}.Read(p)
}

// frame takes one frame: its chunks, one after another.
func (l *lane) frame(h wire.Header) error {
	e, ok := l.stage.Shape(h.File)
	if !ok || e.Type != transfer.Regular || e.Size == 0 {
		return transfer.Errorf(transfer.Invalid, "place frame", "", "file %d is not in the answered part of the manifest, or has no octets", h.File)
	}
	chunks, err := h.Check(e.Size, e.ChunkSize)
	if err != nil {
		return err
	}
	if h.Length == e.Size && h.Length <= smallBuffer && chunks.Count == 1 && !e.Skip {
		return l.small(h)
	}
	left := h.Length
	for c := chunks.First; uint64(c) < chunks.End(); c++ {
		n := min(e.ChunkSize, left)
		if err := l.chunk(h.File, c, n, e.Skip); err != nil {
			return err
		}
		left -= n
		if err := l.ack(h.File, c, n); err != nil {
			return err
		}
	}
	return nil
}

// small takes a whole file that fits the buffer.
func (l *lane) small(h wire.Header) error {
	if l.br == nil {
		l.br, _ = small.Get().(*bufio.Reader)
		l.br.Reset(netReader{l})
	}
	n := int(h.Length)
	if l.br.Buffered() < n {
		if err := l.flushBeforeRead(); err != nil {
			return err
		}
	}
	data, err := l.br.Peek(n)
	if err != nil {
		return cut(err)
	}
	if l.m.claim(l, h.File, 0) {
		err = l.stage.WriteSmall(l.ctx, h.File, data)
		l.m.unclaim(h.File, 0)
		if err != nil {
			return err
		}
		l.wrote(h.Length)
	} else if l.ended.Load() != running {
		return context.Canceled
	}
	if _, err := l.br.Discard(n); err != nil {
		return err
	}
	return l.ack(h.File, 0, h.Length)
}

// chunk takes one chunk, or drains it when it is there already.
func (l *lane) chunk(file, chunk uint32, n int64, skip bool) error {
	if skip || !l.m.claim(l, file, chunk) {
		if l.ended.Load() != running {
			return context.Canceled
		}
		return l.drain(n)
	}
	defer l.m.unclaim(file, chunk)
	var r io.Reader = l
	if l.tcp != nil && (l.br == nil || l.br.Buffered() == 0) {
		if err := l.flush(); err != nil { // of small files before: the store reads now
			return err
		}
		if err := l.arm(l.m.r.cfg.Limits.StallTimeout + time.Duration(n/minRate)*time.Second); err != nil {
			return err
		}
		r = l.tcp
	}
	if err := l.stage.WriteChunk(l.ctx, file, chunk, n, r); err != nil {
		return cut(err)
	}
	l.wrote(n)
	return nil
}

// drain reads n octets that nobody needs.
func (l *lane) drain(n int64) error {
	_, err := io.CopyN(io.Discard, l, n)
	return cut(err)
}

func (l *lane) wrote(n int64) {
	l.written += n
	if l.written >= reportBytes {
		l.report()
	}
	l.m.wrote(n)
}

// report tells the observer and the progress clock what was written.
func (l *lane) report() {
	if l.written > 0 {
		l.m.r.obs.Bytes(l.written)
		l.m.r.progress.Store(time.Now().UnixNano())
		l.written = 0
	}
}

// ack records that a chunk is written; those of small files are sent in batches.
func (l *lane) ack(file, chunk uint32, n int64) error {
	if l.last.Count > 0 && l.last.File == file && l.last.Chunk+l.last.Count == chunk {
		l.last.Count++
	} else {
		l.push()
		l.last = wire.Ack{Type: wire.AckWritten, File: file, Chunk: chunk, Count: 1}
	}
	l.waiting += n
	if n <= smallBuffer && l.waiting < ackOctets && len(l.acks) < (ackBatch-1)*wire.AckLen {
		return nil
	}
	return l.flush()
}

// flushBeforeRead sends the records before a read that may block, unless the read
// itself does.
func (l *lane) flushBeforeRead() error {
	if l.read != nil {
		return nil
	}
	return l.flush()
}

// push ends the record that is being extended.
func (l *lane) push() {
	if l.last.Count > 0 {
		l.acks = l.last.Append(l.acks)
		l.last = wire.Ack{}
	}
}

// flush sends the records. A sender that does not take them for StallTimeout
// loses the lane.
func (l *lane) flush() error {
	l.push()
	if len(l.acks) == 0 {
		return nil
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.m.r.cfg.Limits.StallTimeout))
	_, err := l.conn.Write(l.acks)
	l.acks, l.waiting = l.acks[:0], 0
	return err
}

func claimKey(file, chunk uint32) uint64 { return uint64(file)<<32 | uint64(chunk) }

// claim makes l the one writer of a chunk, unless it is written already. When
// another lane is writing it, that lane is ended and its writer waited for. It
// also returns false when l was told to stop.
func (m *movement) claim(l *lane, file, chunk uint32) bool {
	key := claimKey(file, chunk)
	m.mu.Lock()
	for {
		other := m.writers[key]
		if other == nil {
			break
		}
		m.mu.Unlock()
		other.stop(transfer.Unavailable)
		m.mu.Lock()
		for m.writers[key] == other {
			m.cond.Wait()
		}
	}
	m.writers[key] = l
	m.mu.Unlock()
	if l.ended.Load() != running || l.stage.Written(file, chunk) {
		m.unclaim(file, chunk)
		return false
	}
	return true
}

func (m *movement) unclaim(file, chunk uint32) {
	m.mu.Lock()
	delete(m.writers, claimKey(file, chunk))
	m.mu.Unlock()
	m.cond.Broadcast()
}
