package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

const controlPort = "7400"

func (c *sendCmd) run(a *app) error {
	stop, err := c.Start()
	if err != nil {
		return err
	}
	defer stop()
	if c.Plain != "" {
		return c.sendPlain(a)
	}
	c.To = cli.WithPort(c.To, controlPort)
	src, err := c.source(a)
	if err != nil {
		return err
	}
	defer src.Close()
	options, err := c.options()
	if err != nil {
		return err
	}
	far, err := cli.Dial(c.To, &c.ConnectFlags)
	if err != nil {
		return err
	}
	defer far.Close()
	id, err := c.identify(a, src)
	if err != nil {
		return err
	}
	defer id.close()

	ui := newUI(c, a, src)
	res, err := send.Send(a.ctx, send.Config{
		Receiver: far, DialLane: far.DialLane, Source: src, ID: id.ID, Options: options,
		Lanes: c.Lanes, Limit: int64(c.Limit), Plan: c.Plan, Retries: c.Retries, Timeout: c.Timeout, Observer: ui,
	})
	ui.close()
	if err != nil {
		if final(err) {
			id.forget()
		}
		return c.explain(err, id)
	}
	if c.Plan {
		return ui.plan(res)
	}
	id.forget()
	if err := ui.result(res); err != nil {
		return err
	}
	return outcome(res)
}

// final reports whether the same id can never succeed: then the next run of the
// command begins anew.
func final(err error) bool {
	switch transfer.KindOf(err) {
	case transfer.Corrupt, transfer.Fenced:
		return true
	default:
		return false
	}
}

// outcome turns a receipt with unpublished files into the exit code for it: 3
// when nothing at all was published and names were taken, else 7.
func outcome(res *send.Result) error {
	if !res.Partial() {
		return nil
	}
	return cli.Code(cli.ExitPartial)
}

func (c *sendCmd) explain(err error, id *memory) error {
	if transfer.KindOf(err) != transfer.Canceled {
		return err
	}
	hint := "the same command resumes"
	if !id.kept() && c.ID == "" {
		hint = "run it again to start anew"
	}
	return transfer.Errorf(transfer.Canceled, "", "", "interrupted").WithHint("%s", hint)
}

func (c *sendCmd) options() (transfer.Options, error) {
	conflict, err := transfer.ParseConflict(c.OnConflict)
	if err != nil {
		return transfer.Options{}, &cli.Usage{Err: err}
	}
	names, _ := transfer.ParseNames(c.Names)
	algorithm, _ := transfer.ParseAlgorithm(c.Digest)
	into := strings.Trim(c.Into, "/")
	if into != "" {
		if _, err := transfer.ParsePath(into, names); err != nil {
			return transfer.Options{}, fmt.Errorf("--into: %w", err)
		}
	}
	return transfer.Options{Into: into, Conflict: conflict, Names: names, Algorithm: algorithm, Label: c.Label}, nil
}

func (c *sendCmd) stdin() bool { return len(c.Paths) == 1 && c.Paths[0] == "-" }

func (c *sendCmd) source(a *app) (*source.Source, error) {
	names, _ := transfer.ParseNames(c.Names)
	if c.stdin() {
		if c.As == "" {
			return nil, cli.Usagef("standard input has no name: give it one with --as NAME")
		}
		return source.Stream(c.As, names, a.stdin)
	}
	for _, p := range c.Paths {
		if p == "-" {
			return nil, cli.Usagef("standard input (-) cannot be sent together with files")
		}
	}
	if c.As != "" && len(c.Paths) > 1 {
		return nil, cli.Usagef("--as names one file or directory, and %d are given", len(c.Paths))
	}
	links, err := source.ParseLinks(c.Links)
	if err != nil {
		return nil, &cli.Usage{Err: err}
	}
	return source.Scan(a.ctx, source.Config{
		Roots: c.Paths, As: c.As, Exclude: c.Exclude, Include: c.Include, Links: links,
		SkipSpecial: c.SkipSpecial, KeepGoing: c.KeepGoing, Names: names,
	})
}

// identify finds the transfer's id: the given one, the one remembered for the
// same command, or a new one.
func (c *sendCmd) identify(a *app, src *source.Source) (*memory, error) {
	fresh := &memory{ID: transfer.NewID(), unlock: func() {}}
	switch {
	case c.ID != "":
		id, err := transfer.ParseID(c.ID)
		if err != nil {
			return nil, &cli.Usage{Err: err}
		}
		fresh.ID = id
		return fresh, nil
	case c.Plan:
		return fresh, nil
	case src.Stream() != nil:
		if !c.Quiet && !c.JSON {
			fmt.Fprintln(a.stderr, "note: standard input cannot be resumed by another run")
		}
		return fresh, nil
	}
	key := []string{c.To, c.As, c.Into, c.Digest, c.Names, c.Links, strings.Join(c.Exclude, "\x00"), strings.Join(c.Include, "\x00")}
	for _, p := range c.Paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return nil, err
		}
		key = append(key, abs)
	}
	m, err := recall(key, time.Now())
	if err != nil && !c.Quiet {
		fmt.Fprintf(a.stderr, "note: %v; this transfer will not be resumed by the same command, but by --id %s\n", err, m.ID)
	}
	return m, nil
}
