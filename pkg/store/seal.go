package store

import (
	"context"
	"encoding/binary"
	"os"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Seal completes the manifest and drops what did not come again.
func (s *stage) Seal(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return canceled(err)
	}
	s.op.Lock()
	defer s.op.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if s.epoch == 0 {
		return transfer.Errorf(transfer.Invalid, "seal manifest", "", "no epoch has begun")
	}
	if s.sealed {
		return nil
	}
	var gone []nodeID
	for id := nodeID(1); id < nodeID(s.t.count); id++ {
		if n := s.t.at(id); !n.has(flagNow) && (n.has(flagSet) || !n.has(flagParent)) {
			gone = append(gone, id)
		}
	}
	s.logDrop(gone)
	s.logOrder()
	if err := s.log.sync(); err != nil {
		return s.fault("seal manifest", "", err)
	}
	s.mu.Lock()
	for _, id := range gone {
		s.dropNode(id)
	}
	s.mu.Unlock()
	s.sealed = true
	for i := len(gone) - 1; i >= 0; i-- { // children come after their parents
		if s.node(gone[i]).has(flagParent) {
			continue // a directory of this epoch, no entry of its own any more
		}
		s.removeStaged(gone[i])
	}
	return nil
}

// logOrder writes the nodes of the manifest in order, as differences.
func (s *stage) logOrder() {
	b := binary.AppendUvarint(nil, uint64(len(s.order)))
	last := int64(0)
	for _, id := range s.order {
		b = binary.AppendVarint(b, int64(id)-last)
		last = int64(id)
		if len(b) > 4<<20 {
			s.log.append(recSeal, b)
			b = binary.AppendUvarint(b[:0], 0)
			last = 0
		}
	}
	s.log.append(recSeal, b)
}

// dropAll forgets all chunks, durably: another algorithm was chosen.
func (s *stage) dropAll() error {
	var all []nodeID
	for id := nodeID(1); id < nodeID(s.t.count); id++ {
		all = append(all, id)
	}
	s.check.Lock()
	s.dirtyMu.Lock()
	s.dirty = dirtySet{}
	s.dirtyMu.Unlock()
	s.check.Unlock()
	s.logDrop(all)
	if err := s.log.sync(); err != nil {
		return s.fault("drop files", "", err)
	}
	s.mu.Lock()
	for _, id := range all {
		s.dropNode(id)
	}
	for _, p := range s.t.pages {
		p.hashes = nil
	}
	s.mu.Unlock()
	for i := len(all) - 1; i >= 0; i-- {
		s.removeStaged(all[i])
	}
	return nil
}

// complete reports whether a node has all its chunks written.
func (s *stage) complete(n *node, l *large) bool {
	switch {
	case n.has(flagSkip):
		return true
	case l != nil:
		return l.complete()
	case n.small():
		return n.state.Load() >= written
	default:
		return true
	}
}

// Missing returns up to limit files that lack chunks; a limit of 0 or less
// means all.
func (s *stage) Missing(limit int) []uint32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []uint32
	for i, id := range s.order {
		if n := s.t.at(id); !s.complete(n, s.large[id]) {
			list = append(list, uint32(i)) //nolint:gosec // bounded by maxNodes
			if len(list) == limit {
				break
			}
		}
	}
	return list
}

// Digest computes the digest of a complete file.
func (s *stage) Digest(file uint32) (transfer.Digest, error) {
	id, n, l, err := s.lookup(file)
	if err != nil {
		return transfer.Digest{}, err
	}
	d, err := s.digest(id, n, l)
	if err != nil {
		return transfer.Digest{}, err
	}
	return d, nil
}

