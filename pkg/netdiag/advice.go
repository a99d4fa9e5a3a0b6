package netdiag

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// advise draws sentences from the figures, the one on files first.
func advise(c Comparison) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	tcp, udp := c.TCP, c.UDP

	switch {
	case tcp.Throughput == nil && udp.RTT != nil:
		say("Files: none now. UDP gets through and TCP does not; look at the TCP ports and firewalls first (doctor does).")
	case tcp.Throughput == nil:
		say("Files: TCP is the choice by kind, but its throughput could not be measured here.")
	case tcp.Loss != nil && *tcp.Loss > 0:
		say("Files: TCP. It carried %s in order and whole, although %s of its segments had to be sent again.", Rate(*tcp.Throughput), percent(*tcp.Loss))
	default:
		say("Files: TCP. It carried %s in order and whole, with nothing left to repair for the program.", Rate(*tcp.Throughput))
	}

	switch {
	case udp.RTT == nil && udp.Throughput == nil:
		say("UDP was not answered on this path: the ping cannot watch the receiver here, and nothing else should rely on UDP.")
	case udp.Loss != nil && *udp.Loss > 0 || udp.Reordered != nil && *udp.Reordered > 0:
		say("Over UDP %s of the datagrams were missing and %s came out of order: a program that needs them all would have to repair and sort, which is TCP again.", percentOf(udp.Loss), percentOf(udp.Reordered))
	default:
		say("UDP lost and reordered nothing in this time. It promises that for no other time.")
	}

	if tcp.Setup != nil && tcp.RTT != nil && udp.RTT != nil {
		say("Small, timely messages (pings, live sound and pictures): UDP. A first answer takes %s without set-up; over a new TCP connection %s, over an open one %s.",
			duration(*udp.RTT), duration(*tcp.Setup+*tcp.RTT), duration(*tcp.RTT))
	}
	if tcp.CPUPerGB != nil && udp.CPUPerGB != nil {
		switch ratio := float64(*udp.CPUPerGB) / float64(max(1, *tcp.CPUPerGB)); {
		case ratio >= 1.2 && udp.Capped:
			say("For each gigabyte UDP took %.1f times the processor time of TCP on this side. The kernel cuts segments for TCP, the program sends each datagram itself; and at the rate at which UDP was held it sleeps and wakes for each of them, which a faster sender would not.", ratio)
		case ratio >= 1.2:
			say("For each gigabyte UDP took %.1f times the processor time of TCP on this side: the kernel cuts segments for TCP, the program sends each datagram itself.", ratio)
		case ratio <= 1/1.2:
			say("For each gigabyte TCP took %.1f times the processor time of UDP on this side.", 1/ratio)
		default:
			say("Both took about the same processor time for each gigabyte on this side.")
		}
	}
	if udp.Capped {
		say("The throughput of UDP is no measure of the path: it was held at %s, the most that the guards of the ping allow. UDP does not slow down for others, so what a path could carry is not tried.", Rate(udp.Limit))
	}
	return out
}

// WriteComparison prints the table, the problems and the advice.
func WriteComparison(w io.Writer, c Comparison) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, cell func(Side) string) {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", name, cell(c.TCP), cell(c.UDP))
	}
	fmt.Fprintf(tw, "%s\tTCP\tUDP\n", c.Target)
	row("connection set-up", func(s Side) string {
		if s.Setup != nil && *s.Setup == 0 {
			return "none"
		}
		return durationOf(s.Setup)
	})
	row("round trip, median", func(s Side) string { return durationOf(s.RTT) })
	row("round trip, 99 %", func(s Side) string { return durationOf(s.P99) })
	row("lost (TCP: sent again)", func(s Side) string { return percentOf(s.Loss) })
	row("out of order", func(s Side) string { return percentOf(s.Reordered) })
	row("throughput", func(s Side) string {
		switch {
		case s.Throughput == nil:
			return "-"
		case s.Capped:
			return fmt.Sprintf("%s (held at %s)", Rate(*s.Throughput), Rate(s.Limit))
		}
		return Rate(*s.Throughput)
	})
	row("processor time per GB", func(s Side) string { return durationOf(s.CPUPerGB) })
	if c.Congestion != "" {
		fmt.Fprintf(tw, "congestion control\t%s\tnone\n", c.Congestion)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, p := range c.TCP.Problems {
		fmt.Fprintf(w, "TCP not measured: %s\n", p)
	}
	for _, p := range c.UDP.Problems {
		fmt.Fprintf(w, "UDP not measured: %s\n", p)
	}
	for _, a := range c.Advice {
		if _, err := fmt.Fprintf(w, "\n%s\n", a); err != nil {
			return err
		}
	}
	return nil
}

func durationOf(d *time.Duration) string {
	if d == nil {
		return "-"
	}
	return duration(*d)
}

func percentOf(f *float64) string {
	if f == nil {
		return "-"
	}
	return percent(*f)
}

func percent(f float64) string {
	switch {
	case f == 0:
		return "0 %"
	case f < 0.001:
		return fmt.Sprintf("%.3f %%", 100*f)
	default:
		return fmt.Sprintf("%.1f %%", 100*f)
	}
}
