// Command soakjobs sends many jobs through one sender and one receiver while it
// kills both at random, and checks that every job ended once with an equal
// digest and that none was lost.
//
//	soakjobs [-jobs 1000] [-size 1048576] [-kills 20] [-seed N] [-bin bin]
//
// It prints one line of figures and exits 0, or says which promise was broken
// and exits 1; then the directory with the logs is kept.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/e27efefb/sluice/internal/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "soakjobs:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	set := flag.NewFlagSet("soakjobs", flag.ContinueOnError)
	set.SetOutput(stderr)
	cfg := soak.Config{Log: func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) }}
	set.IntVar(&cfg.Jobs, "jobs", 1000, "jobs, of one file each")
	set.Int64Var(&cfg.Size, "size", 1<<20, "octets of each file")
	kills := set.Int("kills", 20, "how often each of sender and receiver is killed")
	set.IntVar(&cfg.Running, "running", 4, "jobs at once")
	set.Uint64Var(&cfg.Seed, "seed", uint64(time.Now().UnixNano()), "seed of contents and kills") //nolint:gosec // after 1970
	set.StringVar(&cfg.Bin, "bin", "bin", "directory of sender and receiver")
	set.StringVar(&cfg.Dir, "dir", "", "directory for everything; default: a temporary one, removed at the end")
	limit := set.Duration("timeout", 30*time.Minute, "give up after this long")
	if err := set.Parse(args); err != nil {
		return err
	}
	cfg.SenderKills, cfg.ReceiverKills = *kills, *kills
	if cfg.Dir == "" {
		if cfg.Dir, err = os.MkdirTemp("", "soakjobs-"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(cfg.Dir)
			}
		}()
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	fmt.Fprintf(stderr, "seed %d, in %s\n", cfg.Seed, cfg.Dir)
	result, err := soak.Run(ctx, cfg)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, result)
	return err
}
