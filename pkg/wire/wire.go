package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Lengths in octets, and the version of the lane protocol.
const (
	HelloLen  = 80
	HeaderLen = 24
	AckLen    = 16
	Version   = 1

	magic   = 0x534c5543 // "SLUC"
	macFrom = 48
)

// Hello opens a lane.
type Hello struct {
	ID    transfer.ID
	Epoch transfer.Epoch
	Nonce [16]byte
	MAC   [32]byte
}

// Append writes the hello, with its MAC computed from token, to b.
func (h *Hello) Append(b []byte, token transfer.Token) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, magic)
	b = append(b, Version, 0, 0, 0)
	b = append(b, h.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Epoch))
	b = append(b, h.Nonce[:]...)
	mac := sum(b[start:], token)
	h.MAC = mac
	return append(b, mac[:]...)
}

func sum(b []byte, token transfer.Token) (mac [32]byte) {
	m := hmac.New(sha256.New, token[:])
	m.Write(b)
	m.Sum(mac[:0])
	return mac
}

// ParseHello reads HelloLen octets. The error is Invalid. The MAC is not
// checked: call Verify once the token is known.
func ParseHello(b *[HelloLen]byte) (Hello, error) {
	var h Hello
	switch {
	case binary.BigEndian.Uint32(b[0:]) != magic:
		return h, transfer.Errorf(transfer.Invalid, "read hello", "", "this is not a Sluice lane")
	case b[4] != Version:
		return h, transfer.Errorf(transfer.Invalid, "read hello", "", "lane version %d, want %d", b[4], Version)
	case b[5]|b[6]|b[7] != 0:
		return h, transfer.Errorf(transfer.Invalid, "read hello", "", "reserved octets are not zero")
	}
	copy(h.ID[:], b[8:24])
	h.Epoch = transfer.Epoch(binary.BigEndian.Uint64(b[24:]))
	copy(h.Nonce[:], b[32:48])
	copy(h.MAC[:], b[48:80])
	if h.Epoch == 0 {
		return h, transfer.Errorf(transfer.Invalid, "read hello", "", "epoch 0")
	}
	return h, nil
}

// Verify reports whether the MAC was made with token, in constant time.
func (h *Hello) Verify(token transfer.Token) bool {
	b := make([]byte, 0, HelloLen)
	c := *h
	b = c.Append(b, token)
	return hmac.Equal(b[macFrom:], h.MAC[:])
}

// Header precedes the octets of a frame.
type Header struct {
	File   uint32
	Offset int64
	Length int64
}

const frameData = 1

// Append writes the header to b.
func (h Header) Append(b []byte) []byte {
	b = append(b, frameData, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, h.File)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Offset))    //nolint:gosec // never negative
	return binary.BigEndian.AppendUint64(b, uint64(h.Length)) //nolint:gosec // never negative
}

// ParseHeader reads HeaderLen octets. Offsets and lengths beyond
// transfer.MaxFileSize are Invalid, so their sum cannot overflow.
func ParseHeader(b []byte) (Header, error) {
	_ = b[HeaderLen-1]
	if b[0] != frameData || b[1]|b[2]|b[3] != 0 {
		return Header{}, transfer.Errorf(transfer.Invalid, "read frame header", "", "type %d with reserved %x", b[0], b[1:4])
	}
	off, n := binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	if off > transfer.MaxFileSize || n == 0 || n > transfer.MaxFileSize {
		return Header{}, transfer.Errorf(transfer.Invalid, "read frame header", "", "offset %d, length %d", off, n)
	}
	return Header{File: binary.BigEndian.Uint32(b[4:]), Offset: int64(off), Length: int64(n)}, nil //nolint:gosec // bounded above
}

// Check places the frame in a file: it returns the chunks that it carries. A
// frame that starts off a chunk border, runs past the end or stops inside a
// chunk before the end is Invalid. Size may be transfer.UnknownSize: then a
// frame may end anywhere, and an end off a border is the end of the file.
func (h Header) Check(size, chunkSize int64) (transfer.ChunkRange, error) {
	end := h.Offset + h.Length
	switch {
	case h.Offset%chunkSize != 0:
		return transfer.ChunkRange{}, transfer.Errorf(transfer.Invalid, "place frame", "", "offset %d is not a multiple of the chunk size %d", h.Offset, chunkSize)
	case size >= 0 && end > size:
		return transfer.ChunkRange{}, transfer.Errorf(transfer.Invalid, "place frame", "", "end %d is past the size %d", end, size)
	case size >= 0 && end < size && end%chunkSize != 0:
		return transfer.ChunkRange{}, transfer.Errorf(transfer.Invalid, "place frame", "", "end %d is inside a chunk", end)
	}
	first := h.Offset / chunkSize
	count := (end+chunkSize-1)/chunkSize - first
	if first+count > 1<<32-1 {
		return transfer.ChunkRange{}, transfer.Errorf(transfer.Invalid, "place frame", "", "chunk %d does not fit 32 bits", first+count)
	}
	return transfer.ChunkRange{First: uint32(first), Count: uint32(count)}, nil //nolint:gosec // checked above
}

// AckType says what an acknowledgement means.
type AckType uint8

// The types of acknowledgements.
const (
	AckHello   AckType = 1 // the lane is accepted
	AckWritten AckType = 2 // chunks are hashed and written
	AckRefused AckType = 3 // one chunk could not be taken; the lane goes on
	AckEnd     AckType = 4 // the lane ends; Kind says why
)

// Ack is one record from the receiver.
type Ack struct {
	Type  AckType
	Kind  transfer.Kind
	File  uint32
	Chunk uint32
	Count uint32
}

// Append writes the record to b.
func (a Ack) Append(b []byte) []byte {
	b = append(b, byte(a.Type), byte(a.Kind), 0, 0)
	b = binary.BigEndian.AppendUint32(b, a.File)
	b = binary.BigEndian.AppendUint32(b, a.Chunk)
	return binary.BigEndian.AppendUint32(b, a.Count)
}

// ParseAck reads AckLen octets; the error is Invalid.
func ParseAck(b []byte) (Ack, error) {
	_ = b[AckLen-1]
	a := Ack{
		Type: AckType(b[0]), Kind: transfer.Kind(b[1]),
		File: binary.BigEndian.Uint32(b[4:]), Chunk: binary.BigEndian.Uint32(b[8:]), Count: binary.BigEndian.Uint32(b[12:]),
	}
	if a.Type < AckHello || a.Type > AckEnd || b[2]|b[3] != 0 || !a.Kind.Valid() {
		return Ack{}, transfer.Errorf(transfer.Invalid, "read acknowledgement", "", "type %d, kind %d, reserved %x", b[0], b[1], b[2:4])
	}
	if a.Type == AckWritten && (a.Count == 0 || uint64(a.Chunk)+uint64(a.Count) > 1<<32-1) {
		return Ack{}, transfer.Errorf(transfer.Invalid, "read acknowledgement", "", "chunk %d, count %d", a.Chunk, a.Count)
	}
	return a, nil
}

// ReadHello reads one hello from r. A short one is io.ErrUnexpectedEOF.
func ReadHello(r io.Reader) (Hello, error) {
	var b [HelloLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Hello{}, err
	}
	return ParseHello(&b)
}
