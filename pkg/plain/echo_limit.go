package plain

import (
	"hash/maphash"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
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
// serves one goroutine. (The ping's reflector has a table of fixed size of its own:
// a source there is a rate only, here it is also what it repeats.)
type limiter struct {
	seed       maphash.Seed
	all        *rate.Limiter
	perSource  int // datagrams a second
	young, old map[netip.Prefix]*source
	size       int // of one generation
}

type source struct {
	*rate.Limiter

	watched uint64 // hash of the datagram that is watched for repetition
	seen    int    // how often
	since   int    // other datagrams since
}

func newLimiter(perSource, total, sources int) *limiter {
	return &limiter{
		seed:      maphash.MakeSeed(),
		all:       newBucket(total),
		perSource: perSource,
		young:     make(map[netip.Prefix]*source),
		size:      max(1, sources/2),
	}
}

// newBucket lets n datagrams a second pass, and bursts of a tenth of that, at least
// 100.
func newBucket(n int) *rate.Limiter { return rate.NewLimiter(rate.Limit(n), max(100, n/10)) }

// allow reports whether a datagram from addr may be answered at the time now.
func (l *limiter) allow(now time.Time, addr netip.Addr, payload []byte) bool {
	s := l.source(addr)
	// The source pays first: a flood of one must not empty the common bucket.
	if !s.AllowN(now, 1) || !l.all.AllowN(now, 1) {
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
			s = &source{Limiter: newBucket(l.perSource)}
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
