package send

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

const (
	// pieceLen is how much of a large file is read, hashed and written at a time:
	// it stays in the second-level cache from the read to the write. Measured with
	// xxh3 on 2 cores, CPU seconds a GiB of the sender: 0.40 with 128 KiB, 0.40 with
	// 256 KiB, 0.42 with 512 KiB, 0.37 with 1 MiB; so the smallest that is not worse
	// for blake3, whose groups are 64 KiB.
	pieceLen = 256 << 10
	// smallMax is the largest file that travels in a batch.
	smallMax = 256 << 10
	// window bounds the unacknowledged octets of a lane, hence what a dead lane
	// makes to be sent again.
	window = 32 << 20
	// laneBuf holds a batch: the last file may begin just below batchBytes.
	laneBuf = batchBytes + wire.HeaderLen + smallMax
	// maxFlights bounds the unacknowledged frames of a lane.
	maxFlights = 4096
)

// sourceError marks an error of the source, which no other lane can mend.
type sourceError struct {
	error
	file uint32
}

func (e sourceError) Unwrap() error { return e.error }

// flight is a frame on its way: chunks [first, end) of file, left octets.
type flight struct {
	file, first, end uint32
	small            bool
	left, chunkSize  int64
	buf              []byte // a stream's chunk, kept until it is acknowledged
}

// lane is one data connection.
type lane struct {
	s      *session
	num    int
	addr   string
	conn   net.Conn
	rd     *source.Reader
	buf    []byte
	sums   []byte
	batch  []flight
	hasher *digest.ChunkHasher
	rest   item // what was pulled and not yet put in flight
	paced  bool // the kernel keeps the limit

	resting atomic.Bool // it waits for work

	mu       sync.Mutex
	cond     *sync.Cond
	flights  []flight // oldest first, from head on
	head     int
	inFlight int64
	total    int64 // acknowledged octets
	lastAck  time.Time
	opened   time.Time
	rtt      time.Duration
	greeted  bool
	halved   bool // half-closed: nothing more will be sent
	dead     error
	gone     atomic.Bool // dead is set
	replaced bool
	noted    bool // the kernel's figures were taken

	landedChunks, landedOctets int64 // since the last flush
}

func newLane(s *session, num int) *lane {
	l := &lane{s: s, num: num, rd: s.t.cfg.Source.NewReader(), hasher: digest.NewChunk(s.alg, 0, transfer.MinChunkSize, true)}
	l.cond = sync.NewCond(&l.mu)
	return l
}

// run opens the lane and works until the queue rests or is closed (nil) or it breaks.
// Whatever was not acknowledged is given back before it returns.
func (l *lane) run(ctx context.Context, addr string, careful bool) error {
	l.addr = addr
	l.mu.Lock()
	l.conn, l.greeted, l.halved, l.replaced, l.noted = nil, false, false, false, false
	l.flights, l.head, l.inFlight, l.total = l.flights[:0], 0, 0, 0
	l.mu.Unlock()
	start := time.Now()
	conn, err := l.s.t.cfg.DialLane(ctx, addr)
	if err != nil {
		return err
	}
	l.s.dialled(time.Since(start))
	l.mu.Lock()
	l.conn, l.dead, l.opened = conn, nil, time.Now()
	l.lastAck = l.opened
	l.gone.Store(false)
	l.mu.Unlock()
	tuneConn(conn)
	l.s.t.pace.add(l)
	l.s.t.stats.laneUp()
	stop := context.AfterFunc(ctx, func() { l.kill(context.Cause(ctx)) })
	defer stop()
	read := make(chan struct{})
	go func() { defer close(read); l.readAcks() }()

	err = l.work(careful)
	if err == nil {
		l.finish(read)
	}
	l.s.t.pace.remove(l)
	l.s.t.stats.lanes.Add(-1)
	l.kill(err)
	<-read
	l.giveBack()
	l.rd.Close()
	var se sourceError
	if err != nil && !errors.As(err, &se) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.dead != nil {
			return l.dead // what the reader saw first says more than a failed write
		}
	}
	return err
}

// lastWait bounds the wait for the receiver's end of a lane whose frames are all
// acknowledged: it has nothing to do but to close.
const lastWait = 10 * time.Second

// finish half-closes, and waits for the receiver's last acknowledgements and its
// close. In this order the sender's end is the one that the kernel keeps in
// TIME_WAIT, and the receiver's port is free for a restart.
func (l *lane) finish(read <-chan struct{}) {
	if l.halfClose() {
		_ = l.conn.SetReadDeadline(time.Now().Add(lastWait))
		<-read
	}
}

// halfClose says that no more comes; false when that cannot be said.
func (l *lane) halfClose() bool {
	l.mu.Lock() // what the receiver answers to it is judged after it
	defer l.mu.Unlock()
	defer l.cond.Broadcast()
	l.halved = true
	cw, ok := l.conn.(interface{ CloseWrite() error })
	return ok && cw.CloseWrite() == nil
}

// waitHalved waits until an open lane has half-closed, or is dead.
func (l *lane) waitHalved() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.conn != nil && l.greeted && !l.halved && l.dead == nil {
		l.cond.Wait()
	}
}

