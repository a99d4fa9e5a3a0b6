package send

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Receiver is the far side's control plane: a view of recv.Receiver in process,
// control.Client over gRPC. Every call may be repeated (see the fields of the
// messages). Errors are *transfer.Error.
type Receiver interface {
	Negotiate(ctx context.Context, part *transfer.OfferPart) (*transfer.Answer, error)
	Commit(ctx context.Context, part *transfer.CommitPart) (*transfer.CommitResult, error)
	Abort(ctx context.Context, id transfer.ID, session transfer.Session, reason string) error
}

// Clock is time, for tests.
type Clock interface {
	Now() time.Time
	// Sleep waits for d or the end of ctx, whose cause it returns.
	Sleep(ctx context.Context, d time.Duration) error
}

// PathHint is what is known of the way to the receiver, from its UDP ping. The
// zero value means nothing is known.
type PathHint struct {
	RTT  time.Duration
	Loss float64 // lost share of the probes, from 0 to 1
}

// Config says what is sent, to whom and how.
type Config struct {
	Receiver Receiver
	// DialLane opens one data connection to an address of the answer.
	DialLane func(ctx context.Context, addr string) (net.Conn, error)
	Source   *source.Source

	ID      transfer.ID      // zero: a new one; the one of an unfinished transfer resumes it
	Options transfer.Options // totals and lanes are filled in
	Lanes   int              // lanes at once; 0: chosen, and adapted to the path
	Limit   int64            // octets a second over all lanes; 0: none. SetLimit changes it
	Plan    bool             // ask only: nothing is sent and no state is left
	Path    PathHint         // used when Lanes is 0

	// Retries is how many sessions in a row may fail without progress; 0: as many
	// as Timeout allows; negative: none after the first.
	Retries int
	// Timeout is how long nothing may move forward before the sender gives up.
	// 0: a minute, and 5 s as long as the receiver was never reached.
	Timeout time.Duration

	Logger   *slog.Logger   // nil: silent
	Observer Observer       // nil: nobody
	Clock    Clock          // nil: the system's
	Rand     func() float64 // jitter in [0, 1); nil: math/rand
}

// Result is what became of a transfer.
type Result struct {
	ID       transfer.ID
	Receipt  *transfer.Receipt // nil for a plan
	Plan     *Plan             // for a plan only
	Answer   *transfer.Answer  // the first one of the last session, without token and files
	Problems []transfer.Problem
	Left     int64 // files left out because of problems (KeepGoing)
	Stats    Stats
}

// Partial reports whether something that was to be sent is not published: left
// out at the source, or refused a name at the destination.
func (r *Result) Partial() bool {
	return r.Left > 0 || (r.Receipt != nil && r.Receipt.Partial())
}

// Transfer is one run of the sending engine. Make it with New and call Run once;
// SetLimit may be called at any time.
type Transfer struct {
	cfg    Config
	obs    serial
	log    *slog.Logger
	pace   pacer
	stats  counters
	hashes hashes

	sessions int
	reached  atomic.Bool // the receiver answered once
	moved    atomic.Int64
}

// Send runs a transfer to its end.
func Send(ctx context.Context, cfg Config) (*Result, error) {
	t, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return t.Run(ctx)
}

