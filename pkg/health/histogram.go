package health

import (
	"math/bits"
	"time"
)

const (
	// Durations fall into 64 classes for each doubling, so a quantile is off by
	// 1/128 at most; below 64 ns they are exact. The last class begins at 68 s,
	// longer than any ping is waited for.
	subBits = 6
	octaves = 31
)

// histogram counts durations in little memory, however many there are.
type histogram struct {
	counts [octaves << subBits]uint32
	total  uint64
	sum    time.Duration
	min    time.Duration
	max    time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(0, d)
	if h.total == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.total++
	h.sum += d
	h.counts[class(d)]++
}

func class(d time.Duration) int {
	n := uint64(d)
	shift := max(0, bits.Len64(n)-subBits-1)
	return min(shift<<subBits+int(n>>shift), octaves<<subBits-1)
}

// middle is the middle of class i.
func middle(i int) time.Duration {
	shift := max(0, i>>subBits-1)
	low := uint64(i-shift<<subBits) << shift
	return time.Duration(low + (1<<shift)/2)
}

// quantile returns the duration that the share q of all does not exceed, within
// the precision of the classes and never outside of min and max.
func (h *histogram) quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := uint64(q * float64(h.total-1))
	var below uint64
	for i, n := range h.counts {
		if below += uint64(n); below > rank {
			return min(max(middle(i), h.min), h.max)
		}
	}
	return h.max
}

func (h *histogram) mean() time.Duration {
	if h.total == 0 {
		return 0
	}
	return h.sum / time.Duration(h.total)
}
