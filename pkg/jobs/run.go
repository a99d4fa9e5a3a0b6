package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Live is a running job: the runner reports to it, and limits reach the runner
// through it. Safe for concurrent use.
type Live struct {
	q        *Queue
	id       transfer.ID
	cancel   context.CancelCauseFunc
	canceled bool // its end is stored although it still runs; under q.mu

	mu       sync.Mutex
	progress Progress
	limit    func(int64)
	told     time.Time
}

// Report replaces the progress; watchers hear of it at most five times a second.
func (l *Live) Report(p Progress) {
	now := l.q.cfg.Now()
	p.At = now.UTC()
	l.mu.Lock()
	tell := p.Note != l.progress.Note || p.To != l.progress.To || now.Sub(l.told) >= watchEvery
	l.progress = p
	if tell {
		l.told = now
	}
	l.mu.Unlock()
	if tell {
		l.q.mu.Lock()
		l.q.broadcast()
		l.q.mu.Unlock()
	}
}

// Progress returns what was last reported.
func (l *Live) Progress() Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.progress
}

// Committing stores durably that the receiver to is about to be asked to commit
// the job; "" says that it never committed. A runner that may send a job to one
// of several receivers calls it before the commit: after a crash, Job.Committing
// names the only one that may have published. The error is Canceled when the job
// was cancelled meanwhile, and else that of the file; nothing may be committed then.
func (l *Live) Committing(to string) error {
	_, err := l.q.db.change(l.id, func(j *Job) error {
		if j.State.Final() {
			return errCanceled
		}
		j.Committing, j.Updated = to, l.q.cfg.Now().UTC()
		if to != "" {
			j.Progress = l.Progress()
			j.Progress.To, j.Progress.Lanes, j.Progress.Rate = to, 0, 0
		}
		return nil
	})
	return err
}

// OnLimit has f called with the new limit when the job is updated.
func (l *Live) OnLimit(f func(int64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = f
}

func (l *Live) setLimit(n int64) {
	l.mu.Lock()
	f := l.limit
	l.mu.Unlock()
	if f != nil {
		f(n)
	}
}

// cleanEvery is how often ended jobs are looked through.
const cleanEvery = 10 * time.Minute

// Run starts jobs until ctx ends, then cancels those that run, waits for them
// and returns nil. They go on at the next start.
func (q *Queue) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	runs, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errStopping)
	nextClean := q.cfg.Now()
	for {
		if now := q.cfg.Now(); !now.Before(nextClean) {
			nextClean = now.Add(cleanEvery)
			if err := q.Clean(); err != nil {
				q.cfg.Logger.Error("clean job file", "err", err)
			}
		}
		var wait time.Duration
		for {
			id, ok, until := q.next()
			if !ok {
				wait = until
				break
			}
			wg.Go(func() { q.attempt(runs, id) })
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-q.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// next takes the best job that may start: highest priority, then oldest. It
// counts as running from then on. Without one it says how long to wait for the
// next that falls due, by the same reading of the clock: one that falls due
// between two readings would be missed by both. A job that only a limit holds
// back is not waited for, since the end of another one wakes Run.
func (q *Queue) next() (id transfer.ID, ok bool, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.running) >= q.cfg.MaxRunning {
		return id, false, cleanEvery
	}
	now := q.cfg.Now()
	wait = cleanEvery
	var best pending
	for i, p := range q.pending {
		if d := p.at.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		if q.perRecv[p.receiver] >= q.cfg.MaxPerReceiver {
			continue
		}
		if !ok || p.priority > best.priority || p.priority == best.priority && p.created.Before(best.created) {
			id, best, ok = i, p, true
		}
	}
	if !ok {
		return id, false, wait
	}
	delete(q.pending, id)
	q.running[id] = &Live{q: q, id: id, cancel: func(error) {}}
	q.perRecv[best.receiver]++
	return id, true, 0
}

// attempt runs a job once and stores what came of it.
func (q *Queue) attempt(parent context.Context, id transfer.ID) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	q.mu.Lock()
	live := q.running[id]
	live.cancel = cancel
	q.mu.Unlock()

	j, err := q.db.change(id, func(j *Job) error {
		if j.State.Final() {
			return errCanceled
		}
		j.State, j.Attempts, j.Updated, j.NextAt = Running, j.Attempts+1, q.cfg.Now().UTC(), time.Time{}
		return nil
	})
	if err != nil {
		if !errors.Is(err, errCanceled) {
			q.cfg.Logger.Error("start job", "job", id, "err", err)
		}
		q.settle(id, nil)
		return
	}
	q.mu.Lock()
	q.broadcast()
	q.mu.Unlock()
	if !j.Spec.Deadline.IsZero() {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadlineCause(ctx, j.Spec.Deadline, transfer.Errorf(transfer.Unavailable, "run job", "", "its deadline of %s has passed", j.Spec.Deadline.Format(time.RFC3339)))
		defer stop()
	}
	receipt, err := q.runSafely(ctx, *j, live)
	if err != nil && errors.Is(context.Cause(parent), errStopping) {
		q.settle(id, j)
		return
	}
	done, serr := q.store(id, live.Progress(), receipt, err)
	if serr != nil && !errors.Is(serr, errCanceled) {
		q.cfg.Logger.Error("store outcome of job", "job", id, "err", serr)
		done = nil
	}
	if done != nil && done.State.Final() {
		q.cfg.Ended(done)
	}
	q.settle(id, done)
}

