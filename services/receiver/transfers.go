package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

const controlPort = "7400"

// atFlags say which receiver a command asks.
type atFlags struct {
	At   string `help:"Control address of the receiver." default:"127.0.0.1:7400" placeholder:"HOST:PORT"`
	JSON bool   `name:"json" help:"One JSON object a line."`

	cli.ConnectFlags `group:"connection"`
}

func (f *atFlags) dial() (*cli.Far, error) {
	return cli.Dial(cli.WithPort(f.At, controlPort), &f.ConnectFlags)
}

type transfersList struct {
	atFlags

	State []string `help:"Only these states: offering, open, committing, committed, aborted, failed." placeholder:"STATE"`
	Limit int      `help:"Most transfers to list; 0: all." default:"50"`
}

func (c *transfersList) run(a *app) error {
	filter := transfer.ListFilter{}
	for _, s := range c.State {
		state, err := parseState(s)
		if err != nil {
			return err
		}
		filter.States = append(filter.States, state)
	}
	far, err := c.dial()
	if err != nil {
		return err
	}
	defer far.Close()
	var rows [][]string
	undeclared := false
	shown := 0
	for {
		if c.Limit > 0 {
			filter.PageSize = min(c.Limit-shown, 1000)
		}
		page, err := far.Control.List(a.ctx, filter)
		if err != nil {
			return err
		}
		for i := range page.Transfers {
			if c.JSON {
				if err := cli.JSONLine(a.stdout, page.Transfers[i]); err != nil {
					return err
				}
			}
			rows = append(rows, infoRow(&page.Transfers[i], time.Now()))
			undeclared = undeclared || page.Transfers[i].Undeclared
		}
		shown += len(page.Transfers)
		filter.PageToken = page.Next
		if page.Next == "" || c.Limit > 0 && shown >= c.Limit {
			break
		}
	}
	if c.JSON {
		return nil
	}
	if shown == 0 {
		_, err := fmt.Fprintln(a.stdout, "no transfers")
		return err
	}
	if err := cli.Table(a.stdout, cli.Width(a.stdout), infoColumns(), rows); err != nil {
		return err
	}
	if undeclared {
		fmt.Fprintln(a.stdout, "* length undeclared: the sender's close was the only end")
	}
	if filter.PageToken != "" {
		_, err = fmt.Fprintf(a.stdout, "… and more (--limit 0 shows all)\n")
	}
	return err
}

func parseState(s string) (transfer.State, error) {
	for st := transfer.StateOffering; st <= transfer.StateFailed; st++ {
		if st.String() == s {
			return st, nil
		}
	}
	return 0, cli.Usagef("--state %s: want offering, open, committing, committed, aborted or failed", s)
}

func infoColumns() []cli.Column {
	return []cli.Column{
		{Head: "ID"},
		{Head: "STATE"},
		{Head: "FILES", Drop: 4},
		{Head: "SIZE", Drop: 2},
		{Head: "DONE", Drop: 3},
		{Head: "LANES", Drop: 6},
		{Head: "AGE", Drop: 1},
		{Head: "FROM", Drop: 5},
		{Head: "NAME", Min: 12},
	}
}

// percentDone shows how much of a transfer is acknowledged.
func percentDone(i *transfer.Info) string {
	switch {
	case i.State == transfer.StateCommitted:
		return "100 %"
	case i.Bytes <= 0:
		return cli.Size(i.BytesAcked)
	default:
		return fmt.Sprintf("%d %%", 100*i.BytesAcked/i.Bytes)
	}
}

func infoRow(i *transfer.Info, now time.Time) []string {
	name := i.First
	if i.Into != "" {
		name = i.Into + "/" + name
	}
	state := i.State.String()
	if i.State == transfer.StateFailed {
		state += " (" + i.Kind.String() + ")"
	}
	size := cli.Size(i.Bytes)
	if i.Undeclared {
		size = cli.Size(max(i.BytesAcked, 0)) + " *"
	}
	return []string{
		i.ID.String(), state, fmt.Sprint(i.Files), size, percentDone(i), fmt.Sprint(i.Lanes), cli.Age(now.Sub(i.Created)), orDash(i.Principal), transfer.Quote(name),
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

type transfersShow struct {
	atFlags

	ID string `arg:"" help:"The transfer's id."`
}

func (c *transfersShow) run(a *app) error {
	id, err := transfer.ParseID(c.ID)
	if err != nil {
		return &cli.Usage{Err: err}
	}
	far, err := c.dial()
	if err != nil {
		return err
	}
	defer far.Close()
	i, err := far.Control.Get(a.ctx, id)
	if err != nil {
		return err
	}
	if c.JSON {
		return cli.JSONLine(a.stdout, i)
	}
	return showInfo(a.stdout, &i)
}

func showInfo(w io.Writer, i *transfer.Info) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	line("transfer", "%s", i.ID)
	line("state", "%s", i.State)
	if i.Reason != "" {
		line("because", "%s: %s", i.Kind, i.Reason)
	}
	line("from", "%s", orDash(i.Principal))
	if i.Label != "" {
		line("label", "%s", transfer.Quote(i.Label))
	}
	line("files", "%d, the first is %s", i.Files, transfer.Quote(i.First))
	size := cli.Size(i.Bytes)
	if i.Undeclared {
		size += ", length undeclared: the sender's close was the only end"
	}
	line("size", "%s", size)
	line("progress", "%s acknowledged, %s held, %d lanes, epoch %d", cli.Size(i.BytesAcked), cli.Size(i.BytesHeld), i.Lanes, i.Epoch)
	line("created", "%s", i.Created.Format(time.RFC3339))
	line("updated", "%s", i.Updated.Format(time.RFC3339))
	if r := i.Receipt; r != nil {
		line("committed", "%s, verified %v (%s), durable %v", r.Committed.Format(time.RFC3339), r.Verified, r.Algorithm, r.Durable)
		for _, f := range r.Files {
			name := f.Path
			if f.Published != "" {
				name = f.Published
			}
			line("  "+f.Outcome.String(), "%s", strings.TrimSpace(fmt.Sprintf("%s  %s %s", transfer.Quote(name), f.Digest, f.Reason)))
		}
		if r.FileCount > int64(len(r.Files)) {
			line("", "… and %d more (receiver transfers files %s)", r.FileCount-int64(len(r.Files)), i.ID)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

type transfersFiles struct {
	atFlags

	ID string `arg:"" help:"The transfer's id."`
}

func (c *transfersFiles) run(a *app) error {
	id, err := transfer.ParseID(c.ID)
	if err != nil {
		return &cli.Usage{Err: err}
	}
	far, err := c.dial()
	if err != nil {
		return err
	}
	defer far.Close()
	for token := ""; ; {
		page, err := far.Control.Files(a.ctx, id, token, 1000)
		if err != nil {
			return err
		}
		for _, f := range page.Files {
			if c.JSON {
				err = cli.JSONLine(a.stdout, f)
			} else {
				name := f.Path
				if f.Published != "" {
					name = f.Published
				}
				_, err = fmt.Fprintln(a.stdout, strings.TrimRight(fmt.Sprintf("%-9s %9s  %s %s %s", f.Outcome, cli.Size(f.Size), transfer.Quote(name), f.Digest, f.Reason), " "))
			}
			if err != nil {
				return err
			}
		}
		if token = page.Next; token == "" {
			return nil
		}
	}
}

type transfersWatch struct {
	atFlags

	ID []string `arg:"" optional:"" help:"Ids to watch until each has ended; none: all, until interrupted."`
}

func (c *transfersWatch) run(a *app) error {
	var ids []transfer.ID
	for _, s := range c.ID {
		id, err := transfer.ParseID(s)
		if err != nil {
			return &cli.Usage{Err: err}
		}
		ids = append(ids, id)
	}
	far, err := c.dial()
	if err != nil {
		return err
	}
	defer far.Close()
	err = far.Control.Watch(a.ctx, ids, func(i transfer.Info) error {
		if c.JSON {
			return cli.JSONLine(a.stdout, i)
		}
		_, err := fmt.Fprintf(a.stdout, "%s  %s  %-10s %6s of %-9s %d lanes  %s\n", time.Now().Format(time.TimeOnly), i.ID, i.State, percentDone(&i), cli.Size(i.Bytes), i.Lanes, transfer.Quote(i.First))
		return err
	})
	if len(ids) == 0 && errors.Is(a.ctx.Err(), context.Canceled) {
		return nil
	}
	return err
}

type transfersAbort struct {
	atFlags

	ID     string `arg:"" help:"The transfer's id."`
	Reason string `help:"Why, for the sender and the lists." default:"aborted by the operator"`
}

func (c *transfersAbort) run(a *app) error {
	id, err := transfer.ParseID(c.ID)
	if err != nil {
		return &cli.Usage{Err: err}
	}
	far, err := c.dial()
	if err != nil {
		return err
	}
	defer far.Close()
	return far.Control.Abort(a.ctx, id, transfer.Session{}, c.Reason)
}

// healthcheck asks the gRPC health service, as a container's health check does.
type healthcheck struct {
	At      string        `help:"Control address." default:"127.0.0.1:7400" env:"SLUICE_HEALTHCHECK_AT" placeholder:"HOST:PORT"`
	Timeout time.Duration `help:"How long to wait." default:"2s"`

	cli.ConnectFlags `group:"connection"`
}

func (c *healthcheck) run(a *app) error {
	return cli.Healthcheck(a.ctx, a.stdout, cli.WithPort(c.At, controlPort), &c.ConnectFlags, c.Timeout)
}

type versionCmd struct{}
