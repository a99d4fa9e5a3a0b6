package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/pkg/transfer"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

// pages measures pages of a job file with many finished jobs. The file is made
// by the queue's own code with a runner that succeeds at once, since as many
// transfers would take minutes; the real service then reads it.
func (b *bench) pages(ctx context.Context) (err error) {
	n := b.sizes.services
	dir := filepath.Join(b.memDir, "pages")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.MkdirAll(filepath.Join(dir, "state"), 0o700); err != nil {
		return err
	}
	if err := finishedJobs(ctx, filepath.Join(dir, "state", "jobs.db"), n.jobs); err != nil {
		return fmt.Errorf("make %d finished jobs: %w", n.jobs, err)
	}
	_, q, done, err := b.pair(ctx, dir, []string{"--admin-listen", "off"}, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	list := func(r *pb.SenderServiceListTransfersRequest) (string, error) {
		m, err := q.rpc(0).ListTransfers(ctx, r)
		return m.GetNextPageToken(), err
	}
	token := ""
	for range max(1, n.jobs/2/1000) { // to the middle
		if token, err = list(&pb.SenderServiceListTransfersRequest{PageSize: 1000, PageToken: token}); err != nil {
			return err
		}
	}
	states := func(all ...pb.JobState) []pb.JobState { return all }
	const size = 100 // of a page, the default
	slowest := time.Duration(0)
	for _, kind := range []struct {
		says    string
		request *pb.SenderServiceListTransfersRequest
	}{
		{"the newest", &pb.SenderServiceListTransfersRequest{}},
		{"in the middle", &pb.SenderServiceListTransfersRequest{PageToken: token}},
		{"one state", &pb.SenderServiceListTransfersRequest{States: states(pb.JobState_JOB_STATE_SUCCEEDED)}},
		{"two states of which there are none", &pb.SenderServiceListTransfersRequest{States: states(pb.JobState_JOB_STATE_FAILED, pb.JobState_JOB_STATE_CANCELED)}},
		{"one receiver", &pb.SenderServiceListTransfersRequest{Receiver: "far"}},
		{"one receiver and a state of which there are none", &pb.SenderServiceListTransfersRequest{Receiver: "far", States: states(pb.JobState_JOB_STATE_FAILED)}},
		{"a principal that has none", &pb.SenderServiceListTransfersRequest{Principal: "nobody"}},
	} {
		kind.request.PageSize = size
		took, err := timed(n.pages, func(int) error {
			_, err := list(kind.request)
			return err
		})
		if err != nil {
			return err
		}
		p := percentilesOf(took)
		slowest = max(slowest, p.p50)
		b.results.note(figure{"pages/" + kind.says, fmt.Sprintf("a page of %s finished jobs: %s", thousands(n.jobs), kind.says), inMilliseconds(p.p50), "%.2f ms", p.detail(len(took))})
	}
	b.results.note(figure{"pages/slowest", "the slowest of these", inMilliseconds(slowest), "%.2f ms", ""})
	return nil
}

// receipts is a runner that has done every job already.
type receipts struct{}

func (receipts) Run(_ context.Context, j jobs.Job, live *jobs.Live) (*transfer.Receipt, error) {
	live.Report(jobs.Progress{Bytes: smallJob, Acked: smallJob, Files: 1, To: j.Spec.Receiver})
	return &transfer.Receipt{
		ID: j.ID, Bytes: smallJob, FileCount: 1, Started: j.Created, Committed: j.Created,
		Files: []transfer.FileReceipt{{Path: j.Spec.Sources[0].As, Type: "file", Outcome: transfer.Published, Size: smallJob}},
	}, nil
}

// finishedJobs makes a job file with n jobs that have succeeded.
func finishedJobs(ctx context.Context, path string, n int) (err error) {
	q, err := jobs.Open(jobs.Config{Path: path, Runner: receipts{}, MaxRunning: callers})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- q.Run(run) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	const ahead = 4 * callers // a queue that is longer takes longer to choose from
	err = together(ctx, n, func(ctx context.Context, _, i int) error {
		name := fmt.Sprintf("file-%06d", i)
		if _, _, err := q.Submit(ctx, jobs.Spec{RequestID: name, Receiver: "far", Sources: []jobs.Source{{Path: "/outbox/source", As: name}}}); err != nil {
			return err
		}
		return atMost(ctx, q, ahead)
	})
	return errors.Join(err, atMost(ctx, q, 0))
}

// atMost waits until no more than n jobs are unfinished.
func atMost(ctx context.Context, q *jobs.Queue, n int) error {
	for {
		changed := q.Changed()
		if waiting, running := q.Counts(); waiting+running <= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}