// runSafely turns a panic of the runner into an error of its job alone.
func (q *Queue) runSafely(ctx context.Context, j Job, live *Live) (r *transfer.Receipt, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("run job: panic: %v", p)
		}
	}()
	return q.cfg.Runner.Run(ctx, j, live)
}

// store writes the outcome of an attempt. A job that was cancelled meanwhile
// stays so.
func (q *Queue) store(id transfer.ID, p Progress, r *transfer.Receipt, err error) (*Job, error) {
	return q.db.change(id, func(j *Job) error {
		if j.State.Final() {
			return errCanceled
		}
		now := q.cfg.Now()
		p.Lanes, p.Rate = 0, 0
		j.Progress = p
		if err == nil {
			state := Succeeded
			if r != nil && r.Partial() {
				state = Partial
			}
			j.end(state, now)
			j.Receipt, j.Kind, j.Reason, j.Hint = r, transfer.OK, "", ""
			return nil
		}
		j.Kind, j.Reason, j.Hint = transfer.KindOf(err), err.Error(), transfer.HintOf(err)
		limit := j.Spec.MaxRetries
		if limit <= 0 {
			limit = q.cfg.MaxRetries
		}
		wait := q.backoff(j.Failures, err)
		late := !j.Spec.Deadline.IsZero() && now.Add(wait).After(j.Spec.Deadline)
		if !j.Kind.Temporary() || j.Failures >= limit || late {
			j.end(Failed, now)
			return nil
		}
		j.Failures++
		j.State, j.NextAt, j.Updated = Waiting, now.Add(wait).UTC(), now.UTC()
		return nil
	})
}

// backoff is BackoffMin doubled per failure up to BackoffMax, of which the upper
// half is random (so that jobs that failed together do not return together),
// and never less than the receiver's own RetryAfter.
func (q *Queue) backoff(failures int, err error) time.Duration {
	d := q.cfg.BackoffMin
	for range min(failures, 30) {
		d = min(d*2, q.cfg.BackoffMax)
	}
	d = d/2 + time.Duration(q.cfg.Jitter()*float64(d/2))
	var te *transfer.Error
	if errors.As(err, &te) {
		d = max(d, te.RetryAfter)
	}
	return d
}

// settle takes a job off the running ones and, if it is to be tried again, puts
// it back among the pending ones. A nil job counts as ended.
func (q *Queue) settle(id transfer.ID, j *Job) {
	q.mu.Lock()
	delete(q.running, id)
	if j == nil {
		if old, err := q.db.get(id); err == nil {
			j = old
		}
	}
	if j != nil {
		receiver := j.Spec.Receiver
		if q.perRecv[receiver]--; q.perRecv[receiver] <= 0 {
			delete(q.perRecv, receiver)
		}
	}
	if j != nil && !j.State.Final() {
		q.pending[id] = pendingOf(j)
	} else {
		q.unfinished--
	}
	q.broadcast()
	q.mu.Unlock()
	q.kick()
}
