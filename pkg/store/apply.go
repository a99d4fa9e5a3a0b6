package store

import (
	"github.com/e27efefb/sluice/pkg/transfer"
)

// apply makes the part count.
func (s *stage) apply(a *addition) ([]FileState, error) {
	states := make([]FileState, len(a.entries))
	var stale []nodeID
	s.mu.Lock()
	var wrote, kept int64
	for i := range a.entries {
		e, id := &a.entries[i], a.ids[i]
		n := s.t.at(id)
		same := s.t.same(id, e)
		if uint32(id) < a.count && !same {
			stale = append(stale, id)
		}
		if same && n.mode != uint16(e.Mode.Perm()) {
			n.flags |= flagMeta
		}
		w, h := s.describe(id, e, same)
		wrote += w
		kept += h
		n.index = e.Index
		if a.skip[i] {
			n.flags |= flagSkip
		}
		s.order = append(s.order, id)
		states[i] = s.fileState(id)
		s.hasher.Add(e)
	}
	for _, id := range a.below {
		s.dropNode(id)
	}
	for _, id := range a.parents {
		if s.inWay(id) {
			s.dropNode(id)
			stale = append(stale, id)
		}
	}
	s.declared += a.octets
	s.hash = s.hasher.Sum()
	s.mu.Unlock()
	s.written.Add(wrote)
	s.held.Add(kept)
	for _, id := range stale {
		s.removeStaged(id)
	}
	return states, nil
}

// describe gives a node its attributes, drops the chunks of one that changed and
// returns what is written and held of it. The caller holds mu.
func (s *stage) describe(id nodeID, e *transfer.Entry, same bool) (wrote, kept int64) {
	n := s.t.at(id)
	if !same {
		s.dropChunks(id)
		n.flags &^= flagMeta
	}
	s.t.set(id, e)
	switch {
	case n.large():
		l := s.large[id]
		if l == nil {
			l = newLarge(id, n, s.hashSize)
			s.large[id] = l
		}
		if n.has(flagUnknown) {
			l.most = s.most()
			l.granted = l.step()
		}
		return l.octets, l.held
	case n.small():
		s.t.needHash(id, s.hashSize)
		switch n.state.Load() {
		case held:
			return n.size, n.size
		case written:
			return n.size, 0
		}
	}
	return 0, 0
}

// dropChunks forgets what is written of a node in memory. The caller holds mu.
func (s *stage) dropChunks(id nodeID) {
	n := s.t.at(id)
	if l := s.large[id]; l != nil {
		l.mu.Lock()
		alloc := int64(0)
		if l.allocated {
			alloc = l.size - l.octets
		}
		s.acct.move(0, -alloc, -l.octets)
		l.mu.Unlock()
		delete(s.large, id)
	} else if n.small() && n.state.Load() >= written {
		s.acct.move(0, 0, -n.size)
	}
	n.state.Store(absent)
}

// removeStaged removes the staged file, or what is below it, of a node whose
// drop is durable. What cannot be removed is found again when it is written.
func (s *stage) removeStaged(id nodeID) {
	s.files.drop(id)
	h, err := s.tree.find(s.parent(id))
	if err != nil {
		return
	}
	defer s.tree.put(h)
	n := s.node(id)
	if n.has(flagNow) && n.nowType() == transfer.Directory {
		if st, err := h.lstat(s.name(id)); err == nil && st.kind.IsDir() {
			return
		}
	}
	s.tree.dropAll()
	if err := h.removeAll(s.name(id)); err != nil {
		s.d.log.Warn("cannot remove a dropped file", "transfer", s.spec.ID.String(), "path", transfer.Quote(s.path(id)), "error", err)
	}
}

// dropNode forgets a node's chunks and attributes. The caller holds mu.
func (s *stage) dropNode(id nodeID) {
	s.dropChunks(id)
	s.t.at(id).flags &^= flagSet
}

func (s *stage) node(id nodeID) *node {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.t.at(id)
}
