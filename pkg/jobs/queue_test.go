package jobs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runnerFunc makes a Runner of a function.
type runnerFunc func(ctx context.Context, j Job, live *Live) (*transfer.Receipt, error)

func (f runnerFunc) Run(ctx context.Context, j Job, live *Live) (*transfer.Receipt, error) {
	return f(ctx, j, live)
}

func receipt(j Job) *transfer.Receipt {
	return &transfer.Receipt{ID: j.ID, Counts: map[string]int64{"published": 1}}
}

func spec(path string) Spec {
	return Spec{Sources: []Source{{Path: path}}, Receiver: "a"}
}

// open opens a queue and runs it until the test ends or stop is called.
func open(t *testing.T, cfg Config) (q *Queue, stop func()) {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "jobs.db")
	}
	if cfg.BackoffMin == 0 {
		cfg.BackoffMin = time.Millisecond
	}
	q, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return q, stop
}

func wait(t *testing.T, q *Queue, id transfer.ID) *Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	j, err := q.Wait(ctx, "", id)
	if err != nil {
		t.Fatalf("wait for job: %v", err)
	}
	return j
}

func submit(t *testing.T, q *Queue, s Spec) *Job {
	t.Helper()
	j, _, err := q.Submit(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestSucceeds(t *testing.T) {
	q, _ := open(t, Config{Runner: runnerFunc(func(_ context.Context, j Job, _ *Live) (*transfer.Receipt, error) { return receipt(j), nil })})
	j := wait(t, q, submit(t, q, spec("/x")).ID)
	if j.State != Succeeded || j.Receipt == nil || j.Attempts != 1 || j.Finished.IsZero() {
		t.Errorf("%+v", j)
	}
}

func TestRetriesOnlyWhatCanHeal(t *testing.T) {
	for kind, heals := range map[transfer.Kind]bool{
		transfer.Unavailable: true, transfer.Busy: true, transfer.NoSpace: true,
		transfer.Invalid: false, transfer.Denied: false, transfer.Changed: false, transfer.Exists: false, transfer.Corrupt: false, transfer.Fenced: false, transfer.Internal: false,
	} {
		q, _ := open(t, Config{Runner: runnerFunc(func(_ context.Context, j Job, _ *Live) (*transfer.Receipt, error) {
			if j.Attempts < 3 {
				return nil, transfer.Errorf(kind, "send", "", "no").WithHint("do something")
			}
			return receipt(j), nil
		})})
		j := wait(t, q, submit(t, q, spec("/x")).ID)
		if heals && (j.State != Succeeded || j.Attempts != 3 || j.Kind != transfer.OK) {
			t.Errorf("%v: %+v", kind, j)
		}
		if !heals && (j.State != Failed || j.Attempts != 1 || j.Kind != kind || j.Hint == "") {
			t.Errorf("%v: %+v", kind, j)
		}
	}
}

// A clock of which every reading is later has a job fall due between any two of
// them; none may be overlooked until the next cleaning.
func TestFallsDueBetweenReadings(t *testing.T) {
	var readings, jitter atomic.Int64
	start := time.Now()
	q, _ := open(t, Config{
		MaxRetries: 50, BackoffMin: 10 * time.Millisecond, BackoffMax: 10 * time.Millisecond,
		Now:    func() time.Time { return start.Add(time.Duration(readings.Add(1)) * time.Millisecond) },
		Jitter: func() float64 { return float64(jitter.Add(1)%10) / 10 },
		Runner: runnerFunc(func(_ context.Context, j Job, _ *Live) (*transfer.Receipt, error) {
			if j.Attempts < 40 {
				return nil, transfer.Errorf(transfer.Unavailable, "send", "", "no")
			}
			return receipt(j), nil
		}),
	})
	if j := wait(t, q, submit(t, q, spec("/x")).ID); j.State != Succeeded || j.Attempts != 40 {
		t.Errorf("%+v", j)
	}
}

func TestRetriesEnd(t *testing.T) {
	q, _ := open(t, Config{MaxRetries: 2, Runner: runnerFunc(func(context.Context, Job, *Live) (*transfer.Receipt, error) {
		return nil, transfer.Errorf(transfer.Unavailable, "send", "", "no")
	})})
	if j := wait(t, q, submit(t, q, spec("/x")).ID); j.State != Failed || j.Attempts != 3 {
		t.Errorf("%+v", j)
	}
}

func TestBackoff(t *testing.T) {
	q := &Queue{cfg: Config{BackoffMin: time.Second, BackoffMax: 8 * time.Second, Jitter: func() float64 { return 0.5 }}}
	for i, want := range []time.Duration{750, 1500, 3000, 6000, 6000} {
		if got := q.backoff(i, errors.New("x")); got != want*time.Millisecond {
			t.Errorf("failure %d: %v, want %v", i, got, want*time.Millisecond)
		}
	}
	busy := transfer.Errorf(transfer.Busy, "", "", "x")
	busy.RetryAfter = time.Minute
	if got := q.backoff(0, fmt.Errorf("x: %w", busy)); got != time.Minute {
		t.Errorf("RetryAfter is not honoured: %v", got)
	}
}

func TestRequestID(t *testing.T) {
	q, _ := open(t, Config{Runner: runnerFunc(func(_ context.Context, j Job, _ *Live) (*transfer.Receipt, error) { return receipt(j), nil })})
	s := spec("/x")
	s.RequestID = "r1"
	first, created, err := q.Submit(t.Context(), s)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	again, created, err := q.Submit(t.Context(), s)
	if err != nil || created || again.ID != first.ID {
		t.Errorf("again: %v %v %v", again, created, err)
	}
	other := s
	other.Sources = []Source{{Path: "/y"}}
	if _, _, err := q.Submit(t.Context(), other); transfer.KindOf(err) != transfer.Exists {
		t.Errorf("another spec: %v", err)
	}
	s.Principal = "p"
	if j, created, err := q.Submit(t.Context(), s); err != nil || !created || j.ID == first.ID {
		t.Errorf("another principal: %v %v", created, err)
	}
	if _, err := q.Get("q", first.ID); transfer.KindOf(err) != transfer.NotFound {
		t.Errorf("a stranger's job: %v", err)
	}
}

func TestSurvivesRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	started := make(chan transfer.ID, 10)
	q, stop := open(t, Config{Path: path, Runner: runnerFunc(func(ctx context.Context, j Job, _ *Live) (*transfer.Receipt, error) {
		started <- j.ID
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})})
	a, b := submit(t, q, spec("/a")), submit(t, q, spec("/b"))
	<-started
	<-started
	stop()
	q, _ = open(t, Config{Path: path, Runner: runnerFunc(func(_ context.Context, j Job, _ *Live) (*transfer.Receipt, error) { return receipt(j), nil })})
	for _, id := range []transfer.ID{a.ID, b.ID} {
		if j := wait(t, q, id); j.State != Succeeded || j.Attempts != 2 || j.Failures != 0 {
			t.Errorf("%+v", j)
		}
	}
	for late := time.Now().Add(30 * time.Second); ; runtime.Gosched() { // an end is stored before it is counted
		w, r := q.Counts()
		if w+r == 0 {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("%d wait, %d run", w, r)
		}
	}
}

func TestLimitsAndPriority(t *testing.T) {
	release := make(chan struct{})
	var mu sync.Mutex
	var order []string
	now, most := map[string]int{}, map[string]int{}
	q, _ := open(t, Config{MaxRunning: 3, MaxPerReceiver: 1, Runner: runnerFunc(func(_ context.Context, j Job, _ *Live) (*transfer.Receipt, error) {
		mu.Lock()
		order = append(order, j.Spec.Sources[0].Path)
		now[j.Spec.Receiver]++
		most[j.Spec.Receiver] = max(most[j.Spec.Receiver], now[j.Spec.Receiver])
		mu.Unlock()
		<-release
		mu.Lock()
		now[j.Spec.Receiver]--
		mu.Unlock()
		return receipt(j), nil
	})})
	first := submit(t, q, spec("first"))
	waitState(t, q, first.ID, Running)
	var ids []transfer.ID
	for i, name := range []string{"low", "high", "middle"} {
		s := spec(name)
		s.Priority = []int32{-1, 9, 3}[i]
		ids = append(ids, submit(t, q, s).ID)
	}
	close(release)
	for _, id := range ids {
		wait(t, q, id)
	}
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(order) != "[first high middle low]" || most["a"] != 1 {
		t.Errorf("order %v, at once %v", order, most)
	}
}

func waitState(t *testing.T, q *Queue, id transfer.ID, s State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	errFound := errors.New("found")
	err := q.Watch(ctx, "", id, func(j *Job) error {
		if j.State == s {
			return errFound
		}
		return nil
	})
	if !errors.Is(err, errFound) {
		t.Fatalf("state %v was not seen: %v", s, err)
	}
}

func TestCancelUpdateRetry(t *testing.T) {
	limits := make(chan int64, 1)
	q, _ := open(t, Config{MaxRunning: 1, Runner: runnerFunc(func(ctx context.Context, j Job, live *Live) (*transfer.Receipt, error) {
		if j.Spec.Sources[0].Path == "quick" {
			return receipt(j), nil
		}
		live.OnLimit(func(n int64) { limits <- n })
		live.Report(Progress{Bytes: 100, Acked: 40, Rate: 10, Note: "on its way"})
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})})
	slow, queued := submit(t, q, spec("slow")), submit(t, q, spec("quick"))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	errSeen := errors.New("seen")
	if err := q.Watch(ctx, "", slow.ID, func(j *Job) error {
		if j.Progress.Note == "on its way" && j.Progress.ETA() == 6*time.Second {
			return errSeen
		}
		return nil
	}); !errors.Is(err, errSeen) {
		t.Fatal(err)
	}
	five := int64(5)
	if _, err := q.Update(t.Context(), "", slow.ID, &five, nil); err != nil || <-limits != 5 {
		t.Errorf("update: %v", err)
	}
	if j, err := q.Cancel(t.Context(), "", slow.ID, ""); err != nil || j.State != Canceled {
		t.Errorf("cancel: %+v, %v", j, err)
	}
	if j, err := q.Cancel(t.Context(), "", slow.ID, ""); err != nil || j.State != Canceled {
		t.Errorf("cancel again: %+v, %v", j, err)
	}
	if j := wait(t, q, queued.ID); j.State != Succeeded {
		t.Errorf("%+v", j)
	}
	if _, err := q.Update(t.Context(), "", slow.ID, &five, nil); transfer.KindOf(err) != transfer.Invalid {
		t.Errorf("update of an ended job: %v", err)
	}
	if _, err := q.Retry(t.Context(), "", queued.ID); transfer.KindOf(err) != transfer.Invalid {
		t.Errorf("retry of a successful job: %v", err)
	}
	if j, err := q.Retry(t.Context(), "", slow.ID); err != nil || j.State != Queued {
		t.Errorf("retry: %+v, %v", j, err)
	}
	waitState(t, q, slow.ID, Running)
}

func TestDeadline(t *testing.T) {
	q, _ := open(t, Config{Runner: runnerFunc(func(ctx context.Context, _ Job, _ *Live) (*transfer.Receipt, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	})})
	s := spec("x")
	s.Deadline = time.Now().Add(20 * time.Millisecond)
	if j := wait(t, q, submit(t, q, s).ID); j.State != Failed || j.Kind != transfer.Unavailable {
		t.Errorf("%+v", j)
	}
}

func TestPanicFailsOneJob(t *testing.T) {
	q, _ := open(t, Config{Runner: runnerFunc(func(_ context.Context, j Job, _ *Live) (*transfer.Receipt, error) {
		if j.Spec.Sources[0].Path == "bad" {
			panic("x")
		}
		return receipt(j), nil
	})})
	bad, good := submit(t, q, spec("bad")), submit(t, q, spec("good"))
	if j := wait(t, q, bad.ID); j.State != Failed || j.Kind != transfer.Internal {
		t.Errorf("%+v", j)
	}
	if j := wait(t, q, good.ID); j.State != Succeeded {
		t.Errorf("%+v", j)
	}
}

func TestList(t *testing.T) {
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	q, err := Open(Config{Path: filepath.Join(t.TempDir(), "jobs.db"), Runner: runnerFunc(nil), MaxQueued: 25, Now: func() time.Time { clock = clock.Add(time.Second); return clock }})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	var ids []transfer.ID
	for i := range 25 {
		s := spec(fmt.Sprint(i))
		s.Receiver = []string{"a", "b"}[i%2]
		s.Principal = []string{"p", "q", "r"}[i%3]
		ids = append(ids, submit(t, q, s).ID)
	}
	if _, _, err := q.Submit(t.Context(), spec("one too many")); transfer.KindOf(err) != transfer.Busy {
		t.Errorf("full queue: %v", err)
	}
	for _, id := range ids[:5] {
		if _, err := q.Cancel(t.Context(), "", id, "x"); err != nil {
			t.Fatal(err)
		}
	}
	count := func(f Filter) (n int) {
		t.Helper()
		f.PageSize = 4
		seen := map[transfer.ID]bool{}
		last := time.Time{}
		for {
			p, err := q.List(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range p.Jobs {
				if seen[j.ID] || !last.IsZero() && !j.Created.Before(last) {
					t.Errorf("%v comes twice or out of order", j.ID)
				}
				seen[j.ID], last = true, j.Created
				n++
			}
			if p.Next == "" {
				return n
			}
			f.PageToken = p.Next
		}
	}
	for _, tt := range []struct {
		f    Filter
		want int
	}{
		{Filter{}, 25},
		{Filter{Receiver: "a"}, 13},
		{Filter{Principal: "p"}, 9},
		{Filter{States: []State{Canceled}}, 5},
		{Filter{States: []State{Canceled, Queued}}, 25},
		{Filter{States: []State{Running}}, 0},
		{Filter{After: time.Date(2026, 1, 1, 0, 0, 11, 0, time.UTC)}, 15},
		{Filter{Before: time.Date(2026, 1, 1, 0, 0, 11, 0, time.UTC)}, 10},
		{Filter{Receiver: "b", Principal: "q", States: []State{Queued}}, 3},
	} {
		if got := count(tt.f); got != tt.want {
			t.Errorf("%+v: %d jobs, want %d", tt.f, got, tt.want)
		}
	}
	for _, token := range []string{"x", "!!", "AAAA"} {
		if _, err := q.List(Filter{PageToken: token}); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("token %q: %v", token, err)
		}
	}
	q.cfg.KeepFinished = time.Nanosecond
	if err := q.Clean(); err != nil {
		t.Fatal(err)
	}
	if got := count(Filter{}); got != 20 {
		t.Errorf("%d jobs after cleaning, want 20", got)
	}
}

func TestSecondSenderIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	q, err := Open(Config{Path: path, Runner: runnerFunc(nil)})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if _, err := Open(Config{Path: path, Runner: runnerFunc(nil)}); transfer.KindOf(err) != transfer.Busy {
		t.Errorf("%v", err)
	}
}
