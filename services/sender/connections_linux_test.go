package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/client"
	"github.com/e27efefb/sluice/pkg/netdiag"
)

// TestServiceConnections: a sender service lists the lanes of its jobs by job, and
// its control connections, beside those of its own API.
func TestServiceConnections(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	dir, file := sourceFile(t, "x.bin")
	if err := os.Truncate(file, 32<<20); err != nil {
		t.Fatal(err)
	}
	r := open(t, t.TempDir(), "", nil)
	s := serveSender(t, "--source-root", dir, "--receiver", "r="+r.addr+"/off")
	c := s.client(t)
	j, err := c.Submit(t.Context(), client.Spec{Sources: []client.Source{{Path: file}}, Receiver: "r", Limit: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		list, err := c.Connections(ctx, client.ID{})
		if err != nil {
			t.Fatal(err)
		}
		var lanes, control, api bool
		for _, n := range list {
			lanes = lanes || n.Label == j.ID.String() && n.State == netdiag.StateEstablished
			control = control || n.Label == "control" && n.Remote.String() == r.addr
			api = api || n.Local.String() == s.Control && n.State == netdiag.StateListen
			if n.Label == "" && n.Local.String() != s.Control {
				t.Errorf("not ours: %+v", n)
			}
		}
		if lanes && control && api {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("lanes %v, control %v, API %v: %+v", lanes, control, api, list)
		}
	}
	for args, want := range map[string]bool{"": true, "--job " + j.ID.String(): false} { // has control connections
		var out bytes.Buffer
		if err := run(ctx, append([]string{"connections", "--at", s.Control}, strings.Fields(args)...), nil, &out, s.log); err != nil {
			t.Fatal(err)
		}
		if text := out.String(); !strings.Contains(text, j.ID.String()) || strings.Contains(text, "\n    control ") != want {
			t.Errorf("connections %s:\n%s", args, text)
		}
	}
	if _, err := c.Cancel(ctx, j.ID, ""); err != nil {
		t.Fatal(err)
	}
	s.stop()
}
