package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

const (
	journalName = "journal"
	treeName    = "tree"
	publishName = "publish" // what Publish was asked for, once it began
)

// stage is one unfinished transfer on disk.
//
// Locks, in the order in which they are taken: op (one caller at a time of what
// changes the manifest or publishes), check (one checkpoint), mu (the table),
// dirtyMu. Writers of chunks take mu only to read and hold it for no I/O.
type stage struct {
	d    *Disk
	dir  *dir // .sluice/<id>
	tree *dirTree
	log  *journal
	spec Spec // Options are those of the epoch; guarded by mu

	op     sync.Mutex
	closed bool // parked, published or discarded
	sealed bool
	marked bool // publishing had begun when the stage was loaded
	hasher *ManifestHasher

	// Of an interrupted publishing, as the journal and its marker say.
	intents   map[nodeID]intent
	committed bool
	base      transfer.Receipt

	mu       sync.RWMutex
	t        *table
	order    []nodeID // by index of this epoch
	large    map[nodeID]*large
	epoch    transfer.Epoch
	declared int64 // octets of this epoch's entries
	hash     [32]byte
	hashSize int

	acct    account
	written atomic.Int64 // octets of this epoch's entries
	held    atomic.Int64
	poison  atomic.Pointer[transfer.Error]

	check   sync.Mutex
	dirtyMu sync.Mutex
	dirty   dirtySet
	files   openFiles
}

func (d *Disk) createStage(spec *Spec) (_ *stage, err error) {
	name := spec.ID.String()
	fail := func(err error) error {
		if isFull(err) {
			return transfer.Errorf(transfer.NoSpace, "begin transfer", name, "%w", err).WithHint("make room on the receiver's disk")
		}
		return transfer.Errorf(transfer.Internal, "begin transfer", name, "%w", err)
	}
	if err := d.private.mkdir(name, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, transfer.Errorf(transfer.Exists, "begin transfer", name, "it is unfinished on disk")
		}
		return nil, fail(err)
	}
	defer func() {
		if err != nil {
			_ = d.private.removeAll(name)
		}
	}()
	s := d.newStage(*spec)
	if s.dir, err = d.private.sub(name); err != nil {
		return nil, fail(err)
	}
	defer func() {
		if err != nil {
			_ = s.closeFiles()
		}
	}()
	f, err := s.dir.file(journalName, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fail(err)
	}
	s.log = newJournal(f)
	s.log.buf = journalHeader()
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, fail(err)
	}
	s.log.append(recSpec, text)
	s.log.append(recBoot, []byte(d.boot))
	if err := s.openTree(); err != nil {
		return nil, fail(err)
	}
	if err := errors.Join(s.log.sync(), s.dir.sync(), d.private.sync()); err != nil {
		return nil, fail(err)
	}
	return s, nil
}

func (d *Disk) newStage(spec Spec) *stage {
	s := &stage{d: d, spec: spec, t: newTable(), large: map[nodeID]*large{}, hasher: NewManifestHasher()}
	s.acct.up = &d.acct
	return s
}

func (s *stage) openTree() error {
	t, err := s.dir.make(treeName)
	if err != nil {
		return err
	}
	s.tree = newDirTree(s.locate, t, true)
	s.tree.created = s.newName
	return nil
}

// Spec returns what the transfer was made with and the epoch's options.
func (s *stage) Spec() Spec {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.spec
}

// Epoch is the epoch last begun.
func (s *stage) Epoch() transfer.Epoch {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.epoch
}

// Entries is how many entries were added in this epoch.
func (s *stage) Entries() uint32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return uint32(len(s.order)) //nolint:gosec // bounded by maxNodes
}

// usable is asked under op before anything is changed.
func (s *stage) usable() error {
	if s.closed {
		return transfer.Errorf(transfer.Unavailable, "use transfer", s.spec.ID.String(), "its stage is closed")
	}
	return s.poisoned()
}

func (s *stage) poisoned() error {
	if e := s.poison.Load(); e != nil {
		return e
	}
	return nil
}

// fault poisons the stage: what is not journalled is given up, and what is
// will be hashed again when the stage is opened anew.
func (s *stage) fault(op, path string, err error) error {
	kind, hint := transfer.Internal, "look into the receiver's kernel log; the transfer can be resumed once the disk is sound"
	if isFull(err) {
		kind, hint = transfer.NoSpace, "make room on the receiver's disk, then resume the transfer"
	}
	e := transfer.Errorf(kind, op, path, "the disk failed: %w", err).WithHint("%s", hint)
	if s.poison.CompareAndSwap(nil, e) {
		s.d.log.Error("the disk failed; the transfer stops until it is resumed", "transfer", s.spec.ID.String(), "operation", op, "path", transfer.Quote(path), "error", err)
		s.d.poisoned.Store(s.spec.ID, true)
	}
	return e
}

// Begin starts an epoch.
func (s *stage) Begin(ctx context.Context, epoch transfer.Epoch, opts transfer.Options) error {
	if err := ctx.Err(); err != nil {
		return canceled(err)
	}
	s.op.Lock()
	defer s.op.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if epoch <= s.epoch {
		return transfer.Errorf(transfer.Fenced, "begin epoch", "", "epoch %d is not after %d", epoch, s.epoch)
	}
	if opts.Into != "" {
		if _, err := transfer.ParsePath(opts.Into, opts.Names); err != nil {
			return err
		}
	}
	if s.epoch > 0 && opts.Algorithm != s.spec.Options.Algorithm {
		if err := s.dropAll(); err != nil {
			return err
		}
	}
	if _, err := s.checkpoint(); err != nil {
		return err
	}
	text, err := json.Marshal(opts)
	if err != nil {
		return transfer.Errorf(transfer.Internal, "begin epoch", "", "%w", err)
	}
	s.log.append(recBegin, append(binary.AppendUvarint(nil, uint64(epoch)), text...))
	if err := s.log.sync(); err != nil {
		return s.fault("begin epoch", "", err)
	}
	s.mu.Lock()
	s.begin(epoch, opts)
	s.mu.Unlock()
	return nil
}

