package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/jobs"
)

func TestPercentiles(t *testing.T) {
	var all []time.Duration
	for i := 200; i > 0; i-- {
		all = append(all, time.Duration(i))
	}
	if got, want := percentilesOf(all), (percentiles{100, 198, 200}); got != want {
		t.Errorf("of 1 to 200: %v, want %v", got, want)
	}
	if got, want := percentilesOf([]time.Duration{7}), (percentiles{7, 7, 7}); got != want {
		t.Errorf("of one: %v", got)
	}
	if percentilesOf(nil) != (percentiles{}) {
		t.Error("percentiles of nothing")
	}
}

func TestServiceGoals(t *testing.T) {
	took := func(name string, d time.Duration) *row { return &row{name: name, samples: []sample{{took: d}}} }
	s := fullSizing()
	r := results{reports: []*report{{name: "tls/2GB", size: "x", rows: []*row{took(blake3, 10), took(tlsLanes, 21), took(plainLanes, 11)}}}}
	for key, value := range map[string]float64{"submit/median": 2, "submit/p99": 51, "submit/stored": 999, "queued/memory": 64, "at-once/memory": 513, "pages/slowest": 4.9} {
		r.note(figure{key: key, says: key, value: value, format: "%.1f", detail: "seen|so"})
	}
	want := map[string]string{
		"submit one job after another, median *":               "reached",
		"submit one job after another, p99 *":                  "**not reached**",
		"jobs stored durably a second, many callers *":         "**not reached**",
		"memory of the sender with 10,000 queued jobs *":       "reached",
		"memory of a receiver with 1,000 transfers at once":    "**not reached**",
		"a page of 100,000 finished jobs, the slowest kind":    "reached",
		"gRPC round trip without TLS *":                        "not measured",
		"one big file, TLS lanes, against no TLS *":            "**not reached**",
		"one big file, TLS with plain lanes, against no TLS *": "reached",
	}
	for _, g := range r.serviceGoals(s) {
		if verdict, ok := want[g.says]; ok && g.verdict() != verdict {
			t.Errorf("%s: %s with %v, want %s", g.says, g.verdict(), g.value, verdict)
		}
		delete(want, g.says)
	}
	if len(want) > 0 {
		t.Errorf("goals are missing: %v", want)
	}
	page := r.text(s)
	for _, line := range []string{"| submit/p99 | 51.0 | seen/so |", "| submit one job after another, p99 * | 51.0 ms | ≤ 50.0 ms | **not reached** |"} {
		if !strings.Contains(page, line) {
			t.Errorf("the page lacks %q:\n%s", line, page)
		}
	}
}

func TestMetricOf(t *testing.T) {
	const text = "# HELP lanes x\n# TYPE lanes gauge\nlanes_ended 3\nlanes 1.2e+03\n"
	if v, err := metricOf(strings.NewReader(text), "lanes"); v != 1200 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	if _, err := metricOf(strings.NewReader(text), "lane"); err == nil {
		t.Error("a metric that is not there is not an error")
	}
}

func TestEcho(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{self: self, memDir: t.TempDir()}
	call, done, err := b.echoCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	if err := done(); err != nil {
		t.Error(err)
	}
}

// The job file of the pages holds what it is said to hold.
func TestFinishedJobs(t *testing.T) {
	const n = 700
	path := filepath.Join(t.TempDir(), "jobs.db")
	if err := finishedJobs(t.Context(), path, n); err != nil {
		t.Fatal(err)
	}
	q, err := jobs.Open(jobs.Config{Path: path, Runner: receipts{}})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	page, err := q.List(jobs.Filter{States: []jobs.State{jobs.Succeeded}, Receiver: "far", PageSize: 1000})
	if err != nil || len(page.Jobs) != n || page.Next != "" {
		t.Fatalf("%d jobs and next page %q: %v", len(page.Jobs), page.Next, err)
	}
	if r := page.Jobs[0].Receipt; r == nil || len(r.Files) != 1 {
		t.Errorf("receipt %+v", r)
	}
}

// Callers stop at the first failure, and it is told.
func TestTogether(t *testing.T) {
	broken := errors.New("broken")
	var did [500]bool
	if err := together(t.Context(), len(did), func(_ context.Context, _, i int) error {
		did[i] = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for i, ok := range did {
		if !ok {
			t.Fatalf("%d was not done", i)
		}
	}
	if err := together(t.Context(), 500, func(_ context.Context, _, i int) error {
		if i == 3 {
			return broken
		}
		return nil
	}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}
