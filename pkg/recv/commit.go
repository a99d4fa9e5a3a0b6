package recv

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

const opCommit = "commit transfer"

// commitRun is one run of verifying and publishing, in a goroutine of its own.
type commitRun struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	result *transfer.CommitResult // valid once done is closed
	err    error
}

// wait returns when the run is over, or with Canceled when ctx ends first.
func (c *commitRun) wait(ctx context.Context) error {
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return transfer.Errorf(transfer.Canceled, "wait for commit", "", "%w", context.Cause(ctx)).WithHint("it runs on; ask again for its result")
	}
}

// Commit takes digests, answers queries for chunk hashes and requests for repair,
// and with the last part verifies and publishes (docs/protocol.md, sections 4 and
// 5). The run goes on when ctx ends; a repeated call joins it. Idempotent: see the
// state table.
func (r *Receiver) Commit(ctx context.Context, c Caller, p *transfer.CommitPart) (*transfer.CommitResult, error) {
	m, err := r.take(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	res, run, err := m.commit(ctx, c, p)
	m.release()
	if run == nil {
		return res, err
	}
	if err := run.wait(ctx); err != nil {
		return nil, err
	}
	return run.result, run.err
}

// commit returns a run to wait for, or a result.
func (m *movement) commit(ctx context.Context, c Caller, p *transfer.CommitPart) (*transfer.CommitResult, *commitRun, error) {
	if err := m.owned(c, false); err != nil {
		return nil, nil, err
	}
	state, run := m.stateNow()
	switch {
	case state == transfer.StateCommitted:
		res, err := m.receipt(ctx)
		return res, nil, err
	case state.Final():
		return nil, nil, m.why()
	case m.session == transfer.Session{}:
		return nil, nil, lost()
	case p.Session != m.session:
		return nil, nil, fenced()
	case m.broken() && run == nil:
		return nil, nil, m.why()
	case state == transfer.StateOffering:
		return nil, nil, transfer.Errorf(transfer.Invalid, opCommit, "", "the manifest is not complete").WithHint("send the last part of the offer first")
	}
	plain := p.Query == nil && p.Repair == nil
	switch {
	case run != nil && plain && p.Last:
		return nil, run, nil
	case run != nil && plain:
		return &transfer.CommitResult{}, nil, nil
	case run != nil:
		return nil, nil, transfer.Errorf(transfer.Invalid, opCommit, "", "the transfer is being verified").WithHint("wait for the result of Commit")
	case p.Query != nil:
		res, err := m.query(p.Query)
		return res, nil, err
	case p.Repair != nil:
		res, err := m.repair(ctx, p.Repair)
		return res, nil, err
	}
	if err := m.takeDigests(p); err != nil {
		return nil, nil, err
	}
	if !p.Last {
		return &transfer.CommitResult{}, nil, nil
	}
	if m.r.base.Err() != nil {
		return nil, nil, stopping()
	}
	return nil, m.startCommit(), nil
}

func (m *movement) receipt(ctx context.Context) (*transfer.CommitResult, error) {
	tomb, err := m.r.cfg.Store.Tombstone(ctx, m.id)
	if err != nil {
		return nil, err
	}
	return &transfer.CommitResult{Receipt: tomb.Info.Receipt}, nil
}

// takeDigests keeps a part's digests. A repeated part takes its own place and
// drops those after it; part 0 therefore begins anew.
func (m *movement) takeDigests(p *transfer.CommitPart) error {
	bad := func(format string, args ...any) error {
		return transfer.Errorf(transfer.Invalid, opCommit, "", format, args...)
	}
	have := &m.digests
	if int(p.Part) > len(have.starts) {
		return bad("part %d came, part %d is next", p.Part, len(have.starts))
	}
	if len(p.Files) > m.r.cfg.Limits.PartEntries {
		return bad("the part has %d digests, at most %d are allowed", len(p.Files), m.r.cfg.Limits.PartEntries)
	}
	if len(p.Sums) > transfer.MaxSums {
		return bad("the part has %d octets of sums, at most %d are allowed", len(p.Sums), transfer.MaxSums)
	}
	if len(p.Sums) > 0 && len(p.Files) > 0 {
		return bad("the part has sums and digests with sizes, one of them is allowed")
	}
	have.from(int(p.Part))
	begin := have.next
	err := m.addDigests(p.Files)
	if err == nil && len(p.Sums) > 0 {
		err = m.addSums(p.Sums)
	}
	if err != nil {
		have.cut(begin)
		return err
	}
	have.starts = append(have.starts, begin)
	return nil
}

// addDigests checks digests and keeps what they say. After an error some may be
// kept.
func (m *movement) addDigests(files []transfer.FileDigest) error {
	bad := func(format string, args ...any) error {
		return transfer.Errorf(transfer.Invalid, opCommit, "", format, args...)
	}
	algorithm := m.spec.Options.Algorithm
	for i := range files {
		f := &files[i]
		if int64(f.Index) < m.digests.next {
			return bad("the digest of file %d is out of order", f.Index)
		}
		e, ok := m.stage.Shape(f.Index)
		switch {
		case !ok || e.Type != transfer.Regular || e.Skip:
			return bad("file %d is no file of the manifest that was to be sent", f.Index)
		case f.Digest.Validate() != nil || f.Digest.Algorithm != algorithm:
			return bad("the digest of file %d is not %v", f.Index, algorithm)
		case e.Size >= 0 && f.Size != e.Size:
			return transfer.Errorf(transfer.Invalid, opCommit, m.pathOf(f.Index), "the final size %d is not the offered %d", f.Size, e.Size)
		case f.Size < 0 || f.Size > transfer.MaxFileSize:
			return transfer.Errorf(transfer.Invalid, opCommit, m.pathOf(f.Index), "the final size %d is out of range", f.Size)
		}
		got, err := m.stage.Digest(f.Index) // fails while chunks are lacking
		m.digests.add(f, err == nil && e.Size >= 0 && got.Equal(f.Digest), e.Size < 0)
	}
	return nil
}

// addSums is addDigests for digests of the next files that have chunks.
func (m *movement) addSums(sums []byte) error {
	algorithm := m.spec.Options.Algorithm
	n := digest.HashSize(algorithm)
	if n == 0 || len(sums)%n != 0 {
		return transfer.Errorf(transfer.Invalid, opCommit, "", "%d octets are no sums of %v", len(sums), algorithm)
	}
	for i := uint32(m.digests.next); len(sums) > 0; i++ { //nolint:gosec // at most the number of entries
		e, ok := m.stage.Shape(i)
		if !ok {
			return transfer.Errorf(transfer.Invalid, opCommit, "", "%d sums are more than there are files", len(sums)/n)
		}
		if e.Type != transfer.Regular || e.Skip || e.Size <= 0 {
			continue
		}
		f := transfer.FileDigest{Index: i, Size: e.Size, Digest: transfer.Digest{Algorithm: algorithm, Sum: sums[:n:n]}}
		got, err := m.stage.Digest(i) // fails while chunks are lacking
		m.digests.add(&f, err == nil && got.Equal(f.Digest), false)
		sums = sums[n:]
	}
	return nil
}

// pathOf names a file of the manifest, or nothing.
func (m *movement) pathOf(file uint32) string {
	e, _, _ := m.stage.Entry(file)
	return string(e.Path)
}

// startCommit sets the run off. Control lock held, state open, all written.
func (m *movement) startCommit() *commitRun {
	ctx, cancel := context.WithCancelCause(m.r.base)
	run := &commitRun{cancel: cancel, done: make(chan struct{})}
	m.mu.Lock()
	m.run = run
	m.mu.Unlock()
	m.setState(transfer.StateCommitting, nil)
	m.r.tasks.Go(func() {
		begin := time.Now()
		res, err := m.verifyAndPublish(ctx)
		cancel(nil)
		receipt := m.conclude(run, res, err)
		kind := transfer.KindOf(err)
		if res != nil && res.Receipt == nil {
			kind = transfer.Corrupt
		}
		repairs := m.repairs.Load()
		m.r.obs.Commit(time.Since(begin), kind, repairs-m.told.Swap(repairs))
		if receipt != nil && m.r.cfg.OnPublished != nil {
			m.r.published(receipt)
		}
	})
	return run
}

// published runs the hook; a panic in it is only logged.
func (r *Receiver) published(receipt *transfer.Receipt) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("panic after publishing", "transfer", receipt.ID, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	r.cfg.OnPublished(r.base, receipt)
}

// verifyAndPublish is the work of a run. A panic becomes an error.
func (m *movement) verifyAndPublish(ctx context.Context) (res *transfer.CommitResult, err error) {
	defer func() {
		if p := recover(); p != nil {
			m.r.log.Error("panic in commit", "transfer", m.id, "panic", p, "stack", string(debug.Stack()))
			res, err = nil, transfer.Errorf(transfer.Internal, opCommit, "", "panic")
		}
	}()
	bad, err := m.verify(ctx)
	if err != nil {
		return nil, err
	}
	if len(bad) > 0 {
		return &transfer.CommitResult{Mismatch: bad}, nil
	}
	receipt, err := m.publish(ctx)
	if err != nil {
		return nil, err
	}
	return &transfer.CommitResult{Receipt: receipt}, nil
}

// publish makes everything durable and visible. It is not cut by an abort or a
// stop once it has begun.
func (m *movement) publish(ctx context.Context) (*transfer.Receipt, error) {
	if ctx.Err() != nil {
		return nil, interrupted(ctx)
	}
	m.stopCheckpoints() // Publish syncs everything itself
	m.mu.Lock()
	base := transfer.Receipt{
		ID: m.id, Principal: m.principal, Into: m.spec.Options.Into, Algorithm: m.spec.Options.Algorithm.String(),
		Verified: m.spec.Options.Algorithm != transfer.None, Durable: true, DataTLS: m.r.cfg.DataTLS,
		Started: m.created, Committed: m.r.now(), Repairs: m.repairs.Load(),
	}
	m.mu.Unlock()
	return m.stage.Publish(context.WithoutCancel(ctx), base, m.r.cfg.Sign)
}

func interrupted(ctx context.Context) error {
	return transfer.Errorf(transfer.Unavailable, opCommit, "", "interrupted: %w", context.Cause(ctx))
}

// conclude brings the transfer into the state that a run ended in and lets go of
// those who wait. It returns the receipt, if it was published.
func (m *movement) conclude(run *commitRun, res *transfer.CommitResult, err error) *transfer.Receipt {
	_ = m.ctl.lock(context.Background()) // never fails
	defer m.release()
	var receipt *transfer.Receipt
	switch k := transfer.KindOf(err); {
	case err == nil && res.Receipt != nil:
		receipt = res.Receipt
		m.endEpoch(transfer.OK)
		m.detach()
		m.setState(transfer.StateCommitted, nil)
	case err == nil:
		m.rounds++
		res.Round = m.rounds
		if m.rounds <= m.r.cfg.Limits.Rounds {
			m.setState(transfer.StateOpen, nil)
			break
		}
		e := m.corrupt(res.Mismatch)
		res, err = nil, m.finally(e)
	case k == transfer.Corrupt, k == transfer.Denied:
		err = m.finally(asTransferError(err))
	default:
		m.setState(transfer.StateOpen, nil)
	}
	run.result, run.err = res, err
	m.mu.Lock()
	m.run = nil
	m.touched = m.r.now()
	m.mu.Unlock()
	close(run.done)
	return receipt
}

// finally fails the transfer for good and returns why.
func (m *movement) finally(e *transfer.Error) error {
	if err := m.discard(m.r.base, transfer.StateFailed, e); err != nil {
		m.r.log.Error("remove failed transfer", "transfer", m.id, "err", err)
		m.setState(transfer.StateOpen, nil)
	}
	return e
}

// Abort gives a transfer up: its partial files are removed and its space given
// back. A zero session aborts whatever the session is; another than the current
// one is Fenced. A commit that runs is ended if nothing is published yet, else
// Abort is Invalid, as it is for a committed transfer. Idempotent.
func (r *Receiver) Abort(ctx context.Context, c Caller, id transfer.ID, session transfer.Session, reason string) error {
	for {
		m, err := r.take(ctx, id)
		if err != nil {
			return err
		}
		run, err := m.abort(ctx, c, session, reason)
		m.release()
		if run == nil {
			return err
		}
		run.cancel(transfer.Errorf(transfer.Canceled, opCommit, "", "the transfer is being aborted"))
		if err := run.wait(ctx); err != nil {
			return err
		}
	}
}

func (m *movement) abort(ctx context.Context, c Caller, session transfer.Session, reason string) (*commitRun, error) {
	if err := m.owned(c, true); err != nil {
		return nil, err
	}
	state, run := m.stateNow()
	switch {
	case state == transfer.StateCommitted:
		return nil, transfer.Errorf(transfer.Invalid, "abort transfer", "", "%v is committed already", m.id).WithHint("remove the published files instead")
	case state.Final():
		return nil, nil
	case session != transfer.Session{} && m.session != transfer.Session{} && session != m.session:
		return nil, fenced()
	case run != nil:
		return run, nil
	}
	if reason == "" {
		reason = "aborted by " + transfer.Quote(c.Principal)
	}
	return nil, m.discard(ctx, transfer.StateAborted, &transfer.Error{Kind: transfer.Canceled, Op: "abort transfer", Msg: clean(reason)})
}
