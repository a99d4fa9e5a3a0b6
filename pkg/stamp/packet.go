package stamp

import (
	"encoding/binary"
	"errors"
)

// Lengths in octets of the base packets, which TLVs follow.
const (
	// BaseLen is the unauthenticated packet (RFC 8762 sections 4.2.1, 4.3.1).
	BaseLen = 44
	// AuthLen is the authenticated packet (RFC 8762 sections 4.2.2, 4.3.2).
	AuthLen = 112
	// shortReflected is what some reflectors answer: without the TTL.
	shortReflected = 38
)

// TTLUnknown stands in a reflected packet when the reflector could not read the
// TTL (RFC 8762 section 4.3.1).
const TTLUnknown = 255

// ErrShort says that a datagram is too short for its base packet.
var ErrShort = errors.New("stamp: packet is too short")

// Sender is what a Session-Sender sends.
type Sender struct {
	Seq   uint32
	T1    Timestamp
	Error ErrorEstimate
	SSID  uint16 // 0: none (RFC 8762 only)
}

// Append appends the 44 octets of the unauthenticated packet to dst.
func (p Sender) Append(dst []byte) []byte {
	var b [BaseLen]byte
	binary.BigEndian.PutUint32(b[0:], p.Seq)
	binary.BigEndian.PutUint64(b[4:], uint64(p.T1))
	binary.BigEndian.PutUint16(b[12:], uint16(p.Error))
	binary.BigEndian.PutUint16(b[14:], p.SSID)
	return append(dst, b[:]...)
}

// AppendAuth appends the 112 octets of the authenticated packet to dst. Its HMAC
// is zero until [MAC.Seal].
func (p Sender) AppendAuth(dst []byte) []byte {
	var b [AuthLen]byte
	binary.BigEndian.PutUint32(b[0:], p.Seq)
	binary.BigEndian.PutUint64(b[16:], uint64(p.T1))
	binary.BigEndian.PutUint16(b[24:], uint16(p.Error))
	binary.BigEndian.PutUint16(b[26:], p.SSID)
	return append(dst, b[:]...)
}

// ParseSender reads an unauthenticated packet of at least 44 octets; the error
// is [ErrShort].
func ParseSender(b []byte) (Sender, error) {
	if len(b) < BaseLen {
		return Sender{}, ErrShort
	}
	return Sender{
		Seq:   binary.BigEndian.Uint32(b[0:]),
		T1:    Timestamp(binary.BigEndian.Uint64(b[4:])),
		Error: ErrorEstimate(binary.BigEndian.Uint16(b[12:])),
		SSID:  binary.BigEndian.Uint16(b[14:]),
	}, nil
}

// ParseSenderAuth reads an authenticated packet of at least 112 octets; the
// error is [ErrShort]. The HMAC is not looked at: see [MAC.Verify].
func ParseSenderAuth(b []byte) (Sender, error) {
	if len(b) < AuthLen {
		return Sender{}, ErrShort
	}
	return Sender{
		Seq:   binary.BigEndian.Uint32(b[0:]),
		T1:    Timestamp(binary.BigEndian.Uint64(b[16:])),
		Error: ErrorEstimate(binary.BigEndian.Uint16(b[24:])),
		SSID:  binary.BigEndian.Uint16(b[26:]),
	}, nil
}

// Reflected is what a Session-Reflector answers.
type Reflected struct {
	Seq         uint32 // the sender's when stateless, else the replies counted so far
	T3          Timestamp
	Error       ErrorEstimate // of T2 and T3
	SSID        uint16        // 0: the reflector knows RFC 8762 only
	T2          Timestamp
	SenderSeq   uint32
	T1          Timestamp
	SenderError ErrorEstimate
	SenderTTL   uint8 // TTLUnknown: not known
}

// Put writes the unauthenticated packet over the first 44 octets of b and
// leaves the rest alone. It panics when b is shorter.
func (p Reflected) Put(b []byte) {
	b = b[:BaseLen]
	binary.BigEndian.PutUint32(b[0:], p.Seq)
	binary.BigEndian.PutUint64(b[4:], uint64(p.T3))
	binary.BigEndian.PutUint16(b[12:], uint16(p.Error))
	binary.BigEndian.PutUint16(b[14:], p.SSID)
	binary.BigEndian.PutUint64(b[16:], uint64(p.T2))
	binary.BigEndian.PutUint32(b[24:], p.SenderSeq)
	binary.BigEndian.PutUint64(b[28:], uint64(p.T1))
	binary.BigEndian.PutUint16(b[36:], uint16(p.SenderError))
	clear(b[38:])
	b[40] = p.SenderTTL
}

