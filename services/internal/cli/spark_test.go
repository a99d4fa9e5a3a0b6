package cli_test

import (
	"testing"
	"time"

	"github.com/e27efefb/sluice/services/internal/cli"
)

func TestSpark(t *testing.T) {
	s := cli.Spark{Width: 5}
	if got := s.String(); got != "" {
		t.Errorf("nothing added: %q", got)
	}
	s.Gap()
	s.Add(time.Second)
	if got := s.String(); got != "×▁" {
		t.Errorf("one value: %q", got)
	}
	for _, d := range []time.Duration{1, 8, 4, -3} {
		s.Add(d)
	}
	s.Gap()
	if got := s.String(); got != "▂█▅▁×" {
		t.Errorf("the newest five: %q", got)
	}
}
