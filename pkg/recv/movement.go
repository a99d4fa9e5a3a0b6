package recv

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// lingering is how long a finished transfer's session is remembered, so that its
// calls and lanes hear how it ended; at most maxLingering at once.
const (
	lingering    = 10 * time.Minute
	maxLingering = 10000
	maxSessions  = 1024 // superseded sessions remembered for each transfer
)

// lock is a mutex whose waiting a context can end.
type lock chan struct{}

func (l lock) lock(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	default:
	}
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return transfer.Errorf(transfer.Canceled, "wait for another call of this transfer", "", "%w", context.Cause(ctx))
	}
}

func (l lock) unlock() { <-l }

// movement is one transfer in memory.
type movement struct {
	r   *Receiver
	id  transfer.ID
	ctl lock // serialises control calls; held while the fields below are used

	gone       bool // removed from the map: look again
	loaded     bool
	stage      store.Stage // nil when there is none or it is finished; written under mu as well
	spec       store.Spec
	session    transfer.Session // zero: none in this run
	seen       []transfer.Session
	parts      []part
	digests    digests
	rounds     int
	replay     *replay
	touched    time.Time
	undeclared bool // a plain upload
	rate       *rate.Limiter

	dirty   atomic.Int64 // octets written since the last checkpoint
	repairs atomic.Int64 // chunks forgotten; the observer was told of some
	told    atomic.Int64

	mu        sync.Mutex // guards what follows; never held while blocking
	cond      sync.Cond  // a claim was released
	state     transfer.State
	failure   *transfer.Error // why it failed or was aborted
	fault     *transfer.Error // storage failed in this epoch: only a new session helps
	principal string
	manifest  manifest
	accepting bool
	refusal   *transfer.Error // what hellos hear while not accepting
	epoch     transfer.Epoch
	token     transfer.Token
	until     time.Time // of the token
	nonces    map[[16]byte]struct{}
	lanes     map[*lane]struct{}
	writers   map[uint64]*lane
	run       *commitRun
	ckpt      *checkpointer
	created   time.Time
	updated   time.Time
}

// manifest is what is known of the files, for Info.
type manifest struct {
	options transfer.Options
	first   string
	files   int64
	bytes   int64
	unknown bool
	plain   bool
}

func (f *manifest) add(entries []transfer.Entry) {
	for i := range entries {
		e := &entries[i]
		if f.files == 0 {
			f.first = string(e.Path)
		}
		f.files++
		if e.Size < 0 {
			f.unknown = true
		} else {
			f.bytes += e.Size
		}
	}
}

func newMovement(r *Receiver, id transfer.ID) *movement {
	m := &movement{r: r, id: id, ctl: make(lock, 1), lanes: map[*lane]struct{}{}, writers: map[uint64]*lane{}}
	m.cond.L = &m.mu
	return m
}

// load looks for the transfer on disk. Control lock held.
func (m *movement) load(ctx context.Context) error {
	st := m.r.cfg.Store
	stage, err := st.Open(ctx, m.id)
	switch transfer.KindOf(err) {
	case transfer.OK:
		m.attach(stage)
		m.mu.Lock()
		m.state = transfer.StateOffering
		m.mu.Unlock()
	case transfer.NotFound:
		tomb, err := st.Tombstone(ctx, m.id)
		if k := transfer.KindOf(err); k == transfer.NotFound {
			break
		} else if k != transfer.OK {
			return err
		}
		m.spec = tomb.Spec
		m.mu.Lock()
		m.state, m.principal, m.epoch = tomb.Info.State, tomb.Spec.Principal, tomb.Info.Epoch
		m.created, m.updated = tomb.Spec.Created, tomb.Finished
		if m.state != transfer.StateCommitted {
			m.failure = ended(m.state, tomb.Info.Kind, tomb.Info.Reason)
		}
		m.mu.Unlock()
	default:
		return err
	}
	m.loaded = true
	return nil
}

// attach makes stage the movement's own.
func (m *movement) attach(stage store.Stage) {
	m.mu.Lock()
	m.stage, m.spec = stage, stage.Spec()
	m.principal, m.epoch = m.spec.Principal, stage.Epoch()
	m.created = m.spec.Created
	m.manifest = manifest{options: m.spec.Options, plain: m.spec.Undeclared}
	for i := range stage.Entries() {
		if e, _, ok := stage.Entry(i); ok {
			m.manifest.add([]transfer.Entry{e})
		}
	}
	m.mu.Unlock()
	since := m.r.now()
	m.r.mu.Lock()
	if p, ok := m.r.parked[m.id]; ok {
		since = p.since // looking at a transfer is no progress
		delete(m.r.parked, m.id)
	}
	m.r.active++
	m.r.mu.Unlock()
	m.mu.Lock()
	m.updated = since
	m.mu.Unlock()
}

// detach gives the stage up, which is finished or parked.
func (m *movement) detach() {
	if m.stage == nil {
		return
	}
	m.mu.Lock()
	m.stage, m.nonces = nil, nil
	m.mu.Unlock()
	m.parts, m.digests = nil, digests{}
	m.r.mu.Lock()
	m.r.active--
	m.r.mu.Unlock()
}

// release gives the control lock back and forgets a movement that is nothing.
func (m *movement) release() {
	m.mu.Lock()
	unknown := m.state == transfer.StateUnknown
	m.mu.Unlock()
	if unknown && m.stage == nil {
		m.drop()
	}
	m.ctl.unlock()
}

