package cli_test

import (
	"testing"
	"time"

	"github.com/e27efefb/sluice/services/internal/cli"
)

func TestSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{"0.2": 200 * time.Millisecond, "3": 3 * time.Second, "15ms": 15 * time.Millisecond, "0": 0} {
		var s cli.Seconds
		if err := s.UnmarshalText([]byte(text)); err != nil || time.Duration(s) != want {
			t.Errorf("%q: %v, %v; want %v", text, time.Duration(s), err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "-1s", "NaN", "Inf", "1e300", "48h"} {
		var s cli.Seconds
		if s.UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q passed as %v", text, time.Duration(s))
		}
	}
}
