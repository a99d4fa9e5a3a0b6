package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/e27efefb/sluice/pkg/health"
)

// pingEvery is the interval of the pings that are counted: 3,000 a minute, beside
// which the watching sender's own and a few segments of TCP hardly count.
const pingEvery = 20 * time.Millisecond

// pingSummary is what is read of the last line of sender ping --json.
type pingSummary struct {
	Elapsed     time.Duration `json:"elapsed_ns"`
	Sent        uint64        `json:"sent"`
	Received    uint64        `json:"received"`
	LossPercent float64       `json:"loss_percent"`
	LostForward uint64        `json:"lost_forward"`
	LostBack    uint64        `json:"lost_back"`
	P50         time.Duration `json:"rtt_p50_ns"`
}

// onlyPings measures a lossy path for long, while a sender service watches the
// receiver by itself.
func (s *soak) onlyPings(ctx context.Context, w *world) error {
	start := time.Now()
	if _, err := w.sender.await(ctx, time.Time{}, health.Alive); err != nil {
		return err
	}
	out, err := w.command(ctx, w.a, "sender", "ping", "--no-tls", receiverHost+":7402", "--auth", "--control", receiverHost+":7400", "--json",
		"-i", pingEvery.String(), "-c", strconv.Itoa(int(s.pings/pingEvery)))
	if err != nil {
		return err
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var sum pingSummary
	if err := json.Unmarshal(lines[len(lines)-1], &sum); err != nil {
		return fmt.Errorf("read the summary: %w", err)
	}
	if e, ok := w.sender.saw(start, health.Dead); ok {
		return fmt.Errorf("a false dead after %v: %s", e.at.Sub(start), e.Reason)
	}
	suspicions := w.sender.count(start, health.Suspect)
	ways, err := w.link.stop()
	if err != nil {
		return err
	}
	s.say("pings", "%d sent in %v over 80 ms and 5 %% of loss: %d received, %.2f %% lost, round trip p50 %.1f ms; the watching sender suspected %d times, and called nobody dead",
		sum.Sent, sum.Elapsed.Round(time.Second), sum.Received, sum.LossPercent, float64(sum.P50.Microseconds())/1000, suspicions)
	for i, c := range []struct {
		name string
		ours uint64
	}{{"there", sum.LostForward}, {"back", sum.LostBack}} {
		link := ways[i]
		s.say("pings", "%-5s we say %d lost; the link dropped %d of its %d packets, ours and others", c.name, c.ours, link.lost, link.carried+link.lost)
		// The others are the watching sender's pings and TCP; their loss is that of
		// chance, as they are.
		others := float64(link.carried+link.lost) - packets(&sum, i)
		expect := float64(c.ours) + 0.05*others
		if slack := 10 + 4*math.Sqrt(0.05*math.Max(others, 0)); math.Abs(expect-float64(link.lost)) > slack {
			return fmt.Errorf("on the way %s we say %d lost, and the link dropped %d; at most %.0f apart were expected", c.name, c.ours, link.lost, slack+0.05*others)
		}
	}
	return nil
}

// packets is how many of our pings went one way: all there, and those back that
// the reflector saw.
func packets(s *pingSummary, way int) float64 {
	if way == 0 {
		return float64(s.Sent)
	}
	return float64(s.Sent - s.LostForward)
}
