package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/client"
	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

const apiPort = "7410"

// apiFlags say which sender service a command asks.
type apiFlags struct {
	At   string `help:"Address of the sender service." default:"127.0.0.1:7410" placeholder:"HOST:PORT"`
	JSON bool   `name:"json" help:"One JSON object a line."`

	cli.ConnectFlags `group:"connection"`
}

func (f *apiFlags) dial() (*client.Client, error) {
	target := cli.WithPort(f.At, apiPort)
	cfg := client.Config{Target: target, Name: f.TLSServerName}
	var err error
	if f.TLS(target) {
		cfg.TLS, err = auth.NewClientTLS(auth.ClientTLSConfig{CAFile: f.TLSCA, CertFile: f.TLSCert, KeyFile: f.TLSKey}, auth.Options{})
		if err != nil {
			return nil, &cli.Usage{Err: err}
		}
	}
	if cfg.Token, err = f.Bearer(target); err != nil {
		return nil, &cli.Usage{Err: err}
	}
	return client.Dial(cfg)
}

// jobCmds are the commands about jobs.
type jobCmds struct {
	Submit jobsSubmit `cmd:"" help:"Store a job and print its id."`
	List   jobsList   `cmd:"" help:"List jobs, newest first."`
	Show   jobsShow   `cmd:"" help:"Show one job."`
	Watch  jobsWatch  `cmd:"" help:"Follow jobs until they have ended; without ids, all until interrupted."`
	Wait   jobsWait   `cmd:"" help:"Wait until a job has ended; the exit code tells how."`
	Cancel jobsCancel `cmd:"" help:"End a job."`
	Retry  jobsRetry  `cmd:"" help:"Queue an ended job again, or run a waiting one now."`
	Update jobsUpdate `cmd:"" help:"Change the rate limit or the priority of a job."`
}

type jobsSubmit struct {
	apiFlags

	Paths      []string      `arg:"" name:"path" help:"Files and directories, as the sender service sees them."`
	Receiver   string        `help:"Configured receiver or group." required:"" short:"r" placeholder:"NAME"`
	RequestID  string        `name:"request-id" help:"Makes a repeated submit safe: same id, same job." placeholder:"ID"`
	As         string        `help:"Name at the receiver, for one file or directory." placeholder:"NAME"`
	Into       string        `help:"Directory at the receiver." placeholder:"DIR"`
	OnConflict string        `help:"When a name is taken: fail, overwrite, rename, skip-identical." enum:"fail,overwrite,rename,skip-identical" default:"fail"`
	Digest     string        `help:"blake3, xxh3 or none." enum:"blake3,xxh3,none" default:"blake3"`
	Expect     string        `help:"What the maker of the file said: sha256:HEX or blake3:HEX; another file is never published." placeholder:"DIGEST"`
	Exclude    []string      `help:"Leave out what matches. May be repeated." placeholder:"PATTERN" sep:"none"`
	Include    []string      `help:"Take what matches although an --exclude does." placeholder:"PATTERN" sep:"none"`
	KeepGoing  bool          `help:"Send the rest when files cannot be read."`
	Lanes      int           `help:"Data connections; 0: chosen." default:"0"`
	Limit      cli.Rate      `help:"Most octets per second; 0: no limit." default:"0" placeholder:"RATE"`
	Priority   int32         `help:"Higher first." default:"0"`
	Deadline   time.Duration `help:"Give up this long from now; 0: never." default:"0s"`
	MaxRetries int           `help:"How often it is tried again; 0: the service's default." default:"0"`
	Label      string        `help:"Free text for lists." placeholder:"TEXT"`
	Wait       bool          `help:"Wait until the job has ended."`
}

// Help shows examples in the help text.
func (jobsSubmit) Help() string {
	return `Examples:
  sender jobs submit /outbox/build.tar -r archive --request-id build-1234
  sender jobs submit /outbox/app -r archive --wait \
    --expect sha256:$(sha256sum /outbox/app | cut -c-64)`
}

