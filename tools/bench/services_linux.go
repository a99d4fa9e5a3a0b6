package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

const (
	smallJob = 4 << 10 // octets of the file of a job where the file does not matter

	// heldBack is a rate limit, octets a second, at which a job of largeJob
	// lasts longer than any section.
	heldBack = 1 << 10
	largeJob = 1 << 20
)

// services measures the two services as other programs see them. The source of
// what is measured is the project's list of what to show.
func (b *bench) services(ctx context.Context) error {
	for _, section := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"submit", b.submits}, {"ended", b.endedJobs}, {"at-once", b.atOnce}, {"pages", b.pages}, {"rpc", b.roundTrips},
	} {
		if !b.only.MatchString("services/" + section.name) {
			continue
		}
		b.sayf("services/%s", section.name)
		limited, cancel := context.WithTimeoutCause(ctx, b.limit, fmt.Errorf("stopped after %v", b.limit))
		err := section.run(limited)
		if err != nil && limited.Err() != nil {
			err = context.Cause(limited)
		}
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			b.skip("services/"+section.name, err)
		}
	}
	return nil
}

// pair starts a receiver and a sender of it, with its callers.
func (b *bench) pair(ctx context.Context, dir string, receiverArgs, senderArgs []string) (far *serving, q *queue, done func() error, err error) {
	if far, err = b.receiver(ctx, dir, receiverArgs...); err != nil {
		return nil, nil, nil, err
	}
	s, err := b.sender(ctx, dir, far, senderArgs...)
	if err == nil {
		if q, err = s.open(ctx); err == nil {
			return far, q, func() error { return errors.Join(q.hangUp(), end(s, far)) }, nil
		}
	}
	return nil, nil, nil, errors.Join(err, end(s, far))
}

