package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bytes is a number of octets as a flag: "512", "64KiB", "1.5GiB", "2GB".
// KiB, MiB, GiB, TiB are powers of 1,024 (IEC 80000-13), kB, MB, GB, TB powers
// of 1,000; a bare K, M, G, T means the power of 1,024.
type Bytes int64

var units = map[string]float64{
	"": 1, "b": 1,
	"k": 1 << 10, "ki": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mi": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gi": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "ti": 1 << 40, "tib": 1 << 40, "tb": 1e12,
}

// ParseBytes reads a size.
func ParseBytes(s string) (Bytes, error) {
	t := strings.TrimSpace(s)
	i := 0
	for i < len(t) && (t[i] >= '0' && t[i] <= '9' || t[i] == '.') {
		i++
	}
	unit, ok := units[strings.ToLower(strings.TrimSpace(t[i:]))]
	n, err := strconv.ParseFloat(t[:i], 64)
	if err != nil || !ok || n*unit > 1<<62 {
		return 0, fmt.Errorf("%q is not a size; write for example 512, 64MiB or 2GB", s)
	}
	return Bytes(n * unit), nil
}

// UnmarshalText reads a size (flags, variables, configuration).
func (b *Bytes) UnmarshalText(t []byte) error {
	v, err := ParseBytes(string(t))
	if err == nil {
		*b = v
	}
	return err
}

// MarshalText writes the exact number of octets.
func (b Bytes) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(b), 10), nil }

// String shows the size for people.
func (b Bytes) String() string { return Size(int64(b)) }

// Rate is octets per second as a flag: "10MiB/s", "10M", "400Mbit".
type Rate int64

// UnmarshalText reads a rate; "bit" units are divided by eight.
func (r *Rate) UnmarshalText(t []byte) error {
	s := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(string(t)), "/s"), "ps")
	div := 1.0
	low := strings.ToLower(s)
	if strings.HasSuffix(low, "bit") {
		s = s[:len(s)-3]
		if i := len(s) - 1; i >= 0 && !strings.HasSuffix(strings.ToLower(s), "i") && (s[i] < '0' || s[i] > '9') {
			s += "b" // "400Mbit" counts in powers of 1,000
		}
		div = 8
	}
	v, err := ParseBytes(s)
	if err != nil {
		return fmt.Errorf("%q is not a rate; write for example 10MiB/s or 400Mbit/s", t)
	}
	*r = Rate(float64(v) / div)
	if *r == 0 && v > 0 {
		*r = 1
	}
	return nil
}

// MarshalText writes octets per second.
func (r Rate) MarshalText() ([]byte, error) { return strconv.AppendInt(nil, int64(r), 10), nil }

// Size shows octets in at most nine columns: "812 B", "1.50 GiB".
func Size(n int64) string {
	if n < 0 {
		return "unknown"
	}
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f := float64(n)
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		f /= 1024
		if f < 999.5 || u == "PiB" {
			return fmt.Sprintf("%.3g %s", f, u)
		}
	}
	return ""
}

// Duration shows a duration with about three digits: "1.23s", "4m12s".
func Duration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Minute:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// Age shows how long ago something was, in at most four columns.
func Age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
