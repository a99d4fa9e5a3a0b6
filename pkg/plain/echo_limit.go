package plain

import (
	"hash/maphash"
	"net/netip"
	"time"
)

const (
	// loopAfter is how often a source may repeat one datagram before one of the
	// repetitions is dropped. A loop between two echo servers lives only while
	// each packet is answered, so a single drop ends it; a person who sends the
	// same line 256 times loses one answer.
	loopAfter = 256
	// loopForget is how many other datagrams make a source's watched one
	// forgotten. So many loops with one source are told apart.
	loopForget = 16
)

// limiter keeps token buckets: one for all, one for each source, in a table of
// two generations, of which the older is dropped when the younger is full. It
// serves one goroutine.
type limiter struct {
	seed       maphash.Seed
	all        bucket
	perSource  bucket // the state of a new source
	young, old map[netip.Prefix]*source
	size       int // of one generation
}

type source struct {
	bucket
	watched uint64 // hash of the datagram that is watched for repetition
	seen    int    // how often
	since   int    // other datagrams since
}

func newLimiter(perSource, total, sources int) *limiter {
	return &limiter{
		seed:      maphash.MakeSeed(),
		all:       newBucket(total),
		perSource: newBucket(perSource),
		young:     make(map[netip.Prefix]*source),
		size:      max(1, sources/2),
	}
}

// allow reports whether a datagram from addr may be answered at the time now.
func (l *limiter) allow(now time.Time, addr netip.Addr, payload []byte) bool {
	s := l.source(addr)
	// The source pays first: a flood of one must not empty the common bucket.
	if !s.take(now) || !l.all.take(now) {
		return false
	}
	return !s.loops(maphash.Bytes(l.seed, payload))
}

func (l *limiter) source(addr netip.Addr) *source {
	bits := 64
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		bits = 32
	}
	key, _ := addr.Prefix(bits)
	s := l.young[key]
	if s == nil {
		if s = l.old[key]; s == nil {
			s = &source{bucket: l.perSource}
		}
		if len(l.young) >= l.size {
			l.old, l.young = l.young, make(map[netip.Prefix]*source)
		}
		l.young[key] = s
	}
	return s
}

// loops counts repetitions of one datagram and reports true for the one that
// is to be dropped.
func (s *source) loops(hash uint64) bool {
	if hash != s.watched || s.seen == 0 {
		if s.since++; s.since > loopForget || s.seen == 0 {
			s.watched, s.seen, s.since = hash, 1, 0
		}
		return false
	}
	s.since = 0
	if s.seen++; s.seen > loopAfter {
		s.seen = 0
		return true
	}
	return false
}

// bucket is a token bucket.
type bucket struct {
	rate   float64 // tokens a second
	burst  float64
	tokens float64
	last   time.Time
}

func newBucket(rate int) bucket {
	burst := max(100, float64(rate)/10)
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
