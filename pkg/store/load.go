package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// loader rebuilds a stage from its journal.
type loader struct {
	s         *stage
	boots     map[string]bool
	order     []nodeID
	left      int // of order, still to come in further records
	committed bool
	poison    bool
	intents   map[nodeID]intent
}

func errNoStage(id transfer.ID) error {
	return transfer.Errorf(transfer.NotFound, "open transfer", id.String(), "nothing of it is on disk")
}

// loadStage opens a stage on disk. The caller holds d.mu.
func (d *Disk) loadStage(ctx context.Context, id transfer.ID) (_ *stage, err error) {
	name := id.String()
	if d.tombs.has(id) {
		return nil, errNoStage(id)
	}
	sd, err := d.private.sub(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoStage(id)
	}
	if err != nil {
		return nil, transfer.Errorf(transfer.Internal, "open transfer", name, "%w", err)
	}
	s := d.newStage(Spec{})
	s.dir = sd
	defer func() {
		if err != nil {
			s.acct.clear()
			_ = s.closeFiles()
		}
	}()
	f, err := sd.file(journalName, os.O_RDWR|os.O_APPEND, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, transfer.Errorf(transfer.Internal, "open transfer", name, "%w", err)
	}
	if err == nil {
		s.log = newJournal(f)
	}
	l := newLoader(s)
	touched, err := lastProgress(s.log)
	if err != nil {
		return nil, err
	}
	if err := l.read(); err != nil {
		return nil, err
	}
	if s.spec.ID != id {
		// Create never returned: nobody was told of it.
		d.log.Warn("removing a transfer that a crash left without a beginning", "transfer", name)
		return nil, errors.Join(errNoStage(id), d.private.removeAll(name))
	}
	if err := s.openTree(); err != nil {
		return nil, transfer.Errorf(transfer.Internal, "open transfer", name, "%w", err)
	}
	if err := l.settle(ctx); err != nil {
		return nil, err
	}
	// Looking at a transfer is no progress, even if that was noted in the journal.
	if err := setMeta(s.log.f, 0o600, nanos(touched)); err != nil {
		d.log.Warn("cannot keep the time of last progress", "transfer", name, "error", err)
	}
	s.written.Store(s.acct.staged.Load()) // until Begin counts anew
	s.held.Store(s.acct.staged.Load())
	return s, nil
}

func newLoader(s *stage) *loader {
	return &loader{s: s, boots: map[string]bool{}, intents: map[nodeID]intent{}}
}

func (l *loader) read() error {
	s := l.s
	if s.log == nil {
		return nil
	}
	st, err := s.log.f.Stat()
	if err != nil {
		return transfer.Errorf(transfer.Internal, "read journal", "", "%w", err)
	}
	if st.Size() < logHeader {
		return nil
	}
	good, err := replay(s.log.f, l.record)
	if err != nil {
		return err
	}
	if good < st.Size() {
		s.d.log.Warn("the journal was cut at its first bad record", "transfer", s.spec.ID.String(), "kept", good, "cut", st.Size()-good)
		if err := errors.Join(s.log.f.Truncate(good), s.log.f.Sync()); err != nil {
			return transfer.Errorf(transfer.Internal, "cut journal", "", "%w", err)
		}
	}
	return nil
}

func (l *loader) record(kind byte, payload []byte) error {
	s, r := l.s, reader{b: payload}
	switch kind {
	case recSpec:
		if err := json.Unmarshal(payload, &s.spec); err != nil {
			r.bad = true
		}
	case recBoot:
		l.boots[string(payload)] = true
	case recBegin:
		epoch := r.uint()
		var opts transfer.Options
		if err := json.Unmarshal(r.b, &opts); err != nil || r.bad {
			r.bad = true
			break
		}
		s.begin(transfer.Epoch(epoch), opts)
		l.order, l.left = nil, 0
	case recEntries:
		for r.more() {
			l.node(&r)
		}
	case recSeal:
		l.seal(&r)
	case recChunks:
		l.chunks(&r)
	case recSmall:
		l.small(&r)
	case recDrop:
		for r.more() {
			if id, ok := l.id(&r); ok {
				s.dropNode(id)
			}
		}
	case recForget:
		if id, ok := l.id(&r); ok {
			h := r.ranges()
			n := s.t.at(id)
			if h.Validate(transfer.Chunks(n.size, n.chunkSize())) != nil {
				r.bad = true
				break
			}
			s.forget(n, s.large[id], h)
		}
	case recFinish:
		if id, ok := l.id(&r); ok {
			size, hash := r.int(), r.string()
			if lg := s.large[id]; lg != nil && size >= 0 && !r.bad && len(hash) <= lg.hashSize {
				s.finish(s.t.at(id), lg, size, []byte(hash))
			} else {
				r.bad = true
			}
		}
	case recIntent:
		l.readIntents(&r)
	case recCommitted:
		l.committed = true
	case recPoison:
		l.poison = true
	}
	if r.bad {
		return transfer.Errorf(transfer.Internal, "read journal", s.spec.ID.String(), "a record of type %d with a good checksum makes no sense", kind)
	}
	return nil
}

