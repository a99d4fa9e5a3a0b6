package recv

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Config sets up a Receiver. Only Store is required.
type Config struct {
	Store  store.Store
	Logger *slog.Logger     // nil: discards
	Clock  func() time.Time // for expiry and time stamps; nil: time.Now
	Limits Limits
	// Observer is told what happens; nil: nobody.
	Observer Observer
	// DataAddrs returns where lanes go, host:port; an empty host means the host of
	// the control plane. Called for each answer; nil: none.
	DataAddrs func() []string
	// DataTLS says that the listener of ServeLanes speaks TLS; it goes into answers
	// and receipts.
	DataTLS bool
	// AllowNone accepts the algorithm none, whose receipts say unverified.
	AllowNone bool
	// RequireBLAKE3 refuses every other algorithm (for plain lanes beside a TLS
	// control plane, where only BLAKE3 notices malice).
	RequireBLAKE3 bool
	// Sign completes a receipt's Envelope before it is stored; nil: unsigned.
	Sign func(*transfer.Receipt) error
	// OnVerified is the gate: it sees a transfer whose digests are right and may
	// refuse it before anything is published. An error of kind Denied is final, the
	// transfer fails and its data is removed; any other error is passed on as
	// Unavailable and the transfer stays open. Its context ends when the transfer
	// is aborted. nil: no gate.
	OnVerified func(context.Context, *Verified) error
	// OnPublished is called after the receipt is durable, beside the answer; nil:
	// nothing. Its context ends with Close.
	OnPublished func(context.Context, *transfer.Receipt)
	// Incarnation goes into answers, to notice a restart; 0: random.
	Incarnation uint64
}

// Limits of a Receiver. Each zero means the default that is named.
type Limits struct {
	Transfers        int           // in memory at once; 1,024
	LanesPerTransfer int           // at once; 16
	Lanes            int           // in all; 4,096
	Unidentified     int           // connections before their hello, in all; 1,024
	UnidentifiedPer  int           // the same for one address; 64. As many as Unidentified more are taken if they are brief
	PartEntries      int           // entries of one part; 10,000
	Rounds           int           // of repair; 3
	CheckpointBytes  int64         // octets written until a checkpoint; 64 MiB
	CheckpointEvery  time.Duration // 1 s
	HelloTimeout     time.Duration // 5 s
	HelloBrief       time.Duration // beyond UnidentifiedPer; 250 ms; TCP and TLS 1.3 need two round trips
	StallTimeout     time.Duration // silence inside a frame, or acknowledgements not taken; 60 s
	TokenTTL         time.Duration // new lanes are accepted this long; 24 h
	KeepPartial      time.Duration // unfinished transfers without progress; 24 h
	KeepReceipts     time.Duration // finished transfers; 7 days
	ParkAfter        time.Duration // without lanes and calls; 5 min
	RetryAfter       time.Duration // advice that comes with Busy; 2 s
}

func or[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

func (l *Limits) setDefaults() {
	or(&l.Transfers, 1024)
	or(&l.LanesPerTransfer, 16)
	or(&l.Lanes, 4096)
	or(&l.Unidentified, 1024)
	or(&l.UnidentifiedPer, 64)
	or(&l.PartEntries, 10000)
	or(&l.Rounds, 3)
	or(&l.CheckpointBytes, 64<<20)
	or(&l.CheckpointEvery, time.Second)
	or(&l.HelloTimeout, 5*time.Second)
	or(&l.HelloBrief, 250*time.Millisecond)
	or(&l.StallTimeout, 60*time.Second)
	or(&l.TokenTTL, 24*time.Hour)
	or(&l.KeepPartial, 24*time.Hour)
	or(&l.KeepReceipts, 7*24*time.Hour)
	or(&l.ParkAfter, 5*time.Minute)
	or(&l.RetryAfter, 2*time.Second)
}

// Receiver is the engine. Make it with New; all methods are safe for concurrent
// use.
type Receiver struct {
	cfg   Config
	log   *slog.Logger
	obs   Observer
	now   func() time.Time
	base  context.Context //nolint:containedctx // the life of commits, which outlive their calls
	end   context.CancelFunc
	tasks sync.WaitGroup // commits, checkpoints
	watch hub

	draining atomic.Bool
	progress atomic.Int64 // Unix nanoseconds of the last octets written
	lanes    atomic.Int64
	waiting  waiting

	mu     sync.Mutex
	live   map[transfer.ID]*movement
	parked map[transfer.ID]parkedSpec
	rates  map[string]*rate.Limiter // by principal
	active int                      // movements with a stage
}

// parkedSpec is an unfinished transfer that is on disk only.
type parkedSpec struct {
	store.Spec

	since time.Time      // of the last progress, in this run or before
	info  *transfer.Info // nil: not looked at yet
}

// New returns a Receiver over the store. It finishes what a crash interrupted
// while publishing and finds the unfinished transfers.
func New(cfg Config) (*Receiver, error) {
	if cfg.Store == nil {
		return nil, transfer.Errorf(transfer.Invalid, "make receiver", "", "no store was given")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Observer == nil {
		cfg.Observer = nobody{}
	}
	if cfg.Incarnation == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
		cfg.Incarnation = binary.BigEndian.Uint64(b[:]) | 1
	}
	cfg.Limits.setDefaults()
	r := &Receiver{
		cfg: cfg, log: cfg.Logger, obs: cfg.Observer, now: cfg.Clock,
		live: map[transfer.ID]*movement{}, parked: map[transfer.ID]parkedSpec{}, rates: map[string]*rate.Limiter{},
	}
	r.base, r.end = context.WithCancel(context.Background())
	r.waiting.by = map[string]int{}
	partials, err := cfg.Store.Unfinished(r.base)
	if err != nil {
		r.end()
		return nil, err
	}
	now := r.now()
	for _, p := range partials {
		since := p.Updated
		if since.IsZero() || since.After(now) { // the clock was set back
			since = now
		}
		r.parked[p.ID] = parkedSpec{Spec: p.Spec, since: since}
	}
	return r, nil
}

// Run parks idle transfers, removes expired ones and forgets old receipts, until
// ctx ends.
func (r *Receiver) Run(ctx context.Context) error {
	t := time.NewTicker(min(time.Minute, r.cfg.Limits.ParkAfter))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			r.Clean(ctx)
		}
	}
}

