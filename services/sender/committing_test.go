package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// house is a whole receiver in this process: store, engine, lanes, gRPC.
type house struct {
	dir, addr string
	stop      func()
}

// open starts a receiver on dir and addr ("" for any port). Each receipt of a
// commit is given to committed before the caller hears of it; nil: nobody.
func open(t *testing.T, dir, addr string, committed func(ctx context.Context)) *house {
	t.Helper()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	st, err := store.Open(store.Config{Root: dir})
	fatal(err)
	lanes, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(err)
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", addr)
	fatal(err)
	engine, err := recv.New(recv.Config{Store: st, DataAddrs: func() []string { return []string{lanes.Addr().String()} }})
	fatal(err)
	guard, err := auth.NewGuard(auth.GuardConfig{NoAuth: true})
	fatal(err)
	srv, err := control.NewServer(control.ServerConfig{Auth: guard})
	fatal(err)
	view := control.ReceiverView(engine)
	srv.RegisterReceiver(control.ReceiverConfig{View: func(p auth.Principal, policy auth.Policy) control.View {
		return &watchedView{View: view(p, policy), committed: committed}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := engine.ServeLanes(ctx, lanes); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := srv.Serve(ctx, ln, time.Second); err != nil {
			t.Error(err)
		}
	})
	h := &house{dir: dir, addr: ln.Addr().String()}
	h.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		engine.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// files counts what was published.
func (h *house) files(t *testing.T) (n int) {
	t.Helper()
	list, err := os.ReadDir(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name() != ".sluice" {
			n++
		}
	}
	return n
}

type watchedView struct {
	control.View

	committed func(ctx context.Context)
}

func (v *watchedView) Commit(ctx context.Context, part *transfer.CommitPart) (*transfer.CommitResult, error) {
	r, err := v.View.Commit(ctx, part)
	if err == nil && r.Receipt != nil && v.committed != nil {
		v.committed(ctx)
	}
	return r, err
}

// sending is a sender service's queue and fleet in this process.
type sending struct {
	q    *jobs.Queue
	stop func()
}

func startSending(t *testing.T, path string, receivers []string, group string, now func() time.Time) *sending {
	t.Helper()
	s := &service{cfg: &Config{Receiver: receivers, Group: []string{group}, Timeout: time.Minute}, log: slog.New(slog.DiscardHandler), metrics: newMetrics(), started: time.Now()}
	var err error
	if s.fleet, err = newFleet(s); err != nil {
		t.Fatal(err)
	}
	q, err := jobs.Open(jobs.Config{Path: path, Runner: s.fleet, BackoffMin: time.Millisecond, BackoffMax: 20 * time.Millisecond, MaxRetries: 1 << 20, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{s.fleet.run, q.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	out := &sending{q: q, stop: sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		s.fleet.close()
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(out.stop)
	return out
}

// until follows a job until ok holds.
func (s *sending) until(t *testing.T, id transfer.ID, what string, ok func(j *jobs.Job) bool) *jobs.Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		changed := s.q.Changed()
		j, err := s.q.Get("", id)
		if err != nil {
			t.Fatal(err)
		}
		if ok(j) {
			return j
		}
		if j.State.Final() {
			t.Fatalf("%s: the job ended: %+v", what, j)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: never; the job is %+v", what, j)
		case <-changed:
		}
	}
}

// crashed has a job of the group a committed by receiver a, and returns the
// sender's job file as it was when a had committed and before it answered: what
// a sender finds that was killed there.
func crashed(t *testing.T, deadline time.Time) (a *house, id transfer.ID, source, path string) {
	t.Helper()
	tmp, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path, source = filepath.Join(tmp, "copy.db"), filepath.Join(tmp, "x.bin")
	if err := os.WriteFile(source, []byte(strings.Repeat("sluice", 100_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	first, copied := filepath.Join(tmp, "jobs.db"), make(chan error, 1)
	var once sync.Once
	a = open(t, t.TempDir(), "", func(ctx context.Context) {
		once.Do(func() {
			text, err := os.ReadFile(first)
			if err == nil {
				err = os.WriteFile(path, text, 0o600)
			}
			copied <- err
		})
		<-ctx.Done() // the answer never gets there
	})
	s := startSending(t, first, []string{"a=" + a.addr + "/off"}, "g=a", nil)
	j, _, err := s.q.Submit(t.Context(), jobs.Spec{Sources: []jobs.Source{{Path: source}}, Receiver: "g", Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	s.stop()
	a.stop()
	if n := a.files(t); n != 1 {
		t.Fatalf("a published %d files before the crash, want 1", n)
	}
	return a, j.ID, source, path
}

// waits is a job that was tried since the restart and waits for receiver a.
func waits(attempts int) func(j *jobs.Job) bool {
	return func(j *jobs.Job) bool {
		return j.State == jobs.Waiting && j.Attempts >= attempts && strings.Contains(j.Reason, "receiver a may have published it already")
	}
}

// TestCrashBetweenCommitAndReceipt: a sender that was killed after a member of a
// group had published, and before it knew, gives the job to no other member
// although the first one is dead, until that one answers.
func TestCrashBetweenCommitAndReceipt(t *testing.T) {
	a, id, source, path := crashed(t, time.Time{})
	b := open(t, t.TempDir(), "", nil)
	dead, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(dead.LocalAddr().String())
	dead.Close()
	s := startSending(t, path, []string{"a=" + a.addr + "/" + port, "b=" + b.addr + "/off"}, "g=a+b", nil)
	s.until(t, id, "waits for a", waits(3))
	j := s.until(t, id, "the ping says that a is gone", func(j *jobs.Job) bool { return waits(3)(j) && strings.Contains(j.Progress.Note, "gone") })
	s.until(t, id, "waits on", waits(j.Attempts+2))
	s.stop()
	if n := b.files(t); n != 0 {
		t.Fatalf("b published %d files although a had", n)
	}
	if err := os.Remove(source); err != nil { // nothing may be read again
		t.Fatal(err)
	}
	a = open(t, a.dir, a.addr, nil)
	s = startSending(t, path, []string{"a=" + a.addr + "/off", "b=" + b.addr + "/off"}, "g=a+b", nil)
	j = s.until(t, id, "has the receipt", func(j *jobs.Job) bool { return j.State == jobs.Succeeded })
	if j.Receipt == nil || j.Receipt.ID != id || a.files(t) != 1 || b.files(t) != 0 {
		t.Errorf("receipt %+v, files: a %d, b %d", j.Receipt, a.files(t), b.files(t))
	}
}

// TestCommitterKnowsNothing: a member that says that it knows nothing of the
// transfer frees the job for the others, once.
func TestCommitterKnowsNothing(t *testing.T) {
	a, id, _, path := crashed(t, time.Time{})
	b := open(t, t.TempDir(), "", nil)
	empty := open(t, t.TempDir(), a.addr, nil)
	s := startSending(t, path, []string{"a=" + a.addr + "/off", "b=" + b.addr + "/off"}, "g=a+b", nil)
	j := s.until(t, id, "succeeds", func(j *jobs.Job) bool { return j.State == jobs.Succeeded })
	if n := empty.files(t) + b.files(t); n != 1 || j.Committing != j.Progress.To {
		t.Errorf("%d files are published, want 1; committed by %q, sent to %q", n, j.Committing, j.Progress.To)
	}
}

// TestWaitingForCommitterEnds: cancel and deadline end a job that waits for the
// one receiver that may have published it.
func TestWaitingForCommitterEnds(t *testing.T) {
	a, id, _, path := crashed(t, time.Time{})
	b := open(t, t.TempDir(), "", nil)
	s := startSending(t, path, []string{"a=" + a.addr + "/off", "b=" + b.addr + "/off"}, "g=a+b", nil)
	s.until(t, id, "waits for a", waits(3))
	if j, err := s.q.Cancel(t.Context(), "", id, "enough"); err != nil || j.State != jobs.Canceled {
		t.Errorf("cancel: %+v, %v", j, err)
	}
	s.stop()
	s = startSending(t, path, []string{"b=" + b.addr + "/off"}, "g=b", nil)
	if _, err := s.q.Retry(t.Context(), "", id); err != nil {
		t.Fatal(err)
	}
	s.until(t, id, "waits for a, which is not configured any more", func(j *jobs.Job) bool {
		return waits(5)(j) && strings.Contains(j.Reason, "not configured")
	})
	s.stop()

	a, id, _, path = crashed(t, time.Now().Add(time.Hour))
	later := func() time.Time { return time.Now().Add(2 * time.Hour) }
	s = startSending(t, path, []string{"a=" + a.addr + "/off", "b=" + b.addr + "/off"}, "g=a+b", later)
	s.until(t, id, "fails at its deadline", func(j *jobs.Job) bool { return j.State == jobs.Failed && j.Kind == transfer.Unavailable })
	if n := b.files(t); n != 0 {
		t.Errorf("b published %d files", n)
	}
}