func (c *jobsSubmit) run(a *app) error {
	s := client.Spec{
		RequestID: c.RequestID, Receiver: c.Receiver, Into: strings.Trim(c.Into, "/"), Lanes: c.Lanes, Label: c.Label, Exclude: c.Exclude, Include: c.Include,
		KeepGoing: c.KeepGoing, Limit: int64(c.Limit), Priority: c.Priority, MaxRetries: c.MaxRetries,
	}
	s.Conflict, _ = transfer.ParseConflict(c.OnConflict)
	s.Algorithm, _ = transfer.ParseAlgorithm(c.Digest)
	expected, err := transfer.ParseDigest(c.Expect)
	if err != nil {
		return &cli.Usage{Err: err}
	}
	if c.Deadline > 0 {
		s.Deadline = time.Now().Add(c.Deadline)
	}
	for _, p := range c.Paths {
		abs, err := filepath.Abs(p)
		if err != nil {
			return err
		}
		s.Sources = append(s.Sources, client.Source{Path: abs, As: c.As, Expected: expected})
	}
	cl, err := c.dial()
	if err != nil {
		return err
	}
	defer cl.Close()
	j, err := cl.Submit(a.ctx, s)
	if err != nil {
		return err
	}
	if c.Wait {
		return waitFor(a, cl, j.ID, c.JSON)
	}
	if c.JSON {
		return cli.JSONLine(a.stdout, j)
	}
	_, err = fmt.Fprintln(a.stdout, j.ID)
	return err
}

// waitFor waits for a job, prints it and turns its state into the exit code.
func waitFor(a *app, cl *client.Client, id client.ID, asJSON bool) error {
	j, err := cl.Wait(a.ctx, id)
	if err != nil {
		return err
	}
	if asJSON {
		err = cli.JSONLine(a.stdout, j)
	} else {
		err = showJob(a.stdout, j)
	}
	if err != nil {
		return err
	}
	return jobCode(j)
}

func jobCode(j *client.Job) error {
	switch j.State {
	case client.Partial:
		return cli.Code(cli.ExitPartial)
	case client.Failed, client.Canceled:
		return cli.Code(cli.ExitCode(transfer.Errorf(j.Kind, "", "", "x")))
	default:
		return nil
	}
}

