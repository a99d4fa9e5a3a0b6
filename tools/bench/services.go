package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// serviceSizing is how much the sections of the two services do.
type serviceSizing struct {
	submits int // jobs submitted one at a time
	burst   int // jobs submitted by all callers together
	queued  int // jobs in the queue when memory is read; at least submits + burst
	ended   int // jobs from submit to receipt
	atOnce  int // transfers at once
	jobs    int // finished jobs that pages are read of
	pages   int // pages read of each kind
	calls   int // round trips of each kind
}

func fullServices() serviceSizing {
	return serviceSizing{submits: 1000, burst: 5000, queued: 10_000, ended: 1000, atOnce: 1000, jobs: 100_000, pages: 200, calls: 2000}
}

func quickServices() serviceSizing {
	return serviceSizing{submits: 50, burst: 200, queued: 300, ended: 50, atOnce: 40, jobs: 2000, pages: 20, calls: 100}
}

// figure is one thing that is said of the two services.
type figure struct {
	key    string // for goals
	says   string
	value  float64
	format string
	detail string // for people: spread, what else was seen
}

// note adds a figure.
func (r *results) note(f figure) { r.figures = append(r.figures, f) }

// figure returns the value of a figure, 0 if it was not measured.
func (r *results) figure(key string) float64 {
	for _, f := range r.figures {
		if f.key == key {
			return f.value
		}
	}
	return 0
}

// percentiles are of at least one duration.
type percentiles struct{ p50, p99, most time.Duration }

// percentilesOf takes the value at or above each share (nearest rank).
func percentilesOf(all []time.Duration) percentiles {
	if len(all) == 0 {
		return percentiles{}
	}
	sorted := slices.Sorted(slices.Values(all))
	at := func(percent int) time.Duration { return sorted[(len(sorted)*percent+99)/100-1] }
	return percentiles{at(50), at(99), sorted[len(sorted)-1]}
}

// detail says what a median alone does not.
func (p percentiles) detail(calls int) string {
	return fmt.Sprintf("p99 %s, most %s, of %s", milliseconds(p.p99), milliseconds(p.most), thousands(calls))
}

func inMilliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", inMilliseconds(d)) }

// serviceTable is the section of the two services.
func (r *results) serviceTable() string {
	var b strings.Builder
	b.WriteString("## Services\n\nThe built `sender serve` and `receiver serve`, called by gRPC over loopback by the bench itself. Job files lie on\na real disk, and a job counts when its submit was answered. Percentiles are over calls.\n\n| figure | | |\n|---|---|---|\n")
	for _, f := range r.figures {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", f.says, fmt.Sprintf(f.format, f.value), cell(f.detail))
	}
	return b.String()
}

// Names of the place and the contenders that show what TLS costs.
const (
	tlsPlaceName = "tls"

	tlsLanes   = "sluice blake3, TLS"
	plainLanes = "sluice blake3, TLS with --data-plain"
)

// serviceGoals are the goals of the two services. Those of memory with 1,000
// transfers and of the page are the project's; the others were set by what the
// first run reached, so that a step back is seen, and say so by a star.
func (r *results) serviceGoals(s sizing) []goal {
	atMost := func(key, says, format string, want float64) goal {
		return goal{says: says, value: r.figure(key), want: want, atMost: true, format: format}
	}
	all := []goal{
		atMost("submit/median", "submit one job after another, median *", "%.1f ms", 10),
		atMost("submit/p99", "submit one job after another, p99 *", "%.1f ms", 50),
		{says: "jobs stored durably a second, many callers *", value: r.figure("submit/stored"), want: 1000, format: "%.0f/s"},
		atMost("queued/memory", fmt.Sprintf("memory of the sender with %s queued jobs *", thousands(s.services.queued)), "%.0f MiB", 64),
		atMost("at-once/memory", fmt.Sprintf("memory of a receiver with %s transfers at once", thousands(s.services.atOnce)), "%.0f MiB", 512),
		atMost("pages/slowest", fmt.Sprintf("a page of %s finished jobs, the slowest kind", thousands(s.services.jobs)), "%.2f ms", 5),
		atMost("rpc/plain", "gRPC round trip without TLS *", "%.2f ms", 1),
		atMost("rpc/tls", "gRPC round trip with TLS *", "%.2f ms", 1),
	}
	tls := r.report(tlsPlaceName + "/" + s.bigName())
	for _, g := range []struct {
		name, says string
		want       float64
	}{
		{tlsLanes, "one big file, TLS lanes, against no TLS *", 0.5},
		{plainLanes, "one big file, TLS with plain lanes, against no TLS *", 0.9},
	} {
		out := goal{says: g.says, want: g.want, format: "%.2f ×"}
		if tls != nil {
			out.value = tls.find(g.name).faster(tls.find(blake3))
		}
		all = append(all, out)
	}
	return all
}