// begin resets what belongs to an epoch. The caller holds mu.
func (s *stage) begin(epoch transfer.Epoch, opts transfer.Options) {
	s.epoch, s.spec.Options = epoch, opts
	s.hashSize = digest.HashSize(opts.Algorithm)
	for id := range nodeID(s.t.count) {
		s.t.at(id).flags &^= flagNow | flagParent | flagSkip | flagLook | flagThere
	}
	s.order, s.declared, s.sealed = nil, 0, false
	s.hasher = NewManifestHasher()
	s.written.Store(0)
	s.held.Store(0)
	s.acct.move(-s.acct.promised.Load(), 0, 0)
}

// lookup finds a file of this epoch. The node's own fields but state are
// constant while the epoch lives.
func (s *stage) lookup(file uint32) (nodeID, *node, *large, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if uint64(file) >= uint64(len(s.order)) {
		return 0, nil, nil, transfer.Errorf(transfer.Invalid, "find file", "", "file %d is not in the manifest of %d entries", file, len(s.order))
	}
	id := s.order[file]
	n := s.t.at(id)
	if n.large() {
		return id, n, s.large[id], nil
	}
	return id, n, nil, nil
}

// path names a node for people.
func (s *stage) path(id nodeID) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.t.path(id)
}

// Entry returns an entry of this epoch and its state.
func (s *stage) Entry(file uint32) (transfer.Entry, FileState, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if uint64(file) >= uint64(len(s.order)) {
		return transfer.Entry{}, FileState{}, false
	}
	id := s.order[file]
	return s.t.entry(id), s.fileState(id), true
}

// Shape returns what moving an entry depends on.
func (s *stage) Shape(file uint32) (Shape, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if uint64(file) >= uint64(len(s.order)) {
		return Shape{}, false
	}
	id := s.order[file]
	n := s.t.at(id)
	sh := Shape{Type: n.typ(), Size: n.size, ChunkSize: n.chunkSize(), Skip: n.has(flagSkip)}
	if n.unknown() {
		sh.Size = transfer.UnknownSize
	}
	if len(s.t.expected) > 0 {
		sh.Expected = s.t.expected[id]
	}
	return sh, true
}

// fileState is called with mu held.
func (s *stage) fileState(id nodeID) FileState {
	n := s.t.at(id)
	st := FileState{ChunkSize: n.chunkSize(), Skip: n.has(flagSkip)}
	switch {
	case n.small() && n.state.Load() == held:
		st.Held = transfer.Held{{First: 0, Count: 1}}
	case n.large():
		st.Held = s.large[id].ranges(held)
	}
	return st
}

// Written reports whether the chunk is written or held.
func (s *stage) Written(file, chunk uint32) bool {
	_, n, l, err := s.lookup(file)
	switch {
	case err != nil:
		return false
	case l != nil:
		return l.state(chunk) >= written
	default:
		return n.small() && chunk == 0 && n.state.Load() >= written
	}
}

// Progress returns octets written and held of this epoch's entries.
func (s *stage) Progress() (int64, int64) { return s.written.Load(), s.held.Load() }

// ManifestHash identifies the manifest added so far.
func (s *stage) ManifestHash() [32]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.hash
}

// Park syncs what is dirty and closes descriptors. Parking twice does nothing.
func (s *stage) Park(ctx context.Context) error {
	s.op.Lock()
	defer s.op.Unlock()
	if s.closed {
		return nil
	}
	var err error
	if s.poisoned() == nil {
		_, err = s.checkpoint()
	}
	s.closed = true
	s.acct.clear()
	err = errors.Join(err, s.closeFiles())
	s.d.forget(s.spec.ID)
	_ = ctx // parking is bounded by one checkpoint and must not be cut
	return err
}

func (s *stage) closeFiles() error {
	s.files.closeAll()
	if s.tree != nil {
		s.tree.closeAll()
	}
	var err error
	if s.log != nil {
		err = s.log.f.Close()
	}
	if s.dir != nil {
		_ = s.dir.close()
	}
	return err
}

// OpenStaged opens a complete staged file for reading.
func (s *stage) OpenStaged(file uint32) (io.ReadCloser, string, error) {
	id, n, l, err := s.lookup(file)
	if err != nil {
		return nil, "", err
	}
	path := s.path(id)
	if !s.complete(n, l) || n.typ() != transfer.Regular {
		return nil, path, transfer.Errorf(transfer.Invalid, "read staged file", path, "it is not complete")
	}
	if n.size == 0 {
		return io.NopCloser(eofReader{}), path, nil
	}
	f, err := s.openStaged(id, os.O_RDONLY)
	if err != nil {
		return nil, path, transfer.Errorf(transfer.Internal, "read staged file", path, "%w", err)
	}
	return f, path, nil
}

type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }

func (s *stage) openStaged(id nodeID, flag int) (*os.File, error) {
	h, err := s.tree.get(s.parent(id))
	if err != nil {
		return nil, err
	}
	defer s.tree.put(h)
	return h.file(s.name(id), flag, 0)
}

// locate tells a tree of directories where a node belongs.
func (s *stage) locate(id nodeID) (nodeID, string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.t.at(id).parent, s.t.name(id)
}

func (s *stage) parent(id nodeID) nodeID {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.t.at(id).parent
}

func (s *stage) name(id nodeID) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.t.name(id)
}
