//go:build linux

// Command wanlink joins two network namespaces by an emulated wide-area link,
// so that real TCP and UDP can be measured under delay, loss and a bandwidth
// limit on a kernel without netem. It needs root, iproute2 and /dev/net/tun.
//
//	wanlink [-rtt 50ms] [-rate 500] [-loss 0.001] [-reorder 0] [-queue 4194304] [-mtu 1500]
//
// It makes the namespaces wan-a (10.99.0.1) and wan-b (10.99.0.2), prints
// "ready", forwards packets until it gets SIGINT or SIGTERM, then removes the
// namespaces and prints what it carried and dropped. Run a program on either
// end with `ip netns exec wan-a …` and `ip netns exec wan-b …`.
//
// Every packet crosses this process, which takes CPU time from the programs
// under test: prefer a large MTU where the packets' size does not matter.
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
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "wanlink:", err)
		os.Exit(1)
	}
}

// run makes the link and carries packets until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	var s shape
	set := flag.NewFlagSet("wanlink", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.DurationVar(&s.rtt, "rtt", 50*time.Millisecond, "round-trip time added by the link")
	set.Float64Var(&s.rate, "rate", 500, "bandwidth of each direction, Mbit/s; 0 for no limit")
	set.Float64Var(&s.loss, "loss", 0, "share of packets dropped at random in each direction, 0 to 1")
	set.Float64Var(&s.reorder, "reorder", 0, "share of packets delayed by a further quarter of the round trip, 0 to 1")
	set.IntVar(&s.queue, "queue", 4<<20, "bytes that may wait for the link in each direction; more are dropped")
	mtu := set.Int("mtu", 1500, "MTU of both ends, bytes")
	nameA := set.String("a", "wan-a", "namespace of the first end, 10.99.0.1")
	nameB := set.String("b", "wan-b", "namespace of the second end, 10.99.0.2")
	if err := set.Parse(args); err != nil {
		return err
	}

	// The namespaces are removed even after ctx has ended.
	lasting := context.WithoutCancel(ctx)
	var ends []*os.File
	defer func() {
		for _, end := range ends {
			_ = end.Close() // a second Close of an end that carry closed is harmless
		}
	}()
	for i, ns := range []string{*nameA, *nameB} {
		if err := ip(ctx, "netns", "add", ns); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, ip(lasting, "netns", "del", ns)) }()
		end, err := openTUN(ctx, ns, fmt.Sprintf("10.99.0.%d/24", i+1), *mtu)
		if err != nil {
			return err
		}
		ends = append(ends, end)
	}

	ab, ba := newDirection(s, ends[0], ends[1]), newDirection(s, ends[1], ends[0])
	fmt.Fprintln(stdout, "ready")
	if err := carry(ctx, ab, ba); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "a to b:", ab)
	fmt.Fprintln(stdout, "b to a:", ba)
	return nil
}

// carry moves packets both ways until ctx ends, then closes both ends, which
// is what makes their readers return.
func carry(ctx context.Context, ways ...*direction) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, d := range ways {
		group.Go(d.read)
		group.Go(func() error { return d.write(ctx) })
	}
	group.Go(func() error {
		<-ctx.Done()
		var errs []error
		for _, d := range ways {
			errs = append(errs, d.from.Close())
		}
		return errors.Join(errs...)
	})
	return group.Wait()
}

func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("run ip %v: %w: %s", args, err, out)
	}
	return nil
}
