package health

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// SessionKey authenticates the packets of one session. It prints as nothing.
type SessionKey [32]byte

// String hides the key.
func (SessionKey) String() string { return "(hidden)" }

// GoString hides the key.
func (SessionKey) GoString() string { return "(hidden)" }

// LogValue hides the key.
func (SessionKey) LogValue() slog.Value { return slog.StringValue("(hidden)") }

// MarshalText hides the key: it travels in its own field of the control plane
// only.
func (SessionKey) MarshalText() ([]byte, error) { return []byte("(hidden)"), nil }

// Session is what the control plane hands to one pinger. A reflector counts its
// replies in it, which tells loss there from loss on the way back.
type Session struct {
	SSID    uint16 // STAMP session identifier, never 0
	Key     SessionKey
	Expires time.Time // each authenticated packet puts it off by the lifetime
}

// session is a Session at the reflector.
type session struct {
	principal string
	expires   time.Time
	mac       *stamp.MAC
	replies   uint32 // sent so far: the sequence of the next one
	window    window
	rate      bucket
}

// NewSession makes a session for the principal. It is forgotten when nothing
// authenticated has come for the lifetime, and when the process ends. The error
// is Busy when the principal, or all together, have as many as allowed.
func (r *Reflector) NewSession(principal string) (Session, error) {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	own := 0
	for id, s := range r.sessions {
		switch {
		case !now.Before(s.expires):
			delete(r.sessions, id)
		case s.principal == principal:
			own++
		}
	}
	if own >= r.cfg.PrincipalSessions || len(r.sessions) >= r.cfg.Sessions {
		return Session{}, &transfer.Error{
			Kind: transfer.Busy, Op: "open ping session", Msg: "too many ping sessions are open",
			Hint: "close other pings, or wait until their sessions expire", RetryAfter: r.cfg.Lifetime,
		}
	}
	out := Session{SSID: r.freeSSID(), Expires: now.Add(r.cfg.Lifetime)}
	_, _ = rand.Read(out.Key[:]) // never fails (crypto/rand)
	r.sessions[out.SSID] = &session{
		principal: principal, expires: out.Expires,
		mac: stamp.NewMAC(out.Key[:]), rate: newBucket(r.cfg.SessionRate),
	}
	return out, nil
}

// EndSession forgets a session; an unknown one is no error.
func (r *Reflector) EndSession(ssid uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, ssid)
}

// freeSSID returns a random identifier that is not taken. Half of them are free
// at least, because NewReflector bounds the sessions.
func (r *Reflector) freeSSID() uint16 {
	for {
		var b [2]byte
		_, _ = rand.Read(b[:])
		id := binary.BigEndian.Uint16(b[:])
		if _, taken := r.sessions[id]; id != 0 && !taken {
			return id
		}
	}
}

// window remembers which of the last 64 sequences came, so that a packet that
// was recorded and sent again gets no answer. Its zero value takes any first
// sequence. Sequences are compared modulo 2^32.
type window struct {
	begun bool
	last  uint32
	seen  uint64 // bit i: last-i came
}

// take reports whether seq is new, and remembers it.
func (w *window) take(seq uint32) bool {
	ahead := int32(seq - w.last)
	switch {
	case !w.begun:
		w.begun, w.last, w.seen = true, seq, 1
		return true
	case ahead > 0:
		w.seen, w.last = w.seen<<uint32(ahead)|1, seq
		return true
	case ahead <= -64 || w.seen&(1<<uint32(-ahead)) != 0:
		return false
	}
	w.seen |= 1 << uint32(-ahead)
	return true
}