// kill ends the connection; the first reason stays. What is no normal end resets
// it, so that nothing of a dead lane is sent any more.
func (l *lane) kill(why error) {
	l.mu.Lock()
	if l.dead == nil && why != nil {
		l.dead = why
		l.gone.Store(true)
		if !normalEnd(why) {
			resetOnClose(l.conn)
		}
	}
	l.cond.Broadcast()
	if !l.noted {
		l.noted = true
		l.noteTCP()
	}
	l.mu.Unlock()
	_ = l.conn.Close()
	l.s.q.wake()
}

// giveBack returns everything that was taken and not acknowledged.
func (l *lane) giveBack() {
	l.mu.Lock()
	its := make([]item, 0, len(l.flights)-l.head+1)
	for _, f := range l.flights[l.head:] {
		switch {
		case f.buf != nil:
			its = append(its, item{kind: streamItem, file: f.file, first: f.first, end: f.end, buf: f.buf})
		case f.small:
			its = append(its, item{kind: smallItem, first: f.file, end: f.file + 1})
		default:
			its = append(its, item{kind: spanItem, file: f.file, first: f.first, end: f.end})
		}
	}
	l.flights, l.head, l.inFlight = l.flights[:0], 0, 0
	l.mu.Unlock()
	if l.rest.first < l.rest.end {
		its = append(its, l.rest)
	}
	l.rest = item{}
	l.s.q.giveBack(its)
}

// work greets and then sends what it pulls.
func (l *lane) work(careful bool) error {
	h := wire.Hello{ID: l.s.t.cfg.ID, Epoch: l.s.epoch}
	if err := randomBytes(h.Nonce[:]); err != nil {
		return err
	}
	if _, err := l.conn.Write(h.Append(make([]byte, 0, wire.HelloLen), l.s.token)); err != nil {
		return err
	}
	if careful {
		late := time.AfterFunc(unansweredHello, func() {
			l.kill(transfer.Errorf(transfer.Unavailable, "open data lane", "", "the receiver did not answer within %s", unansweredHello))
		})
		defer late.Stop()
		if err := l.waitFor(func() bool { return l.greeted }); err != nil {
			return err
		}
		late.Stop()
	}
	for {
		start := time.Now()
		l.resting.Store(true)
		it, ok := l.s.q.pull(&l.gone)
		l.resting.Store(false)
		if !ok {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.dead
		}
		l.s.t.stats.idle.Add(int64(time.Since(start)))
		l.rest = it
		var err error
		switch it.kind {
		case smallItem:
			err = l.sendSmall(it.end)
		case spanItem:
			size, cs := l.s.chunkOf(it.file)
			err = l.sendSpan(flight{file: it.file, first: it.first, end: it.end, chunkSize: cs}, size)
		case streamItem:
			err = l.sendStream(it)
		}
		if err != nil {
			return err
		}
	}
}

// waitFor waits, under the lane's lock, for ok or the lane's death.
func (l *lane) waitFor(ok func() bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead == nil && ok() {
		return nil
	}
	start := time.Now()
	for l.dead == nil && !ok() {
		l.cond.Wait()
	}
	l.s.t.stats.acks.Add(int64(time.Since(start)))
	return l.dead
}

// launch waits for room in the window and notes frames as in flight.
func (l *lane) launch(octets int64, fs ...flight) error {
	if err := l.waitFor(func() bool {
		return l.inFlight == 0 || (l.inFlight+octets <= window && len(l.flights)-l.head+len(fs) <= maxFlights)
	}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head > 0 && l.head*2 >= len(l.flights) {
		n := copy(l.flights, l.flights[l.head:])
		clear(l.flights[n:])
		l.flights, l.head = l.flights[:n], 0
	}
	if l.inFlight == 0 {
		l.lastAck = time.Now()
	}
	l.flights = append(l.flights, fs...)
	l.inFlight += octets
	return nil
}

// readAcks reads acknowledgements until the connection ends.
func (l *lane) readAcks() {
	buf := make([]byte, 16<<10)
	have := 0
	for {
		n, err := l.conn.Read(buf[have:])
		have += n
		used := have - have%wire.AckLen
		for at := 0; at < used; at += wire.AckLen {
			a, perr := wire.ParseAck(buf[at:used])
			if perr == nil {
				perr = l.take(a)
			}
			if perr != nil {
				l.flush()
				if normalEnd(perr) { // closing with anything unread would be a reset
					_ = l.conn.SetReadDeadline(time.Now().Add(lastWait))
					_, _ = io.Copy(io.Discard, l.conn)
				}
				l.kill(perr)
				return
			}
		}
		l.flush()
		have = copy(buf, buf[used:have])
		if err != nil {
			l.kill(l.endOf(err))
			return
		}
	}
}

var (
	errClosed = errors.New("the receiver closed the lane")
	errDone   = errors.New("both ends closed the lane")
)

// endOf says what the error means with which reading ended.
func (l *lane) endOf(err error) error {
	eof := err == io.EOF //nolint:errorlint // Read returns it bare
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case eof && l.halved:
		return errDone
	case eof, errors.Is(err, os.ErrDeadlineExceeded):
		return errClosed
	}
	return err
}

// normalEnd tells whether a lane ended by closing in both directions: after our
// half-close, or because the receiver has committed and wants nothing more.
func normalEnd(why error) bool {
	var end laneEnd
	return errors.Is(why, errDone) || (errors.As(why, &end) && end.kind == transfer.OK)
}

// laneEnd is what the receiver said when it ended a lane.
type laneEnd struct {
	kind    transfer.Kind
	greeted bool
}

func (e laneEnd) Error() string { return "the receiver ended the lane: " + e.kind.String() }