// id reads a node that exists.
func (l *loader) id(r *reader) (nodeID, bool) {
	id := r.uint32()
	if r.bad || id == 0 || id >= l.s.t.count {
		r.bad = true
		return 0, false
	}
	return nodeID(id), true
}

func (l *loader) node(r *reader) {
	s, rec := l.s, r.node()
	if r.bad || rec.id == 0 || rec.id > s.t.count || rec.parent >= rec.id || len(rec.name) == 0 || len(rec.name) > transfer.MaxElement || s.t.count >= maxNodes {
		r.bad = true
		return
	}
	id := s.t.intern(nodeID(rec.parent), rec.name)
	if uint32(id) != rec.id {
		r.bad = true
		return
	}
	if rec.implicit {
		s.dropNode(id)
		return
	}
	same := s.t.same(id, &rec.entry)
	if same && s.t.at(id).mode != uint16(rec.entry.Mode) {
		s.t.at(id).flags |= flagMeta
	}
	s.describe(id, &rec.entry, same)
}

func (l *loader) seal(r *reader) {
	if l.left == 0 {
		l.order = l.order[:0]
	}
	if n := r.uint(); n > 0 {
		if n > maxNodes {
			r.bad = true
			return
		}
		l.order, l.left = make([]nodeID, 0, n), int(n)
	}
	last := int64(0)
	for r.more() {
		last += r.int()
		if last <= 0 || last >= int64(l.s.t.count) || l.left == 0 {
			r.bad = true
			return
		}
		l.order = append(l.order, nodeID(last))
		l.left--
	}
}

func (l *loader) chunks(r *reader) {
	id, ok := l.id(r)
	if !ok {
		return
	}
	first, count, octets := r.uint32(), r.uint32(), int64(r.uint()) //nolint:gosec // checked below
	lg := l.s.large[id]
	if lg == nil || count == 0 || len(r.b) != int(count)*lg.hashSize || octets < 0 || octets > int64(count)*lg.chunkSize {
		r.bad = true
		return
	}
	lg.mu.Lock()
	defer lg.mu.Unlock()
	if lg.size >= 0 && uint64(first)+uint64(count) > uint64(transfer.Chunks(lg.size, lg.chunkSize)) {
		r.bad = true
		return
	}
	if missing := int64(count)*lg.chunkSize - octets; lg.size < 0 && missing > 0 {
		lg.short, lg.shortLen = first+count-1, lg.chunkSize-missing
	}
	for i := range count {
		hash := r.bytes(uint64(lg.hashSize)) //nolint:gosec // small
		if lg.stateOf(first+i) == held {
			continue
		}
		copy(lg.hashOf(first+i), hash)
		lg.setState(first+i, held)
		n := lg.length(first + i)
		lg.octets += n
		lg.held += n
		l.s.acct.move(0, 0, n)
	}
}

func (l *loader) small(r *reader) {
	s := l.s
	for r.more() {
		id, ok := l.id(r)
		if !ok {
			return
		}
		hash := r.bytes(uint64(s.hashSize)) //nolint:gosec // small
		n := s.t.at(id)
		if r.bad || !n.small() {
			r.bad = true
			return
		}
		s.t.needHash(id, s.hashSize)
		copy(s.t.hash(id, s.hashSize), hash)
		if n.state.Swap(held) != held {
			s.acct.move(0, 0, n.size)
		}
	}
}

// settle brings the stage to where its journal left it, checks what a crash of
// the machine may have broken, and notes this boot.
func (l *loader) settle(ctx context.Context) error {
	s := l.s
	name := s.spec.ID.String()
	for _, lg := range s.large { // what was short belongs to a file that never ended
		lg.looked = false
	}
	if l.left == 0 && len(l.order) > 0 {
		l.restoreOrder()
	}
	_, poisoned := s.d.poisoned.Load(s.spec.ID)
	other := l.poison || poisoned
	for b := range l.boots {
		other = other || b != s.d.boot
	}
	s.intents, s.committed = l.intents, l.committed
	text, err := readFile(s.dir, publishName)
	switch {
	case err == nil:
		s.marked = true
		if err := s.readMarker(text); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return transfer.Errorf(transfer.Internal, "open transfer", name, "%w", err)
	}
	if other && !s.marked {
		if err := s.verifyHeld(ctx); err != nil {
			return err
		}
	}
	if !l.boots[s.d.boot] {
		s.log.append(recBoot, []byte(s.d.boot))
		if err := s.log.sync(); err != nil {
			return s.fault("open transfer", name, err)
		}
	}
	s.d.poisoned.Delete(s.spec.ID)
	return nil
}

