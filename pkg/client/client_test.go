package client_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/client"
	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/pkg/transfer"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeRunner receives nothing: it says what becomes of a job by its name.
type fakeRunner struct{}

func (fakeRunner) Run(ctx context.Context, j jobs.Job, live *jobs.Live) (*transfer.Receipt, error) {
	switch filepath.Base(j.Spec.Sources[0].Path) {
	case "bad":
		return nil, transfer.Errorf(transfer.Denied, "send", "bad", "no").WithHint("ask")
	case "slow":
		live.Report(jobs.Progress{Bytes: 10, Acked: 5})
		<-ctx.Done()
		return nil, context.Cause(ctx)
	default:
		return &transfer.Receipt{ID: j.ID, Algorithm: "blake3", Verified: true, FileCount: 1, Counts: map[string]int64{"published": 1}, Started: j.Created, Committed: time.Now()}, nil
	}
}

type tester interface {
	TempDir() string
	Fatal(args ...any)
	Cleanup(f func())
}

// serve runs a sender service over a fake engine.
func serve(t tester) (addr string) {
	q, err := jobs.Open(jobs.Config{Path: filepath.Join(t.TempDir(), "jobs.db"), Runner: fakeRunner{}})
	if err != nil {
		t.Fatal(err)
	}
	guard, err := auth.NewGuard(auth.GuardConfig{NoAuth: true})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := control.NewServer(control.ServerConfig{Auth: guard})
	if err != nil {
		t.Fatal(err)
	}
	pb.RegisterSenderServiceServer(srv.Registrar(), control.NewSenderServer(control.SenderConfig{
		Queue: q, Stopping: srv.Stopping(),
		Receivers: func() []control.FarReceiver { return []control.FarReceiver{{Name: "a", Address: "127.0.0.1:1"}} },
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0") // a test
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- q.Run(ctx) }()
	go func() { done <- srv.Serve(ctx, l, 5*time.Second) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		_ = q.Close()
	})
	return l.Addr().String()
}

func dial(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.Dial(client.Config{Target: serve(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func spec(name string) client.Spec {
	return client.Spec{Sources: []client.Source{{Path: "/outbox/" + name}}, Receiver: "a"}
}

func TestLifeOfAJob(t *testing.T) {
	c, ctx := dial(t), t.Context()
	s := spec("good")
	s.RequestID, s.Conflict, s.Priority, s.Exclude = "r1", transfer.Rename, 3, []string{"*.o"}
	s.Deadline = time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	j, err := c.Submit(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Submit(ctx, s)
	if err != nil || again.ID != j.ID {
		t.Errorf("the same request id made another job: %v, %v", again, err)
	}
	j, err = c.Wait(ctx, j.ID)
	if err != nil || j.State != client.Succeeded || j.Receipt == nil || !j.Receipt.Verified {
		t.Fatalf("%+v, %v", j, err)
	}
	if got := j.Spec; got.Conflict != s.Conflict || got.Priority != 3 || len(got.Exclude) != 1 || !got.Deadline.Equal(s.Deadline) || got.Principal != "anonymous" {
		t.Errorf("the spec came back as %+v", got)
	}
	bad, err := c.Submit(ctx, spec("bad"))
	if err != nil {
		t.Fatal(err)
	}
	bad, err = c.Wait(ctx, bad.ID)
	if err != nil || bad.State != client.Failed || bad.Kind != transfer.Denied || bad.Hint != "ask" {
		t.Errorf("%+v, %v", bad, err)
	}
	page, err := c.List(ctx, client.Filter{PageSize: 1})
	if err != nil || len(page.Jobs) != 1 || page.Jobs[0].ID != bad.ID || page.Next == "" {
		t.Errorf("%+v, %v", page, err)
	}
	page, err = c.List(ctx, client.Filter{States: []client.State{client.Succeeded}})
	if err != nil || len(page.Jobs) != 1 || page.Jobs[0].ID != j.ID {
		t.Errorf("%+v, %v", page, err)
	}
}

func TestRunningJob(t *testing.T) {
	c, ctx := dial(t), t.Context()
	j, err := c.Submit(ctx, spec("slow"))
	if err != nil {
		t.Fatal(err)
	}
	cancelled := false
	err = c.Watch(ctx, []client.ID{j.ID}, func(j *client.Job) error {
		if j.State == client.Running && j.Progress.Acked == 5 && !cancelled {
			cancelled = true
			five := int64(5)
			if u, err := c.Update(ctx, j.ID, &five, nil); err != nil || u.Spec.Limit != 5 {
				return fmt.Errorf("update: %+v, %w", u, err)
			}
			_, err := c.Cancel(ctx, j.ID, "enough")
			return err
		}
		return nil
	})
	if err != nil || !cancelled {
		t.Fatal(cancelled, err)
	}
	if j, err = c.Get(ctx, j.ID); err != nil || j.State != client.Canceled || j.Reason != "enough" {
		t.Errorf("%+v, %v", j, err)
	}
	if j, err = c.Retry(ctx, j.ID); err != nil || j.State != client.Queued {
		t.Errorf("%+v, %v", j, err)
	}
	if j, err = c.WaitFor(ctx, j.ID, time.Millisecond); err != nil || j.State.Final() {
		t.Errorf("%+v, %v", j, err)
	}
}

func TestErrorsAndReceivers(t *testing.T) {
	c, ctx := dial(t), t.Context()
	if _, err := c.Get(ctx, transfer.NewID()); transfer.KindOf(err) != transfer.NotFound {
		t.Errorf("unknown job: %v", err)
	}
	if _, err := c.Submit(ctx, client.Spec{Receiver: "a"}); transfer.KindOf(err) != transfer.Invalid {
		t.Errorf("no sources: %v", err)
	}
	list, err := c.Receivers(ctx)
	if err != nil || len(list) != 1 || list[0].Name != "a" || list[0].State != "unknown" {
		t.Errorf("%+v, %v", list, err)
	}
}

// cleanups is the tester of an example.
type cleanups struct {
	dir string
	fs  []func()
}

func (c *cleanups) TempDir() string  { return c.dir }
func (*cleanups) Fatal(args ...any)  { panic(fmt.Sprint(args...)) }
func (c *cleanups) Cleanup(f func()) { c.fs = append(c.fs, f) }
func (c *cleanups) end() {
	for _, f := range c.fs {
		f()
	}
}
