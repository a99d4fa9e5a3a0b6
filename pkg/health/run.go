package health

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

const (
	// remember is how long after its timeout a ping is kept, so that a late or
	// second reply is recognised.
	remember = 10 * time.Second
	// openTimeout bounds one attempt to open a session.
	openTimeout = 5 * time.Second
	// reopenAfter is the least silence after which a new session is opened, and
	// the first pause between attempts; the pause doubles up to reopenMost.
	reopenAfter = 2 * time.Second
	reopenMost  = time.Minute
	// inbox is how many datagrams wait for the goroutine of Run.
	inbox = 16
)

// run is one Run of a pinger. Only its own goroutine touches it.
type run struct {
	p        *Pinger
	conn     *net.UDPConn
	least    time.Duration // shortest distance of two pings
	estimate stamp.ErrorEstimate
	buf      []byte

	ssid uint16
	mac  *stamp.MAC // nil: unauthenticated

	seq      uint32
	count    int
	nextSend time.Time
	lastSend time.Time
	probing  bool // a probe is due

	pings   []ping // consecutive sequences, the oldest first
	checked int    // how many of pings were answered or given up for certain

	lastReply time.Time
	reopen    time.Time // when to open a session next
	pause     time.Duration
	opening   bool
}

// ping is one that was sent.
type ping struct {
	seq   uint32
	t1    stamp.Timestamp
	at    time.Time
	state pingState
}

type pingState uint8

const (
	waiting pingState = iota
	answered
	givenUp
)

// arrived is one datagram, or an error of the socket.
type arrived struct {
	buf []byte
	n   int
	at  time.Time // of arrival, with a monotonic clock
	ttl uint8
	err error
}

func (r *run) run(ctx context.Context, cancel context.CancelFunc) error {
	in, free := make(chan *arrived, inbox), make(chan *arrived, inbox)
	for range inbox {
		free <- &arrived{buf: make([]byte, bufferSize)}
	}
	opened := make(chan *Session, 1)
	var wg sync.WaitGroup
	defer func() {
		cancel()
		_ = r.conn.Close() // ends receive
		wg.Wait()
	}()
	wg.Go(func() { receive(ctx, r.conn, in, free) })

	timer := time.NewTimer(0)
	defer timer.Stop()
	r.nextSend = time.Now()
	r.lastReply = r.nextSend
	r.pause = reopenAfter
	r.reopen = r.nextSend.Add(r.silence())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.p.probe:
			r.probing = true
		case <-r.p.kick:
			if !r.lastSend.IsZero() {
				r.nextSend = r.lastSend.Add(r.interval())
			}
		case a := <-in:
			r.receive(a)
			free <- a
		case s := <-opened:
			r.opening = false
			if s != nil {
				r.begin(*s)
			}
		}
		now := time.Now()
		if r.wantsSession(now) {
			r.opening = true
			wg.Go(func() { opened <- openSession(ctx, r.p.cfg.Open) })
		}
		r.send(now)
		r.giveUp(now)
		if r.done() {
			return nil
		}
		timer.Reset(max(0, time.Until(r.wakeAt())))
	}
}

// receive reads datagrams until the socket is closed. A refused ping shows as
// an error of the next read; reading goes on.
func receive(ctx context.Context, conn *net.UDPConn, in chan<- *arrived, free <-chan *arrived) {
	var c control
	oob := make([]byte, controlSize)
	for {
		var a *arrived
		select {
		case a = <-free:
		case <-ctx.Done():
			return
		}
		n, oobn, _, _, err := conn.ReadMsgUDPAddrPort(a.buf, oob)
		now := time.Now()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		c.parse(oob[:oobn])
		_, age := c.arrival(now)
		a.n, a.at, a.ttl, a.err = n, now.Add(-age), c.ttl, err
		if err != nil {
			a.n = 0
		}
		if err != nil && !isRefused(err) {
			// Whatever else a socket reports passes, or would come again at once.
			select {
			case <-time.After(MinInterval):
			case <-ctx.Done():
				return
			}
		}
		in <- a // never blocks: as large as free
	}
}

// interval returns the next one: up to a quarter shorter.
func (r *run) interval() time.Duration {
	r.p.mu.Lock()
	d := r.p.interval
	r.p.mu.Unlock()
	return max(r.least, d-time.Duration(float64(d)*0.25*r.p.cfg.Random()))
}

func (r *run) finished() bool { return r.p.cfg.Count > 0 && r.count >= r.p.cfg.Count }

// done reports that all pings were sent, and answered or given up.
func (r *run) done() bool { return r.finished() && r.checked == len(r.pings) }

