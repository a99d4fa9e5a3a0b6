package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Runner makes one attempt at a job. It returns the receipt, or an error whose
// kind decides whether the job is tried again. The context is cancelled with
// the cause when the job is cancelled, its deadline passes or the queue stops.
type Runner interface {
	Run(ctx context.Context, j Job, live *Live) (*transfer.Receipt, error)
}

// Config configures a Queue. Zero values are the defaults named.
type Config struct {
	Path           string        // the bbolt file; required
	Runner         Runner        // required
	MaxRunning     int           // jobs at once; 0: 4
	MaxPerReceiver int           // jobs at once for one receiver; 0: MaxRunning
	MaxQueued      int           // unfinished jobs in all; 0: 1,000,000; more is Busy
	MaxRetries     int           // for specs that say 0; 0: 100
	BackoffMin     time.Duration // first wait; 0: 500 ms
	BackoffMax     time.Duration // longest wait; 0: 2 min
	KeepFinished   time.Duration // how long ended jobs stay; 0: 7 days
	Logger         *slog.Logger  // nil: none
	Now            func() time.Time
	Jitter         func() float64 // in [0, 1); nil: 0.5 always
	// Ended is told of each job once its end is durable, also of each end of one
	// that was retried after an end; nil: nobody. It may be called from several
	// goroutines at once and delays the queue as long as it takes. A crash between
	// the two loses the call.
	Ended func(*Job)
}

func (c *Config) defaults() {
	orInt := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	orDur := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	orInt(&c.MaxRunning, 4)
	orInt(&c.MaxPerReceiver, c.MaxRunning)
	orInt(&c.MaxQueued, 1_000_000)
	orInt(&c.MaxRetries, 100)
	orDur(&c.BackoffMin, 500*time.Millisecond)
	orDur(&c.BackoffMax, 2*time.Minute)
	orDur(&c.KeepFinished, 7*24*time.Hour)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Ended == nil {
		c.Ended = func(*Job) {}
	}
	if c.Jitter == nil {
		c.Jitter = func() float64 { return 0.5 }
	}
}

// errStopping is the cause with which runs end when the queue stops: they stay
// running in the file and go on at the next start.
var errStopping = errors.New("the sender is stopping")

var errCanceled = &transfer.Error{Kind: transfer.Canceled, Op: "run job", Msg: "it was cancelled"}

// Queue is the durable queue.
type Queue struct {
	cfg Config
	db  *db

	mu         sync.Mutex
	pending    map[transfer.ID]pending
	running    map[transfer.ID]*Live
	perRecv    map[string]int
	changed    chan struct{} // closed and replaced at every change
	wake       chan struct{}
	unfinished int
}

// pending is what is kept in memory of a job that waits.
type pending struct {
	priority int32
	created  time.Time
	at       time.Time
	receiver string
}

