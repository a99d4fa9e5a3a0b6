package stamp

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"math"
)

// Flags of a TLV (RFC 8972 section 4).
const (
	FlagUnrecognized = 0x80
	FlagMalformed    = 0x40
	FlagIntegrity    = 0x20
)

// Types of TLVs that this package understands; all others are copied.
const (
	TypePadding = 1   // RFC 8972 section 4.1
	TypeHMAC    = 8   // RFC 8972 section 4.8
	TypeStatus  = 251 // experimental; see Status
)

// TLVHeader is the length in octets of flags, type and length.
const TLVHeader = 4

// TLV is one of them, in a buffer of the caller's.
type TLV struct {
	Flags uint8
	Type  uint8
	Value []byte
}

// NextTLV splits the first TLV off b. ok is false at the end and where b holds
// no whole TLV; rest is then b itself.
func NextTLV(b []byte) (t TLV, rest []byte, ok bool) {
	if len(b) < TLVHeader {
		return TLV{}, b, false
	}
	end := TLVHeader + int(binary.BigEndian.Uint16(b[2:]))
	if end > len(b) {
		return TLV{}, b, false
	}
	return TLV{Flags: b[0], Type: b[1], Value: b[TLVHeader:end:end]}, b[end:], true
}

// AppendTLV appends a TLV as a sender sends it, with U set. It panics when the
// value is longer than 65,535 octets.
func AppendTLV(dst []byte, typ uint8, value []byte) []byte {
	return append(appendHeader(dst, typ, len(value)), value...)
}

// AppendPadding appends an extra padding TLV that takes n octets with its
// header, filled with zeros. Below 4, the length of a header, it appends
// nothing.
func AppendPadding(dst []byte, n int) []byte {
	if n < TLVHeader {
		return dst
	}
	dst = appendHeader(dst, TypePadding, n-TLVHeader)
	return appendZeros(dst, n-TLVHeader)
}

// AppendHMAC appends the HMAC TLV to an authenticated packet whose sequence and
// TLVs are in place. Only extra padding may follow. It panics when the packet
// is shorter than 112 octets.
func AppendHMAC(packet []byte, mac *MAC) []byte {
	sum := mac.tlvs(binary.BigEndian.Uint32(packet), packet[AuthLen:])
	return append(appendHeader(packet, TypeHMAC, MACLen), sum...)
}

func appendHeader(dst []byte, typ uint8, n int) []byte {
	if n > math.MaxUint16 {
		panic("stamp: the value of a TLV is at most 65,535 octets")
	}
	return append(dst, FlagUnrecognized, typ, byte(n>>8), byte(n))
}

func appendZeros(dst []byte, n int) []byte {
	var zeros [64]byte
	for n > len(zeros) {
		dst, n = append(dst, zeros[:]...), n-len(zeros)
	}
	return append(dst, zeros[:n]...)
}

// VerifyTLVs reports whether the TLVs of an authenticated packet are protected:
// an HMAC TLV matches, and nothing but extra padding follows it. A packet
// without TLVs, or with a single one that is extra padding, needs none
// (RFC 8972 section 4.8).
func VerifyTLVs(packet []byte, mac *MAC) bool {
	return len(packet) >= AuthLen && intact(binary.BigEndian.Uint32(packet), packet[AuthLen:], mac)
}

func intact(seq uint32, tlvs []byte, mac *MAC) bool {
	count, bare, sealed := 0, true, false // bare: nothing but padding so far
	for at := 0; ; count++ {
		t, rest, ok := NextTLV(tlvs[at:])
		if !ok {
			return len(rest) == 0 && (sealed || bare && count <= 1)
		}
		switch {
		case t.Type == TypePadding:
		case sealed:
			return false
		case t.Type != TypeHMAC:
			bare = false
		case !hmac.Equal(t.Value, mac.tlvs(seq, tlvs[:at])):
			return false
		default:
			sealed = true
		}
		at = len(tlvs) - len(rest)
	}
}

// ReflectTLVs turns the TLVs of a request, at reply[base:], into those of its
// reply, in place and without changing their length. The base packet of the
// reply is in place already; seq is the sequence of the request. mac is nil in
// unauthenticated mode, where HMAC TLVs are unrecognised; status is nil when
// there is none to tell.
func ReflectTLVs(reply []byte, base int, seq uint32, mac *MAC, status *Status) {
	tlvs := reply[base:]
	if len(tlvs) == 0 || tlvs[0]&FlagUnrecognized == 0 {
		return // none, or the padding of an older sender
	}
	good := mac == nil || intact(seq, tlvs, mac)
	for at := 0; at < len(tlvs); {
		t, rest, ok := NextTLV(tlvs[at:])
		if !ok {
			tlvs[at] |= FlagMalformed
			return
		}
		switch {
		case !good:
			tlvs[at] |= FlagIntegrity
		case t.Type == TypePadding:
			tlvs[at] &^= FlagUnrecognized
		case t.Type == TypeHMAC && mac != nil:
			tlvs[at] &^= FlagUnrecognized
			copy(t.Value, mac.tlvs(binary.BigEndian.Uint32(reply), tlvs[:at]))
		case t.Type == TypeStatus && status != nil && blank(t.Value):
			tlvs[at] &^= FlagUnrecognized
			status.put(t.Value)
		}
		at = len(tlvs) - len(rest)
	}
}

// blank reports that v is the value of a status request.
func blank(v []byte) bool {
	var zeros [StatusLen]byte
	return bytes.Equal(v, zeros[:])
}
