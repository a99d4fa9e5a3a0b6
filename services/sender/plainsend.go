package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/e27efefb/sluice/pkg/plain"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// plainEvent is the one line of --json of a plain transfer.
type plainEvent struct {
	Event   string  `json:"event"` // "plain_sent"
	To      string  `json:"to"`
	Name    string  `json:"name"`
	Bytes   int64   `json:"bytes_sent"`
	Seconds float64 `json:"seconds"`
	Said    string  `json:"said,omitempty"`
}

// sendPlain sends one file by the plain protocol, which knows no receipt.
func (c *sendCmd) sendPlain(a *app) error {
	if len(c.Paths) != 1 || c.stdin() {
		return cli.Usagef("--plain sends one file")
	}
	if given := meaningless(a.kong); len(given) > 0 {
		return cli.Usagef("%s: the plain protocol has no such thing (docs/plain.md); leave it out, or send without --plain", strings.Join(given, ", "))
	}
	sent, err := plain.Send(a.ctx, c.Plain, c.Paths[0], plain.SendConfig{Timeout: c.Timeout})
	switch {
	case err != nil:
		return err
	case c.JSON:
		return cli.JSONLine(a.stdout, plainEvent{Event: "plain_sent", To: c.Plain, Name: sent.Name, Bytes: sent.Bytes, Seconds: sent.Elapsed.Seconds(), Said: sent.Said})
	case c.Quiet:
		return nil
	}
	_, err = fmt.Fprintf(a.stdout, "%s\nno receipt: the plain protocol has no word for success; compare digests where it matters\n", sent)
	return err
}

// meaningless are the flags on the command line that --plain has no use for.
func meaningless(ctx *kong.Context) []string {
	if ctx == nil {
		return nil
	}
	useful := []string{"plain", "json", "quiet", "verbose", "timeout", "cpuprofile"}
	var out []string
	for _, p := range ctx.Path {
		if p.Flag != nil && !p.Resolved && !slices.Contains(useful, p.Flag.Name) {
			out = append(out, "--"+p.Flag.Name)
		}
	}
	return out
}
