package transfer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind classes a failure. Its number is the byte that lanes carry and its name
// is what gRPC details and JSON carry, so both are stable: kinds are only added.
type Kind uint8

// The kinds. OK is the zero value and means that nothing failed.
const (
	OK          Kind = 0  // no failure
	Internal    Kind = 1  // a fault of ours; the cause is in the log
	Invalid     Kind = 2  // the request can never succeed as it stands
	NotFound    Kind = 3  // no such transfer, file or job for this principal
	Exists      Kind = 4  // the final name is taken and the policy is fail
	Denied      Kind = 5  // the principal may not do this, or none was given
	NoSpace     Kind = 6  // disk, inodes or quota do not suffice
	Busy        Kind = 7  // a limit on work at once is reached; try later
	Changed     Kind = 8  // the source moved while it was sent
	Fenced      Kind = 9  // a newer session took the transfer over; final
	Corrupt     Kind = 10 // digests still differ after the rounds of repair
	Unavailable Kind = 11 // the far side cannot be reached or is stopping
	Canceled    Kind = 12 // the caller gave up
)

var kindNames = [...]string{
	"ok", "internal", "invalid", "not_found", "exists", "denied", "no_space",
	"busy", "changed", "fenced", "corrupt", "unavailable", "canceled",
}

// String returns the stable lower-case name, such as "no_space".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind_" + strconv.Itoa(int(k))
}

// ParseKind is the inverse of String. An unknown name is Internal.
func ParseKind(s string) Kind {
	for i, n := range kindNames {
		if n == s {
			return Kind(i)
		}
	}
	return Internal
}

// Valid reports whether k is a kind that this version knows.
func (k Kind) Valid() bool { return int(k) < len(kindNames) }

// Temporary reports whether the same call may succeed later without anything
// being changed by a person: Unavailable, Busy and NoSpace.
func (k Kind) Temporary() bool { return k == Unavailable || k == Busy || k == NoSpace }

// MarshalText writes the stable name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the stable name; an unknown one becomes Internal.
func (k *Kind) UnmarshalText(b []byte) error { *k = ParseKind(string(b)); return nil }

// Problem is one refused file of an offer.
type Problem struct {
	Path   string `json:"path"` // as it was offered, not quoted
	Kind   Kind   `json:"kind"`
	Reason string `json:"reason"` // a sentence without the path
}

// Error is the one error type of the domain. Op says what was tried in verb and
// object ("publish file"), Path which file (empty when none), Msg why it failed
// and Hint what a person can do about it.
type Error struct {
	Kind       Kind
	Op         string
	Path       string
	Msg        string
	Hint       string
	RetryAfter time.Duration // 0: no advice
	Problems   []Problem     // every refused file, for offers
	Remote     bool          // the far side said it, not we
	Err        error         // the cause, for the log; may be nil
}

// Error joins the parts; names are quoted when they hold anything unprintable.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		if e.Path != "" {
			b.WriteByte(' ')
			b.WriteString(Quote(e.Path))
		}
		b.WriteString(": ")
	} else if e.Path != "" {
		b.WriteString(Quote(e.Path))
		b.WriteString(": ")
	}
	switch {
	case e.Msg != "" && e.Err != nil:
		fmt.Fprintf(&b, "%s: %v", e.Msg, e.Err)
	case e.Msg != "":
		b.WriteString(e.Msg)
	case e.Err != nil:
		b.WriteString(e.Err.Error())
	default:
		b.WriteString(e.Kind.String())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports equality of kinds, so errors.Is(err, &Error{Kind: Exists}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Op == "" && t.Msg == "" && t.Err == nil
}

// Errorf makes an Error with a formatted message; a %w verb keeps the cause
// reachable for errors.Is and errors.As.
func Errorf(k Kind, op, path, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	if errors.Unwrap(err) == nil {
		return &Error{Kind: k, Op: op, Path: path, Msg: err.Error()}
	}
	return &Error{Kind: k, Op: op, Path: path, Err: err}
}

// WithHint returns a copy of e with the hint set.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// KindOf returns the kind of the first Error in err's chain, OK for nil and
// Internal for an error of any other type.
func KindOf(err error) Kind {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// HintOf returns the first hint in err's chain, or "".
func HintOf(err error) string {
	var e *Error
	for errors.As(err, &e) {
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
		e = nil
	}
	return ""
}

// Quote returns s as it may be printed on a terminal or in a log: unchanged
// when every rune is printable, else as a Go string literal.
func Quote(s string) string {
	q := strconv.Quote(s)
	if len(q) == len(s)+2 && q[1:len(q)-1] == s && !strings.ContainsAny(s, " \t") {
		return s
	}
	return q
}
