package health_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/health"
)

// Both ends have the same clock here, so the offset lies within its own error,
// but for what the kernel's time stamps and ours disagree by.
func TestClockOffset(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- health.NewReflector(health.ReflectorConfig{}).Serve(ctx, conn) }()
	s, err := health.Measure(ctx, health.PingerConfig{Addr: conn.LocalAddr().String(), Interval: 5 * time.Millisecond, Timeout: 10 * time.Second}, 5)
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if err != nil || s.ClockOffset == nil {
		t.Fatalf("%+v, %v", s, err)
	}
	const slack = time.Millisecond
	if s.ClockOffset.Abs() > s.ClockError+slack || s.ClockError > s.Max {
		t.Errorf("offset %v, error %v, longest round trip %v", *s.ClockOffset, s.ClockError, s.Max)
	}
}
