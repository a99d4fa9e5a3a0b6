package stamp

import "encoding/binary"

// StatusLen is the length in octets of the value of a status TLV.
const StatusLen = 32

const (
	statusMagic   = 0x534c5354 // "SLST"
	statusVersion = 1
)

// Serving is the health of a service with the numbers of grpc.health.v1.
type Serving uint8

// The values of grpc.health.v1.HealthCheckResponse.ServingStatus.
const (
	ServingUnknown Serving = 0
	ServingYes     Serving = 1
	ServingNo      Serving = 2
	ServiceUnknown Serving = 3
)

// String returns the name that grpc.health.v1 gives it.
func (s Serving) String() string {
	switch s {
	case ServingYes:
		return "SERVING"
	case ServingNo:
		return "NOT_SERVING"
	case ServiceUnknown:
		return "SERVICE_UNKNOWN"
	default:
		return "UNKNOWN"
	}
}

// MarshalText writes the name.
func (s Serving) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// StatusFlags say what a receiver does not do, though it serves.
type StatusFlags uint8

// Flags of a status.
const (
	Draining StatusFlags = 1 << 0 // it finishes what it has and takes nothing new
	ReadOnly StatusFlags = 1 << 1 // its storage cannot be written
	DiskLow  StatusFlags = 1 << 2 // its storage is nearly full
)

// Status is what a receiver tells about itself in TLV 251.
type Status struct {
	Serving     Serving     `json:"serving"`
	Flags       StatusFlags `json:"flags"`
	Load        uint8       `json:"load_percent"` // above 100: overloaded
	Incarnation uint64      `json:"incarnation"`  // random, fresh at each start
	Active      uint16      `json:"active"`       // open transfers
	FreeSlots   uint16      `json:"free_slots"`   // transfers that would be accepted
	FreeMiB     uint32      `json:"free_mib"`     // for transfers
	IdleMillis  uint32      `json:"idle_ms"`      // since data last moved
}

// AppendStatusRequest appends the status TLV as a sender sends it: zeroed, as
// long as the answer.
func AppendStatusRequest(dst []byte) []byte {
	return appendZeros(appendHeader(dst, TypeStatus, StatusLen), StatusLen)
}

// put writes s over the 32 octets of v.
func (s *Status) put(v []byte) {
	v = v[:StatusLen]
	binary.BigEndian.PutUint32(v[0:], statusMagic)
	v[4] = statusVersion
	v[5] = byte(s.Serving)
	v[6] = byte(s.Flags)
	v[7] = s.Load
	binary.BigEndian.PutUint64(v[8:], s.Incarnation)
	binary.BigEndian.PutUint16(v[16:], s.Active)
	binary.BigEndian.PutUint16(v[18:], s.FreeSlots)
	binary.BigEndian.PutUint32(v[20:], s.FreeMiB)
	binary.BigEndian.PutUint32(v[24:], s.IdleMillis)
	clear(v[28:])
}

// ParseStatus reads the value of a reflected status TLV. ok is false for a
// value that is not ours. Later versions keep these fields where they are.
func ParseStatus(v []byte) (s Status, ok bool) {
	if len(v) != StatusLen || binary.BigEndian.Uint32(v) != statusMagic || v[4] < statusVersion {
		return Status{}, false
	}
	return Status{
		Serving:     Serving(v[5]),
		Flags:       StatusFlags(v[6]),
		Load:        v[7],
		Incarnation: binary.BigEndian.Uint64(v[8:]),
		Active:      binary.BigEndian.Uint16(v[16:]),
		FreeSlots:   binary.BigEndian.Uint16(v[18:]),
		FreeMiB:     binary.BigEndian.Uint32(v[20:]),
		IdleMillis:  binary.BigEndian.Uint32(v[24:]),
	}, true
}

// FindStatus returns the status among the TLVs of a reply. ok is false when
// there is none, when the reflector did not understand the request (U is still
// set), and when the TLV is marked malformed or its integrity failed.
func FindStatus(tlvs []byte) (s Status, ok bool) {
	for {
		t, rest, more := NextTLV(tlvs)
		if !more {
			return Status{}, false
		}
		if t.Type == TypeStatus && t.Flags&(FlagUnrecognized|FlagMalformed|FlagIntegrity) == 0 {
			return ParseStatus(t.Value)
		}
		tlvs = rest
	}
}
