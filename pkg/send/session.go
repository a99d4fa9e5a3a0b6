package send

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// session is one run of the five steps: a fresh session id, one epoch, one token.
type session struct {
	t     *Transfer
	id    transfer.Session
	alg   transfer.Algorithm
	q     *queue // what lanes send
	hashq *queue // what is held and must be hashed all the same

	ctx    context.Context
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup

	// Set by the first answer, before there is any work for a lane.
	epoch transfer.Epoch
	token transfer.Token
	addrs []string
	most  int  // lanes
	sums  bool // digests go without sizes and indexes

	landing struct{ octets, chunks, files atomic.Int64 }
	held    atomic.Int64 // octets
	skipped atomic.Int64 // octets
	strikes atomic.Int64 // lanes that failed since anything was acknowledged
	invalid atomic.Int64 // lanes that the receiver ended as invalid
	refusal atomic.Int64 // chunks refused since anything was acknowledged

	mu      sync.Mutex
	lanes   []*lane // open ones
	bad     map[uint32]transfer.Problem
	pool    chan []byte // free buffers of a stream
	size    int64       // of a stream, once known
	hashers bool        // running
	wait    []item      // held work of a transfer that may be committed already
}

func (t *Transfer) newSession(ctx context.Context) *session {
	s := &session{
		t: t, id: transfer.NewSession(), alg: t.cfg.Options.Algorithm,
		q: newQueue(1), hashq: newQueue(1), bad: make(map[uint32]transfer.Problem), size: transfer.UnknownSize,
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	for _, q := range []*queue{s.q, s.hashq} {
		q.cut = t.cfg.Source.Cut
		q.chunk = s.chunkOf
	}
	return s
}

func (s *session) chunkOf(file uint32) (size, chunkSize int64) {
	b := s.t.hashes.bigOf(file)
	return b.size, b.chunkSize
}

// fail ends the session with err; the first one counts.
func (s *session) fail(err error) {
	s.cancel(err)
	s.q.close()
	s.hashq.close()
}

// session runs one session to its receipt or its error.
func (t *Transfer) session(ctx context.Context, res *Result) error {
	s := t.newSession(ctx)
	receipt, err := s.run(res)
	if err != nil && !errors.Is(err, errAgain) {
		if cause := context.Cause(s.ctx); cause != nil && ctx.Err() == nil {
			err = cause
		}
	}
	s.end(err)
	if errors.Is(err, errAgain) {
		t.cfg.Source.LeaveOut(s.bad)
		t.hashes.reset()
	}
	var se sourceError
	if errors.As(err, &se) {
		err = se.error
	}
	res.Receipt = receipt
	return err
}

// end stops what runs and waits for it. After a success lanes close in order.
func (s *session) end(err error) {
	stop := context.AfterFunc(s.ctx, func() { s.q.close(); s.hashq.close() })
	defer stop()
	if err != nil {
		s.cancel(err)
	}
	s.q.close()
	s.hashq.close()
	s.tasks.Wait()
	s.cancel(context.Canceled)
}

func (s *session) run(res *Result) (*transfer.Receipt, error) {
	wake := context.AfterFunc(s.ctx, func() { s.q.close(); s.hashq.close() })
	defer wake()
	stopMonitor := make(chan struct{})
	var monitor sync.WaitGroup
	monitor.Go(func() { s.monitor(stopMonitor) })
	defer monitor.Wait()
	defer close(stopMonitor)

	receipt, err := s.offer(res)
	if err != nil || receipt != nil {
		return receipt, err
	}
	if !s.q.drained() {
		return nil, context.Cause(s.ctx)
	}
	if len(s.bad) > 0 {
		return nil, errAgain
	}
	s.restLanes()
	return s.commit()
}

// restLanes waits until the idle lanes have half-closed: the receiver ends what is
// open when it commits, and its FIN would be the first.
func (s *session) restLanes() {
	s.mu.Lock()
	lanes := append([]*lane(nil), s.lanes...)
	s.mu.Unlock()
	for _, l := range lanes {
		l.waitHalved()
	}
}

// startLanes lets lanes open as soon as there is work for them.
func (s *session) startLanes(a *transfer.Answer) {
	s.epoch, s.token, s.addrs = a.Epoch, a.Token, a.DataAddrs
	most, first := s.t.cfg.Lanes, s.t.lanesAtFirst()
	if most == 0 {
		most = adaptMost
	}
	if a.MaxLanes > 0 {
		most, first = min(most, a.MaxLanes), min(first, a.MaxLanes)
	}
	s.most = most
	s.q.want(first)
	for i := range most {
		s.tasks.Go(func() { s.slot(i) })
	}
}

// unreadable handles a file that could not be read: with KeepGoing it is noted
// and its chunks no longer count, else the error ends the transfer.
func (s *session) unreadable(file uint32, chunks int64, err error) error {
	src := s.t.cfg.Source
	if !src.KeepGoing() || src.Stream() != nil {
		return sourceError{err, file}
	}
	s.leaveOut(file, err)
	s.q.acked(chunks)
	return nil
}

// leaveOut notes a file that cannot be sent; the next session goes without it.
func (s *session) leaveOut(file uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.bad[file]; !known {
		s.bad[file] = source.ProblemOf(err)
	}
}

// differs is the error of a file that gave other octets than before.
func (s *session) differs(file uint32) error {
	return sourceError{(&transfer.Error{
		Kind: transfer.Changed, Op: "read", Path: s.t.cfg.Source.LocalPath(file),
		Msg: "the file changed while it was sent: reading it twice gave different bytes",
	}).WithHint("send it again when nothing writes to it"), file}
}

// refused gives back a chunk that the receiver refused.
func (s *session) refused(it item) {
	if s.refusal.Add(1) > maxRefusals {
		s.fail(transfer.Errorf(transfer.Corrupt, "send", "", "the receiver refused %d chunks in a row", maxRefusals))
		return
	}
	s.q.giveBack([]item{it})
}

const maxRefusals = 100

// hash adds work for chunks that the receiver holds.
func (s *session) hash(its []item) {
	if len(its) == 0 {
		return
	}
	s.mu.Lock()
	start := !s.hashers
	s.hashers = true
	s.mu.Unlock()
	for _, it := range its {
		n, octets := s.hashq.measure(it)
		s.q.toHash(n)
		s.hashq.add(it, n, octets)
	}
	if start {
		for range runtime.GOMAXPROCS(0) {
			s.tasks.Go(s.hashHeld)
		}
	}
}

func randomBytes(b []byte) error {
	if _, err := crand.Read(b); err != nil {
		return fmt.Errorf("read randomness: %w", err)
	}
	return nil
}