// Open opens the file and queues again what was running.
func Open(cfg Config) (*Queue, error) {
	cfg.defaults()
	d, err := openDB(cfg.Path)
	if err != nil {
		return nil, err
	}
	q := &Queue{
		cfg: cfg, db: d,
		pending: map[transfer.ID]pending{}, running: map[transfer.ID]*Live{}, perRecv: map[string]int{},
		changed: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	err = d.unfinished(func(j *Job) error {
		q.pending[j.ID] = pendingOf(j)
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, d.bolt.Close())
	}
	q.unfinished = len(q.pending)
	return q, nil
}

func pendingOf(j *Job) pending {
	return pending{priority: j.Spec.Priority, created: j.Created, at: j.NextAt, receiver: j.Spec.Receiver}
}

// Close closes the file. Call it after Run returned.
func (q *Queue) Close() error { return q.db.bolt.Close() }

// Submit stores a job durably and returns it. The same principal and request id
// give the job that they gave before (created is false); with another spec that
// is Exists. A full queue is Busy.
func (q *Queue) Submit(_ context.Context, spec Spec) (j *Job, created bool, err error) {
	if len(spec.Sources) == 0 {
		return nil, false, transfer.Errorf(transfer.Invalid, "submit job", "", "no sources are given")
	}
	if spec.Algorithm == transfer.NoAlgorithm {
		spec.Algorithm = transfer.BLAKE3
	}
	q.mu.Lock()
	full := q.unfinished >= q.cfg.MaxQueued
	q.mu.Unlock()
	if full {
		e := transfer.Errorf(transfer.Busy, "submit job", "", "%d jobs are queued already", q.cfg.MaxQueued)
		e.RetryAfter = 10 * time.Second
		return nil, false, e
	}
	now := q.cfg.Now().UTC()
	fresh := &Job{ID: transfer.NewID(), Spec: spec, State: Queued, Created: now, Updated: now}
	err = q.db.do(func(tx *bbolt.Tx) error {
		j, created = fresh, true
		if spec.RequestID != "" {
			if id := tx.Bucket(bucketRequest).Get(requestKey(&spec)); id != nil {
				old, err := get(tx, id)
				if err != nil {
					return err
				}
				if !sameRequest(&old.Spec, &spec) {
					return transfer.Errorf(transfer.Exists, "submit job", "", "request id %s was used for another job, %s", transfer.Quote(spec.RequestID), old.ID).WithHint("use a fresh request id for each new job")
				}
				j, created = old, false
				return nil
			}
		}
		return put(tx, nil, fresh)
	})
	if err != nil {
		return nil, false, err
	}
	if created {
		q.mu.Lock()
		q.unfinished++
		q.pending[j.ID] = pendingOf(j)
		q.broadcast()
		q.mu.Unlock()
		q.kick()
	}
	return j, created, nil
}

// sameRequest compares what was asked for, without what may be updated later.
func sameRequest(a, b *Spec) bool {
	x, y := *a, *b
	x.Limit, y.Limit, x.Priority, y.Priority, x.Trace, y.Trace = 0, 0, 0, 0, nil, nil
	s, _ := json.Marshal(x)
	t, _ := json.Marshal(y)
	return bytes.Equal(s, t)
}

// Get returns a job, with its progress if it runs. A principal other than the
// submitter's (and not "") hears NotFound.
func (q *Queue) Get(principal string, id transfer.ID) (*Job, error) {
	j, err := q.db.get(id)
	if err != nil {
		return nil, err
	}
	if principal != "" && j.Spec.Principal != principal {
		return nil, transfer.Errorf(transfer.NotFound, "find job", "", "no such job")
	}
	q.overlay(j)
	return j, nil
}

// overlay adds what only memory knows.
func (q *Queue) overlay(j *Job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.running[j.ID]; l != nil {
		j.Progress = l.Progress()
	}
}

// List returns a page of jobs, newest first.
func (q *Queue) List(f Filter) (Page, error) {
	p, err := q.db.list(f)
	for i := range p.Jobs {
		q.overlay(&p.Jobs[i])
	}
	return p, err
}

// broadcast tells watchers that something changed; q.mu is held.
func (q *Queue) broadcast() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *Queue) kick() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Changed returns a channel that is closed at the next change of any job.
func (q *Queue) Changed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.changed
}

// watchEvery bounds how often a watcher hears of progress.
const watchEvery = 200 * time.Millisecond

// Watch is WatchAll for one job.
func (q *Queue) Watch(ctx context.Context, principal string, id transfer.ID, fn func(*Job) error) error {
	return q.WatchAll(ctx, principal, []transfer.ID{id}, fn)
}

// WatchAll calls fn for each of the jobs now and after every change, at most each
// 200 ms, until all have ended. Without ids it tells of every unfinished job of
// the principal's ("" for all), and of its end, until ctx does.
func (q *Queue) WatchAll(ctx context.Context, principal string, ids []transfer.ID, fn func(*Job) error) error {
	last := map[transfer.ID][]byte{}
	for {
		changed := q.Changed()
		list := ids
		if len(ids) == 0 {
			list = q.active()
			for id := range last {
				list = append(list, id)
			}
		}
		open := false
		seen := map[transfer.ID]bool{}
		for _, id := range list {
			if seen[id] {
				continue
			}
			seen[id] = true
			j, err := q.Get(principal, id)
			if err != nil {
				if len(ids) == 0 {
					delete(last, id)
					continue
				}
				return err
			}
			open = open || !j.State.Final()
			if text, _ := json.Marshal(j); !bytes.Equal(text, last[id]) {
				last[id] = text
				if err := fn(j); err != nil {
					return err
				}
			}
			if j.State.Final() && len(ids) == 0 {
				delete(last, id)
			}
		}
		if len(ids) > 0 && !open {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(watchEvery):
		}
	}
}

// maxActive bounds how many jobs a watch without ids follows at once.
const maxActive = 1000

// active returns the ids of running jobs, and of waiting ones up to maxActive.
func (q *Queue) active() []transfer.ID {
	q.mu.Lock()
	defer q.mu.Unlock()
	ids := make([]transfer.ID, 0, len(q.running))
	for id := range q.running {
		ids = append(ids, id)
	}
	for id := range q.pending {
		if len(ids) >= maxActive {
			break
		}
		ids = append(ids, id)
	}
	return ids
}