// PutAuth writes the authenticated packet over the first 112 octets of b, with
// a zero HMAC, and leaves the rest alone. It panics when b is shorter.
func (p Reflected) PutAuth(b []byte) {
	b = b[:AuthLen]
	clear(b)
	binary.BigEndian.PutUint32(b[0:], p.Seq)
	binary.BigEndian.PutUint64(b[16:], uint64(p.T3))
	binary.BigEndian.PutUint16(b[24:], uint16(p.Error))
	binary.BigEndian.PutUint16(b[26:], p.SSID)
	binary.BigEndian.PutUint64(b[32:], uint64(p.T2))
	binary.BigEndian.PutUint32(b[48:], p.SenderSeq)
	binary.BigEndian.PutUint64(b[64:], uint64(p.T1))
	binary.BigEndian.PutUint16(b[72:], uint16(p.SenderError))
	b[80] = p.SenderTTL
}

// ParseReflected reads an unauthenticated packet. Some reflectors leave out the
// TTL and what follows: from 38 octets on the packet is accepted, with a TTL of
// [TTLUnknown]. The error is [ErrShort].
func ParseReflected(b []byte) (Reflected, error) {
	if len(b) < shortReflected {
		return Reflected{}, ErrShort
	}
	p := Reflected{
		Seq:         binary.BigEndian.Uint32(b[0:]),
		T3:          Timestamp(binary.BigEndian.Uint64(b[4:])),
		Error:       ErrorEstimate(binary.BigEndian.Uint16(b[12:])),
		SSID:        binary.BigEndian.Uint16(b[14:]),
		T2:          Timestamp(binary.BigEndian.Uint64(b[16:])),
		SenderSeq:   binary.BigEndian.Uint32(b[24:]),
		T1:          Timestamp(binary.BigEndian.Uint64(b[28:])),
		SenderError: ErrorEstimate(binary.BigEndian.Uint16(b[36:])),
		SenderTTL:   TTLUnknown,
	}
	if len(b) > 40 {
		p.SenderTTL = b[40]
	}
	return p, nil
}

// ParseReflectedAuth reads an authenticated packet of at least 112 octets; the
// error is [ErrShort]. The HMAC is not looked at: see [MAC.Verify].
func ParseReflectedAuth(b []byte) (Reflected, error) {
	if len(b) < AuthLen {
		return Reflected{}, ErrShort
	}
	return Reflected{
		Seq:         binary.BigEndian.Uint32(b[0:]),
		T3:          Timestamp(binary.BigEndian.Uint64(b[16:])),
		Error:       ErrorEstimate(binary.BigEndian.Uint16(b[24:])),
		SSID:        binary.BigEndian.Uint16(b[26:]),
		T2:          Timestamp(binary.BigEndian.Uint64(b[32:])),
		SenderSeq:   binary.BigEndian.Uint32(b[48:]),
		T1:          Timestamp(binary.BigEndian.Uint64(b[64:])),
		SenderError: ErrorEstimate(binary.BigEndian.Uint16(b[72:])),
		SenderTTL:   b[80],
	}, nil
}

// LooksAuth reports that a sender's packet has the authenticated layout: 112
// octets or more, and zeros where an unauthenticated one has its timestamp,
// error estimate and SSID.
func LooksAuth(b []byte) bool {
	return len(b) >= AuthLen && binary.BigEndian.Uint64(b[4:])|uint64(binary.BigEndian.Uint32(b[12:])) == 0
}

// loopWindow is how far apart, in seconds, the two timestamps of a reflected
// packet may be at most: T2 and T3 of one reflector are microseconds apart, and
// 10 s leave room for one that was stopped in between.
const loopWindow = 10

// LooksReflected reports that b is a reflected packet rather than a sender's,
// in either layout: where a sender has zeros stands a receive timestamp close
// to the packet's own. Reflectors that answer such packets can be made to
// answer each other forever by one spoofed packet.
func LooksReflected(b []byte) bool {
	if len(b) >= 24 && near(binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[4:])) {
		return true
	}
	return len(b) >= 40 && near(binary.BigEndian.Uint32(b[32:]), binary.BigEndian.Uint32(b[16:]))
}

// near reports that t2, in seconds, is not zero and close to t3.
func near(t2, t3 uint32) bool {
	d := int64(int32(t2 - t3))
	return t2 != 0 && d >= -loopWindow && d <= loopWindow
}
