package stamp

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
)

const (
	// MACLen is the length in octets of a truncated HMAC (RFC 8762 section 4.4).
	MACLen = 16
	macAt  = AuthLen - MACLen
)

// MAC computes the HMACs of one session. It keeps its state between packets so
// that none is allocated for each, and serves one goroutine at a time.
type MAC struct {
	h   hash.Hash
	seq [4]byte
	sum [sha256.Size]byte
}

// NewMAC returns the MAC of the key, which is copied. Keys of 32 random octets
// are as strong as the hash; shorter than 16 ones can be guessed.
func NewMAC(key []byte) *MAC { return &MAC{h: hmac.New(sha256.New, key)} }

// Seal writes the HMAC of the base packet into its octets 96-111. It panics
// when the packet is shorter than 112 octets.
func (m *MAC) Seal(packet []byte) { copy(packet[macAt:AuthLen], m.base(packet)) }

// Verify reports in constant time whether the HMAC of the base packet matches.
func (m *MAC) Verify(packet []byte) bool {
	return len(packet) >= AuthLen && hmac.Equal(packet[macAt:AuthLen], m.base(packet))
}

func (m *MAC) base(packet []byte) []byte {
	m.h.Reset()
	m.h.Write(packet[:macAt])
	return m.h.Sum(m.sum[:0])[:MACLen]
}

// tlvs returns the HMAC of an HMAC TLV: over the sequence and the TLVs before.
func (m *MAC) tlvs(seq uint32, before []byte) []byte {
	m.seq = [4]byte{byte(seq >> 24), byte(seq >> 16), byte(seq >> 8), byte(seq)}
	m.h.Reset()
	m.h.Write(m.seq[:])
	m.h.Write(before)
	return m.h.Sum(m.sum[:0])[:MACLen]
}