// Wait returns the job when it has ended.
func (q *Queue) Wait(ctx context.Context, principal string, id transfer.ID) (*Job, error) {
	for known := false; ; known = true {
		changed, unfinished := q.look(id)
		if !known || !unfinished { // else every change of any job would read the file for each that waits
			j, err := q.Get(principal, id)
			if err != nil || j.State.Final() {
				return j, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		}
	}
}

// look returns the channel of Changed, and whether memory alone tells that the job
// has not ended.
func (q *Queue) look(id transfer.ID) (changed <-chan struct{}, unfinished bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, unfinished = q.pending[id]
	if l := q.running[id]; l != nil && !l.canceled {
		unfinished = true
	}
	return q.changed, unfinished
}

// Cancel ends a job. One that runs ends soon after; one that has ended is
// returned as it is (the call is idempotent).
func (q *Queue) Cancel(_ context.Context, principal string, id transfer.ID, reason string) (*Job, error) {
	if _, err := q.Get(principal, id); err != nil {
		return nil, err
	}
	if reason == "" {
		reason = "cancelled by its caller"
	}
	ended := false
	j, err := q.db.change(id, func(j *Job) error {
		if ended = !j.State.Final(); !ended {
			return nil
		}
		j.end(Canceled, q.cfg.Now())
		j.Kind, j.Reason, j.Hint = transfer.Canceled, reason, ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	if _, ok := q.pending[id]; ok {
		delete(q.pending, id)
		q.unfinished--
	}
	if l := q.running[id]; l != nil {
		l.canceled = true
		l.cancel(errCanceled)
	}
	q.broadcast()
	q.mu.Unlock()
	q.kick()
	if ended {
		q.cfg.Ended(j)
	}
	return j, nil
}

// Retry queues an ended job again (not one that succeeded: that is Invalid), or
// makes a waiting one run now.
func (q *Queue) Retry(_ context.Context, principal string, id transfer.ID) (*Job, error) {
	if _, err := q.Get(principal, id); err != nil {
		return nil, err
	}
	revived := false
	j, err := q.db.change(id, func(j *Job) error {
		revived = j.State.Final()
		switch j.State {
		case Succeeded:
			return transfer.Errorf(transfer.Invalid, "retry job", "", "it has succeeded").WithHint("submit a new job to send the files again")
		case Queued, Running:
			return nil
		}
		if !j.Spec.Deadline.IsZero() && j.Spec.Deadline.Before(q.cfg.Now()) {
			return transfer.Errorf(transfer.Invalid, "retry job", "", "its deadline has passed").WithHint("submit a new job with a later deadline")
		}
		j.State, j.NextAt, j.Failures, j.Finished = Queued, time.Time{}, 0, time.Time{}
		j.Kind, j.Reason, j.Hint, j.Receipt = transfer.OK, "", "", nil
		j.Updated = q.cfg.Now().UTC()
		return nil
	})
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	if q.running[id] == nil && j.State == Queued {
		q.pending[id] = pendingOf(j)
		if revived {
			q.unfinished++
		}
	}
	q.broadcast()
	q.mu.Unlock()
	q.kick()
	return j, nil
}

// Update changes the rate limit (octets per second, 0 for none) and the priority
// of a job that has not ended; nil leaves a value as it is.
func (q *Queue) Update(_ context.Context, principal string, id transfer.ID, limit *int64, priority *int32) (*Job, error) {
	if _, err := q.Get(principal, id); err != nil {
		return nil, err
	}
	if limit != nil && *limit < 0 {
		return nil, transfer.Errorf(transfer.Invalid, "update job", "", "the limit is negative")
	}
	j, err := q.db.change(id, func(j *Job) error {
		if j.State.Final() {
			return transfer.Errorf(transfer.Invalid, "update job", "", "it has ended: %s", j.State)
		}
		if limit != nil {
			j.Spec.Limit = *limit
		}
		if priority != nil {
			j.Spec.Priority = *priority
		}
		j.Updated = q.cfg.Now().UTC()
		return nil
	})
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	if p, ok := q.pending[id]; ok {
		p.priority = j.Spec.Priority
		q.pending[id] = p
	}
	if l := q.running[id]; l != nil && limit != nil {
		l.setLimit(*limit)
	}
	q.broadcast()
	q.mu.Unlock()
	q.kick()
	return j, nil
}

func (j *Job) end(s State, now time.Time) {
	j.State, j.Finished, j.Updated, j.NextAt = s, now.UTC(), now.UTC(), time.Time{}
}

// Clean forgets ended jobs older than KeepFinished, a thousand at a time.
func (q *Queue) Clean() error {
	for {
		n, err := q.db.clean(q.cfg.Now().Add(-q.cfg.KeepFinished), 1000)
		if err != nil {
			return fmt.Errorf("clean job file: %w", err)
		}
		if n < 1000 {
			return nil
		}
	}
}
