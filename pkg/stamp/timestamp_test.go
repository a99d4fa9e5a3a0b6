package stamp

import (
	"math"
	"testing"
	"time"
)

func TestTimestampGolden(t *testing.T) {
	for _, c := range []struct {
		at   time.Time
		want Timestamp
	}{
		{time.Unix(0, 0), 0x83aa7e80_00000000},
		{time.Unix(0, 500_000_000), 0x83aa7e80_80000000},
		{time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC), 0},
		{time.Date(2026, 11, 27, 0, 0, 0, 250_000_000, time.UTC), 0xeeb34680_40000000},
		{time.Date(2036, 2, 7, 6, 28, 16, 0, time.UTC), 0}, // the next era
	} {
		if got := TimestampOf(c.at); got != c.want {
			t.Errorf("TimestampOf(%v) = %#x, want %#x", c.at, got, c.want)
		}
	}
}

func TestTimestampRoundTrip(t *testing.T) {
	for _, near := range []time.Time{time.Unix(1_800_000_000, 0), time.Unix(2_085_978_496, 0), time.Unix(4_000_000_000, 0)} {
		for i := range 100_000 {
			at := near.Add(time.Duration(i) * 1_234_567_891 * time.Nanosecond)
			if got := TimestampOf(at).Time(near); !got.Equal(at) {
				t.Fatalf("%v came back as %v", at, got)
			}
		}
	}
}

func TestSub(t *testing.T) {
	const ptp = ptpFormat | 1
	a := time.Unix(1_800_000_000, 999_999_999)
	for _, d := range []time.Duration{0, 1, -1, time.Millisecond, -time.Millisecond, time.Hour + 1, -48 * time.Hour} {
		if got := ErrorEstimate(1).Sub(TimestampOf(a.Add(d)), TimestampOf(a)); got < d-1 || got > d+1 {
			t.Errorf("NTP difference %v, want %v", got, d)
		}
		ts := func(t time.Time) Timestamp {
			return Timestamp(uint64(t.Unix())<<32 | uint64(t.Nanosecond()))
		}
		if got := ptp.Sub(ts(a.Add(d)), ts(a)); got != d {
			t.Errorf("PTP difference %v, want %v", got, d)
		}
	}
	if got := ErrorEstimate(1).Sub(0x00000000_80000000, 0xffffffff_80000000); got != time.Second {
		t.Errorf("across the era: %v", got)
	}
}

func TestErrorEstimate(t *testing.T) {
	for _, c := range []struct {
		sync bool
		err  time.Duration
		want ErrorEstimate
	}{
		{false, 0, 0x0001},
		{true, 0, 0x8001},
		{false, -time.Second, 0x0001},
		{false, time.Second, 0x1980},     // 128 * 2^25 * 2^-32 s
		{true, time.Millisecond, 0x8f84}, // 132 * 2^15 * 2^-32 s = 1.007 ms
		{false, math.MaxInt64, 0x3980},   // 2^32 s
	} {
		got := NewErrorEstimate(c.sync, c.err)
		if got != c.want || !got.Valid() || got.PTP() || got.Synchronized() != c.sync {
			t.Errorf("NewErrorEstimate(%v, %v) = %#04x, want %#04x", c.sync, c.err, got, c.want)
		}
	}
	for e := time.Nanosecond; e < 1000*time.Hour; e = e*5/4 + 1 {
		got := NewErrorEstimate(false, e).Bound()
		if got < e-1 || got > e+e/64+2 {
			t.Errorf("%v became %v", e, got)
		}
	}
	if got := ErrorEstimate(0x3fff).Bound(); got != math.MaxInt64 {
		t.Errorf("largest = %v", got)
	}
	if ErrorEstimate(0x8000).Valid() {
		t.Error("a multiplier of 0 is valid")
	}
}