// take returns the movement of id with its control lock held, loaded from disk
// if need be; its state is StateUnknown when there is none. Give it back by
// movement.release.
func (r *Receiver) take(ctx context.Context, id transfer.ID) (*movement, error) {
	for {
		r.mu.Lock()
		m := r.live[id]
		if m == nil {
			m = newMovement(r, id)
			r.live[id] = m
		}
		r.mu.Unlock()
		if err := m.ctl.lock(ctx); err != nil {
			return nil, err
		}
		if m.gone {
			m.ctl.unlock()
			continue
		}
		if !m.loaded {
			if err := m.load(ctx); err != nil {
				m.release()
				return nil, err
			}
		}
		m.touched = r.now()
		return m, nil
	}
}

// find returns the movement of id if it is in memory, without locking it.
func (r *Receiver) find(id transfer.ID) *movement {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live[id]
}

func (r *Receiver) movements() []*movement {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*movement, 0, len(r.live))
	for _, m := range r.live {
		list = append(list, m)
	}
	return list
}

// limiter returns the limiter that all lanes of a principal share, or nil.
func (r *Receiver) limiter(c Caller) *rate.Limiter {
	if c.Rate <= 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.rates[c.Principal]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(c.Rate), limiterBurst)
		r.rates[c.Principal] = l
	}
	l.SetLimit(rate.Limit(c.Rate))
	return l
}

// Drain makes the receiver refuse offers of new sessions (Unavailable), waits for
// the commits that run, ends all lanes, makes what they wrote durable and parks
// the transfers. When ctx ends, commits are no longer waited for.
func (r *Receiver) Drain(ctx context.Context) error {
	r.draining.Store(true)
	var g errgroup.Group
	g.SetLimit(drainAtOnce)
	for _, m := range r.movements() {
		g.Go(func() error { return m.drain(ctx) })
	}
	return g.Wait()
}

// drainAtOnce is how many transfers are parked at once: each waits for the disk a
// few times, and filesystems commit what waits together.
const drainAtOnce = 32

// Close ends all lanes and waits until nothing of the receiver runs any more. The
// store stays open. Call Drain before it for a graceful stop.
func (r *Receiver) Close() {
	r.draining.Store(true)
	r.end()
	for _, m := range r.movements() {
		m.stopLanes(transfer.Unavailable)
	}
	r.tasks.Wait()
	for _, m := range r.movements() {
		m.stopCheckpoints()
	}
}

// Clean does once what Run does periodically.
func (r *Receiver) Clean(ctx context.Context) {
	now, lim := r.now(), r.cfg.Limits
	for _, m := range r.movements() {
		m.tidy(ctx, now)
	}
	for _, p := range r.parkedSpecs() {
		keep := lim.KeepPartial
		if o := p.Options.KeepPartial; o > 0 && o < keep {
			keep = o
		}
		if now.Sub(p.since) >= keep {
			if err := r.expire(ctx, p.ID); err != nil {
				r.log.Warn("remove expired transfer", "transfer", p.ID, "err", err)
			}
		}
	}
	if err := r.cfg.Store.Clean(ctx, now.Add(-lim.KeepReceipts)); err != nil {
		r.log.Warn("forget old receipts", "err", err)
	}
}

func (r *Receiver) parkedSpecs() []parkedSpec {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]parkedSpec, 0, len(r.parked))
	for _, p := range r.parked {
		list = append(list, p)
	}
	return list
}

func (r *Receiver) expire(ctx context.Context, id transfer.ID) error {
	m, err := r.take(ctx, id)
	if err != nil {
		return err
	}
	defer m.release()
	if m.stage == nil || m.session != (transfer.Session{}) {
		return nil // it came back to life
	}
	return m.discard(ctx, transfer.StateAborted, transfer.Errorf(transfer.Canceled, "keep partial files", "", "no progress for %v", r.cfg.Limits.KeepPartial))
}
