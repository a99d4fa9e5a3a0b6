package recv

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"unicode"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

const (
	opOffer  = "take offer"
	maxLabel = 256 // octets; Options.Label
	maxLanes = 1024
)

// part remembers an answered part, so that a repeated one gets the same answer.
type part struct {
	first, count uint32
	hash         [32]byte
	last         bool
}

// Negotiate judges one part of an offer and answers it (docs/protocol.md,
// sections 1 and 2). Part 0 of a new session begins a new epoch. It waits for a
// commit of the same transfer that is running. Idempotent: see the state table.
func (r *Receiver) Negotiate(ctx context.Context, c Caller, p *transfer.OfferPart) (*transfer.Answer, error) {
	if err := r.checkPart(c, p); err != nil {
		return nil, err
	}
	if p.Plan {
		return r.plan(ctx, c, p)
	}
	for {
		m, err := r.take(ctx, p.ID)
		if err != nil {
			return nil, err
		}
		a, run, err := m.negotiate(ctx, c, p)
		m.release()
		if run == nil {
			return a, err
		}
		if err := run.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// negotiate returns a commit to wait for when the answer depends on it.
func (m *movement) negotiate(ctx context.Context, c Caller, p *transfer.OfferPart) (*transfer.Answer, *commitRun, error) {
	state, run := m.stateNow()
	if state != transfer.StateUnknown {
		if err := m.owned(c, false); err != nil {
			return nil, nil, err
		}
	}
	same := p.Session == m.session
	switch {
	case same && state == transfer.StateCommitted, !same && state == transfer.StateCommitted:
		a, err := m.again(ctx, p)
		return a, nil, err
	case same && state.Final():
		return nil, nil, m.why()
	case same && m.stage != nil:
		a, err := m.nextPart(ctx, c, p)
		return a, nil, err
	case slices.Contains(m.seen, p.Session):
		return nil, nil, fenced()
	case p.Part > 0 && state.Final():
		return nil, nil, m.why()
	case p.Part > 0 && state == transfer.StateUnknown:
		return nil, nil, notFound(p.ID)
	case p.Part > 0:
		return nil, nil, lost()
	case run != nil:
		return nil, run, nil
	case m.r.draining.Load():
		return nil, nil, stopping()
	}
	a, err := m.begin(ctx, c, p)
	return a, nil, err
}

func fenced() *transfer.Error {
	return transfer.Errorf(transfer.Fenced, "use session", "", "a newer session took this transfer over").WithHint("let the newer sender finish; this one must not go on")
}

func lost() *transfer.Error {
	return transfer.Errorf(transfer.Unavailable, "use session", "", "the session is not known to this run of the receiver").WithHint("negotiate again, from part 0 of a new session")
}

func stopping() *transfer.Error {
	return transfer.Errorf(transfer.Unavailable, opOffer, "", "the receiver is stopping").WithHint("try again when it is back")
}

// why returns what ended the transfer.
func (m *movement) why() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil && !m.state.Final() {
		return m.fault
	}
	return asError(m.failure)
}

// begin opens an epoch: for a new transfer, for a new session of an unfinished
// one, and for one that was aborted or failed.
func (m *movement) begin(ctx context.Context, c Caller, p *transfer.OfferPart) (*transfer.Answer, error) {
	if err := checkDense(p.Entries, 0); err != nil {
		return nil, err
	}
	stage, fresh := m.stage, m.stage == nil
	m.mu.Lock()
	epoch := m.epoch + 1 // counts on from the tombstone's
	m.mu.Unlock()
	if fresh {
		s, err := m.create(ctx, c, p)
		if err != nil {
			return nil, err
		}
		stage = s
		m.repairs.Store(0)
		m.told.Store(0)
	} else {
		m.endEpoch(transfer.Fenced)
		epoch = stage.Epoch() + 1
		if m.session != (transfer.Session{}) {
			m.seen = append(m.seen, m.session)
			m.seen = m.seen[max(0, len(m.seen)-maxSessions):]
		}
	}
	// From here on the old session is over, whatever happens.
	m.session = transfer.Session{}
	m.parts, m.digests, m.rounds = nil, digests{}, 0
	err := stage.Begin(ctx, epoch, p.Options)
	var files []store.FileState
	if err == nil {
		files, err = stage.Add(ctx, p.Entries)
	}
	if err == nil && p.Last {
		err = stage.Seal(ctx)
	}
	if err != nil {
		if fresh {
			err = m.undo(ctx, stage, err)
		}
		return nil, err
	}
	if fresh {
		m.attach(stage)
	}
	m.session, m.rate = p.Session, m.r.limiter(c)
	m.parts = append(m.parts, newPart(p, 0))
	m.openEpoch(epoch, p)
	return m.answer(p, files), nil
}

// undo removes the stage of a new transfer whose first part was refused.
func (m *movement) undo(ctx context.Context, stage store.Stage, cause error) error {
	if err := stage.Discard(context.WithoutCancel(ctx), transfer.StateAborted, cause); err != nil {
		m.r.log.Warn("remove refused transfer", "transfer", m.id, "err", err)
	}
	m.mu.Lock()
	unknown := m.state == transfer.StateUnknown
	m.mu.Unlock()
	if unknown {
		m.loaded = false // there is a tombstone now
	}
	return cause
}

// create makes the stage of a transfer that has none, when limits allow.
func (m *movement) create(ctx context.Context, c Caller, p *transfer.OfferPart) (store.Stage, error) {
	r := m.r
	r.mu.Lock()
	full := r.active >= r.cfg.Limits.Transfers
	r.mu.Unlock()
	if full {
		err := transfer.Errorf(transfer.Busy, opOffer, "", "the receiver has %d transfers at once, its limit", r.cfg.Limits.Transfers).WithHint("try again later")
		err.RetryAfter = r.cfg.Limits.RetryAfter
		return nil, err
	}
	if u, err := r.cfg.Store.Usage(ctx); err != nil {
		return nil, err
	} else if p.Options.TotalBytes > u.Free {
		return nil, transfer.Errorf(transfer.NoSpace, opOffer, "", "the transfer has %d octets and %d are free", p.Options.TotalBytes, u.Free).WithHint("free space at the receiver, or send less")
	}
	spec := m.newSpec(c, p)
	if problems, err := r.cfg.Store.Check(ctx, spec, p.Entries); err != nil {
		return nil, err
	} else if len(problems) > 0 {
		return nil, refused(problems)
	}
	return r.cfg.Store.Create(ctx, spec)
}

func (m *movement) newSpec(c Caller, p *transfer.OfferPart) store.Spec {
	return store.Spec{ID: p.ID, Principal: c.Principal, Prefix: c.Prefix, Options: p.Options, Created: m.r.now(), Limit: c.MaxTransfer, Undeclared: m.undeclared}
}

// openEpoch makes the new epoch visible: lanes are accepted from now on.
func (m *movement) openEpoch(epoch transfer.Epoch, p *transfer.OfferPart) {
	m.mu.Lock()
	m.epoch, m.token, m.nonces = epoch, transfer.NewToken(), map[[16]byte]struct{}{}
	m.until = m.r.now().Add(m.r.cfg.Limits.TokenTTL)
	m.accepting, m.fault = true, nil
	m.manifest = manifest{options: p.Options, plain: m.spec.Undeclared}
	m.manifest.add(p.Entries)
	m.mu.Unlock()
	m.setState(stateAfter(p), nil)
	m.r.watch.changed(m.id)
}

func stateAfter(p *transfer.OfferPart) transfer.State {
	if p.Last {
		return transfer.StateOpen
	}
	return transfer.StateOffering
}

// nextPart takes a part of the session that is current.
func (m *movement) nextPart(ctx context.Context, c Caller, p *transfer.OfferPart) (*transfer.Answer, error) {
	state, _ := m.stateNow()
	n := uint32(len(m.parts))
	switch {
	case m.broken():
		return nil, m.why()
	case p.Part < n:
		return m.repeated(p)
	case p.Part > n:
		return nil, transfer.Errorf(transfer.Invalid, opOffer, "", "part %d came, part %d is next", p.Part, n)
	case state != transfer.StateOffering:
		return nil, transfer.Errorf(transfer.Invalid, opOffer, "", "part %d came after the last one", p.Part)
	}
	first := m.stage.Entries()
	if err := checkDense(p.Entries, first); err != nil {
		return nil, err
	}
	if err := m.checkMore(c, p); err != nil {
		return nil, err
	}
	files, err := m.stage.Add(ctx, p.Entries)
	if err != nil {
		return nil, err
	}
	m.parts = append(m.parts, newPart(p, first))
	m.mu.Lock()
	m.manifest.add(p.Entries)
	m.mu.Unlock()
	if p.Last {
		if err := m.stage.Seal(ctx); err != nil {
			m.fail(err)
			return nil, err
		}
		m.setState(transfer.StateOpen, nil)
	}
	return m.answer(p, files), nil
}

// checkMore judges a later part by what came with part 0: the rules for names and
// the caller's limit on the whole.
func (m *movement) checkMore(c Caller, p *transfer.OfferPart) error {
	m.mu.Lock()
	total := m.manifest
	m.mu.Unlock()
	var problems []transfer.Problem
	for i := range p.Entries {
		if err := checkEntry(&p.Entries[i], total.options.Names); err != nil {
			problems = append(problems, transfer.Problem{Path: string(p.Entries[i].Path), Kind: err.Kind, Reason: err.Msg})
		}
	}
	if len(problems) > 0 {
		return refused(problems)
	}
	total.add(p.Entries)
	if c.MaxTransfer > 0 && total.bytes > c.MaxTransfer {
		return tooLarge(total.bytes, c.MaxTransfer)
	}
	return nil
}

func tooLarge(n, limit int64) *transfer.Error {
	return transfer.Errorf(transfer.NoSpace, opOffer, "", "the transfer has at least %d octets, the limit of this principal is %d", n, limit).WithHint("send less at once, or have the limit raised")
}

func newPart(p *transfer.OfferPart, first uint32) part {
	return part{first: first, count: uint32(len(p.Entries)), hash: hashPart(p), last: p.Last} //nolint:gosec // at most PartEntries
}

// hashPart identifies the content of a part, options included.
func hashPart(p *transfer.OfferPart) [32]byte {
	h := store.NewManifestHasher()
	for i := range p.Entries {
		h.Add(&p.Entries[i])
	}
	entries := h.Sum()
	return sha256.Sum256(fmt.Appendf(entries[:], "%+v", p.Options))
}

// fail records that the storage failed: this epoch is over, a new session may go
// on with what is held.
func (m *movement) fail(err error) {
	kind := transfer.KindOf(err)
	e := transfer.Errorf(kind, "store transfer", "", "%w", err).WithHint("negotiate again in a new session: what is held is kept")
	m.mu.Lock()
	if m.fault == nil {
		m.fault = e
	}
	m.accepting = false
	list := make([]*lane, 0, len(m.lanes))
	for l := range m.lanes {
		list = append(list, l)
	}
	m.mu.Unlock()
	for _, l := range list {
		l.stop(kind)
	}
	m.r.log.Error("storage failed", "transfer", m.id, "err", err)
}

func (m *movement) broken() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault != nil
}

