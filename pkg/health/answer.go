package health

import (
	"net/netip"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

// lowestPort is the first source port that is answered unless LowPorts is set:
// services such as echo (7), chargen (19) and DNS (53) live below it, and
// answering them can start a loop.
const lowestPort = 1024

// request is one datagram and what is known about it.
type request struct {
	buf   []byte // in: the request; out: the reply, as long
	from  netip.AddrPort
	own   uint16 // the port that was asked
	ttl   uint8
	at    time.Time     // T2
	age   time.Duration // how long the kernel kept it
	cut   bool          // it was longer than the buffer
	group bool          // it was sent to many
}

// answer turns a request into its reply, in place, and reports true, or counts
// why it gets none. It touches no socket: what it does not answer is never
// answered, and a reply is as long as its request.
func (r *Reflector) answer(q *request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Received++
	port, local := q.from.Port(), q.from.Addr().Unmap().IsLoopback()
	switch {
	case len(q.buf) < stamp.BaseLen, q.cut, q.age > staleAfter:
		r.stats.Malformed++
	case q.group, port == 0, port == q.own, port < lowestPort && !r.cfg.LowPorts:
		r.stats.Refused++
	case stamp.LooksReflected(q.buf):
		r.stats.Loops++
	case stamp.LooksAuth(q.buf):
		return r.authenticated(q)
	case !local && !r.cfg.Open:
		r.stats.Denied++
	case local && !r.limit.allowAny(r.cfg.Now()), !local && !r.limit.allow(r.cfg.Now(), q.from.Addr()):
		r.stats.Limited++
	default:
		p, _ := stamp.ParseSender(q.buf) // long enough
		status := r.statusFor(q, stamp.BaseLen)
		r.reflect(q, p, p.Seq).Put(q.buf)
		stamp.ReflectTLVs(q.buf, stamp.BaseLen, p.Seq, nil, status)
		return true
	}
	return false
}

// authenticated answers a packet of a session. The HMAC comes first: nothing of
// the session moves for a packet that lacks it, and floods of others do not use
// up its rate.
func (r *Reflector) authenticated(q *request) bool {
	p, _ := stamp.ParseSenderAuth(q.buf) // long enough: LooksAuth
	now := r.cfg.Now()
	s := r.sessions[p.SSID]
	switch {
	case s == nil, !now.Before(s.expires), !s.mac.Verify(q.buf):
		r.stats.Denied++
	case !s.rate.take(now):
		r.stats.Limited++
	case !s.window.take(p.Seq):
		r.stats.Replayed++
	default:
		s.expires = now.Add(r.cfg.Lifetime)
		status := r.statusFor(q, stamp.AuthLen)
		r.reflect(q, p, s.replies).PutAuth(q.buf)
		s.replies++
		stamp.ReflectTLVs(q.buf, stamp.AuthLen, p.Seq, s.mac, status)
		s.mac.Seal(q.buf)
		return true
	}
	return false
}

// reflect returns the base packet of the reply, stamped with the time now.
func (r *Reflector) reflect(q *request, p stamp.Sender, seq uint32) stamp.Reflected {
	now := time.Now()
	if r.estimated.IsZero() || now.Sub(r.estimated) > estimateEvery {
		r.estimate, r.estimated = clockEstimate(), now
	}
	return stamp.Reflected{
		Seq: seq, T3: stamp.TimestampOf(now), Error: r.estimate, SSID: p.SSID,
		T2: stamp.TimestampOf(q.at), SenderSeq: p.Seq, T1: p.T1, SenderError: p.Error, SenderTTL: q.ttl,
	}
}

// statusFor returns the status for a request that has room for it, else nil.
func (r *Reflector) statusFor(q *request, base int) *stamp.Status {
	if r.cfg.Status == nil || len(q.buf) == base {
		return nil
	}
	r.status = r.cfg.Status()
	return &r.status
}
