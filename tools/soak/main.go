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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/e27efefb/sluice/pkg/health"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// soak is one run.
type soak struct {
	bin, dir string
	size     int64
	pings    time.Duration
	out      io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s := &soak{out: stdout}
	set := flag.NewFlagSet("soak", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.DurationVar(&s.pings, "pings", 10*time.Minute, "how long pings alone are measured")
	set.Int64Var(&s.size, "size", 64<<20, "octets of the file that is on its way")
	set.StringVar(&s.bin, "bin", "bin", "directory of sender and receiver")
	only := set.String("only", "freeze,udp,vanish,pings", "what is shown")
	if err := set.Parse(args); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root, to make network namespaces")
	}
	if s.bin, err = filepath.Abs(s.bin); err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "soak-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if err := s.buildLink(ctx); err != nil {
		return err
	}
	shows := strings.Split(*only, ",")
	var failed []error
	for _, show := range []struct {
		name string
		link []string
		f    func(context.Context, *world) error
	}{
		{"freeze", calm(), s.freeze},
		{"udp", calm(), s.blockUDP},
		{"vanish", calm(), s.vanish},
		{"pings", []string{"-rtt", "80ms", "-rate", "0", "-loss", "0.05"}, s.onlyPings},
	} {
		if !slices.Contains(shows, show.name) {
			continue
		}
		if err := s.in(ctx, show.name, show.link, show.f); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", show.name, err))
			fmt.Fprintf(s.out, "%-7s FAILED: %v\n", show.name, err)
		}
	}
	return errors.Join(failed...)
}

// calm is a link that a transfer needs some seconds for.
func calm() []string { return []string{"-rtt", "5ms", "-rate", "60"} }

func (s *soak) say(show, format string, args ...any) {
	fmt.Fprintf(s.out, "%-7s %s\n", show, fmt.Sprintf(format, args...))
}

// goal says whether a time was kept.
func goal(took, want time.Duration) string {
	if took <= want {
		return fmt.Sprintf("%d ms (goal %v: kept)", took.Milliseconds(), want)
	}
	return fmt.Sprintf("%d ms (goal %v: MISSED)", took.Milliseconds(), want)
}

// freeze stops the receiver in mid-transfer and lets it go on.
func (s *soak) freeze(ctx context.Context, w *world) error {
	job, err := w.midTransfer(ctx)
	if err != nil {
		return err
	}
	at := time.Now()
	if err := w.receiver.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	dead, err := w.sender.await(ctx, at, health.Dead)
	if cerr := w.receiver.signal(syscall.SIGCONT); err != nil || cerr != nil {
		return errors.Join(err, cerr)
	}
	s.say("freeze", "SIGSTOP of the receiver in mid-transfer: said after %s: %s", goal(dead.at.Sub(at), time.Second), dead.Reason)
	again := time.Now()
	if err := job.finish(ctx); err != nil {
		return err
	}
	s.say("freeze", "SIGCONT: the transfer finished %.1f s later, digests equal", time.Since(again).Seconds())
	return nil
}

// blockUDP drops UDP only.
func (s *soak) blockUDP(ctx context.Context, w *world) error {
	job, err := w.midTransfer(ctx)
	if err != nil {
		return err
	}
	at := time.Now()
	if err := w.drop(ctx, "-p", "udp"); err != nil {
		return err
	}
	blocked, err := w.sender.await(ctx, at, health.UDPBlocked)
	if err != nil {
		return err
	}
	if err := job.finish(ctx); err != nil {
		return err
	}
	if e, ok := w.sender.saw(at, health.Dead); ok {
		return fmt.Errorf("the receiver was called dead although data moved: %s", e.Reason)
	}
	if n := job.attempts(); n != 1 {
		return fmt.Errorf("the transfer took %d attempts, want 1: it was not to be touched", n)
	}
	s.say("udp", "UDP dropped in mid-transfer: said after %d ms; the transfer went on in its first attempt, digests equal", blocked.at.Sub(at).Milliseconds())
	return nil
}

// vanish drops everything towards the receiver, and later nothing any more.
func (s *soak) vanish(ctx context.Context, w *world) error {
	job, err := w.midTransfer(ctx)
	if err != nil {
		return err
	}
	at := time.Now()
	if err := w.drop(ctx); err != nil {
		return err
	}
	dead, err := w.sender.await(ctx, at, health.Dead)
	if err := errors.Join(err, w.dropNothing(ctx)); err != nil {
		return err
	}
	s.say("vanish", "everything dropped in mid-transfer: said after %s: %s", goal(dead.at.Sub(at), 3*time.Second), dead.Reason)
	again := time.Now()
	if err := job.finish(ctx); err != nil {
		return err
	}
	s.say("vanish", "nothing dropped any more: the transfer finished %.1f s later, digests equal", time.Since(again).Seconds())
	return nil
}
