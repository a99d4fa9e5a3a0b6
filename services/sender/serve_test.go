package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/e27efefb/sluice/internal/logtest"
	"github.com/e27efefb/sluice/pkg/client"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// served is a `sender serve` in this process.
type served struct {
	serving

	log  *logtest.Buffer
	stop func()
}

// serveSender runs the whole program with arguments, on free ports.
func serveSender(t *testing.T, args ...string) *served {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	s := &served{log: &logtest.Buffer{}}
	done := make(chan error, 1)
	args = append([]string{"serve", "--json", "--state", t.TempDir(), "--listen", "127.0.0.1:0", "--ping-listen", "off", "--admin-listen", "127.0.0.1:0"}, args...)
	go func() {
		err := run(ctx, args, strings.NewReader(""), in, s.log)
		in.Close()
		done <- err
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("sender serve: %v\n%s", err, s.log)
		}
	})
	t.Cleanup(s.stop)
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s.serving)
	}
	if err != nil {
		t.Fatalf("sender did not serve: %v\n%s", err, s.log)
	}
	return s
}

// client returns a client of the transfer API.
func (s *served) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.Dial(client.Config{Target: s.Control})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// metrics asks /metrics until it has all the lines.
func metricsHave(t *testing.T, admin string, lines ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		text := getText(ctx, t, "http://"+admin+"/metrics")
		missing := ""
		for _, l := range lines {
			if !strings.Contains(text, "\n"+l+"\n") {
				missing = l
				break
			}
		}
		if missing == "" {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("/metrics never had %s", missing)
		}
	}
}

func getText(ctx context.Context, t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if ctx.Err() != nil {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	return string(text)
}

// sourceFile makes a file in a directory of its own, and returns both.
func sourceFile(t *testing.T, name string) (dir, file string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(strings.Repeat(name, 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

// TestJobMetrics: /metrics counts jobs that ended by state and kind of failure,
// and those that have not by state.
func TestJobMetrics(t *testing.T) {
	dir, file := sourceFile(t, "x.bin")
	r := open(t, t.TempDir(), "", nil)
	s := serveSender(t, "--source-root", dir, "--receiver", "r="+r.addr+"/off", "--receiver", "gone=127.0.0.1:1/off", "--max-running", "1", "--max-per-receiver", "1")
	c := s.client(t)
	submit := func(receiver string) client.ID {
		t.Helper()
		j, err := c.Submit(t.Context(), client.Spec{Sources: []client.Source{{Path: file}}, Receiver: receiver})
		if err != nil {
			t.Fatal(err)
		}
		return j.ID
	}
	for i, want := range []client.State{client.Succeeded, client.Failed} { // the name is taken the second time
		if j, err := c.Wait(t.Context(), submit("r")); err != nil || j.State != want {
			t.Fatalf("job %d: %+v, %v", i, j, err)
		}
	}
	gone := submit("gone")
	metricsHave(t, s.Admin,
		`sluice_sender_jobs_finished_total{kind="ok",state="succeeded"} 1`,
		fmt.Sprintf(`sluice_sender_jobs_finished_total{kind=%q,state="failed"} 1`, transfer.Exists),
		`sluice_sender_jobs{state="queued"} 0`, `sluice_sender_jobs{state="running"} 0`, `sluice_sender_jobs{state="waiting"} 1`)
	if _, err := c.Cancel(t.Context(), gone, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Cancel(t.Context(), gone, ""); err != nil { // counts once
		t.Fatal(err)
	}
	metricsHave(t, s.Admin, `sluice_sender_jobs_finished_total{kind="canceled",state="canceled"} 1`, `sluice_sender_jobs{state="waiting"} 0`)
}

// TestStaleMetric: a token file that was broken by an edit shows in /metrics, while
// the one before stays in force, and no more once it is mended.
func TestStaleMetric(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(tokens, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# nobody yet\n")
	s := serveSender(t, "--tokens", tokens)
	metricsHave(t, s.Admin, `sluice_files_stale{files="access"} 0`)
	write("alice what is this\n")
	metricsHave(t, s.Admin, `sluice_files_stale{files="access"} 1`)
	if text := s.log.String(); !strings.Contains(text, "stays in force") {
		t.Errorf("the log says nothing of it:\n%s", text)
	}
	write("# mended\n")
	metricsHave(t, s.Admin, `sluice_files_stale{files="access"} 0`)
}