func showJob(w io.Writer, j *client.Job) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	line("job", "%s", j.ID)
	line("state", "%s", j.State)
	if j.Reason != "" {
		line("because", "%s: %s", j.Kind, j.Reason)
	}
	if j.Hint != "" {
		line("hint", "%s", j.Hint)
	}
	if j.State == client.Waiting {
		line("next try", "in %s", cli.Duration(time.Until(j.NextAt)))
	}
	line("receiver", "%s", j.Spec.Receiver)
	for _, s := range j.Spec.Sources {
		line("source", "%s", transfer.Quote(s.Path))
	}
	p := j.Progress
	line("progress", "%s of %s, %s, %s, %s/s, ETA %s, attempts %d", cli.Size(p.Acked), cli.Size(p.Bytes), plural(p.Files, "file", "files"), plural(int64(p.Lanes), "lane", "lanes"), cli.Size(p.Rate), cli.Duration(p.ETA()), j.Attempts)
	if p.Note != "" {
		line("note", "%s", p.Note)
	}
	line("created", "%s", j.Created.Format(time.RFC3339))
	if j.State.Final() {
		line("finished", "%s", j.Finished.Format(time.RFC3339))
	}
	if r := j.Receipt; r != nil {
		line("receipt", "%s, %s", counts(r), verified(r))
		for i, f := range notable(r) {
			if i == maxShown {
				break
			}
			line("", "%s", fileLine(f))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

type jobsList struct {
	apiFlags

	State    []string `help:"Only these states: queued, running, waiting, succeeded, partial, failed, canceled." placeholder:"STATE"`
	Receiver string   `help:"Only jobs for this receiver or group." placeholder:"NAME"`
	Since    string   `help:"Only jobs made since: a duration (2h) or a time (RFC 3339)." placeholder:"TIME"`
	Limit    int      `help:"Most jobs to list; 0: all." default:"50"`
}

func (c *jobsList) run(a *app) error {
	f := client.Filter{Receiver: c.Receiver}
	for _, s := range c.State {
		st, err := jobs.ParseState(s)
		if err != nil {
			return &cli.Usage{Err: err}
		}
		f.States = append(f.States, st)
	}
	if c.Since != "" {
		if d, err := time.ParseDuration(c.Since); err == nil {
			f.After = time.Now().Add(-d)
		} else if f.After, err = time.Parse(time.RFC3339, c.Since); err != nil {
			return cli.Usagef("--since %s: want a duration such as 2h, or a time such as 2026-01-02T15:04:05Z", c.Since)
		}
	}
	cl, err := c.dial()
	if err != nil {
		return err
	}
	defer cl.Close()
	var rows [][]string
	shown := 0
	for {
		if c.Limit > 0 {
			f.PageSize = min(c.Limit-shown, 1000)
		}
		page, err := cl.List(a.ctx, f)
		if err != nil {
			return err
		}
		for i := range page.Jobs {
			if c.JSON {
				if err := cli.JSONLine(a.stdout, page.Jobs[i]); err != nil {
					return err
				}
			}
			rows = append(rows, jobRow(&page.Jobs[i], time.Now()))
		}
		shown += len(page.Jobs)
		f.PageToken = page.Next
		if page.Next == "" || c.Limit > 0 && shown >= c.Limit {
			break
		}
	}
	switch {
	case c.JSON:
		return nil
	case shown == 0:
		_, err = fmt.Fprintln(a.stdout, "no jobs")
		return err
	}
	return cli.Table(a.stdout, cli.Width(a.stdout), []cli.Column{
		{Head: "ID"}, {Head: "STATE"}, {Head: "RECEIVER", Drop: 1, Min: 8}, {Head: "DONE", Drop: 2}, {Head: "RATE", Drop: 4}, {Head: "TRIES", Drop: 5}, {Head: "AGE", Drop: 3}, {Head: "SOURCE", Min: 12},
	}, rows)
}

func jobRow(j *client.Job, now time.Time) []string {
	state := j.State.String()
	if j.State == client.Failed || j.State == client.Waiting {
		state += " (" + j.Kind.String() + ")"
	}
	done := "-"
	switch {
	case j.State == client.Succeeded || j.State == client.Partial:
		done = "100 %"
	case j.Progress.Bytes > 0:
		done = fmt.Sprintf("%d %%", 100*j.Progress.Acked/j.Progress.Bytes)
	}
	rate := "-"
	if j.Progress.Rate > 0 {
		rate = cli.Size(j.Progress.Rate) + "/s"
	}
	src := ""
	if len(j.Spec.Sources) > 0 {
		src = transfer.Quote(j.Spec.Sources[0].Path)
	}
	if n := len(j.Spec.Sources); n > 1 {
		src += fmt.Sprintf(" +%d", n-1)
	}
	return []string{j.ID.String(), state, j.Spec.Receiver, done, rate, fmt.Sprint(j.Attempts), cli.Age(now.Sub(j.Created)), src}
}

// jobFlags name one job.
type jobFlags struct {
	apiFlags

	ID string `arg:"" help:"The job's id."`
}

// with dials and calls f with the job's id.
func (c *jobFlags) with(f func(cl *client.Client, id client.ID) error) error {
	id, err := transfer.ParseID(c.ID)
	if err != nil {
		return &cli.Usage{Err: err}
	}
	cl, err := c.dial()
	if err != nil {
		return err
	}
	defer cl.Close()
	return f(cl, id)
}

// show calls f and prints the job that it returns.
func (c *jobFlags) show(a *app, f func(cl *client.Client, id client.ID) (*client.Job, error)) error {
	return c.with(func(cl *client.Client, id client.ID) error {
		j, err := f(cl, id)
		if err != nil {
			return err
		}
		if c.JSON {
			return cli.JSONLine(a.stdout, j)
		}
		return showJob(a.stdout, j)
	})
}

type jobsShow struct{ jobFlags }

func (c *jobsShow) run(a *app) error {
	return c.show(a, func(cl *client.Client, id client.ID) (*client.Job, error) { return cl.Get(a.ctx, id) })
}

type jobsWait struct{ jobFlags }

func (c *jobsWait) run(a *app) error {
	return c.with(func(cl *client.Client, id client.ID) error { return waitFor(a, cl, id, c.JSON) })
}

type jobsCancel struct {
	jobFlags

	Reason string `help:"Why, for the record." placeholder:"TEXT"`
}

func (c *jobsCancel) run(a *app) error {
	return c.show(a, func(cl *client.Client, id client.ID) (*client.Job, error) { return cl.Cancel(a.ctx, id, c.Reason) })
}

type jobsRetry struct{ jobFlags }

func (c *jobsRetry) run(a *app) error {
	return c.show(a, func(cl *client.Client, id client.ID) (*client.Job, error) { return cl.Retry(a.ctx, id) })
}

type jobsUpdate struct {
	jobFlags

	Limit    *cli.Rate `help:"Most octets per second from now on; 0: no limit." placeholder:"RATE"`
	Priority *int32    `help:"Higher first."`
}

func (c *jobsUpdate) run(a *app) error {
	if c.Limit == nil && c.Priority == nil {
		return cli.Usagef("give --limit or --priority")
	}
	return c.show(a, func(cl *client.Client, id client.ID) (*client.Job, error) {
		return cl.Update(a.ctx, id, (*int64)(c.Limit), c.Priority)
	})
}

type jobsWatch struct {
	apiFlags

	ID []string `arg:"" optional:"" help:"Ids of jobs."`
}

func (c *jobsWatch) run(a *app) error {
	var ids []client.ID
	for _, s := range c.ID {
		id, err := transfer.ParseID(s)
		if err != nil {
			return &cli.Usage{Err: err}
		}
		ids = append(ids, id)
	}
	cl, err := c.dial()
	if err != nil {
		return err
	}
	defer cl.Close()
	err = cl.Watch(a.ctx, ids, func(j *client.Job) error {
		if c.JSON {
			return cli.JSONLine(a.stdout, j)
		}
		const sourceColumns = 36
		r := jobRow(j, time.Now())
		note := j.Progress.Note
		if note == "" {
			note = j.Reason
		}
		_, err := fmt.Fprintf(a.stdout, "%s  %s  %-20s %6s  %12s  %s  %s\n", time.Now().Format(time.TimeOnly), r[0], r[1], r[3], r[4], cli.Shorten(r[7], sourceColumns), note)
		return err
	})
	if len(ids) == 0 && errors.Is(a.ctx.Err(), context.Canceled) {
		return nil
	}
	return err
}

// receiverCmds are the commands about configured receivers.
type receiverCmds struct {
	List  receiversList  `cmd:"" help:"List the configured receivers and their health."`
	Watch receiversWatch `cmd:"" help:"Follow them until interrupted."`
}

func receiverRow(r *client.Receiver) []string {
	state := r.State
	if r.Draining {
		state += ", draining"
	} else if r.State == "alive" && !r.Serving {
		state += ", not serving"
	}
	return []string{
		r.Name, r.Address, state, cli.Duration(r.RTT), fmt.Sprintf("%.1f %%", 100*r.Loss), cli.Duration(r.Jitter), fmt.Sprint(r.Active), cli.Size(r.FreeBytes), strings.Join(r.Groups, ","),
	}
}

type receiversList struct{ apiFlags }

func (c *receiversList) run(a *app) error {
	cl, err := c.dial()
	if err != nil {
		return err
	}
	defer cl.Close()
	list, err := cl.Receivers(a.ctx)
	if err != nil {
		return err
	}
	var rows [][]string
	for i := range list {
		if c.JSON {
			if err := cli.JSONLine(a.stdout, list[i]); err != nil {
				return err
			}
		}
		rows = append(rows, receiverRow(&list[i]))
	}
	if c.JSON {
		return nil
	}
	return cli.Table(a.stdout, cli.Width(a.stdout), []cli.Column{
		{Head: "NAME"}, {Head: "ADDRESS", Drop: 1, Min: 14}, {Head: "STATE"}, {Head: "RTT", Drop: 2}, {Head: "LOSS", Drop: 3}, {Head: "JITTER", Drop: 7}, {Head: "ACTIVE", Drop: 5}, {Head: "FREE", Drop: 4}, {Head: "GROUPS", Drop: 6, Min: 6},
	}, rows)
}

type receiversWatch struct{ apiFlags }

func (c *receiversWatch) run(a *app) error {
	cl, err := c.dial()
	if err != nil {
		return err
	}
	defer cl.Close()
	err = cl.WatchReceivers(a.ctx, func(r client.Receiver) error {
		if c.JSON {
			return cli.JSONLine(a.stdout, r)
		}
		row := receiverRow(&r)
		_, err := fmt.Fprintf(a.stdout, "%s  %-16s %-22s %-22s rtt %-9s loss %s\n", time.Now().Format(time.TimeOnly), row[0], row[1], row[2], row[3], row[4])
		return err
	})
	if errors.Is(a.ctx.Err(), context.Canceled) {
		return nil
	}
	return err
}