// checkPart judges what needs no state. Names are judged here, once, with every
// bad one named.
func (r *Receiver) checkPart(c Caller, p *transfer.OfferPart) error {
	bad := func(format string, args ...any) error {
		return transfer.Errorf(transfer.Invalid, opOffer, "", format, args...)
	}
	switch {
	case p.ID.IsZero():
		return bad("the transfer's id is missing")
	case p.ID[6]>>4 != 7:
		return bad("the transfer's id is not a UUID of version 7")
	case p.Session == transfer.Session{}:
		return bad("the session is missing")
	case len(p.Entries) > r.cfg.Limits.PartEntries:
		return bad("the part has %d entries, at most %d are allowed", len(p.Entries), r.cfg.Limits.PartEntries)
	case len(p.Entries) == 0 && !(p.Last && p.Part > 0):
		return bad("the part has no entries")
	}
	if p.Part == 0 {
		if err := r.checkOptions(c, &p.Options); err != nil {
			return err
		}
	}
	var problems []transfer.Problem
	var total int64
	for i := range p.Entries {
		e := &p.Entries[i]
		if err := checkEntry(e, p.Options.Names); err != nil {
			problems = append(problems, transfer.Problem{Path: string(e.Path), Kind: err.Kind, Reason: err.Msg})
		} else if e.Size > 0 {
			if total += e.Size; total > transfer.MaxFileSize {
				return bad("the sizes add up to more than %d octets", int64(transfer.MaxFileSize))
			}
		}
	}
	if len(problems) > 0 {
		return refused(problems)
	}
	if c.MaxTransfer > 0 && max(total, p.Options.TotalBytes) > c.MaxTransfer {
		return tooLarge(max(total, p.Options.TotalBytes), c.MaxTransfer)
	}
	return nil
}

