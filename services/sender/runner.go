package main

import (
	"context"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/health"
	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Run makes one attempt at a job, in a span below that of the submit; it makes a
// fleet a jobs.Runner.
func (f *fleet) Run(ctx context.Context, j jobs.Job, live *jobs.Live) (*transfer.Receipt, error) {
	ctx, end := startAttempt(ctx, &j)
	r, err := f.attempt(ctx, j, live)
	end(err)
	return r, err
}

func (f *fleet) attempt(ctx context.Context, j jobs.Job, live *jobs.Live) (_ *transfer.Receipt, err error) {
	m, err := f.place(ctx, &j, live)
	if err != nil {
		return nil, err
	}
	log := f.s.log.With("job", j.ID, "receiver", m.name, "attempt", j.Attempts)
	defer func() { noteGone(live, m, err) }()
	if j.Attempts > 1 {
		if r := m.committed(ctx, j.ID); r != nil {
			log.Info("job was committed before")
			return r, nil
		}
	}
	if m.monitor != nil {
		watched, stop := m.monitor.Watch(ctx)
		defer stop()
		ctx = watched
	}
	src, err := source.Scan(ctx, sourceConfig(&j.Spec))
	if err != nil {
		return nil, err
	}
	defer src.Close()
	dial, forget := f.lanes.dialer(j.ID, m.far.DialLane)
	defer forget()
	rep := &reporter{live: live, monitor: m.monitor, to: m.name, began: time.Now()}
	cfg := send.Config{
		Receiver: f.farOf(&j, m, live), DialLane: dial, Source: src, ID: j.ID, Options: specOptions(&j.Spec),
		Lanes: j.Spec.Lanes, Limit: j.Spec.Limit, Retries: -1, Timeout: f.s.cfg.Timeout, Logger: log, Observer: rep,
	}
	if m.monitor != nil {
		path := m.monitor.Path()
		cfg.Path = send.PathHint{RTT: path.SRTT, Loss: path.Loss}
	}
	t, err := send.New(cfg)
	if err != nil {
		return nil, err
	}
	live.OnLimit(t.SetLimit)
	log.Info("job started")
	res, err := t.Run(ctx)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && transfer.KindOf(cause) != transfer.Internal {
			err = cause
		}
		log.Warn("job failed", "kind", transfer.KindOf(err), "err", err)
		return nil, err
	}
	f.s.metrics.sent(res)
	log.Info("job done", "bytes", res.Receipt.Bytes, "files", res.Receipt.FileCount, "elapsed", res.Stats.Elapsed, "bound_by", res.Stats.BoundBy)
	if res.Left > 0 {
		if res.Receipt.Counts == nil {
			res.Receipt.Counts = map[string]int64{}
		}
		res.Receipt.Counts[transfer.FailedFile.String()] += res.Left
	}
	return res.Receipt, nil
}

// noteGone leaves a note on a job that waits because its receiver does not answer.
func noteGone(live *jobs.Live, m *member, err error) {
	if transfer.KindOf(err) != transfer.Unavailable || m.monitor == nil || m.monitor.State() != health.Dead {
		return
	}
	p := live.Progress()
	p.Note = "receiver " + m.name + " is gone or frozen"
	live.Report(p)
}

func sourceConfig(s *jobs.Spec) source.Config {
	c := source.Config{Exclude: s.Exclude, Include: s.Include, SkipSpecial: s.SkipSpec, KeepGoing: s.KeepGoing, Names: s.Names}
	for _, src := range s.Sources {
		c.Roots = append(c.Roots, src.Path)
	}
	if len(s.Sources) == 1 {
		c.As, c.Expected = s.Sources[0].As, s.Sources[0].Expected
	}
	if s.Preserve {
		c.Links = source.PreserveLinks
	}
	return c
}

func specOptions(s *jobs.Spec) transfer.Options {
	return transfer.Options{Into: s.Into, Conflict: s.Conflict, Names: s.Names, Algorithm: s.Algorithm, Label: s.Label}
}

// reporter turns the engine's progress into the job's, and tells the monitor
// that data moves: progress means acknowledged octets.
type reporter struct {
	live    *jobs.Live
	monitor *health.Monitor
	to      string
	began   time.Time

	mu    sync.Mutex
	rates rateMeter
	acked int64
}

func (*reporter) Offer(*transfer.OfferPart)       {}
func (*reporter) Answer(uint32, *transfer.Answer) {}
func (*reporter) Lane(send.LaneState)             {}
func (*reporter) Receipt(*transfer.Receipt)       {}

func (r *reporter) Progress(p send.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	moved := p.Acked - r.acked
	r.acked = p.Acked
	note := ""
	if r.monitor != nil {
		if moved > 0 {
			r.monitor.Progress(moved)
		}
		switch r.monitor.State() {
		case health.UDPBlocked:
			note = "UDP is blocked on the way; the transfer goes on"
		case health.Suspect:
			note = "the receiver does not answer pings; looking closer"
		}
	}
	r.live.Report(jobs.Progress{
		Bytes: p.Total, Acked: p.Acked + p.Held + p.Skipped, Files: p.Entries, Lanes: p.Lanes, Rate: r.rates.add(time.Now(), p.Acked), To: r.to, Note: note,
	})
}

// rateMeter gives the rate over the last few seconds.
type rateMeter struct {
	at    [8]time.Time
	bytes [8]int64
	n     int
}

// rateEvery is how far apart the meter's samples are: eight make four seconds.
const rateEvery = 500 * time.Millisecond

func (m *rateMeter) add(now time.Time, bytes int64) int64 {
	if m.n == 0 || now.Sub(m.at[(m.n-1)%len(m.at)]) >= rateEvery {
		m.at[m.n%len(m.at)], m.bytes[m.n%len(m.at)] = now, bytes
		m.n++
	}
	first := max(0, m.n-len(m.at)) % len(m.at)
	d := now.Sub(m.at[first]).Seconds()
	if d < 0.1 || bytes < m.bytes[first] {
		return 0
	}
	return int64(float64(bytes-m.bytes[first]) / d)
}
