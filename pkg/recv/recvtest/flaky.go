package recvtest

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"sync"

	"github.com/e27efefb/sluice/pkg/wire"
)

// errCut is what a Flaky connection fails with.
var errCut = errors.New("cut by the test")

// Faults is what goes wrong on lanes, by chance. One value serves all lanes of a
// transfer; its limits make sure that the transfer can end.
type Faults struct {
	mu    sync.Mutex
	rand  *rand.Rand
	cuts  int // that may still come
	flips int
	Cut   int // that came
	Flip  int
}

// NewFaults returns faults that depend on the seed alone (and on scheduling).
func NewFaults(seed uint64, cuts, flips int) *Faults {
	return &Faults{rand: rand.New(rand.NewPCG(seed, 1)), cuts: cuts, flips: flips} //nolint:gosec // repeatable on purpose
}

// draw decides about a write of n octets of content: where to cut it and which
// octet to flip; -1 for neither.
func (f *Faults) draw(n int) (cut, flip int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cut, flip = -1, -1
	if f.cuts > 0 && f.rand.IntN(12) == 0 {
		f.cuts--
		f.Cut++
		cut = f.rand.IntN(n + 1)
	}
	if f.flips > 0 && f.rand.IntN(6) == 0 {
		f.flips--
		f.Flip++
		flip = f.rand.IntN(n)
	}
	return cut, flip
}

// Flaky is a lane that damages the content that is written to it, never the hello
// or a header.
type Flaky struct {
	net.Conn

	f      *Faults
	hello  int    // octets of the hello that passed
	header []byte // octets of a header that passed
	left   int64  // octets of content before the next header
}

// Break wraps a connection.
func (f *Faults) Break(c net.Conn) net.Conn { return &Flaky{Conn: c, f: f} }

// CloseWrite half-closes.
func (c *Flaky) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// Write sends p, or less of it, or something else.
func (c *Flaky) Write(p []byte) (int, error) {
	b := append([]byte(nil), p...)
	for i := 0; i < len(b); {
		switch {
		case c.hello < wire.HelloLen:
			n := min(len(b)-i, wire.HelloLen-c.hello)
			c.hello += n
			i += n
		case c.left == 0:
			n := min(len(b)-i, wire.HeaderLen-len(c.header))
			c.header = append(c.header, b[i:i+n]...)
			i += n
			if len(c.header) == wire.HeaderLen {
				c.left = int64(binary.BigEndian.Uint64(c.header[16:])) //nolint:gosec // our own sender's
				c.header = c.header[:0]
			}
		default:
			n := int(min(int64(len(b)-i), c.left))
			cut, flip := c.f.draw(n)
			if flip >= 0 {
				b[i+flip] ^= 0x10
			}
			if cut >= 0 {
				_, _ = c.Conn.Write(b[:i+cut])
				_ = c.Conn.Close()
				return i + cut, errCut
			}
			c.left -= int64(n)
			i += n
		}
	}
	return c.Conn.Write(b)
}
