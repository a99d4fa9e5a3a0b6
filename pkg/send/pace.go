package send

import (
	"sync"

	"golang.org/x/time/rate"
)

// pacer keeps a limit over all lanes: in the kernel where it can (which leaves
// sendfile alone and spreads packets evenly), else by a token bucket.
type pacer struct {
	mu     sync.Mutex
	limit  int64 // octets a second; 0: none
	lanes  map[*lane]struct{}
	bucket *rate.Limiter
}

func (p *pacer) current() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit
}

func (p *pacer) add(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lanes == nil {
		p.lanes = make(map[*lane]struct{})
	}
	p.lanes[l] = struct{}{}
	l.paced = paceConn(l.conn, 0)
	p.apply()
}

func (p *pacer) remove(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lanes, l)
	p.apply()
}

func (p *pacer) setLimit(limit int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = limit
	p.apply()
}

func (p *pacer) apply() {
	if p.limit > 0 {
		burst := int(max(64<<10, min(p.limit/10, 4<<20)))
		if p.bucket == nil {
			p.bucket = rate.NewLimiter(rate.Limit(p.limit), burst)
		}
		p.bucket.SetLimit(rate.Limit(p.limit))
		p.bucket.SetBurst(burst)
	}
	for l := range p.lanes {
		share := p.limit / int64(len(p.lanes))
		if p.limit > 0 {
			share = max(share, 1)
		}
		if l.paced {
			paceConn(l.conn, share)
		}
	}
}

// wait holds back n octets of a lane that the kernel does not pace.
func (p *pacer) wait(l *lane, n int) error {
	if l.paced {
		return nil
	}
	p.mu.Lock()
	limit, bucket := p.limit, p.bucket
	p.mu.Unlock()
	if limit == 0 {
		return nil
	}
	for n > 0 {
		step := min(n, bucket.Burst())
		if err := bucket.WaitN(l.s.ctx, step); err != nil {
			return err
		}
		n -= step
	}
	return nil
}
