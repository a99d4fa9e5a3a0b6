package store

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// marker is the content of the file "publish". From its existence on the
// transfer can only be published to its end.
type marker struct {
	Version int
	Base    transfer.Receipt
}

func (s *stage) readMarker(text []byte) error {
	var m marker
	if err := json.Unmarshal(text, &m); err != nil || m.Version > tombVersion {
		return transfer.Errorf(transfer.Internal, "read publishing marker", s.spec.ID.String(), "format %d: %w", m.Version, err)
	}
	s.base = m.Base
	return nil
}

// Publish publishes a complete transfer.
//
// Order: everything staged is durable → marker → for each batch of names INTENT
// in the journal, renames → directories durable → modes and times of directories,
// bottom-up → receipt → COMMITTED → tombstone. Each step can be repeated after a
// crash, so recovery is the same code.
func (s *stage) Publish(ctx context.Context, base transfer.Receipt, sign func(*transfer.Receipt) error) (*transfer.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, canceled(err)
	}
	s.op.Lock()
	defer s.op.Unlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	if !s.sealed {
		return nil, transfer.Errorf(transfer.Invalid, "publish", "", "the manifest is not complete")
	}
	if m := s.Missing(1); len(m) > 0 {
		return nil, transfer.Errorf(transfer.Invalid, "publish", s.path(s.order[m[0]]), "it lacks chunks")
	}
	if _, err := s.checkpoint(); err != nil {
		return nil, err
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	p, err := s.newPublisher()
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.single(); err != nil {
		return nil, err
	}
	s.base = base
	if err := s.writeMarker(); err != nil {
		return nil, err
	}
	r, err := p.finish(sign)
	if err != nil {
		return nil, err
	}
	s.end()
	return r, nil
}

func (s *stage) writeMarker() error {
	const unfinished = publishName + ".new" // a marker is there whole or not at all
	err := writeFile(s.dir, unfinished, func(w io.Writer) error {
		return json.NewEncoder(w).Encode(marker{Version: tombVersion, Base: s.base})
	})
	if err == nil {
		err = s.dir.rename(unfinished, s.dir, publishName, true)
	}
	if err = errors.Join(err, s.dir.sync()); err != nil {
		return s.fault("begin publishing", "", err)
	}
	s.marked = true
	return nil
}

// end takes a published or discarded stage out of use.
func (s *stage) end() {
	s.closed = true
	s.acct.clear()
	_ = s.closeFiles()
	s.d.forget(s.spec.ID)
	s.d.trash(s.spec.ID)
}

