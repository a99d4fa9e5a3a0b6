package netdiag

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Status is the judgement of a check.
type Status string

// The judgements, from good to bad.
const (
	OK      Status = "ok"
	Warning Status = "warning" // transfers work, but not as well as they could
	Failure Status = "failure" // transfers fail, or are not safe
)

func (s Status) rank() int {
	switch s {
	case OK:
		return 0
	case Warning:
		return 1
	default:
		return 2
	}
}

// Result is what a check found.
type Result struct {
	Status Status `json:"status"`
	// Detail says what was found, in figures where there are any.
	Detail string `json:"detail"`
	// Do says what a person can do about it; empty when there is nothing to do.
	Do string `json:"do,omitempty"`
}

// Okay makes the Result of a check that found nothing wrong, as Warn and Fail
// make theirs.
func Okay(format string, args ...any) Result {
	return Result{Status: OK, Detail: fmt.Sprintf(format, args...)}
}

// Warn makes a Result with Status Warning; do is what to do about it.
func Warn(do, format string, args ...any) Result {
	return Result{Status: Warning, Detail: fmt.Sprintf(format, args...), Do: do}
}

// Fail makes a Result with Status Failure; do is what to do about it.
func Fail(do, format string, args ...any) Result {
	return Result{Status: Failure, Detail: fmt.Sprintf(format, args...), Do: do}
}

// Check is one thing to look at.
type Check struct {
	// Name is the first column, such as "data port".
	Name string
	// Timeout bounds Run; 0 means 5 s.
	Timeout time.Duration
	// Run looks. It must return soon after ctx ends.
	Run func(ctx context.Context) Result
}

// Line is the result of one check.
type Line struct {
	Name string `json:"name"`
	Result
	// Elapsed is how long the check took.
	Elapsed time.Duration `json:"elapsed_ns"`
}

// Report is the result of all checks, in their order.
type Report struct {
	// Target is what was examined, such as "host:7400".
	Target string `json:"target"`
	// Status is the worst of the lines.
	Status Status `json:"status"`
	Lines  []Line `json:"checks"`
}

// Doctor runs the checks one after the other and calls each (nil: nobody) with
// every line as soon as it is known. A check that does not end in time is a
// failure. When ctx ends, the remaining checks are failures that were not run.
func Doctor(ctx context.Context, target string, checks []Check, each func(Line)) Report {
	const usual = 5 * time.Second
	r := Report{Target: target, Status: OK, Lines: make([]Line, 0, len(checks))}
	for _, c := range checks {
		limit := c.Timeout
		if limit <= 0 {
			limit = usual
		}
		start := time.Now()
		line := Line{Name: c.Name, Result: examine(ctx, c, limit)}
		line.Elapsed = time.Since(start)
		if line.rank() > r.Status.rank() {
			r.Status = line.Status
		}
		r.Lines = append(r.Lines, line)
		if each != nil {
			each(line)
		}
	}
	return r
}

func (l Line) rank() int { return l.Status.rank() }

func examine(ctx context.Context, c Check, limit time.Duration) Result {
	if ctx.Err() != nil {
		return Fail("run the doctor again", "not examined: %v", context.Cause(ctx))
	}
	late := fmt.Errorf("no result within %v", limit)
	cctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	res := c.Run(cctx)
	if res.Status != OK && errors.Is(context.Cause(cctx), late) && !strings.Contains(res.Detail, late.Error()) {
		res.Detail += " (" + late.Error() + ")"
	}
	return res
}

// ExitCode is 1 when a check failed and 0 otherwise: warnings alone do not stop
// a script.
func (r Report) ExitCode() int {
	if r.Status == Failure {
		return 1
	}
	return 0
}

// WriteLine prints one line of a report, and below it what to do.
func WriteLine(w io.Writer, l Line) error {
	text := fmt.Sprintf("%-8s %-16s %s\n", l.Status, l.Name, l.Detail)
	if l.Do != "" {
		text += fmt.Sprintf("%-8s %-16s → %s\n", "", "", l.Do)
	}
	_, err := io.WriteString(w, text)
	return err
}

// WriteReport prints all lines and a summary.
func WriteReport(w io.Writer, r Report) error {
	for _, l := range r.Lines {
		if err := WriteLine(w, l); err != nil {
			return err
		}
	}
	return WriteSummary(w, r)
}

// WriteSummary prints the last line of a report, for those who printed the
// others as they came.
func WriteSummary(w io.Writer, r Report) error {
	var warnings, failures int
	for _, l := range r.Lines {
		switch l.Status {
		case Warning:
			warnings++
		case Failure:
			failures++
		}
	}
	_, err := fmt.Fprintf(w, "%s: %s of %d checks; warnings: %d, failures: %d\n", r.Target, r.Status, len(r.Lines), warnings, failures)
	return err
}