// New checks the configuration; the error is Invalid.
func New(cfg Config) (*Transfer, error) {
	switch {
	case cfg.Receiver == nil || cfg.Source == nil || (cfg.DialLane == nil && !cfg.Plan):
		return nil, transfer.Errorf(transfer.Invalid, "send", "", "receiver, source and lanes must be given")
	case cfg.Lanes < 0 || cfg.Lanes > MaxLanes:
		return nil, transfer.Errorf(transfer.Invalid, "send", "", "%d lanes: want 1 to %d, or 0 to have it chosen", cfg.Lanes, MaxLanes)
	case cfg.Limit < 0:
		return nil, transfer.Errorf(transfer.Invalid, "send", "", "a limit of %d bytes a second", cfg.Limit)
	}
	if cfg.ID.IsZero() {
		cfg.ID = transfer.NewID()
	}
	if cfg.Options.Algorithm == transfer.NoAlgorithm {
		cfg.Options.Algorithm = transfer.BLAKE3
	}
	switch cfg.Options.Algorithm {
	case transfer.BLAKE3, transfer.XXH3, transfer.None:
	default:
		return nil, transfer.Errorf(transfer.Invalid, "send", "", "digest %s cannot be used for a transfer", cfg.Options.Algorithm)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = systemClock{}
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	t := &Transfer{cfg: cfg, obs: serial{o: cfg.Observer}, log: cfg.Logger.With("transfer", cfg.ID)}
	t.pace.limit = cfg.Limit
	t.hashes.init(cfg.Options.Algorithm)
	return t, nil
}

// SetLimit changes the limit (octets a second over all lanes, 0 for none) at once.
func (t *Transfer) SetLimit(limit int64) { t.pace.setLimit(max(0, limit)) }

// ID returns the transfer's id.
func (t *Transfer) ID() transfer.ID { return t.cfg.ID }

// Run sends. The error is a *transfer.Error: Changed, Denied and Internal for a
// source that moved or cannot be read, whatever the receiver refused with, or
// Unavailable when nothing moved for too long. After an error the receiver keeps
// what it has: running the same id again resumes.
func (t *Transfer) Run(ctx context.Context) (*Result, error) {
	start := t.cfg.Clock.Now()
	res := &Result{ID: t.cfg.ID}
	var err error
	if t.cfg.Plan {
		err = t.plan(ctx, res)
	} else {
		err = t.sessionsUntilDone(ctx, res)
	}
	res.Stats = t.stats.result(t.cfg.Clock.Now().Sub(start), t.sessions, t.pace.current())
	var left int64
	res.Problems, left = t.cfg.Source.Problems()
	if t.cfg.Source.KeepGoing() {
		res.Left = left
	}
	if err != nil {
		if ctx.Err() != nil && transfer.KindOf(err) != transfer.Canceled {
			err = &transfer.Error{Kind: transfer.Canceled, Op: "send", Msg: "interrupted", Err: context.Cause(ctx), Hint: "run the same command again to resume"}
		}
		return res, err
	}
	if res.Receipt != nil {
		t.obs.receipt(res.Receipt)
	}
	return res, nil
}

// Patience without progress, before and after the receiver was first reached.
const (
	defaultTimeout  = time.Minute
	firstTimeout    = 5 * time.Second
	minBackoff      = 100 * time.Millisecond
	maxBackoff      = 5 * time.Second
	maxLaneBackoff  = 2 * time.Second
	minLaneBackoff  = 50 * time.Millisecond
	progressEvery   = 100 * time.Millisecond
	unansweredHello = 10 * time.Second
)

func (t *Transfer) patience() time.Duration {
	switch {
	case t.cfg.Timeout > 0:
		return t.cfg.Timeout
	case t.reached.Load():
		return defaultTimeout
	default:
		return firstTimeout
	}
}

// errAgain ends a session that is to be followed by another one at once.
var errAgain = errors.New("negotiate again")

// sessionsUntilDone runs sessions until one commits, an error is final or
// patience ends.
func (t *Transfer) sessionsUntilDone(ctx context.Context, res *Result) error {
	since, moved, failed := t.cfg.Clock.Now(), t.moved.Load(), 0
	for {
		t.sessions++
		err := t.session(ctx, res)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, errAgain) {
			continue
		}
		if !t.retryable(err) {
			return err
		}
		if m := t.moved.Load(); m != moved {
			since, moved, failed = t.cfg.Clock.Now(), m, 0
		}
		failed++
		wait := backoff(minBackoff, maxBackoff, failed, t.cfg.Rand)
		var e *transfer.Error
		if errors.As(err, &e) && e.RetryAfter > wait {
			wait = e.RetryAfter
		}
		waited := t.cfg.Clock.Now().Sub(since)
		if t.cfg.Retries < 0 || (t.cfg.Retries > 0 && failed > t.cfg.Retries) || waited+wait > t.patience() {
			return givenUp(err, failed, waited)
		}
		t.log.InfoContext(ctx, "session failed, trying again", "error", err, "attempt", failed, "wait", wait)
		if err := t.cfg.Clock.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func givenUp(err error, failed int, waited time.Duration) error {
	var e *transfer.Error
	if failed <= 1 || !errors.As(err, &e) {
		return err
	}
	c := *e
	c.Hint = "gave up after " + waited.Round(100*time.Millisecond).String() + " without progress"
	if e.Hint != "" {
		c.Hint += "; " + e.Hint
	}
	c.Hint += "; run the same command again to resume"
	return &c
}

// retryable reports whether another session may do better.
func (t *Transfer) retryable(err error) bool {
	var e *transfer.Error
	if !errors.As(err, &e) {
		return false
	}
	if t.cfg.Source.Stream() != nil && t.moved.Load() > 0 {
		return false // what was read from a stream is gone
	}
	switch e.Kind {
	case transfer.Unavailable:
		return true
	case transfer.Busy:
		return e.Remote || e.RetryAfter > 0
	case transfer.NoSpace:
		return e.RetryAfter > 0
	default:
		return false
	}
}

// backoff doubles from lo to hi, less up to a half by chance.
func backoff(lo, hi time.Duration, n int, random func() float64) time.Duration {
	d := hi
	if n < 20 {
		d = min(hi, lo<<(n-1))
	}
	return d - time.Duration(random()*float64(d)/2)
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) Sleep(ctx context.Context, d time.Duration) error {
	tm := time.NewTimer(d)
	defer tm.Stop()
	select {
	case <-tm.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// MaxLanes bounds the lanes of one transfer.
const MaxLanes = 64

// lanesAtFirst chooses how many lanes to begin with: as many as cores when there is
// something to hash or files are small (20,000 of 4 KiB, digest none: 0.33 s with
// one lane on two cores, 0.26 s with two), one when the kernel does all the work
// (2 GB in memory on two cores: 2.5 s with one, 2.7 s with two), and four on a path
// with delay or loss, where one lane's window is the limit.
func (t *Transfer) lanesAtFirst() int {
	if t.cfg.Lanes > 0 {
		return t.cfg.Lanes
	}
	hint := 1
	if t.cfg.Path.RTT >= 2*time.Millisecond || t.cfg.Path.Loss > 0 {
		hint = 4
	}
	c, _ := t.cfg.Source.Counts() // so far
	if t.cfg.Options.Algorithm != transfer.None || c.Bytes >= 0 && c.Bytes < c.Files*transfer.MinChunkSize {
		hint = max(runtime.GOMAXPROCS(0), hint)
	}
	return min(4, hint)
}
