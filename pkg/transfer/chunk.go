package transfer

// Sizes of chunks, in octets. Every chunk size is a power of two between
// MinChunkSize and MaxChunkSize, so each chunk is a whole subtree of BLAKE3.
const (
	MinChunkSize = 1 << 20  // files up to 1 GiB
	MaxChunkSize = 16 << 20 // files over 8 GiB
	// MaxFileSize is the largest size that can be addressed: 2^32 chunks of 16 MiB
	// would be 2^56; sizes are kept under 2^62 so that sums never overflow int64.
	MaxFileSize = 1 << 55
	// UnknownSize marks a file whose size the sender cannot tell (standard input).
	UnknownSize = -1
)

// ChunkSizeFor returns the chunk size of a file: 1 MiB up to 1 GiB, then
// doubling with the size up to 16 MiB. An unknown size gets 1 MiB.
func ChunkSizeFor(size int64) int64 {
	c := int64(MinChunkSize)
	for limit := int64(1 << 30); size > limit && c < MaxChunkSize; limit <<= 1 {
		c <<= 1
	}
	return c
}

// ValidChunkSize reports whether c is a power of two in the allowed range.
func ValidChunkSize(c int64) bool {
	return c >= MinChunkSize && c <= MaxChunkSize && c&(c-1) == 0
}

// Chunks returns how many chunks a file of size octets has: 0 for an empty one.
func Chunks(size, chunkSize int64) uint32 {
	if size <= 0 {
		return 0
	}
	return uint32((size + chunkSize - 1) / chunkSize) //nolint:gosec // size < MaxFileSize
}

// ChunkLen returns the length of chunk i of a file of size octets.
func ChunkLen(size, chunkSize int64, i uint32) int64 {
	return min(chunkSize, size-int64(i)*chunkSize)
}

// ChunkRange is the half-open range [First, First+Count) of chunk indexes.
type ChunkRange struct {
	First uint32 `json:"first"`
	Count uint32 `json:"count"`
}

// End returns the first index after the range; it may be 2^32.
func (r ChunkRange) End() uint64 { return uint64(r.First) + uint64(r.Count) }

// Held says which chunks of a file the receiver holds, in ascending ranges that
// neither touch nor overlap. The zero value means none.
type Held []ChunkRange

// Count returns the number of chunks held.
func (h Held) Count() (n uint64) {
	for _, r := range h {
		n += uint64(r.Count)
	}
	return n
}

// Has reports whether chunk i is held.
func (h Held) Has(i uint32) bool {
	lo, hi := 0, len(h)
	for lo < hi {
		m := (lo + hi) / 2
		switch {
		case i < h[m].First:
			hi = m
		case uint64(i) >= h[m].End():
			lo = m + 1
		default:
			return true
		}
	}
	return false
}

// Add returns h with chunk i appended; i must not be below the last range.
func (h Held) Add(i uint32) Held {
	if n := len(h); n > 0 {
		if last := &h[n-1]; uint64(i) == last.End() {
			last.Count++
			return h
		} else if uint64(i) < last.End() {
			return h
		}
	}
	return append(h, ChunkRange{First: i, Count: 1})
}

// Bytes returns how many octets of a file of size octets are held.
func (h Held) Bytes(size, chunkSize int64) (n int64) {
	for _, r := range h {
		first, end := int64(r.First)*chunkSize, int64(r.End())*chunkSize //nolint:gosec // ranges are validated
		if size >= 0 {
			end = min(end, size)
		}
		n += max(0, end-first)
	}
	return n
}

// Validate checks that the ranges are ascending, apart and below chunks.
func (h Held) Validate(chunks uint32) error {
	next := uint64(0)
	for i, r := range h {
		if r.Count == 0 || (i > 0 && uint64(r.First) <= next) || r.End() > uint64(chunks) {
			return Errorf(Invalid, "read held ranges", "", "range %d (first %d, count %d) is out of order or beyond %d chunks", i, r.First, r.Count, chunks)
		}
		next = r.End()
	}
	return nil
}
