package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// sample is what one run took.
type sample struct {
	took             time.Duration
	sendCPU, recvCPU time.Duration
	sendMem, recvMem int64   // octets
	others           float64 // cores that everything else on the machine used meanwhile
	bound            string  // what bounded it, as the sender says
}

// tool is a program and the Debian package that it is in.
type tool struct{ program, debian string }

// row is what one contender did in one case.
type row struct {
	name    string
	empty   bool // moved nothing that could be compared
	samples []sample
	failed  string // why there are no further samples
}

// report is what one case gave.
type report struct {
	name  string // place and work, for goals
	place string // what the place is
	size  string // of the work
	bytes int64
	tree  bool
	rows  []*row
}

// find returns the row of a contender, or nil.
func (r *report) find(name string) *row {
	for _, w := range r.rows {
		if w.name == name {
			return w
		}
	}
	return nil
}

// spread is a median with the least and the greatest.
type spread[T cmp.Ordered] struct{ median, min, max T }

// spreadOf is the spread of what f says of each sample. The median of an even
// number is the lower of the two in the middle: a value that was measured.
func spreadOf[T cmp.Ordered](samples []sample, f func(sample) T) spread[T] {
	values := make([]T, 0, len(samples))
	for _, s := range samples {
		values = append(values, f(s))
	}
	if len(values) == 0 {
		return spread[T]{}
	}
	return spread[T]{median(values), slices.Min(values), slices.Max(values)}
}

// median of at least one value.
func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

func (w *row) took() spread[time.Duration] {
	return spreadOf(w.samples, func(s sample) time.Duration { return s.took })
}

// cpu is the CPU time of both ends together.
func (w *row) cpu() spread[time.Duration] {
	return spreadOf(w.samples, func(s sample) time.Duration { return s.sendCPU + s.recvCPU })
}

func (w *row) sendCPU() spread[time.Duration] {
	return spreadOf(w.samples, func(s sample) time.Duration { return s.sendCPU })
}

func (w *row) recvCPU() spread[time.Duration] {
	return spreadOf(w.samples, func(s sample) time.Duration { return s.recvCPU })
}

// others is how many cores were taken by everything else.
func (w *row) others() spread[float64] {
	return spreadOf(w.samples, func(s sample) float64 { return s.others })
}

// memory is the largest of all runs, of the sending and the receiving end.
func (w *row) memory() (send, recv int64) {
	return spreadOf(w.samples, func(s sample) int64 { return s.sendMem }).max, spreadOf(w.samples, func(s sample) int64 { return s.recvMem }).max
}

// bound is what bounded most runs, as the sender says.
func (w *row) bound() string {
	count := make(map[string]int)
	best := ""
	for _, s := range w.samples {
		count[s.bound]++
		if count[s.bound] > count[best] {
			best = s.bound
		}
	}
	return best
}

// faster says how many times as fast as other w is: the ratio of medians, 0 if
// one of them was not measured.
func (w *row) faster(other *row) float64 {
	if w == nil || other == nil || len(w.samples) == 0 || len(other.samples) == 0 {
		return 0
	}
	return float64(other.took().median) / float64(w.took().median)
}

// growth is how much memory both ends took for one size of work.
type growth struct {
	name       string // "1 GB", "10,000 files"
	tree       bool
	send, recv int64 // octets
	took       time.Duration
	failed     string
}

// results are everything that one run of this program found.
type results struct {
	machine []string // lines about the machine and the programs
	reports []*report
	growth  []growth
	pings   []ping
	figures []figure // of the services
	missing []tool
	left    []string // what was not measured, and why
	rounds  int
	quick   bool
}

// report returns the report of a case, or nil.
func (r *results) report(name string) *report {
	for _, c := range r.reports {
		if c.name == name {
			return c
		}
	}
	return nil
}

// broken returns what of our own programs could not be measured. A rival that
// fails or is not installed is named on the page, and no error.
func (r *results) broken() error {
	var errs []error
	for _, c := range r.reports {
		for _, w := range c.rows {
			if w.failed != "" && strings.HasPrefix(w.name, "sluice") {
				errs = append(errs, fmt.Errorf("%s: %s: %s", c.name, w.name, w.failed))
			}
		}
	}
	for _, g := range r.growth {
		if g.failed != "" {
			errs = append(errs, fmt.Errorf("memory, %s: %s", g.name, g.failed))
		}
	}
	for _, line := range r.left {
		if strings.HasPrefix(line, "services/") || strings.HasPrefix(line, "pings") {
			errs = append(errs, errors.New(line))
		}
	}
	return errors.Join(errs...)
}

// seconds formats a duration for a table.
func seconds(d time.Duration) string {
	switch s := d.Seconds(); {
	case s >= 100:
		return fmt.Sprintf("%.0f", s)
	case s >= 10:
		return fmt.Sprintf("%.1f", s)
	default:
		return fmt.Sprintf("%.2f", s)
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%d", (n+1<<19)>>20) }
