package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/client"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Config sets a run up.
type Config struct {
	Bin           string // directory of sender and receiver
	Dir           string // scratch directory; holds twice the content
	Jobs          int
	Size          int64 // octets of each job's file
	SenderKills   int
	ReceiverKills int
	Running       int    // jobs at once
	Seed          uint64 // of contents and of the moments of the kills
	Log           func(format string, args ...any)
}

// Result is what a run showed.
type Result struct {
	Jobs          int
	Attempts      int // runs of jobs begun, at least Jobs
	Resubmits     int // submits repeated because the sender was gone
	SenderKills   int
	ReceiverKills int
	Elapsed       time.Duration // from the first submit to the end of the last job
}

// String returns one line of figures.
func (r *Result) String() string {
	return fmt.Sprintf("%d jobs ended once each, every digest equal, none lost, in %.1f s: %d attempts, %d submits repeated, sender killed %d times, receiver killed %d times",
		r.Jobs, r.Elapsed.Seconds(), r.Attempts, r.Resubmits, r.SenderKills, r.ReceiverKills)
}

// ahead is how many jobs are submitted before earlier ones have arrived: few
// enough that kills fall into the submitting too.
const ahead = 100

// run is one run.
type run struct {
	cfg            Config
	recv, send     *process
	client         *client.Client
	source, target string

	mu     sync.Mutex
	jobs   map[string]client.ID // by name of the file
	result Result
}

// Run sends the jobs, kills, and checks. The error says which promise was
// broken, all of them if several were. The caller removes cfg.Dir.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	r := &run{cfg: cfg, source: filepath.Join(cfg.Dir, "out"), target: filepath.Join(cfg.Dir, "in"), jobs: map[string]client.ID{}}
	if err := r.write(); err != nil {
		return nil, err
	}
	if err := r.start(); err != nil {
		return nil, err
	}
	defer r.stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	var wg sync.WaitGroup
	fail := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	fail(r.submitAll)
	fail(r.killAll)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	r.result.Elapsed = time.Since(began)
	return &r.result, r.check(ctx)
}

func name(i int) string { return fmt.Sprintf("job-%05d", i) }

// write makes the sources.
func (r *run) write() error {
	if err := os.MkdirAll(r.source, 0o700); err != nil {
		return err
	}
	for i := range r.cfg.Jobs {
		f, err := os.Create(filepath.Join(r.source, name(i)))
		if err != nil {
			return err
		}
		var seed [32]byte
		copy(seed[:], fmt.Sprintf("%d/%d", r.cfg.Seed, i))
		_, err = io.CopyN(f, rand.NewChaCha8(seed), r.cfg.Size)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) start() (err error) {
	local := []string{"--listen", "127.0.0.1:0", "--ping-listen", "127.0.0.1:0", "--admin-listen", "off"}
	if r.recv, err = startProcess(r.cfg.Bin, r.cfg.Dir, "receiver", append(local, "--data-listen", "127.0.0.1:0", "--dir", r.target)...); err != nil {
		return err
	}
	ping := r.recv.where["ping"]
	r.send, err = startProcess(r.cfg.Bin, r.cfg.Dir, "sender", append(local,
		"--state", filepath.Join(r.cfg.Dir, "state"), "--source-root", r.source, "--max-running", fmt.Sprint(r.cfg.Running), "--backoff-max", "2s",
		"--receiver", "soak="+r.recv.where["control"]+"/"+ping[strings.LastIndexByte(ping, ':')+1:])...)
	if err == nil {
		r.client, err = client.Dial(client.Config{Target: r.send.where["control"], Timeout: 10 * time.Second})
	}
	if err != nil {
		r.stop()
	}
	return err
}

func (r *run) stop() {
	if r.client != nil {
		_ = r.client.Close()
	}
	for _, p := range []*process{r.send, r.recv} {
		if p != nil && p.cmd != nil {
			p.stop()
		}
	}
}

// arrived is how many files are published.
func (r *run) arrived() int {
	entries, _ := os.ReadDir(r.target)
	return max(0, len(entries)-1) // without the staging directory
}

// look is how often the directory is looked at.
const look = 10 * time.Millisecond

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func (r *run) submitAll(ctx context.Context) error {
	for i := range r.cfg.Jobs {
		for i-r.arrived() > ahead {
			if err := pause(ctx, look); err != nil {
				return err
			}
		}
		if err := r.submit(ctx, name(i)); err != nil {
			return err
		}
	}
	return nil
}

// again calls f until the sender is there to answer.
func (r *run) again(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || !transfer.KindOf(err).Temporary() {
			return err
		}
		if err := pause(ctx, 5*look); err != nil {
			return err
		}
	}
}

// submit submits one job. It may have to ask more than once, since the sender
// may be killed after it stored the job and before it said so; the request id
// makes that one job.
func (r *run) submit(ctx context.Context, file string) error {
	tries := 0
	return r.again(ctx, func() error {
		tries++
		j, err := r.client.Submit(ctx, client.Spec{
			RequestID: file, Receiver: "soak", Conflict: transfer.Rename, Sources: []client.Source{{Path: filepath.Join(r.source, file)}},
		})
		if err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.jobs[file] = j.ID
		r.result.Resubmits += tries - 1
		return nil
	})
}

// killAll kills both at random: after random numbers of files have arrived, and
// a random time later.
func (r *run) killAll(ctx context.Context) error {
	type kill struct {
		after int
		p     *process
		count *int
	}
	rng := rand.New(rand.NewPCG(r.cfg.Seed, 2)) //nolint:gosec // spreads kills, guards nothing
	var kills []kill
	for range r.cfg.SenderKills {
		kills = append(kills, kill{rng.IntN(r.cfg.Jobs * 9 / 10), r.send, &r.result.SenderKills})
	}
	for range r.cfg.ReceiverKills {
		kills = append(kills, kill{rng.IntN(r.cfg.Jobs * 9 / 10), r.recv, &r.result.ReceiverKills})
	}
	slices.SortStableFunc(kills, func(a, b kill) int { return a.after - b.after })
	for _, k := range kills {
		for r.arrived() < k.after {
			if err := pause(ctx, look); err != nil {
				return err
			}
		}
		if err := pause(ctx, time.Duration(rng.Int64N(int64(100*time.Millisecond)))); err != nil {
			return err
		}
		k.p.kill()
		*k.count++
		r.cfg.Log("killed %s after %d files", filepath.Base(k.p.program), r.arrived())
		if err := k.p.start(); err != nil {
			return err
		}
	}
	return nil
}

// wait waits for the end of every job.
func (r *run) wait(ctx context.Context) error {
	for i := range r.cfg.Jobs {
		err := r.again(ctx, func() error {
			_, err := r.client.Wait(ctx, r.jobs[name(i)])
			return err
		})
		if err != nil {
			return fmt.Errorf("wait for %s: %w", name(i), err)
		}
	}
	return nil
}
