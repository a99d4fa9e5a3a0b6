package transfer

import (
	"crypto/rand"
	"encoding/hex"

	"github.com/google/uuid"
)

// ID names a transfer: a UUID version 7 (RFC 9562 section 5.7) chosen by the
// sender. It is the idempotency key of everything that concerns the transfer.
type ID [16]byte

// NewID returns a fresh UUIDv7. It panics only if the system has no randomness.
func NewID() ID { return ID(uuid.Must(uuid.NewV7())) }

// ParseID reads the canonical text form (36 octets). Other versions than 7 and
// the nil UUID are Invalid.
func ParseID(s string) (ID, error) {
	if len(s) != 36 {
		return ID{}, Errorf(Invalid, "read transfer id", "", "%q is not a UUID of 36 characters", s)
	}
	u, err := uuid.Parse(s)
	if err != nil {
		return ID{}, Errorf(Invalid, "read transfer id", "", "%q is not a UUID", s)
	}
	if u.Version() != 7 {
		return ID{}, Errorf(Invalid, "read transfer id", "", "%q is a UUID of version %d, want 7", s, u.Version())
	}
	return ID(u), nil
}

// String returns the canonical text form.
func (id ID) String() string { return uuid.UUID(id).String() }

// IsZero reports whether id was never set.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText writes the canonical form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the canonical form.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err == nil {
		*id = v
	}
	return err
}

// Session is random, one per run of a sender; a new one opens a new epoch.
type Session [16]byte

// NewSession returns 128 random bits.
func NewSession() Session {
	var s Session
	_, _ = rand.Read(s[:]) // never fails (crypto/rand, Go 1.24)
	return s
}

// String returns 32 hexadecimal digits.
func (s Session) String() string { return hex.EncodeToString(s[:]) }

// Epoch counts the sessions of a transfer from 1; 0 means none yet.
type Epoch uint64

// Token is the secret of one epoch's lanes: 256 random bits that travel once,
// in an answer over the control plane, and never on a lane.
type Token [32]byte

// NewToken returns 256 random bits.
func NewToken() Token {
	var t Token
	_, _ = rand.Read(t[:])
	return t
}

// String hides the secret, so that a token never reaches a log by accident.
func (t Token) String() string { return "token(hidden)" }
