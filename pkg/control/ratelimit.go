package control

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/realip"
	"golang.org/x/time/rate"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// maxSources bounds the table of limits by address: about 2 MB. When it is full
// the addresses that are not limited now are forgotten, and if there are none,
// newcomers share one limit.
const maxSources = 10_000

// limiter bounds calls a second for each source address (an IPv6 /64 is one).
type limiter struct {
	rate  rate.Limit
	burst int
	now   func() time.Time

	mu      sync.Mutex
	sources map[netip.Addr]*rate.Limiter
}

func newLimiter(perSecond float64, burst int) *limiter {
	l := &limiter{rate: rate.Limit(perSecond), burst: burst, now: time.Now, sources: map[netip.Addr]*rate.Limiter{}}
	return l
}

// allow returns nil, or Busy with the time after which the call would pass.
func (l *limiter) allow(ctx context.Context) error {
	if l.rate <= 0 {
		return nil
	}
	addr, _ := realip.FromContext(ctx)
	now := l.now()
	r := l.of(sourceOf(addr), now).ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	return &transfer.Error{
		Kind: transfer.Busy, Op: "take call", Msg: "too many calls from this address",
		Hint: "send calls more slowly", RetryAfter: max(wait, 50*time.Millisecond),
	}
}

func sourceOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

func (l *limiter) of(source netip.Addr, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.sources[source]; s != nil {
		return s
	}
	if len(l.sources) >= maxSources {
		for a, s := range l.sources {
			if s.TokensAt(now) >= float64(l.burst) {
				delete(l.sources, a)
			}
		}
		if len(l.sources) >= maxSources {
			source = netip.Addr{}
			if s := l.sources[source]; s != nil {
				return s
			}
		}
	}
	s := rate.NewLimiter(l.rate, l.burst)
	l.sources[source] = s
	return s
}
