package store

import (
	"context"
	"encoding/binary"
	"errors"
	"os"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// syncFew is how many files and directories a checkpoint syncs one by one; above
// it one syncfs is cheaper than the journal commits of each (measured on ext4
// with 4 KiB files: 100,000 single fsyncs 144 s and more, one syncfs 5 s).
const syncFew = 8

// dirtySet is what was written since the last checkpoint.
type dirtySet struct {
	small []nodeID
	large []*large
	dirs  map[nodeID]struct{} // directories with new names
	last  nodeID              // the directory added last
	any   bool                // last is valid
}

func (s *stage) markSmall(id, parent nodeID) {
	s.dirtyMu.Lock()
	s.dirty.small = append(s.dirty.small, id)
	s.dirty.addDir(parent)
	s.dirtyMu.Unlock()
}

func (s *stage) markLarge(l *large) {
	s.dirtyMu.Lock()
	s.dirty.large = append(s.dirty.large, l)
	s.dirtyMu.Unlock()
}

// newName notes that a directory of the staged tree got a name.
func (s *stage) newName(parent nodeID) {
	s.dirtyMu.Lock()
	s.dirty.addDir(parent)
	s.dirtyMu.Unlock()
}

func (d *dirtySet) addDir(id nodeID) {
	if d.any && d.last == id {
		return
	}
	if d.dirs == nil {
		d.dirs = map[nodeID]struct{}{}
	}
	d.dirs[id] = struct{}{}
	d.last, d.any = id, true
}

// Checkpoint makes everything written so far held.
func (s *stage) Checkpoint(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, canceled(err)
	}
	return s.checkpoint()
}

// checkpoint syncs the data first, then journals what it holds, then syncs the
// journal: a journalled chunk is always on the disk.
func (s *stage) checkpoint() (int64, error) {
	s.check.Lock()
	defer s.check.Unlock()
	if err := s.poisoned(); err != nil {
		return 0, err
	}
	s.dirtyMu.Lock()
	d := s.dirty
	s.dirty = dirtySet{}
	s.dirtyMu.Unlock()
	if len(d.small)+len(d.large)+len(d.dirs) == 0 {
		return 0, nil
	}
	ranges := make([]transfer.Held, len(d.large))
	for i, l := range d.large {
		ranges[i] = l.take()
	}
	if err := s.syncDirty(&d); err != nil {
		return 0, s.fault("sync files", "", err)
	}
	s.journalSmall(d.small)
	for i, l := range d.large {
		s.journalLarge(l, ranges[i])
	}
	if err := s.log.sync(); err != nil {
		return 0, s.fault("sync journal", "", err)
	}
	n := s.holdSmall(d.small)
	for i, l := range d.large {
		n += l.hold(ranges[i])
	}
	s.held.Add(n)
	return n, nil
}

func (s *stage) syncDirty(d *dirtySet) error {
	if len(d.small)+len(d.large)+len(d.dirs) > syncFew {
		return s.dir.syncAll()
	}
	for _, l := range d.large {
		if err := s.syncLarge(l); err != nil {
			return err
		}
	}
	for _, id := range d.small {
		f, err := s.openStaged(id, os.O_RDWR)
		if err != nil {
			return err
		}
		// fsync and not fdatasync: mode and times were set at writing.
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	for id := range d.dirs {
		h, err := s.tree.get(id)
		if err != nil {
			return err
		}
		err = h.sync()
		s.tree.put(h)
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) syncLarge(l *large) error {
	f, err := s.openLarge(l)
	if err != nil {
		return err
	}
	defer s.files.put(f)
	return syncData(f.File)
}

// journalSmall appends one record for many files of one chunk: node and hash
// each.
func (s *stage) journalSmall(ids []nodeID) {
	const most = 1 << 20
	each := binary.MaxVarintLen32 + s.hashSize
	b := make([]byte, 0, min(len(ids)*each, most+each))
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, id := range ids {
		b = binary.AppendUvarint(b, uint64(id))
		b = append(b, s.t.hash(id, s.hashSize)...)
		if len(b) > most {
			s.log.append(recSmall, b)
			b = b[:0]
		}
	}
	if len(b) > 0 {
		s.log.append(recSmall, b)
	}
}

// journalLarge appends the ranges of one file with their hashes.
func (s *stage) journalLarge(l *large, h transfer.Held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range h {
		for r.Count > 0 {
			n := min(r.Count, 16384) // 512 KiB of hashes a record
			b := binary.AppendUvarint(nil, uint64(l.id))
			b = binary.AppendUvarint(b, uint64(r.First))
			b = binary.AppendUvarint(b, uint64(n))
			b = binary.AppendUvarint(b, uint64(l.lengths(r.First, n))) //nolint:gosec // positive
			for i := range n {
				b = append(b, l.hashOf(r.First+i)...)
			}
			s.log.append(recChunks, b)
			r.First += n
			r.Count -= n
		}
	}
}

// lengths sums the lengths of chunks. The caller holds mu.
func (l *large) lengths(first, count uint32) (n int64) {
	for i := range count {
		n += l.length(first + i)
	}
	return n
}

func (s *stage) holdSmall(ids []nodeID) (n int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, id := range ids {
		nd := s.t.at(id)
		nd.state.Store(held)
		n += nd.size
	}
	return n
}

func (l *large) hold(h transfer.Held) (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range h {
		for i := range r.Count {
			l.setState(r.First+i, held)
		}
		n += l.lengths(r.First, r.Count)
	}
	l.held += n
	return n
}
