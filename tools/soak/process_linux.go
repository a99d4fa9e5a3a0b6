package main

import (
	"bufio"
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
	"time"

	"github.com/e27efefb/sluice/pkg/health"
)

// event is a change of a receiver's state in a sender's log, and when we read it.
type event struct {
	Msg    string `json:"msg"`
	To     string `json:"to"`
	Reason string `json:"reason"`

	at time.Time
}

// process is a service whose log is read as it comes.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, once done is closed

	mu     sync.Mutex
	events []event
	tail   []string
	more   chan struct{}
}

// logTail is how many lines of a log an error shows.
const logTail = 8

// startProcess returns when the service says that it serves.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{}), more: make(chan struct{})}
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var readers sync.WaitGroup
	readers.Go(func() { p.read(log) })
	line, err := bufio.NewReader(out).ReadString('\n')
	readers.Go(func() { _, _ = io.Copy(io.Discard, out) })
	go func() {
		defer close(p.done)
		readers.Wait()
		p.err = cmd.Wait()
	}()
	if err != nil || !strings.Contains(line, `"serving"`) {
		_ = cmd.Process.Kill()
		<-p.done
		return nil, fmt.Errorf("%v does not serve: %s%s", cmd.Args, line, strings.Join(p.tail, "\n"))
	}
	return p, nil
}

func (p *process) read(log io.Reader) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		e := event{at: time.Now()}
		_ = json.Unmarshal(lines.Bytes(), &e)
		p.mu.Lock()
		if e.Msg == "receiver" {
			p.events = append(p.events, e)
		}
		if p.tail = append(p.tail, lines.Text()); len(p.tail) > logTail {
			p.tail = p.tail[1:]
		}
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
}

// saw returns the first event after since that leads to state.
func (p *process) saw(since time.Time, state health.State) (event, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.To == state.String() && !e.at.Before(since) {
			return e, true
		}
	}
	return event{}, false
}

// count counts them.
func (p *process) count(since time.Time, state health.State) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, e := range p.events {
		if e.To == state.String() && !e.at.Before(since) {
			n++
		}
	}
	return n
}

// await waits for an event.
func (p *process) await(ctx context.Context, since time.Time, state health.State) (event, error) {
	end := time.NewTimer(patience)
	defer end.Stop()
	for {
		p.mu.Lock()
		more := p.more
		p.mu.Unlock()
		if e, ok := p.saw(since, state); ok {
			return e, nil
		}
		select {
		case <-more:
		case <-p.done:
			return event{}, errors.New("the sender ended")
		case <-ctx.Done():
			return event{}, ctx.Err()
		case <-end.C:
			p.mu.Lock()
			defer p.mu.Unlock()
			return event{}, fmt.Errorf("the sender never said %s; its log ends with\n%s", state, strings.Join(p.tail, "\n"))
		}
	}
}

func (p *process) signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// stop ends the service; nil is none.
func (p *process) stop() error {
	const graceful = 20 * time.Second
	if p == nil {
		return nil
	}
	_ = p.signal(syscall.SIGCONT) // it may be stopped
	_ = p.signal(os.Interrupt)
	select {
	case <-p.done:
		return p.err
	case <-time.After(graceful):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%v did not stop in %v", p.cmd.Args, graceful)
	}
}

// link is tools/wanlink as it runs.
type link struct {
	cmd *exec.Cmd
	out *bufio.Reader
	log strings.Builder
}

// way is what one direction carried and dropped.
type way struct{ carried, lost int64 }

// buildLink builds tools/wanlink, which is a module of its own.
func (s *soak) buildLink(ctx context.Context) error {
	return command(ctx, "go", "-C", filepath.Join("tools", "wanlink"), "build", "-o", filepath.Join(s.dir, "wanlink"), ".")
}

func startLink(ctx context.Context, path string, args ...string) (*link, error) {
	l := &link{cmd: exec.CommandContext(ctx, path, args...)}
	l.cmd.Stderr = &l.log
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.out = bufio.NewReader(out)
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := l.out.ReadString('\n'); err != nil || line != "ready\n" {
		_ = l.cmd.Wait()
		return nil, fmt.Errorf("wanlink says %q: %w: %s", line, err, l.log.String())
	}
	return l, nil
}

// stop ends the link and returns what it carried there and back. Further calls
// return nothing.
func (l *link) stop() ([2]way, error) {
	var ways [2]way
	if l.cmd == nil {
		return ways, nil
	}
	cmd := l.cmd
	l.cmd = nil
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		return ways, err
	}
	text, err := io.ReadAll(l.out)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		return ways, fmt.Errorf("wanlink: %w: %s", err, l.log.String())
	}
	for i, line := range strings.SplitN(strings.TrimSpace(string(text)), "\n", 2) {
		_, report, _ := strings.Cut(line, ": ")
		var octets int64
		if _, err := fmt.Sscanf(report, "carried %d packets, %d bytes; lost %d;", &ways[i].carried, &octets, &ways[i].lost); err != nil {
			return ways, fmt.Errorf("read %q: %w", line, err)
		}
	}
	return ways, nil
}