// submits measures what it takes to store a job, and what stored jobs take: the
// only place for a running job is taken by one that is held back.
func (b *bench) submits(ctx context.Context) (err error) {
	n := b.sizes.services
	dir, remove, err := b.onDiskDir(largeJob)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	synced, err := bareSyncs(dir, n.submits)
	if err != nil {
		return err
	}
	_, q, done, err := b.pair(ctx, dir, []string{"--admin-listen", "off"}, []string{"--max-running", "1"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	first, err := q.submit(ctx, 0, heldBack, math.MaxInt32)
	if err == nil {
		err = q.running(ctx, first)
	}
	if err != nil {
		return err
	}
	pid := q.cmd.Process.Pid
	idle := resident(pid)
	one, err := timed(n.submits, func(i int) error {
		_, err := q.submit(ctx, i, 0, 0) // the next address each time, below the limit of calls
		return err
	})
	if err != nil {
		return err
	}
	begin := time.Now()
	if _, err = q.submitAll(ctx, n.burst, 0); err != nil {
		return err
	}
	rate := float64(n.burst) / time.Since(begin).Seconds()
	if _, err = q.submitAll(ctx, n.queued-n.burst-len(one)-1, 0); err != nil {
		return err
	}
	alone, floor := percentilesOf(one), percentilesOf(synced)
	b.results.note(figure{"submit/median", "submit, one job after another: median", inMilliseconds(alone.p50), "%.2f ms", alone.detail(len(one))})
	b.results.note(figure{"submit/p99", "the same: p99", inMilliseconds(alone.p99), "%.2f ms", ""})
	b.results.note(figure{"submit/floor", "512 octets written and fdatasync, on the same disk: median", inMilliseconds(floor.p50), "%.2f ms", floor.detail(len(synced))})
	b.results.note(figure{"submit/stored", fmt.Sprintf("jobs stored a second by %d callers", callers), rate, "%.0f/s", thousands(n.burst) + " jobs"})
	const mib = 1 << 20
	b.results.note(figure{
		"queued/memory", fmt.Sprintf("peak memory of the sender with %s queued jobs", thousands(n.queued)), float64(highWater(pid)) / mib, "%.0f MiB",
		fmt.Sprintf("%s MiB resident, %s MiB before the first, %s connections", mebibytes(resident(pid)), mebibytes(idle), fmt.Sprint(callers)),
	})
	return nil
}

// running waits until a job is.
func (q *queue) running(ctx context.Context, id string) error {
	for {
		m, err := q.rpc(0).GetTransfer(ctx, &pb.SenderServiceGetTransferRequest{JobId: id})
		if err != nil {
			return err
		}
		switch s := m.GetJob().GetState(); {
		case s == pb.JobState_JOB_STATE_RUNNING:
			return nil
		case s != pb.JobState_JOB_STATE_QUEUED:
			return fmt.Errorf("the first job is in state %v, not running: %s", s, m.GetJob())
		}
		if err := wait(ctx, pollEvery); err != nil {
			return err
		}
	}
}

// endedJobs measures jobs from submit to receipt.
func (b *bench) endedJobs(ctx context.Context) (err error) {
	const atOnce = 16
	n := b.sizes.services.ended
	dir, remove, err := b.onDiskDir(smallJob)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	_, q, done, err := b.pair(ctx, dir, []string{"--admin-listen", "off"}, []string{"--max-running", fmt.Sprint(atOnce)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	begin := time.Now()
	ids, err := q.submitAll(ctx, n, 0)
	if err == nil {
		err = q.succeeded(ctx, ids)
	}
	if err != nil {
		return err
	}
	rate := float64(n) / time.Since(begin).Seconds()
	b.results.note(figure{"submit/ended", "jobs of one 4 KiB file a second, from submit to receipt", rate, "%.0f/s", fmt.Sprintf("%s jobs, %d at once, both ends on the same disk", thousands(n), atOnce)})
	return nil
}

// succeeded waits until all jobs have.
func (q *queue) succeeded(ctx context.Context, ids []string) error {
	return together(ctx, len(ids), func(ctx context.Context, caller, i int) error {
		m, err := q.rpc(caller).WaitTransfer(ctx, &pb.WaitTransferRequest{JobId: ids[i]})
		if err == nil && m.GetJob().GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
			err = fmt.Errorf("a job ended as %v: %s", m.GetJob().GetState(), m.GetJob())
		}
		return err
	})
}

// atOnce measures a receiver with many transfers: each is held back until all
// have a lane, then all are let go.
func (b *bench) atOnce(ctx context.Context) (err error) {
	n := b.sizes.services.atOnce
	dir := filepath.Join(b.memDir, "at-once")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := errors.Join(os.Mkdir(dir, 0o755), randomFile(filepath.Join(dir, "source"), largeJob)); err != nil {
		return err
	}
	far, q, done, err := b.pair(ctx, dir, []string{"--admin-listen", "127.0.0.1:0"}, []string{"--max-running", fmt.Sprint(n)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	before := resident(far.cmd.Process.Pid)
	ids, err := q.submitAll(ctx, n, heldBack)
	if err != nil {
		return err
	}
	begin := time.Now()
	for lanes := 0; lanes < n; {
		if lanes, err = metric(ctx, far.Admin, "sluice_receiver_lanes"); err != nil {
			return err
		}
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d transfers have a lane: %w", lanes, n, err)
		}
	}
	set := time.Since(begin)
	held := resident(far.cmd.Process.Pid)
	begin = time.Now()
	none := int64(0)
	err = together(ctx, n, func(ctx context.Context, caller, i int) error {
		_, err := q.rpc(caller).UpdateTransfer(ctx, &pb.UpdateTransferRequest{JobId: ids[i], RateLimit: &none})
		return err
	})
	if err == nil {
		err = q.succeeded(ctx, ids)
	}
	if err != nil {
		return err
	}
	const mib = 1 << 20
	b.results.note(figure{
		"at-once/memory", fmt.Sprintf("peak memory of a receiver with %s transfers of 1 MiB at once", thousands(n)), float64(highWater(far.cmd.Process.Pid)) / mib, "%.0f MiB",
		fmt.Sprintf("%s MiB before, %s MiB when each had a lane, %s s later; done %s s after that",
			mebibytes(before), mebibytes(held), seconds(set), seconds(time.Since(begin))),
	})
	b.results.note(figure{"at-once/sender", "peak memory of the sender meanwhile", float64(highWater(q.cmd.Process.Pid)) / mib, "%.0f MiB", ""})
	return nil
}

// metric reads one value of /metrics that has no labels.
func metric(ctx context.Context, addr, name string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	m, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = m.Body.Close() }()
	return metricOf(m.Body, name)
}

// metricOf reads the text format of Prometheus, version 0.0.4.
func metricOf(text io.Reader, name string) (int, error) {
	s := bufio.NewScanner(text)
	for s.Scan() {
		if rest, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(rest, 64)
			return int(v), err
		}
	}
	return 0, errors.Join(s.Err(), fmt.Errorf("there is no metric %s", name))
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// bareSyncs times n appends of 512 octets that are made durable one by one.
func bareSyncs(dir string, n int) (took []time.Duration, err error) {
	f, err := os.Create(filepath.Join(dir, "bare"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	record := make([]byte, 512)
	return timed(n, func(int) error {
		if _, err := f.Write(record); err != nil {
			return err
		}
		return unix.Fdatasync(int(f.Fd()))
	})
}

// resident is VmRSS of pid in octets, 0 if it is gone.
func resident(pid int) int64 { return statusField(pid, "VmRSS:") }
