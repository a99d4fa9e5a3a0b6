package health

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"time"
)

// ways is how many sources share one place of the table; when all are taken,
// the one heard least recently gives way.
const ways = 4

// limiter holds a token bucket for all and one for each source (an IPv4 address
// or an IPv6 /64) in a table of fixed size, so that a flood with forged sources
// costs no memory. A source that was pushed out starts with a full bucket; the
// bucket for all bounds what that gives away. It serves one goroutine at a time.
type limiter struct {
	seed   maphash.Seed
	total  bucket
	source bucket // of a new source
	slots  []slot
}

type slot struct {
	key uint64
	bucket
}

func newLimiter(sourceRate, totalRate, sources int) *limiter {
	sets := (max(1, sources) + ways - 1) / ways
	return &limiter{
		seed:   maphash.MakeSeed(),
		total:  newBucket(totalRate),
		source: newBucket(sourceRate),
		slots:  make([]slot, sets*ways),
	}
}

// allow reports whether a datagram from addr may be answered at now. The source
// pays first: the flood of one must not empty the bucket for all.
func (l *limiter) allow(now time.Time, addr netip.Addr) bool {
	return l.find(sourceKey(addr)).take(now) && l.total.take(now)
}

// allowAny is allow without a source of its own.
func (l *limiter) allowAny(now time.Time) bool { return l.total.take(now) }

func (l *limiter) find(key uint64) *bucket {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], key)
	set := int(maphash.Bytes(l.seed, b[:])%uint64(len(l.slots)/ways)) * ways
	victim := &l.slots[set]
	for i := range l.slots[set : set+ways] {
		s := &l.slots[set+i]
		if s.key == key && !s.last.IsZero() {
			return &s.bucket
		}
		if s.last.Before(victim.last) {
			victim = s
		}
	}
	*victim = slot{key: key, bucket: l.source}
	return &victim.bucket
}

// sourceKey is the first half of an IPv6 address, or an IPv4 address in a place
// where no IPv6 prefix is assigned.
func sourceKey(addr netip.Addr) uint64 {
	if addr = addr.Unmap(); addr.Is4() {
		b := addr.As4()
		return 0xffff<<32 | uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := addr.As16()
	return binary.BigEndian.Uint64(b[:])
}

// bucket is a token bucket. Bursts of a tenth of a second pass, at least 10.
type bucket struct {
	rate, burst, tokens float64
	last                time.Time
}

func newBucket(rate int) bucket {
	burst := max(10, float64(rate)/10)
	return bucket{rate: float64(rate), burst: burst, tokens: burst}
}

func (b *bucket) take(now time.Time) bool {
	if !b.last.IsZero() {
		b.tokens = min(b.burst, b.tokens+max(0, now.Sub(b.last).Seconds())*b.rate)
	}
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
