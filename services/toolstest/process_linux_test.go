package toolstest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// bin is the directory of both programs, built once.
var bin string //nolint:gochecknoglobals // set once by TestMain

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice-toolstest-")
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("go", "build", "-o", dir, "../sender", "../receiver")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1) //nolint:forbidigo // TestMain is main here
	}
	bin = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code) //nolint:forbidigo // TestMain is main here
	}))
}

// patience bounds every wait; nothing waits this long on a healthy machine.
const patience = 4 * time.Minute

// output collects what a process prints and can be waited on.
type output struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // closed and replaced by each write
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// await waits until the output contains text.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	for {
		o.mu.Lock()
		more, found := o.more, strings.Contains(o.b.String(), text)
		o.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-end.C:
			t.Fatalf("no %q in:\n%s", text, o)
		}
	}
}

// program prepares one of ours; it is killed when the test takes too long.
func program(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, args[0]), args[1:]...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "COLUMNS=80", "XDG_STATE_HOME=" + filepath.Join(dir, ".state")}
	return cmd
}

// receiver is a running receiver and where it serves.
type receiver struct {
	dir   string
	ports ports
}

// ports maps addresses as the documents write them to those of this run.
type ports map[string]string

// here puts this run's addresses in place of the documents'.
func (p ports) here(text string) string { return p.swap(text, false) }

// there is the inverse of here. In a table the columns stay in their places.
func (p ports) there(text string) string { return p.swap(text, true) }

func (p ports) swap(text string, back bool) string {
	var pairs []string
	for doc, run := range p {
		if !back {
			pairs = append(pairs, doc, run)
			continue
		}
		pad := strings.Repeat(" ", max(0, len(run)-len(doc)))
		pairs = append(pairs, run+"  ", doc+pad+"  ", run, doc)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// startReceiver runs receiver serve until the test ends.
func startReceiver(t *testing.T, flags ...string) *receiver {
	t.Helper()
	return startReceiverIn(t, t.TempDir(), flags...)
}

func startReceiverIn(t *testing.T, dir string, flags ...string) *receiver {
	t.Helper()
	cmd := program(t, dir, append([]string{
		"receiver", "serve", "--json", "--dir", "inbox", "--listen", "127.0.0.1:0", "--data-listen", "127.0.0.1:0",
		"--ping-listen", "127.0.0.1:0", "--admin-listen", "off", "--plain-listen", "127.0.0.1:0", "--echo-listen", "127.0.0.1:0",
	}, flags...)...)
	log := newOutput()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("receiver: %v\n%s", err, log)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var where map[string]string
	if err == nil {
		err = json.Unmarshal(line, &where)
	}
	if err != nil {
		t.Fatalf("the receiver does not serve: %v\n%s%s", err, line, log)
	}
	return &receiver{dir: dir, ports: ports{
		"127.0.0.1:7400": where["control"], "127.0.0.1:7401": where["data"], "127.0.0.1:7402": where["ping"],
		"127.0.0.1:8001": where["plain"], "127.0.0.1:8002": where["echo"],
	}}
}

// running is a command that goes on while the test does something else.
type running struct {
	cmd *exec.Cmd
	out *output
}

func (r *receiver) start(t *testing.T, args ...string) *running {
	t.Helper()
	return startIn(t, r.dir, r.ports, args...)
}

func startIn(t *testing.T, dir string, p ports, args ...string) *running {
	t.Helper()
	local := make([]string, len(args))
	for i, a := range args {
		local[i] = p.here(a)
	}
	run := &running{cmd: program(t, dir, local...), out: newOutput()}
	run.cmd.Stdout, run.cmd.Stderr = run.out, run.out
	if err := run.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return run
}

// wait returns the exit code.
func (r *running) wait(t *testing.T) int {
	t.Helper()
	err := r.cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode()
	default:
		t.Fatalf("%v: %v\n%s", r.cmd.Args, err, r.out)
		return -1
	}
}

// interrupt ends it as Ctrl-C does.
func (r *running) interrupt(t *testing.T) int {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	return r.wait(t)
}
