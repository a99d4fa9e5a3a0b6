package cli

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Seconds is a duration as a flag that also takes a bare number of seconds, as
// ping(8) does: "0.2", "200ms".
type Seconds time.Duration

// UnmarshalText reads it; it is never negative and at most a day.
func (s *Seconds) UnmarshalText(t []byte) error {
	d, err := time.ParseDuration(string(t))
	if err != nil {
		var f float64
		if f, err = strconv.ParseFloat(string(t), 64); err == nil && !math.IsNaN(f) && math.Abs(f) <= 86_400 {
			d = time.Duration(f * float64(time.Second))
		} else {
			return fmt.Errorf("%q is not a time; write for example 0.2 (seconds) or 200ms", t)
		}
	}
	if d < 0 || d > 24*time.Hour {
		return fmt.Errorf("%q is out of range", t)
	}
	*s = Seconds(d)
	return nil
}

// MarshalText writes it with its unit.
func (s Seconds) MarshalText() ([]byte, error) { return []byte(time.Duration(s).String()), nil }
