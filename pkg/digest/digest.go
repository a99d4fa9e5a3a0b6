package digest

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// HashSize returns the length in octets of one chunk's hash: 32 for BLAKE3, 16
// for XXH3 and 0 for every other algorithm.
func HashSize(a transfer.Algorithm) int {
	switch a {
	case transfer.BLAKE3:
		return 32
	case transfer.XXH3:
		return 16
	default:
		return 0
	}
}

// ChunkHasher hashes one chunk as it passes. It holds 17 KiB and is meant to be
// reused by Reset; it allocates nothing after NewChunk. Not safe for concurrent
// use.
type ChunkHasher struct {
	algorithm transfer.Algorithm
	only      bool
	b3        subtree
	xx        xxh3.Hasher
}

// NewChunk returns a hasher for chunk index of a file that is cut every
// chunkSize octets. Only says that the file has exactly this one chunk: then
// the hash is the file's digest.
func NewChunk(a transfer.Algorithm, index uint32, chunkSize int64, only bool) *ChunkHasher {
	h := &ChunkHasher{}
	h.Reset(a, index, chunkSize, only)
	return h
}

// Reset makes h ready for another chunk.
func (h *ChunkHasher) Reset(a transfer.Algorithm, index uint32, chunkSize int64, only bool) {
	h.algorithm, h.only = a, only
	switch a {
	case transfer.BLAKE3:
		h.b3.reset(index, chunkSize)
	case transfer.XXH3:
		h.xx.Reset()
	}
}

// Write takes the next octets of the chunk; it never fails.
func (h *ChunkHasher) Write(p []byte) (int, error) {
	switch h.algorithm {
	case transfer.BLAKE3:
		h.b3.write(p)
	case transfer.XXH3:
		_, _ = h.xx.Write(p)
	}
	return len(p), nil
}

// Sum appends the hash of what was written to dst. More may be written after.
func (h *ChunkHasher) Sum(dst []byte) []byte { return h.sum(dst, h.only) }

// SumOnly is Sum as if the chunk were the file's only one. With a file of
// unknown size whose first chunk turns out to be its last, this is the digest.
func (h *ChunkHasher) SumOnly(dst []byte) []byte { return h.sum(dst, true) }

func (h *ChunkHasher) sum(dst []byte, only bool) []byte {
	switch h.algorithm {
	case transfer.BLAKE3:
		return h.b3.sum(dst, only)
	case transfer.XXH3:
		return appendXXH3(dst, h.xx.Sum128())
	default:
		return dst
	}
}

// SumChunk appends the hash of a whole chunk in memory to dst. It allocates only
// if dst is too small.
func SumChunk(dst []byte, a transfer.Algorithm, index uint32, chunkSize int64, only bool, data []byte) []byte {
	switch a {
	case transfer.BLAKE3:
		return sumBLAKE3(dst, index, chunkSize, only, data)
	case transfer.XXH3:
		return appendXXH3(dst, xxh3.Hash128(data))
	default:
		return dst
	}
}

// Root returns the digest of a file of size octets from the hashes of all its
// chunks in order. A file of one chunk has that chunk's hash (made with only
// set) as its digest, an empty file the digest of "".
//
// Hashes must hold transfer.Chunks(size, chunkSize) hashes; the zero Digest is
// returned when it does not, so that the comparison fails.
func Root(a transfer.Algorithm, size, chunkSize int64, hashes []byte) transfer.Digest {
	n := int(transfer.Chunks(size, chunkSize))
	switch {
	case a == transfer.None:
		return transfer.Digest{Algorithm: a}
	case HashSize(a) == 0 || len(hashes) != n*HashSize(a):
		return transfer.Digest{}
	case n == 0:
		return transfer.Digest{Algorithm: a, Sum: SumChunk(nil, a, 0, chunkSize, true, nil)}
	case n == 1:
		return transfer.Digest{Algorithm: a, Sum: append([]byte(nil), hashes...)}
	case a == transfer.XXH3:
		return transfer.Digest{Algorithm: a, Sum: appendXXH3(nil, xxh3.Hash128(hashes))}
	default:
		return transfer.Digest{Algorithm: a, Sum: rootBLAKE3(hashes)}
	}
}

// appendXXH3 writes the canonical (big-endian) form, as xxh128sum prints it.
func appendXXH3(dst []byte, v xxh3.Uint128) []byte {
	dst = binary.BigEndian.AppendUint64(dst, v.Hi)
	return binary.BigEndian.AppendUint64(dst, v.Lo)
}
