package store

import (
	"sync"

	"github.com/e27efefb/sluice/pkg/transfer"
)

const largePageChunks = 256

// large is the state of a file of several chunks, or of unknown size.
type large struct {
	id        nodeID
	chunkSize int64
	hashSize  int

	// writer is held by the lane that writes to the file. The kernel lets one
	// writer in at a time and has the others spin (inode(7), i_rwsem): with two
	// lanes that was a tenth of the receiver's time.
	writer sync.Mutex

	mu        sync.Mutex
	size      int64 // transfer.UnknownSize until it is known
	pages     []*largePage
	octets    int64 // written or held
	held      int64
	dirty     transfer.Held // written, not journalled; unordered ranges
	isDirty   bool          // in the stage's dirty set
	allocated bool          // preallocated on disk
	looked    bool          // whether it is preallocated was asked
	short     uint32        // of an unknown size: the chunk that was short, if shortLen > 0
	shortLen  int64
	most      int64 // of an unknown size: the most that it may grow to; 0: no limit
	granted   int64 // of an unknown size: octets reserved so far
	claimed   int64 // of an unknown size: octets written or being written
}

// step is how much more a file of unknown size reserves at a time.
func (l *large) step() int64 {
	if l.most > 0 {
		return min(unknownStep, l.most-l.granted)
	}
	return unknownStep
}

type largePage struct {
	state  [largePageChunks]uint8
	hashes []byte
}

func newLarge(id nodeID, n *node, hashSize int) *large {
	l := &large{id: id, chunkSize: n.chunkSize(), hashSize: hashSize, size: n.size}
	if n.unknown() {
		l.size = transfer.UnknownSize
	}
	return l
}

// page returns the page of a chunk and makes it. The caller holds mu.
func (l *large) page(chunk uint32) *largePage {
	i := int(chunk / largePageChunks)
	for len(l.pages) <= i {
		l.pages = append(l.pages, nil)
	}
	if l.pages[i] == nil {
		l.pages[i] = &largePage{hashes: make([]byte, largePageChunks*l.hashSize)}
	}
	return l.pages[i]
}

// stateOf is called with mu held.
func (l *large) stateOf(chunk uint32) uint32 {
	i := int(chunk / largePageChunks)
	if i >= len(l.pages) || l.pages[i] == nil {
		return absent
	}
	return uint32(l.pages[i].state[chunk%largePageChunks])
}

func (l *large) state(chunk uint32) uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stateOf(chunk)
}

func (l *large) setState(chunk, state uint32) {
	l.page(chunk).state[chunk%largePageChunks] = uint8(state) //nolint:gosec // four states
}

// hashOf returns the place of a chunk's hash. The caller holds mu.
func (l *large) hashOf(chunk uint32) []byte {
	i := int(chunk%largePageChunks) * l.hashSize
	return l.page(chunk).hashes[i : i+l.hashSize : i+l.hashSize]
}

// length returns how many octets chunk has. The caller holds mu.
func (l *large) length(chunk uint32) int64 {
	if l.size >= 0 {
		return transfer.ChunkLen(l.size, l.chunkSize, chunk)
	}
	if l.shortLen > 0 && chunk == l.short {
		return l.shortLen
	}
	return l.chunkSize
}

// ranges lists the chunks in at least the given state.
func (l *large) ranges(state uint32) transfer.Held {
	l.mu.Lock()
	defer l.mu.Unlock()
	var h transfer.Held
	for i, p := range l.pages {
		if p == nil {
			continue
		}
		for k, s := range p.state {
			if uint32(s) >= state {
				h = h.Add(uint32(i*largePageChunks + k)) //nolint:gosec // chunk indexes fit
			}
		}
	}
	return h
}

// complete reports whether every chunk is written.
func (l *large) complete() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size >= 0 && l.octets == l.size
}

// take gives the dirty ranges to a checkpoint.
func (l *large) take() transfer.Held {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.dirty
	l.dirty, l.isDirty = nil, false
	return d
}

// addDirty remembers a written chunk and reports whether the file was clean. The
// caller holds mu.
func (l *large) addDirty(chunk uint32) bool {
	for i := range l.dirty {
		if r := &l.dirty[i]; uint64(chunk) == r.End() {
			r.Count++
			return l.mark()
		} else if chunk+1 == r.First {
			r.First--
			r.Count++
			return l.mark()
		}
	}
	l.dirty = append(l.dirty, transfer.ChunkRange{First: chunk, Count: 1})
	return l.mark()
}

func (l *large) mark() bool {
	was := l.isDirty
	l.isDirty = true
	return !was
}
