// Command runtests runs `go test` and closes with one line that says how many
// tests ran, so that a run in which nothing was tested cannot pass unseen.
//
//	runtests [-C dir] [-tag TAG] [-no-skip] [go test's flags] [packages]
//
// It prints each package's line as `go test` does, and the whole output of
// what failed. It fails when a test or a build failed, when no test ran at
// all, and, with -no-skip, when a test was skipped.
//
// With -tag only the tests that exist because of that build tag run: those of
// `make test-root` and `make interop`, which would otherwise run every other
// test a second time.
//
// Why not `go test` alone: its closing lines show packages, not tests, and a
// skipped test looks like a passed one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "runtests:", err)
		os.Exit(1)
	}
}

// options are runtests' own flags; rest goes to `go test` as it stands.
type options struct {
	dir    string
	tag    string
	noSkip bool
	rest   []string
}

// parse takes runtests' own flags, which come first, off args.
func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	set := flag.NewFlagSet("runtests", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&o.dir, "C", ".", "directory of the module to test")
	set.StringVar(&o.tag, "tag", "", "run only the tests that this build tag adds")
	set.BoolVar(&o.noSkip, "no-skip", false, "fail when a test is skipped")
	if err := set.Parse(ownFlags(set, args)); err != nil {
		return o, err
	}
	o.rest = args[len(ownFlags(set, args)):]
	return o, nil
}

// ownFlags returns the leading args that belong to set, so that a flag of
// `go test` such as -race ends them instead of being an error.
func ownFlags(set *flag.FlagSet, args []string) []string {
	i := 0
	for i < len(args) {
		name, _, joined := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		f := set.Lookup(name)
		if f == nil || !strings.HasPrefix(args[i], "-") {
			break
		}
		i++
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); (!ok || !b.IsBoolFlag()) && !joined {
			i++
		}
	}
	return args[:min(i, len(args))]
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	testArgs := []string{"test", "-json"}
	if o.tag == "" {
		testArgs = append(testArgs, o.rest...)
	} else {
		flags, patterns := splitPackages(o.rest)
		chosen, err := selectTagged(ctx, o.dir, o.tag, patterns)
		if err != nil {
			return err
		}
		testArgs = append(testArgs, "-tags", o.tag, "-run", chosen.runPattern())
		testArgs = append(append(testArgs, flags...), chosen.packages...)
	}

	start := time.Now()
	cmd := exec.CommandContext(ctx, "go", testArgs...)
	cmd.Dir = o.dir
	cmd.Stderr = stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("open the pipe of go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go test: %w", err)
	}
	sum, readErr := summarise(out, stdout)
	waitErr := cmd.Wait()
	fmt.Fprintln(stdout, sum.line(time.Since(start)))
	return errors.Join(sum.verdict(o.noSkip), readErr, waitErr)
}

// splitPackages separates package patterns, which come last, from flags.
func splitPackages(args []string) (flags, patterns []string) {
	i := len(args)
	for i > 0 && strings.HasPrefix(args[i-1], ".") {
		i--
	}
	if i == len(args) {
		return args, []string{"./..."}
	}
	return args[:i], args[i:]
}