func (s *stage) digest(id nodeID, n *node, l *large) (transfer.Digest, error) {
	a := s.algorithm()
	if n.typ() != transfer.Regular || !s.complete(n, l) || n.has(flagSkip) {
		return transfer.Digest{}, transfer.Errorf(transfer.Invalid, "compute digest", s.path(id), "it is no complete file of this transfer")
	}
	if l == nil {
		s.mu.RLock()
		defer s.mu.RUnlock()
		if n.size == 0 {
			return digest.Root(a, 0, transfer.MinChunkSize, nil), nil
		}
		return digest.Root(a, n.size, n.chunkSize(), s.t.hash(id, s.hashSize)), nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return digest.Root(a, l.size, l.chunkSize, l.hashes(0, transfer.Chunks(l.size, l.chunkSize))), nil
}

// hashes joins the hashes of chunks, zeros where missing. The caller holds mu.
func (l *large) hashes(first, count uint32) []byte {
	b := make([]byte, 0, int(count)*l.hashSize)
	zero := make([]byte, l.hashSize)
	for i := range count {
		if l.stateOf(first+i) >= written {
			b = append(b, l.hashOf(first+i)...)
		} else {
			b = append(b, zero...)
		}
	}
	return b
}

// ChunkHashes returns the hashes of chunks, zeros where missing.
func (s *stage) ChunkHashes(file, first, count uint32) ([]byte, error) {
	id, n, l, err := s.lookup(file)
	if err != nil {
		return nil, err
	}
	chunks := transfer.Chunks(n.size, n.chunkSize())
	if l != nil && n.unknown() {
		chunks = 1<<32 - 1
	}
	if count > transfer.MaxChunkHashes || uint64(first)+uint64(count) > uint64(chunks) || n.typ() != transfer.Regular {
		return nil, transfer.Errorf(transfer.Invalid, "read chunk hashes", s.path(id), "chunks %d and %d more are out of range", first, count)
	}
	if l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.hashes(first, count), nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := make([]byte, int(count)*s.hashSize)
	if n.small() && n.state.Load() >= written {
		copy(b, s.t.hash(id, s.hashSize))
	}
	return b, nil
}

// Forget un-journals chunks durably.
func (s *stage) Forget(ctx context.Context, file uint32, chunks transfer.Held) error {
	if err := ctx.Err(); err != nil {
		return canceled(err)
	}
	s.op.Lock()
	defer s.op.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	id, n, l, err := s.lookup(file)
	if err != nil {
		return err
	}
	if err := chunks.Validate(transfer.Chunks(n.size, n.chunkSize())); err != nil {
		return err
	}
	if _, err := s.checkpoint(); err != nil { // nothing is dirty after it
		return err
	}
	s.log.append(recForget, appendForget(id, chunks))
	if err := s.log.sync(); err != nil {
		return s.fault("forget chunks", s.path(id), err)
	}
	s.mu.RLock()
	wrote, kept := s.forget(n, l, chunks)
	s.mu.RUnlock()
	s.written.Add(-wrote)
	s.held.Add(-kept)
	return nil
}

func appendForget(id nodeID, chunks transfer.Held) []byte {
	return appendRanges(binary.AppendUvarint(nil, uint64(id)), chunks)
}

// forget returns how many octets are no longer written and held. The caller
// holds mu, if only to read.
func (s *stage) forget(n *node, l *large, chunks transfer.Held) (wrote, kept int64) {
	if l == nil {
		if len(chunks) == 0 || !n.small() {
			return 0, 0
		}
		switch n.state.Swap(absent) {
		case held:
			wrote, kept = n.size, n.size
		case written:
			wrote = n.size
		}
		s.acct.move(wrote, 0, -wrote)
		return wrote, kept
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range chunks {
		for i := range r.Count {
			switch l.stateOf(r.First + i) {
			case held:
				kept += l.length(r.First + i)
				fallthrough
			case written:
				wrote += l.length(r.First + i)
				l.setState(r.First+i, absent)
			}
		}
	}
	l.octets -= wrote
	l.held -= kept
	if l.allocated {
		s.acct.move(0, wrote, -wrote)
	} else {
		s.acct.move(wrote, 0, -wrote)
	}
	return wrote, kept
}

// Finish tells the final size of a file of unknown size.
func (s *stage) Finish(ctx context.Context, file uint32, size int64) error {
	if err := ctx.Err(); err != nil {
		return canceled(err)
	}
	s.op.Lock()
	defer s.op.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	id, n, l, err := s.lookup(file)
	if err != nil {
		return err
	}
	if l == nil || !n.has(flagUnknown) {
		if size == n.size {
			return nil
		}
		return transfer.Errorf(transfer.Invalid, "finish file", s.path(id), "its size is %d and not %d", n.size, size)
	}
	if n.has(flagFinal) && n.size != size {
		return transfer.Errorf(transfer.Invalid, "finish file", s.path(id), "its size is %d already, not %d", n.size, size)
	}
	if n.has(flagFinal) {
		return nil
	}
	hash, err := s.rehashOnly(l, id, size)
	if err != nil {
		return err
	}
	b := binary.AppendUvarint(nil, uint64(id))
	b = binary.AppendVarint(b, size)
	s.log.append(recFinish, appendString(b, string(hash)))
	if err := s.log.sync(); err != nil {
		return s.fault("finish file", s.path(id), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(n, l, size, hash)
	return nil
}

// rehashOnly checks the chunks of a file against its final size, and hashes the
// chunk of a file that has only one as such.
func (s *stage) rehashOnly(l *large, id nodeID, size int64) ([]byte, error) {
	path := s.path(id)
	l.mu.Lock()
	octets := l.octets
	whole := size >= 0 && octets == size
	for i := range transfer.Chunks(size, l.chunkSize) {
		if whole && l.stateOf(i) < written {
			whole = false
		}
	}
	l.mu.Unlock()
	if !whole {
		return nil, transfer.Errorf(transfer.Invalid, "finish file", path, "%d octets arrived, and its size is said to be %d", octets, size)
	}
	if size == 0 || size > l.chunkSize || l.hashSize == 0 {
		return nil, nil
	}
	f, err := s.openStaged(id, os.O_RDONLY)
	if err != nil {
		return nil, transfer.Errorf(transfer.Internal, "finish file", path, "%w", err)
	}
	defer f.Close() // only read
	return hashChunk(f, s.algorithm(), 0, l.chunkSize, 0, size, true)
}

// finish sets the final size. The caller holds mu.
func (s *stage) finish(n *node, l *large, size int64, hash []byte) {
	n.size = size
	n.flags |= flagFinal
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size = size
	if len(hash) > 0 {
		copy(l.hashOf(0), hash)
	}
	s.acct.move(-max(0, l.granted-size), 0, 0)
	l.granted = size
}
