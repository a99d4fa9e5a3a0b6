package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/e27efefb/sluice/pkg/daemon"
	"github.com/e27efefb/sluice/services/internal/cli"
)

const description = "Sluice sender: moves files to a receiver and tells for certain that they arrived."

// app is what every command gets.
type app struct {
	ctx    context.Context //nolint:containedctx // lives as long as one command
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	kong   *kong.Context
}

// command is what each leaf of the grammar implements.
type command interface {
	run(a *app) error
}

// run is the whole program: tests call it with port 0 and buffers.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	var g grammar
	kctx, done, err := cli.Parse(&g, "sender", description, args, stdout, stderr)
	if done && err == nil {
		return nil
	}
	asJSON := wantsJSON(args)
	if err == nil {
		ctx, stop := daemon.Signals(ctx)
		defer stop()
		cmd, ok := kctx.Selected().Target.Addr().Interface().(command)
		if !ok {
			return fmt.Errorf("command %s cannot run", kctx.Command())
		}
		flush, terr := cli.Traces(ctx, "sender", stderr)
		if terr != nil {
			return cli.Code(cli.Fail(stderr, "sender", terr, false))
		}
		defer flush()
		ctx, end := cli.Span(ctx, "sender", kctx.Command())
		err = cmd.run(&app{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, kong: kctx})
		end(err)
	}
	if err == nil {
		return nil
	}
	out := stderr
	if asJSON {
		out = stdout
	}
	return cli.Code(cli.Fail(out, "sender", err, asJSON))
}

// wantsJSON looks for --json before the command line is known to be right.
func wantsJSON(args []string) bool {
	for _, a := range args {
		if a == "--" {
			break
		}
		if a == "--json" || strings.HasPrefix(a, "--json=t") {
			return true
		}
	}
	return false
}

func (versionCmd) run(a *app) error {
	_, err := fmt.Fprintln(a.stdout, cli.Version())
	return err
}
