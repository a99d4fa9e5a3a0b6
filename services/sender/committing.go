package main

import (
	"context"
	"time"

	"github.com/e27efefb/sluice/pkg/health"
	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// A job for a group is published once although its receiver may change between
// attempts: before a member is asked to commit, its name is stored with the job.
// From then on the job stays with that member, over crashes of the sender, until
// it has given the receipt or said that it knows nothing of the transfer. As long
// as it does not answer the job waits; another member would publish again what
// this one may have published.

// place finds the receiver for an attempt and begins the job's progress there.
func (f *fleet) place(ctx context.Context, j *jobs.Job, live *jobs.Live) (*member, error) {
	if asked := j.Committing; asked != "" {
		m, err := f.committer(ctx, j, live)
		if m != nil || err != nil {
			return m, err
		}
		f.s.log.Info("job was not committed, any member may have it", "job", j.ID, "receiver", asked)
	}
	m, err := f.choose(j.Spec.Receiver, j.Progress.To)
	if err == nil {
		begin(live, j, m)
	}
	return m, err
}

// committer returns the member that was asked to commit the job, or nil when it
// does not know the transfer and so cannot commit it any more: then the job is
// free again.
func (f *fleet) committer(ctx context.Context, j *jobs.Job, live *jobs.Live) (m *member, err error) {
	const op = "finish job"
	m = f.members[j.Committing]
	if m == nil {
		return nil, transfer.Errorf(transfer.Unavailable, op, "", "receiver %s may have published it already, and is not configured any more", transfer.Quote(j.Committing)).
			WithHint("configure it again; or cancel the job, look whether the files are there, and submit a new one")
	}
	begin(live, j, m)
	if m.monitor == nil || m.monitor.State() != health.Dead {
		_, err = m.far.Control.Get(ctx, j.ID)
		switch transfer.KindOf(err) {
		case transfer.NotFound:
			j.Committing = ""
			return nil, live.Committing("")
		case transfer.Unavailable:
		default: // any other answer is for the attempt to meet again
			return m, nil
		}
	}
	noteGone(live, m, transfer.Errorf(transfer.Unavailable, op, "", "no answer"))
	e := transfer.Errorf(transfer.Unavailable, op, "", "receiver %s may have published it already, and does not answer", transfer.Quote(m.name)).
		WithHint("the job waits for this receiver, so that nothing is published twice; bring it back, or cancel the job")
	e.Err, e.RetryAfter = err, time.Second
	return nil, e
}

// committed asks for the receipt of an attempt whose answer to the commit was
// lost, before anything is sent: the source may have changed since.
func (m *member) committed(ctx context.Context, id transfer.ID) *transfer.Receipt {
	if m.monitor != nil && m.monitor.State() == health.Dead {
		return nil
	}
	if info, err := m.far.Control.Get(ctx, id); err == nil && info.State == transfer.StateCommitted {
		return info.Receipt
	}
	return nil
}

// begin starts the progress of an attempt where the last one at the same
// receiver ended.
func begin(live *jobs.Live, j *jobs.Job, m *member) {
	p := jobs.Progress{To: m.name}
	if j.Progress.To == m.name {
		p = j.Progress
		p.Lanes, p.Rate, p.Note = 0, 0, ""
	}
	live.Report(p)
}

// farOf returns m for a run of the engine. For a job that another member could
// get, m's name is stored before it is asked to commit.
func (f *fleet) farOf(j *jobs.Job, m *member, live *jobs.Live) send.Receiver {
	if f.groups[j.Spec.Receiver] == nil {
		return m.far
	}
	return &committing{Far: m.far, live: live, name: m.name, stored: j.Committing == m.name}
}

// committing stores the receiver's name before the first call that may publish.
type committing struct {
	*cli.Far

	live   *jobs.Live
	name   string
	stored bool
}

func (c *committing) Commit(ctx context.Context, part *transfer.CommitPart) (*transfer.CommitResult, error) {
	if part.Last && !c.stored {
		if err := c.live.Committing(c.name); err != nil {
			return nil, err
		}
		c.stored = true
	}
	return c.Far.Commit(ctx, part)
}