// refused makes the error that names every bad entry.
func refused(problems []transfer.Problem) *transfer.Error {
	first := problems[0]
	e := transfer.Errorf(first.Kind, opOffer, first.Path, "%s", first.Reason)
	if n := len(problems) - 1; n > 0 {
		e.Msg = fmt.Sprintf("%s (and %d more)", e.Msg, n)
	}
	e.Problems = problems
	return e
}

func (r *Receiver) checkOptions(c Caller, o *transfer.Options) error {
	bad := func(format string, args ...any) error {
		return transfer.Errorf(transfer.Invalid, opOffer, "", format, args...)
	}
	if o.Into != "" {
		if _, err := transfer.ParsePath(o.Into, o.Names); err != nil {
			return err
		}
	}
	switch {
	case o.Names > transfer.Portable:
		return bad("names rule %d is not known", o.Names)
	case o.Conflict > transfer.SkipIdentical:
		return bad("conflict policy %d is not known", o.Conflict)
	case c.Conflicts != nil && !c.Conflicts(o.Conflict):
		return transfer.Errorf(transfer.Denied, opOffer, "", "the conflict policy %v is not allowed for %q", o.Conflict, c.Principal)
	case len(o.Label) > maxLabel || slices.ContainsFunc([]rune(o.Label), unicode.IsControl):
		return bad("the label is longer than %d octets or has control characters", maxLabel)
	case o.Lanes < 0 || o.Lanes > maxLanes || o.TotalFiles < 0 || o.TotalBytes < transfer.UnknownSize || o.TotalBytes > transfer.MaxFileSize || o.MaxBytes < 0 || o.KeepPartial < 0:
		return bad("a number is out of range: lanes %d, files %d, octets %d, at most %d, keep %v", o.Lanes, o.TotalFiles, o.TotalBytes, o.MaxBytes, o.KeepPartial)
	}
	switch o.Algorithm {
	case transfer.BLAKE3:
	case transfer.None:
		if !r.cfg.AllowNone {
			return transfer.Errorf(transfer.Denied, opOffer, "", "this receiver takes nothing unverified").WithHint("use --digest blake3")
		}
		fallthrough
	case transfer.XXH3:
		if r.cfg.RequireBLAKE3 {
			return transfer.Errorf(transfer.Denied, opOffer, "", "lanes are not encrypted here, so blake3 is required").WithHint("use --digest blake3")
		}
	default:
		return bad("digest algorithm %d is none of blake3, xxh3, none", o.Algorithm)
	}
	return nil
}

func checkEntry(e *transfer.Entry, names transfer.Names) *transfer.Error {
	bad := func(format string, args ...any) *transfer.Error {
		return transfer.Errorf(transfer.Invalid, opOffer, string(e.Path), format, args...)
	}
	if _, err := transfer.ParsePath(string(e.Path), names); err != nil {
		return bad("%s", reasonOf(err))
	}
	switch {
	case e.Type > transfer.Symlink:
		return bad("type %d is not known", e.Type)
	case e.Type != transfer.Regular && e.Size != 0:
		return bad("a %v has no size, %d was given", e.Type, e.Size)
	case e.Size < transfer.UnknownSize || e.Size > transfer.MaxFileSize:
		return bad("the size %d is out of range", e.Size)
	case e.Type == transfer.Symlink && (e.Link == "" || len(e.Link) > transfer.MaxPath):
		return bad("the link has no target, or one of more than 4,096 octets")
	case e.Type != transfer.Symlink && e.Link != "":
		return bad("a %v has no link target", e.Type)
	case e.Mode&^0o777 != 0:
		return bad("the mode %v has more than permission bits", e.Mode)
	}
	if x := e.Expected; !x.IsZero() {
		if x.Validate() != nil || x.Algorithm != transfer.BLAKE3 && x.Algorithm != transfer.SHA256 || e.Type != transfer.Regular {
			return bad("the expected digest is neither sha256 nor blake3 of a file")
		}
	}
	return nil
}

// reasonOf returns the sentence of an error without its operation and path.
func reasonOf(err error) string {
	if e, ok := err.(*transfer.Error); ok && e.Msg != "" { //nolint:errorlint // ParsePath returns it as it is
		return e.Msg
	}
	return err.Error()
}

func checkDense(entries []transfer.Entry, first uint32) error {
	for i := range entries {
		if entries[i].Index != first+uint32(i) { //nolint:gosec // at most PartEntries
			return transfer.Errorf(transfer.Invalid, opOffer, string(entries[i].Path), "index %d came, %d is next", entries[i].Index, first+uint32(i)) //nolint:gosec // as above
		}
	}
	return nil
}
