package health

import (
	"math"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

const (
	// canBatch says that recvmmsg(2) and sendmmsg(2) are there.
	canBatch = true
	// batchSize is how many datagrams are read at once.
	batchSize = 32
	// calmReads is over how many reads it is decided to stop, and calmTotal how
	// few datagrams they may have brought: fewer than four a read do not pay.
	calmReads = 64
	calmTotal = 4 * calmReads
)

// alwaysBatch as a reflector's busy makes it read by batch for good.
const alwaysBatch = -math.MaxFloat64

// batch reads and writes many datagrams with one system call.
type batch struct {
	conn interface {
		ReadBatch(ms []ipv4.Message, flags int) (int, error)
		WriteBatch(ms []ipv4.Message, flags int) (int, error)
	}
	in, out  []ipv4.Message
	controls []control
}

func newBatch(conn *net.UDPConn) *batch {
	b := &batch{
		conn: ipv4.NewPacketConn(conn), controls: make([]control, batchSize),
		in: make([]ipv4.Message, batchSize), out: make([]ipv4.Message, batchSize),
	}
	if !conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().Is4() {
		b.conn = ipv6.NewPacketConn(conn)
	}
	buf, oob := make([]byte, batchSize*bufferSize), make([]byte, batchSize*controlSize)
	for i := range b.in {
		b.in[i].Buffers = [][]byte{buf[i*bufferSize : (i+1)*bufferSize]}
		b.in[i].OOB = oob[i*controlSize : (i+1)*controlSize]
		b.out[i].Buffers = make([][]byte, 1)
	}
	return b
}

// serve answers by batch until few datagrams wait at a time, and then reports
// again; else it returns what serving ends with.
func (b *batch) serve(r *Reflector, errs *readFailures, own uint16) (again bool, result error) {
	for reads, total := 0, 0; ; {
		n, err := b.conn.ReadBatch(b.in, 0)
		now := time.Now()
		if again, err := errs.check(err); !again {
			return false, err
		}
		if err != nil {
			continue
		}
		b.answer(r, b.in[:n], own, now)
		total += n
		if reads++; reads == calmReads {
			if total < calmTotal && r.busy != alwaysBatch {
				return true, nil
			}
			reads, total = 0, 0
		}
	}
}

func (b *batch) answer(r *Reflector, in []ipv4.Message, own uint16, now time.Time) {
	replies := 0
	for i := range in {
		m, c := &in[i], &b.controls[i]
		addr, ok := m.Addr.(*net.UDPAddr)
		if !ok {
			continue
		}
		c.parse(m.OOB[:m.NN])
		from := addr.AddrPort()
		q := request{
			buf: m.Buffers[0][:m.N], from: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), own: own,
			ttl: c.ttl, group: c.group, cut: m.N == bufferSize || m.Flags&msgTrunc != 0,
		}
		q.at, q.age = c.arrival(now)
		if !r.answer(&q) {
			continue
		}
		out := &b.out[replies]
		out.Buffers[0], out.OOB, out.Addr = q.buf, c.reply(), m.Addr
		replies++
	}
	for rest := b.out[:replies]; len(rest) > 0; {
		n, err := b.conn.WriteBatch(rest, 0)
		for range n {
			r.sent(true)
		}
		rest = rest[n:]
		if err != nil && len(rest) > 0 { // the first of them did not go
			r.sent(false)
			rest = rest[1:]
		}
	}
}
