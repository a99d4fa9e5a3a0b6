package store

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// ManifestHasher identifies a manifest by everything but its modes, in order. A
// Stage computes the same over what was added to it. The zero value is not ready:
// use NewManifestHasher.
type ManifestHasher struct {
	h   hash.Hash
	buf []byte
}

// NewManifestHasher returns the hasher of an empty manifest (SHA-256).
func NewManifestHasher() *ManifestHasher { return &ManifestHasher{h: sha256.New()} }

// Add takes the next entry.
func (m *ManifestHasher) Add(e *transfer.Entry) {
	c := *e
	c.Mode = 0
	m.buf = appendString(m.buf[:0], string(e.Path))
	m.buf = appendAttributes(m.buf, &c)
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(len(m.buf))) //nolint:gosec // paths are short
	m.h.Write(n[:])
	m.h.Write(m.buf)
}

// Sum returns the hash of the entries added so far.
func (m *ManifestHasher) Sum() (sum [32]byte) {
	m.h.Sum(sum[:0])
	return sum
}