// drop removes the movement from memory. Control lock held.
func (m *movement) drop() {
	m.gone = true
	m.r.mu.Lock()
	delete(m.r.live, m.id)
	m.r.mu.Unlock()
}

// stateNow returns the state, and the running commit if there is one.
func (m *movement) stateNow() (transfer.State, *commitRun) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, m.run
}

// setState changes the state and tells watchers and the observer.
func (m *movement) setState(to transfer.State, why *transfer.Error) {
	m.mu.Lock()
	from := m.state
	m.state, m.failure = to, why
	m.updated = m.r.now()
	m.mu.Unlock()
	if from == to {
		return
	}
	m.r.obs.State(from, to, transfer.KindOf(asError(why)))
	m.r.log.Info("transfer is "+to.String(), "transfer", m.id, "principal", m.spec.Principal, "was", from.String(), "err", errText(why))
	m.r.watch.changed(m.id)
}

// asError avoids a non-nil error that holds a nil pointer.
func asError(e *transfer.Error) error {
	if e == nil {
		return nil
	}
	return e
}

func errText(e *transfer.Error) string {
	if e == nil {
		return ""
	}
	return e.Error()
}

// ended is what calls of a finished transfer hear.
func ended(s transfer.State, kind transfer.Kind, reason string) *transfer.Error {
	if s == transfer.StateAborted {
		kind = transfer.Canceled
	}
	if kind == transfer.OK {
		kind = transfer.Internal
	}
	return transfer.Errorf(kind, "use transfer", "", "it is %s: %s", s, reason).WithHint("offer it anew in a new session")
}

// discard ends the transfer without publishing. Control lock held, no commit runs.
func (m *movement) discard(ctx context.Context, to transfer.State, cause *transfer.Error) error {
	kind := cause.Kind
	if to == transfer.StateAborted {
		kind = transfer.Canceled
	}
	m.endEpoch(kind)
	// The removal must not be cut half-way with the call.
	if err := m.stage.Discard(context.WithoutCancel(ctx), to, cause); err != nil {
		return err
	}
	m.detach()
	reason := cause.Msg
	if reason == "" {
		reason = cause.Error()
	}
	m.setState(to, ended(to, cause.Kind, reason))
	return nil
}

// endEpoch ends all lanes with kind and waits for them and for the checkpoints.
func (m *movement) endEpoch(kind transfer.Kind) {
	m.stopLanes(kind)
	m.stopCheckpoints()
}

// stopLanes admits no more lanes in this epoch, ends those that are open and
// waits until their writers have returned.
func (m *movement) stopLanes(kind transfer.Kind) {
	m.mu.Lock()
	m.accepting, m.refusal = false, refusal(kind)
	list := make([]*lane, 0, len(m.lanes))
	for l := range m.lanes {
		list = append(list, l)
	}
	m.mu.Unlock()
	for _, l := range list {
		l.stop(kind)
	}
	for _, l := range list {
		<-l.done
	}
}

// refusal is what a hello hears that comes after the lanes were ended with kind.
func refusal(kind transfer.Kind) *transfer.Error {
	switch kind {
	case transfer.OK:
		return errCommitted
	case transfer.Fenced:
		return fenced()
	case transfer.Unavailable:
		return lost()
	}
	return transfer.Errorf(kind, "open lane", "", "the transfer is being given up")
}

// drain waits for a commit, then parks the transfer.
func (m *movement) drain(ctx context.Context) error {
	if _, run := m.stateNow(); run != nil {
		select {
		case <-run.done:
		case <-ctx.Done():
		}
	}
	m.stopLanes(transfer.Unavailable)
	ctx = context.WithoutCancel(ctx)
	if err := m.ctl.lock(ctx); err != nil {
		return err
	}
	defer m.release()
	if m.gone || m.stage == nil {
		return nil
	}
	if _, run := m.stateNow(); run != nil {
		return transfer.Errorf(transfer.Unavailable, "stop transfer", "", "%v is still publishing", m.id)
	}
	return m.park(ctx)
}

// park closes the stage's descriptors and forgets the session; the stage stays on
// disk and is found again by load. Control lock held, no commit runs.
func (m *movement) park(ctx context.Context) error {
	m.endEpoch(transfer.Unavailable)
	err := m.stage.Park(ctx) // its last checkpoint counts
	info := m.info(m.stage)
	m.detach()
	info.State = transfer.StateOffering
	m.r.mu.Lock()
	m.r.parked[m.id] = parkedSpec{Spec: m.spec, since: info.Updated, info: &info}
	m.r.mu.Unlock()
	m.drop()
	return err
}

// tidy parks a transfer that is idle and forgets a finished one.
func (m *movement) tidy(ctx context.Context, now time.Time) {
	if m.ctl.lock(ctx) != nil {
		return
	}
	defer m.release()
	m.mu.Lock()
	idle := len(m.lanes) == 0 && m.run == nil
	since, untouched := now.Sub(m.updated), now.Sub(m.touched)
	m.mu.Unlock()
	park := m.r.cfg.Limits.ParkAfter
	switch {
	case m.gone || !m.loaded || !idle:
	case m.stage == nil && untouched >= time.Minute && (since >= lingering || m.r.crowded()):
		m.drop()
	case m.stage != nil && untouched >= park && (since >= park || m.session == (transfer.Session{})):
		if err := m.park(ctx); err != nil {
			m.r.log.Warn("park transfer", "transfer", m.id, "err", err)
		}
	}
}

func (r *Receiver) crowded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.live)-r.active > maxLingering
}