// restoreOrder marks the entries of the sealed manifest, as Add and Seal did.
func (l *loader) restoreOrder() {
	s := l.s
	s.order, s.sealed = l.order, true
	for i, id := range s.order {
		n := s.t.at(id)
		n.flags |= flagNow
		n.index = uint32(i) //nolint:gosec // bounded by maxNodes
		for p := n.parent; !s.t.at(p).has(flagParent); p = s.t.at(p).parent {
			s.t.at(p).flags |= flagParent
		}
		e := s.t.entry(id)
		if n.has(flagUnknown) {
			e.Size = transfer.UnknownSize // as it was offered
		}
		s.hasher.Add(&e)
		s.declared += max(0, e.Size)
	}
	s.hash = s.hasher.Sum()
}

// verifyHeld hashes again what the journal calls held: after a crash of the
// machine or of the disk only that proves it. What differs is no longer held.
func (s *stage) verifyHeld(ctx context.Context) error {
	group, gctx := errgroup.WithContext(ctx)
	work := make(chan nodeID)
	var mu sync.Mutex
	bad := map[nodeID]transfer.Held{}
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() error {
			for id := range work {
				if h := s.differing(gctx, id); len(h) > 0 {
					mu.Lock()
					bad[id] = h
					mu.Unlock()
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(work)
		for id := nodeID(1); id < nodeID(s.t.count); id++ {
			n := s.t.at(id)
			if (n.small() && n.state.Load() == held) || s.large[id] != nil {
				select {
				case work <- id:
				case <-gctx.Done():
					return canceled(gctx.Err())
				}
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return canceled(err)
	}
	return s.dropBad(bad)
}

func (s *stage) dropBad(bad map[nodeID]transfer.Held) error {
	ids := make([]nodeID, 0, len(bad))
	for id := range bad {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		h := bad[id]
		s.d.log.Warn("chunks on disk differ from the journal and are dropped", "transfer", s.spec.ID.String(), "path", transfer.Quote(s.t.path(id)), "chunks", h.Count())
		s.log.append(recForget, appendForget(id, h))
		s.forget(s.t.at(id), s.large[id], h)
	}
	if err := s.log.sync(); err != nil {
		return s.fault("read staged files", "", err)
	}
	return nil
}

// differing returns the held chunks of a node that are not as journalled.
func (s *stage) differing(ctx context.Context, id nodeID) (bad transfer.Held) {
	n, l := s.t.at(id), s.large[id]
	a, only := s.spec.Options.Algorithm, n.small()
	all := transfer.Held{{First: 0, Count: 1}}
	if l != nil {
		all = l.ranges(held)
		only = l.size >= 0 && l.size <= l.chunkSize
	}
	if len(all) == 0 {
		return nil
	}
	f, err := s.openStaged(id, os.O_RDONLY)
	if err != nil {
		return all
	}
	defer f.Close() // only read
	for _, r := range all {
		for i := range r.Count {
			if ctx.Err() != nil {
				return nil
			}
			var want []byte
			size, off := n.size, int64(0)
			if l != nil {
				l.mu.Lock()
				want, size, off = bytes.Clone(l.hashOf(r.First+i)), l.length(r.First+i), int64(r.First+i)*l.chunkSize
				l.mu.Unlock()
			} else {
				want = s.t.hash(id, s.hashSize)
			}
			got, err := hashChunk(f, a, r.First+i, n.chunkSize(), off, size, only)
			if err != nil || !bytes.Equal(got, want) {
				bad = bad.Add(r.First + i)
			}
		}
	}
	return bad
}

// hashChunk hashes n octets of f from off. With an algorithm without hashes it
// checks only that they are there.
func hashChunk(f io.ReaderAt, a transfer.Algorithm, index uint32, chunkSize, off, n int64, only bool) ([]byte, error) {
	h := digest.NewChunk(a, index, chunkSize, only)
	m, err := io.CopyBuffer(struct{ io.Writer }{h}, io.NewSectionReader(f, off, n), make([]byte, pieceSize))
	if err != nil {
		return nil, err
	}
	if m != n {
		return nil, fmt.Errorf("%d octets, want %d: %w", m, n, io.ErrUnexpectedEOF)
	}
	return h.Sum(nil), nil
}
