package send

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

const hashSlab = 256 // entries a slab: 8 KiB, since most transfers are small

// bigFile is a file of more than one chunk, or of unknown size.
type bigFile struct {
	size, chunkSize int64
	hashes          []byte       // grows for an unknown size
	left            atomic.Int64 // chunks not yet acknowledged in this session
	first           []byte       // unknown size: hash of chunk 0 as if it were the only one
}

// hashes keeps the hash of every chunk that was read: for files of one chunk in
// slabs (32 octets an entry), for larger files beside them. All zeros means not
// yet known.
type hashes struct {
	mu    sync.RWMutex
	alg   transfer.Algorithm
	n     int // octets of a hash
	slabs [][]byte
	big   map[uint32]*bigFile
	skip  []uint64 // bits: identical at the destination
}

func (h *hashes) init(a transfer.Algorithm) {
	h.alg, h.n = a, digest.HashSize(a)
	h.slabs, h.big, h.skip = nil, make(map[uint32]*bigFile), nil
}

// reset forgets everything, for indexes that change.
func (h *hashes) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.init(h.alg)
}

// reserve makes room for entries below end.
func (h *hashes) reserve(end uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := int(end); len(h.slabs)*hashSlab < n; {
		h.slabs = append(h.slabs, make([]byte, hashSlab*h.n))
	}
	for n := int(end); len(h.skip)*64 < n; {
		h.skip = append(h.skip, 0)
	}
}

func (h *hashes) setSkip(file uint32, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if on {
		h.skip[file/64] |= 1 << (file % 64)
	} else {
		h.skip[file/64] &^= 1 << (file % 64)
	}
}

func (h *hashes) skipped(file uint32) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.skip[file/64]&(1<<(file%64)) != 0
}

// addBig notes a file of several chunks, of which left are to be acknowledged. Hashes of an earlier session are kept if
// the chunk size is the same.
func (h *hashes) addBig(file uint32, size, chunkSize, left int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b := h.big[file]; b != nil && b.chunkSize == chunkSize && b.size == size {
		b.left.Store(left)
		return
	}
	b := &bigFile{size: size, chunkSize: chunkSize, hashes: make([]byte, int(transfer.Chunks(size, chunkSize))*h.n)}
	b.left.Store(left)
	h.big[file] = b
}

func (h *hashes) bigOf(file uint32) *bigFile {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.big[file]
}

func (h *hashes) slot(file uint32) []byte {
	s := h.slabs[file/hashSlab]
	at := int(file%hashSlab) * h.n
	return s[at : at+h.n : at+h.n]
}

// put notes the hash of a chunk, and reports false if another one was noted
// before: the source gave different octets.
func (h *hashes) put(file, chunk uint32, sum []byte) bool {
	if h.n == 0 {
		return true
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	var slot []byte
	if b := h.big[file]; b != nil {
		at := int(chunk) * h.n
		slot = b.hashes[at : at+h.n]
	} else {
		slot = h.slot(file)
	}
	if !zero(slot) {
		return bytes.Equal(slot, sum)
	}
	copy(slot, sum)
	return true
}

// putStream notes the hash of a chunk of a stream, whose number is not bounded.
func (h *hashes) putStream(b *bigFile, chunk uint32, sum, only []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if want := (int(chunk) + 1) * h.n; len(b.hashes) < want {
		b.hashes = append(b.hashes, make([]byte, want-len(b.hashes))...)
	}
	copy(b.hashes[int(chunk)*h.n:], sum)
	if only != nil {
		b.first = append([]byte(nil), only...)
	}
}

// known reports whether the hash of a chunk is noted.
func (h *hashes) known(file, chunk uint32) bool {
	if h.n == 0 {
		return true
	}
	return !zero(h.of(file, chunk))
}

// of returns the noted hash of a chunk.
func (h *hashes) of(file, chunk uint32) []byte {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if b := h.big[file]; b != nil {
		at := int(chunk) * h.n
		return b.hashes[at : at+h.n]
	}
	return h.slot(file)
}

// digest joins a file's hashes. The zero digest means that one is missing.
func (h *hashes) digest(file uint32, size int64) transfer.Digest {
	h.mu.RLock()
	defer h.mu.RUnlock()
	b := h.big[file]
	switch {
	case h.n == 0 || size == 0:
		return digest.Root(h.alg, 0, transfer.MinChunkSize, nil)
	case b == nil:
		slot := h.slot(file)
		if zero(slot) {
			return transfer.Digest{}
		}
		return transfer.Digest{Algorithm: h.alg, Sum: bytes.Clone(slot)}
	case transfer.Chunks(size, b.chunkSize) == 1:
		return transfer.Digest{Algorithm: h.alg, Sum: b.first}
	}
	for at := 0; at < len(b.hashes); at += h.n {
		if zero(b.hashes[at : at+h.n]) {
			return transfer.Digest{}
		}
	}
	return digest.Root(h.alg, size, b.chunkSize, b.hashes)
}

var zeros [32]byte

func zero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }
