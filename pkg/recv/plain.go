package recv

import (
	"bytes"
	"context"
	"slices"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// plainLabel is the label of uploads of the plain protocol.
const plainLabel = "plain protocol"

// Upload is one file on its way in over the plain protocol, whose length nobody
// declared. One goroutine uses it; exactly one of Publish and Discard ends it.
type Upload struct {
	m     *movement
	stage store.Stage
	chunk uint32
	size  int64
	buf   []byte // the chunk that is being filled
	full  int
}

// Plain begins an upload under a bare name. It is a transfer like any other: with
// an id, in lists, with a digest (blake3), limits, gates and a receipt; but it
// cannot be resumed.
func (r *Receiver) Plain(ctx context.Context, c Caller, name string) (*Upload, error) {
	if r.draining.Load() {
		return nil, stopping()
	}
	p := &transfer.OfferPart{
		ID: transfer.NewID(), Session: transfer.NewSession(), Last: true,
		Options: transfer.Options{Algorithm: transfer.BLAKE3, Label: plainLabel, TotalFiles: 1, TotalBytes: transfer.UnknownSize},
		Entries: []transfer.Entry{{Path: transfer.Path(name), Size: transfer.UnknownSize}},
	}
	if err := r.checkPart(c, p); err != nil {
		return nil, err
	}
	m, err := r.take(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	defer m.release()
	m.undeclared = true
	if _, err := m.begin(ctx, c, p); err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.accepting = false // no lanes
	m.mu.Unlock()
	fs, _ := m.stage.Shape(0)
	return &Upload{m: m, stage: m.stage, full: int(fs.ChunkSize)}, nil
}

// ID is the transfer's id.
func (u *Upload) ID() transfer.ID { return u.m.id }

// Write appends p. It keeps no part of p; up to one chunk (1 MiB) waits in memory.
func (u *Upload) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 {
		n := min(len(p), u.full-len(u.buf))
		if len(u.buf)+n > cap(u.buf) {
			u.buf = slices.Grow(u.buf, min(u.full-len(u.buf), max(n, len(u.buf))))
		}
		u.buf = append(u.buf, p[:n]...)
		p, done = p[n:], done+n
		if len(u.buf) == u.full {
			if err := u.flush(); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

func (u *Upload) flush() error {
	if len(u.buf) == 0 {
		return nil
	}
	n := int64(len(u.buf))
	if err := u.stage.WriteChunk(u.m.r.base, 0, u.chunk, n, bytes.NewReader(u.buf)); err != nil {
		return err
	}
	u.chunk++
	u.size += n
	u.buf = u.buf[:0]
	u.m.wrote(n)
	u.m.r.obs.Bytes(n)
	u.m.r.progress.Store(u.m.r.now().UnixNano())
	return nil
}

// Publish makes what was written durable and visible under its name.
func (u *Upload) Publish(ctx context.Context) (*transfer.Receipt, error) {
	if err := u.flush(); err != nil {
		return nil, err
	}
	m := u.m
	if err := m.ctl.lock(ctx); err != nil {
		return nil, err
	}
	state, _ := m.stateNow()
	if m.gone || state != transfer.StateOpen {
		m.ctl.unlock()
		return nil, transfer.Errorf(transfer.Canceled, opCommit, "", "the transfer was given up")
	}
	if err := m.stage.Finish(ctx, 0, u.size); err != nil {
		m.ctl.unlock()
		return nil, err
	}
	d, err := m.stage.Digest(0)
	if err != nil {
		m.ctl.unlock()
		return nil, err
	}
	m.digests = digests{}
	m.digests.add(&transfer.FileDigest{Index: 0, Size: u.size, Digest: d}, true, true)
	run := m.startCommit()
	m.ctl.unlock()
	if err := run.wait(ctx); err != nil {
		return nil, err
	}
	if run.err != nil {
		return nil, run.err
	}
	return run.result.Receipt, nil
}

// Discard removes what was written; cause is kept for lists.
func (u *Upload) Discard(cause error) {
	m := u.m
	_ = m.ctl.lock(context.Background()) // never fails
	defer m.release()
	if state, run := m.stateNow(); m.gone || m.stage == nil || run != nil || state.Final() {
		return
	}
	if cause == nil {
		cause = transfer.Errorf(transfer.Canceled, "receive file", "", "given up")
	}
	e := transfer.Errorf(transfer.KindOf(cause), "receive file", "", "%s", clean(cause.Error()))
	if err := m.discard(m.r.base, transfer.StateAborted, e); err != nil {
		m.r.log.Warn("remove plain upload", "transfer", m.id, "err", err)
	}
}
