package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/e27efefb/sluice/pkg/daemon"
	"github.com/e27efefb/sluice/services/internal/cli"
)

const description = "Sluice receiver: takes files from senders, verifies them, makes them durable and publishes them."

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
	kctx, done, err := cli.Parse(&g, "receiver", description, args, stdout, stderr)
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
		flush, terr := cli.Traces(ctx, "receiver", stderr)
		if terr != nil {
			return cli.Code(cli.Fail(stderr, "receiver", terr, false))
		}
		defer flush()
		ctx, end := cli.Span(ctx, "receiver", kctx.Command())
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
	return cli.Code(cli.Fail(out, "receiver", err, asJSON))
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

// readFileOr reads a file, or standard input for "-".
func readFileOr(stdin io.Reader, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(stdin)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, cli.Usagef("read %s: %w", path, err)
	}
	return b, nil
}