// trash removes a stage whose tombstone is durable.
func (d *Disk) trash(id transfer.ID) {
	name := trashName + "-" + id.String()
	err := d.private.rename(id.String(), d.private, name, false)
	if err == nil {
		err = d.private.removeAll(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("cannot remove the stage of a finished transfer; it is tried again at the next start", "transfer", id.String(), "error", err)
	}
}

// resumePublish finishes what a crash interrupted. The caller holds d.mu, and
// the stage is not registered.
func (s *stage) resumePublish(context.Context) error {
	s.op.Lock()
	defer s.op.Unlock()
	s.d.log.Info("finishing a publishing that was interrupted", "transfer", s.spec.ID.String())
	p, err := s.newPublisher()
	if err != nil {
		return err
	}
	defer p.close()
	if s.committed {
		err = p.bury()
	} else {
		_, err = p.finish(s.d.cfg.Sign)
	}
	if err != nil {
		return err
	}
	s.closed = true
	s.acct.clear()
	_ = s.closeFiles()
	s.d.trash(s.spec.ID)
	return nil
}

// prepare makes what has no chunks, gives files their final modes and times, and
// makes all of it durable. It may run again.
func (s *stage) prepare() error {
	many := 0
	for _, id := range s.order {
		n := s.t.at(id)
		if n.has(flagSkip) {
			continue
		}
		touched, err := s.prepareNode(id, n)
		if err != nil {
			if isFull(err) {
				return transfer.Errorf(transfer.NoSpace, "publish", s.path(id), "%w", err).WithHint("make room on the receiver's disk, then send again: nothing that arrived is lost")
			}
			return s.fault("publish", s.path(id), err)
		}
		if touched {
			many++
		}
	}
	s.dirtyMu.Lock()
	d := s.dirty
	s.dirty = dirtySet{}
	s.dirtyMu.Unlock()
	var err error
	switch {
	case many+len(d.dirs) == 0:
		return nil
	case many+len(d.dirs) > syncFew:
		err = s.dir.syncAll()
	default:
		err = s.syncPrepared(&d)
	}
	if err != nil {
		return s.fault("sync files", "", err)
	}
	return nil
}

// syncPrepared syncs the few files that prepareNode touched.
func (s *stage) syncPrepared(d *dirtySet) error {
	for _, id := range s.order {
		n := s.t.at(id)
		if n.has(flagSkip) || n.typ() != transfer.Regular || (n.small() && !n.has(flagMeta)) {
			continue
		}
		f, err := s.openStaged(id, os.O_RDONLY)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return s.syncDirty(&dirtySet{dirs: d.dirs})
}

func (s *stage) prepareNode(id nodeID, n *node) (bool, error) {
	switch {
	case n.typ() == transfer.Directory:
		h, err := s.tree.get(id)
		if err == nil {
			s.tree.put(h)
		}
		return false, err
	case n.small() && !n.has(flagMeta):
		return false, nil
	case n.size > 0:
		f, err := s.openStaged(id, os.O_RDONLY)
		if err != nil {
			return false, err
		}
		defer f.Close() // synced by a later call
		perm, _ := s.perm(n)
		return true, setMeta(f, perm, n.mtime)
	}
	parent := n.parent
	h, err := s.tree.get(parent)
	if err != nil {
		return false, err
	}
	defer s.tree.put(h)
	s.newName(parent)
	name := s.t.name(id)
	if n.typ() == transfer.Symlink {
		err := h.symlink(s.t.links[id], name)
		if errors.Is(err, fs.ErrExist) {
			if err = h.removeAll(name); err == nil {
				err = h.symlink(s.t.links[id], name)
			}
		}
		if err == nil {
			err = h.setLinkTime(name, n.mtime)
		}
		return true, err
	}
	if err := h.removeAll(name); err != nil {
		return false, err
	}
	perm, chmod := s.perm(n)
	return true, h.writeNew(name, perm, chmod, n.mtime, nil)
}

// receipt fills in what the store knows, and writes the list of files to w.
func (p *publisher) receipt(w io.Writer) (*transfer.Receipt, error) {
	s := p.s
	r := s.base
	r.Counts = map[string]int64{}
	r.FileCount, r.Bytes, r.Files = int64(len(s.order)), 0, nil
	r.Durable = !s.d.memory
	r.Committed = s.d.now()
	bw := bufio.NewWriterSize(w, 1<<18)
	var b []byte
	all := newBackgroundDigest()
	defer all.sum()
	for i, id := range s.order {
		f, err := p.file(uint32(i), id) //nolint:gosec // bounded by maxNodes
		if err != nil {
			return nil, err
		}
		r.Counts[f.Outcome.String()]++
		r.Bytes += f.Size
		if len(s.order) <= transfer.InlineFiles {
			r.Files = append(r.Files, f)
		}
		all.add(&f)
		b = appendFile(b[:0], &f)
		if _, err := bw.Write(b); err != nil {
			return nil, err
		}
	}
	r.FilesDigest = all.sum()
	return &r, bw.Flush()
}

// backgroundDigest computes a FilesDigest beside what makes the files: that is a
// third of the time that a receipt of many files takes.
type backgroundDigest struct {
	batch      []transfer.FileReceipt
	full, free chan []transfer.FileReceipt
	done       chan transfer.Digest
	result     transfer.Digest
}

func newBackgroundDigest() *backgroundDigest {
	const files = 256 // enough to be worth a switch between threads
	d := &backgroundDigest{
		full: make(chan []transfer.FileReceipt, 1), free: make(chan []transfer.FileReceipt, 2),
		done: make(chan transfer.Digest, 1), batch: make([]transfer.FileReceipt, 0, files),
	}
	d.free <- make([]transfer.FileReceipt, 0, files)
	go func() {
		var all transfer.FilesDigest
		for batch := range d.full {
			for i := range batch {
				all.Add(&batch[i])
			}
			d.free <- batch[:0]
		}
		d.done <- all.Sum()
	}()
	return d
}

func (d *backgroundDigest) add(f *transfer.FileReceipt) {
	if d.batch = append(d.batch, *f); len(d.batch) == cap(d.batch) {
		d.full <- d.batch
		d.batch = <-d.free
	}
}

// sum ends the work and returns the digest, also when asked again.
func (d *backgroundDigest) sum() transfer.Digest {
	if d.result.IsZero() {
		d.full <- d.batch
		close(d.full)
		d.result = <-d.done
	}
	return d.result
}

// file is the receipt's line for one entry.
func (p *publisher) file(index uint32, id nodeID) (transfer.FileReceipt, error) {
	s, n := p.s, p.s.t.at(id)
	f := transfer.FileReceipt{Index: index, Path: s.t.path(id), Type: n.typ().String(), Outcome: p.outcome(id), Size: n.size, Reason: p.reason(id)}
	if n.typ() == transfer.Regular && !n.has(flagSkip) {
		d, err := s.digest(id, n, s.large[id])
		if err != nil {
			return f, err
		}
		f.Digest = d
	}
	if len(p.names) > 0 {
		if final, other := p.finalPath(id); other {
			f.Published = path.Join(s.spec.Options.Into, final)
		}
	}
	return f, nil
}

// finalPath is the path of a node with the names that were chosen for it.
func (p *publisher) finalPath(id nodeID) (string, bool) {
	var parts []string
	other := false
	for i := id; i != 0; i = p.s.t.at(i).parent {
		name, ok := p.names[i]
		if !ok {
			name = p.s.t.name(i)
		}
		other = other || ok
		parts = append(parts, name)
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(parts[i])
	}
	return b.String(), other
}

// intent is a rename that was about to be made.
type intent struct {
	ino     uint64
	outcome transfer.Outcome
	name    string // final name, "" for its own
}

func appendIntent(b []byte, id nodeID, in intent) []byte {
	b = binary.AppendUvarint(b, uint64(id))
	b = binary.AppendUvarint(b, in.ino)
	b = append(b, byte(in.outcome))
	return appendString(b, in.name)
}

func (l *loader) readIntents(r *reader) {
	for r.more() {
		id, ok := l.id(r)
		if !ok {
			return
		}
		in := intent{ino: r.uint()}
		if b := r.bytes(1); len(b) == 1 {
			in.outcome = transfer.Outcome(b[0])
		}
		in.name = r.string()
		l.intents[id] = in
	}
}

// bury moves the finished tombstone to its place.
func (p *publisher) bury() error {
	s := p.s
	done, err := s.dir.sub(doneName)
	if err != nil {
		return err
	}
	defer done.close() // only read
	text, err := readFile(done, receiptName)
	if err != nil {
		return err
	}
	var f tombstoneFile
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("read receipt: %w", err)
	}
	return s.d.bury(s.dir, tombKey{f.Tombstone.Finished.UnixNano(), s.spec.ID})
}

// bury moves stage/done to done/<key>.
func (d *Disk) bury(stage *dir, k tombKey) error {
	err := stage.rename(doneName, d.done, k.name(), false)
	if err := errors.Join(err, d.done.sync()); err != nil {
		return err
	}
	d.tombs.add(k)
	return nil
}

// tombstone describes the stage at its end.
func (s *stage) tombstone(state transfer.State) Tombstone {
	now := s.d.now()
	info := transfer.Info{
		ID: s.spec.ID, State: state, Principal: s.spec.Principal, Label: s.spec.Options.Label, Into: s.spec.Options.Into, Epoch: s.epoch,
		Files: int64(len(s.order)), Bytes: s.declared, BytesAcked: s.written.Load(), BytesHeld: s.held.Load(), Created: s.spec.Created, Updated: now,
	}
	if len(s.order) > 0 {
		info.First = s.t.path(s.order[0])
	}
	return Tombstone{Spec: s.spec, Info: info, Finished: now, ManifestHash: s.hash}
}

// writeTombstone writes stage/done, durable: first the list of files, if any,
// then the tombstone, which may depend on what the list came to.
func (s *stage) writeTombstone(files func(io.Writer) error, tombstone func() *Tombstone) error {
	if err := s.dir.removeAll(doneName); err != nil {
		return err
	}
	done, err := s.dir.make(doneName)
	if err != nil {
		return err
	}
	defer done.close() // synced below
	if files != nil {
		if err := writeFile(done, filesName, files); err != nil {
			return err
		}
	}
	err = writeFile(done, receiptName, func(w io.Writer) error {
		return json.NewEncoder(w).Encode(tombstoneFile{Version: tombVersion, Tombstone: *tombstone()})
	})
	return errors.Join(err, done.sync(), s.dir.sync())
}

// Discard gives a transfer up.
func (s *stage) Discard(ctx context.Context, state transfer.State, cause error) error {
	if err := ctx.Err(); err != nil {
		return canceled(err)
	}
	if state != transfer.StateAborted && state != transfer.StateFailed {
		return transfer.Errorf(transfer.Invalid, "discard transfer", "", "%v is no state of a transfer that was given up", state)
	}
	s.op.Lock()
	defer s.op.Unlock()
	if s.closed {
		return s.usable()
	}
	t := s.tombstone(state)
	t.Info.Kind = transfer.KindOf(cause)
	if cause != nil {
		t.Info.Reason = cause.Error()
	}
	err := s.writeTombstone(nil, func() *Tombstone { return &t })
	if err == nil {
		err = s.d.bury(s.dir, tombKey{t.Finished.UnixNano(), s.spec.ID})
	}
	// The stage goes away even if nothing can be remembered of it.
	s.end()
	if err != nil {
		return transfer.Errorf(transfer.Internal, "discard transfer", s.spec.ID.String(), "%w", err)
	}
	return nil
}
