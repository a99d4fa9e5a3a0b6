package health

import (
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

const (
	ttlUnknown = stamp.TTLUnknown
	// bufferSize in octets is the largest datagram that is answered or expected,
	// an Ethernet jumbo frame of 9,000; longer ones arrive truncated.
	bufferSize = 9000
)

// control is what the kernel tells about one datagram besides its octets.
type control struct {
	at      time.Time // when the kernel received it; zero: unknown
	ttl     uint8     // ttlUnknown: unknown
	group   bool      // it was sent to a broadcast or multicast address
	v4, v6  bool      // the family of local; neither: unknown
	local   [16]byte  // the address that was asked
	ifindex uint32    // of a link-local address
	out     [64]byte  // the control message of the reply
}

// arrival returns when the datagram arrived: the kernel's time when it is
// plausible, else now. A kernel time in the future, or long past, comes from a
// clock that was set in between, or from a process that was stopped; age says
// which, and is never negative.
func (c *control) arrival(now time.Time) (at time.Time, age time.Duration) {
	if c.at.IsZero() {
		return now, 0
	}
	age = now.Round(0).Sub(c.at)
	if age < 0 {
		return now, 0
	}
	return c.at, age
}
