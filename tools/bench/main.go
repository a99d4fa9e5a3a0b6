//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	rounds  int
	only    *regexp.Regexp
	who     *regexp.Regexp // contenders
	quick   bool
	bin     string
	output  string
	memory  string // tmpfs
	disk    string // a real disk, for the image
	ext4    string // a directory to use instead of an image
	limit   time.Duration
	timeout time.Duration
	repo    string
	profile string // directory for CPU profiles; empty: none
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o, only, who := &options{}, "", ""
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.IntVar(&o.rounds, "rounds", 5, "rounds of each case")
	set.StringVar(&only, "only", "", "measure only the cases that match: tmpfs/…, ext4/…, wan/loss0%/…, tls/…, memory/…, services/(submit|ended|at-once|pages|rpc), pings")
	set.StringVar(&who, "contenders", "", "measure only the contenders whose name matches, such as sluice|bare|rsync")
	set.BoolVar(&o.quick, "quick", false, "one round of small amounts, to see that everything works")
	set.StringVar(&o.bin, "bin", "bin", "directory of sender and receiver")
	set.StringVar(&o.output, "o", "", "file to write the tables to as Markdown; its section of notes is kept")
	set.StringVar(&o.memory, "tmpfs", "/dev/shm", "directory in memory")
	set.StringVar(&o.disk, "disk", os.TempDir(), "directory on a real disk, for the image of ext4")
	set.StringVar(&o.ext4, "ext4-dir", "", "directory on a real ext4, instead of an image; needs no root")
	set.DurationVar(&o.limit, "limit", 2*time.Minute, "stop a run that takes longer")
	set.DurationVar(&o.timeout, "timeout", 90*time.Minute, "stop everything after this long")
	set.StringVar(&o.profile, "profiles", "", "directory for CPU profiles of sender and receiver in the last round, whose figures suffer a little")
	set.StringVar(&o.repo, "repo", ".", "directory of the module")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 || o.rounds < 1 {
		set.Usage()
		return nil, errors.New("takes flags only, and at least one round")
	}
	if o.quick {
		o.rounds = 1
	}
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return nil, err
	}
	o.who, err = regexp.Compile(who)
	return o, err
}

// run measures, or plays the end of a measurement that args begin with.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	if len(args) > 0 {
		if role := roles()[args[0]]; role != nil {
			return role(ctx, args[1:], stdout)
		}
	}
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not done after -timeout %v", o.timeout))
	defer cancel()
	b, err := newBench(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	stopped := b.measure(ctx)
	if stopped != nil { // what was measured by then counts
		b.skip("the rest", stopped)
	}
	err = errors.Join(stopped, b.write(stdout))
	if o.quick { // which is to see that everything works
		err = errors.Join(err, b.results.broken())
	}
	return err
}

// write puts the tables on stdout, or into the file.
func (b *bench) write(stdout io.Writer) error {
	if len(b.results.reports)+len(b.results.growth)+len(b.results.pings)+len(b.results.figures) == 0 {
		return fmt.Errorf("nothing was measured: %v", b.results.left)
	}
	text := b.results.text(b.sizes)
	if b.output == "" {
		_, err := io.WriteString(stdout, text)
		return err
	}
	old, err := os.ReadFile(b.output)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(b.output, []byte(b.results.page(text, notes(string(old)))), 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "wrote %s\n\n%s", filepath.Clean(b.output), goalTable(b.results.goals(b.sizes)))
	return err
}
