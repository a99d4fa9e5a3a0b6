package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// event is one line of `go test -json`; see `go doc cmd/test2json`, and for
// the build's own lines `go help buildjson`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

// testName is a test as a person looks for it: package and name, the subtest's
// path included.
type testName struct{ pkg, test string }

func (n testName) String() string { return n.pkg + "." + n.test }

func (n testName) isSub() bool { return strings.Contains(n.test, "/") }

// summary counts what a run did. Subtests, and the seeds of fuzz targets, are
// counted apart from the tests that they belong to.
type summary struct {
	packages int // that have tests
	passed   int
	failed   []testName
	skipped  []testName
	subtests int
	broken   []string // packages that failed as a whole
}

// summarise reads the events of `go test -json` from in until it ends, prints
// to out what a person needs to see, and counts.
func summarise(in io.Reader, out io.Writer) (summary, error) {
	var s summary
	kept := map[string]map[string]*strings.Builder{} // package, then test: its output so far
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20) // bytes; a test may log a long line
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		switch e.Action {
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "output":
			keep(kept, e)
		case "pass", "fail", "skip":
			if e.Test != "" {
				s.test(e, kept, out)
			} else {
				s.pack(e, kept[e.Package], out)
				delete(kept, e.Package)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return s, fmt.Errorf("read the output of go test: %w", err)
	}
	return s, nil
}

func keep(kept map[string]map[string]*strings.Builder, e event) {
	if kept[e.Package] == nil {
		kept[e.Package] = map[string]*strings.Builder{}
	}
	b := kept[e.Package][e.Test]
	if b == nil {
		b = &strings.Builder{}
		kept[e.Package][e.Test] = b
	}
	b.WriteString(e.Output)
}

// test counts one test that ended and prints its output if it failed.
func (s *summary) test(e event, kept map[string]map[string]*strings.Builder, out io.Writer) {
	text := ""
	if b := kept[e.Package][e.Test]; b != nil {
		text = b.String()
	}
	delete(kept[e.Package], e.Test)
	name := testName{e.Package, e.Test}
	if name.isSub() {
		s.subtests++
	}
	switch e.Action {
	case "fail":
		s.failed = append(s.failed, name)
		fmt.Fprint(out, text)
	case "skip":
		s.skipped = append(s.skipped, name)
		fmt.Fprint(out, text)
	default:
		if !name.isSub() {
			s.passed++
		}
	}
}

// pack ends a package: its closing line, or all that is left if it failed, the
// output of tests that a crash cut off included.
func (s *summary) pack(e event, left map[string]*strings.Builder, out io.Writer) {
	own := ""
	if b := left[""]; b != nil {
		own = b.String()
	}
	if e.Action == "fail" {
		s.packages++
		s.broken = append(s.broken, e.Package)
		for _, test := range slices.Sorted(maps.Keys(left)) {
			if test != "" {
				fmt.Fprint(out, left[test].String())
			}
		}
		fmt.Fprint(out, own)
		return
	}
	for line := range strings.Lines(own) {
		if strings.HasPrefix(line, "ok ") {
			s.packages++
			fmt.Fprint(out, line)
		}
	}
}

// line is the closing line of a run.
func (s *summary) line(took time.Duration) string {
	failed, skipped := topLevel(s.failed), topLevel(s.skipped)
	return fmt.Sprintf("tests: %d run (and %d subtests) in %d packages: %d passed, %d failed, %d skipped, %.1f s",
		s.passed+failed+skipped, s.subtests, s.packages, s.passed, failed, skipped, took.Seconds())
}

func topLevel(names []testName) int {
	n := 0
	for _, name := range names {
		if !name.isSub() {
			n++
		}
	}
	return n
}

// mostShown is how many names joined lists: enough to start with, and few
// enough to keep the closing line in sight.
const mostShown = 40

// joined lists names one a line, indented.
func joined[T any](names []T) string {
	var b strings.Builder
	for i, name := range names {
		if i == mostShown {
			fmt.Fprintf(&b, "\n  and %d more", len(names)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %v", name)
	}
	return b.String()
}

// causes leaves out the tests that failed because a subtest did.
func causes(failed []testName) []testName {
	var leaves []testName
	for _, n := range failed {
		if !slices.ContainsFunc(failed, func(o testName) bool {
			return o.pkg == n.pkg && strings.HasPrefix(o.test, n.test+"/")
		}) {
			leaves = append(leaves, n)
		}
	}
	return leaves
}

// verdict is nil for a run in which something was tested and nothing failed.
func (s *summary) verdict(noSkip bool) error {
	var errs []error
	if len(s.failed) > 0 {
		leaves := causes(s.failed)
		errs = append(errs, fmt.Errorf("%d failed:%s", len(leaves), joined(leaves)))
	}
	if len(s.broken) > 0 {
		errs = append(errs, fmt.Errorf("packages that failed:%s", joined(s.broken)))
	}
	if noSkip && len(s.skipped) > 0 {
		errs = append(errs, fmt.Errorf("%d skipped, where every test has to run:%s", len(s.skipped), joined(s.skipped)))
	}
	if s.passed == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("no test ran: check the packages and the -run pattern"))
	}
	return errors.Join(errs...)
}
