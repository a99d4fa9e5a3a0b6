package stamp

import (
	"math"
	"math/bits"
	"time"
)

// ntpUnix is the seconds from 1900-01-01 to 1970-01-01 (RFC 5905 figure 4).
const ntpUnix = 2_208_988_800

// Timestamp is an instant as packets carry it: 32 bits of seconds and 32 bits of
// fraction. Its zero value means no timestamp.
type Timestamp uint64

// TimestampOf returns t in NTP format, exact to the nanosecond. Times outside
// the current era wrap around, as RFC 5905 section 6 says.
func TimestampOf(t time.Time) Timestamp {
	sec := uint64(t.Unix()+ntpUnix) & math.MaxUint32
	frac := uint64(t.Nanosecond()) << 32 / 1e9
	return Timestamp(sec<<32 | frac)
}

// Seconds returns the whole seconds, modulo 2^32.
func (ts Timestamp) Seconds() uint32 { return uint32(ts >> 32) }

// Time returns ts, in NTP format, as the instant closest to near: eras of 136
// years are told apart by it.
func (ts Timestamp) Time(near time.Time) time.Time {
	base := uint32(near.Unix() + ntpUnix)
	sec := near.Unix() + int64(int32(ts.Seconds()-base))
	return time.Unix(sec, fraction(uint32(ts)))
}

// fraction returns f, in 2^-32 seconds, as the nearest nanosecond.
func fraction(f uint32) int64 { return int64((uint64(f)*1e9 + 1<<31) >> 32) }

// ErrorEstimate says how good the clock of a timestamp is and in which format
// it stands.
type ErrorEstimate uint16

const (
	synchronized ErrorEstimate = 1 << 15
	ptpFormat    ErrorEstimate = 1 << 14
)

// NewErrorEstimate returns the smallest estimate in NTP format that is not below
// the given error. An error of zero or less becomes the smallest that can be
// said, 2^-32 s, because a multiplier of 0 is forbidden (RFC 4656 section
// 4.1.2); one beyond 2^32 s becomes 2^32 s.
func NewErrorEstimate(sync bool, err time.Duration) ErrorEstimate {
	var e ErrorEstimate
	if sync {
		e = synchronized
	}
	sec, ns := uint64(max(0, err))/1e9, uint64(max(0, err))%1e9
	units := sec<<32 + (ns<<32+1e9-1)/1e9 // in 2^-32 s, rounded up
	if sec >= 1<<32 {
		units = math.MaxUint64
	}
	scale := max(0, bits.Len64(units)-8)
	mult := units >> scale
	if units&(1<<scale-1) != 0 {
		if mult++; mult > math.MaxUint8 {
			mult, scale = mult>>1, scale+1
		}
	}
	return e | ErrorEstimate(min(scale, 63))<<8 | ErrorEstimate(max(1, mult))
}

// Synchronized reports the S bit: the clock is synchronised to UTC.
func (e ErrorEstimate) Synchronized() bool { return e&synchronized != 0 }

// PTP reports the Z bit: timestamps are in the truncated PTPv2 format, 32 bits
// of seconds and 32 bits of nanoseconds (RFC 8186).
func (e ErrorEstimate) PTP() bool { return e&ptpFormat != 0 }

// Valid reports that the multiplier is not 0.
func (e ErrorEstimate) Valid() bool { return e&math.MaxUint8 != 0 }

// Bound returns the error that e stands for, at most the largest duration.
func (e ErrorEstimate) Bound() time.Duration {
	scale, mult := uint(e>>8)&63, uint64(e&math.MaxUint8)
	s := math.Ldexp(float64(mult), int(scale)-32) * 1e9
	if s >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(s)
}

// Sub returns a-b for two timestamps of the clock that e belongs to, in the
// format that e says. Differences beyond 68 years wrap around.
func (e ErrorEstimate) Sub(a, b Timestamp) time.Duration {
	if e.PTP() {
		sec := int64(int32(a.Seconds() - b.Seconds()))
		return time.Duration(sec*1e9 + int64(uint32(a)) - int64(uint32(b)))
	}
	d := int64(a - b)
	return time.Duration(d>>32*1e9 + fraction(uint32(d)))
}

// Instant returns ts, in the format that e says, as the instant closest to near.
// PTP seconds count from 1970 and are taken as they are: TAI, which they often
// are, is 37 s ahead of UTC.
func (e ErrorEstimate) Instant(ts Timestamp, near time.Time) time.Time {
	if e.PTP() {
		sec := near.Unix() + int64(int32(ts.Seconds()-uint32(near.Unix())))
		return time.Unix(sec, int64(uint32(ts)))
	}
	return ts.Time(near)
}