// wakeAt returns when something is due next.
func (r *run) wakeAt() time.Time {
	at := time.Now().Add(MaxInterval)
	if !r.finished() {
		at = r.nextSend
		if soon := r.lastSend.Add(r.least); r.probing && soon.Before(at) {
			at = soon
		}
	}
	if r.checked < len(r.pings) {
		if t := r.pings[r.checked].at.Add(r.p.cfg.Timeout); t.Before(at) {
			at = t
		}
	}
	if r.p.cfg.Open != nil && !r.opening && r.reopen.Before(at) {
		at = r.reopen
	}
	return at
}

// send sends the ping that is due.
func (r *run) send(now time.Time) {
	due := !now.Before(r.nextSend) || r.probing && !now.Before(r.lastSend.Add(r.least))
	if !due || r.finished() {
		return
	}
	r.probing = false
	e := Event{Kind: PingSent, Seq: r.seq, Size: r.p.cfg.Size}
	g := ping{seq: r.seq}
	now = time.Now() // next to the system call
	g.at, g.t1 = now, stamp.TimestampOf(now)
	_, err := r.conn.Write(r.packet(g))
	e.At = now
	r.lastSend, r.nextSend = now, now.Add(r.interval())
	r.count++
	if err != nil {
		e.Kind, e.Err = PingFailed, err
		if isRefused(err) {
			// The error of an earlier ping, and this one did not leave.
			e.Kind = PingRefused
		}
		r.tally(func(t *tally) {
			t.sum.SendFailed++
			if e.Kind == PingRefused {
				t.sum.SendFailed--
				t.sum.Refused++
			}
		})
		r.emit(e)
		return
	}
	r.seq++
	r.pings = append(r.pings, g)
	r.tally(func(t *tally) {
		if t.first.IsZero() {
			t.first = now
		}
		t.now = now
		t.sum.Sent++
		t.sum.Pending++
	})
	r.emit(e)
}

// packet builds the datagram of a ping.
func (r *run) packet(g ping) []byte {
	s := stamp.Sender{Seq: g.seq, T1: g.t1, Error: r.estimate, SSID: r.ssid}
	var b []byte
	if r.mac == nil {
		b = s.Append(r.buf[:0])
	} else {
		b = s.AppendAuth(r.buf[:0])
	}
	if !r.p.cfg.Plain {
		b = stamp.AppendStatusRequest(b)
		if r.mac != nil {
			b = stamp.AppendHMAC(b, r.mac)
		}
	}
	b = stamp.AppendPadding(b, r.p.cfg.Size-len(b))
	if r.mac != nil {
		r.mac.Seal(b)
	}
	r.buf = b
	return b
}

// giveUp moves past pings that are answered or overdue, and forgets old ones.
func (r *run) giveUp(now time.Time) {
	for r.checked < len(r.pings) {
		g := &r.pings[r.checked]
		if g.state == waiting {
			if now.Before(g.at.Add(r.p.cfg.Timeout)) {
				break
			}
			g.state = givenUp
			r.tally(func(t *tally) {
				t.now = now
				t.sum.Pending--
				t.sum.Lost++
				t.recent.add(true)
			})
			r.emit(Event{Kind: PingLost, At: now, Seq: g.seq, Size: r.p.cfg.Size})
		}
		r.checked++
	}
	old := 0
	for old < r.checked && now.After(r.pings[old].at.Add(r.p.cfg.Timeout+remember)) {
		old++
	}
	if old > 0 && old >= len(r.pings)/2 {
		r.pings = r.pings[:copy(r.pings, r.pings[old:])]
		r.checked -= old
	}
}

func (r *run) tally(change func(*tally)) {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	change(&r.p.tally)
}

func (r *run) emit(e Event) {
	if r.p.cfg.OnEvent != nil {
		r.p.cfg.OnEvent(e)
	}
}

// begin uses the session from the next ping on.
func (r *run) begin(s Session) {
	r.ssid, r.mac = s.SSID, stamp.NewMAC(s.Key[:])
	r.tally(func(t *tally) { t.way.session(r.seq) })
}

// silence is how long replies may stay away before a new session is opened.
func (r *run) silence() time.Duration {
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	return max(reopenAfter, 8*r.p.interval)
}

// wantsSession reports whether to open a session now, and puts off the next.
func (r *run) wantsSession(now time.Time) bool {
	if r.p.cfg.Open == nil || r.opening || now.Before(r.reopen) {
		return false
	}
	if quiet := r.lastReply.Add(r.silence()); now.Before(quiet) {
		r.reopen, r.pause = quiet, reopenAfter
		return false
	}
	r.reopen = now.Add(r.pause)
	r.pause = min(2*r.pause, reopenMost)
	return true
}

// openSession returns nil when none could be opened: it is tried again.
func openSession(ctx context.Context, open func(context.Context) (Session, error)) *Session {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s, err := open(ctx)
	if err != nil {
		return nil
	}
	return &s
}
