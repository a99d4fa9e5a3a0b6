package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// contender is one way of moving a work.
type contender struct {
	name  string
	tools []tool // programs that it needs
	run   func(ctx context.Context, t *trial) (sample, error)
	empty bool // moves nothing that could be compared: iperf3
}

// find looks for a program, also where Debian keeps daemons.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, program))
		}
	}
	return path, err
}

// missing names the tools that are not there.
func (c *contender) missing() []tool {
	var none []tool
	for _, t := range c.tools {
		if _, err := find(t.program); err != nil {
			none = append(none, t)
		}
	}
	return none
}

// trial is one run of one contender.
type trial struct {
	place *place
	work  *work
	out   string // empty directory at the place: the work is to arrive there under its own name
	tmp   string // for configuration and output
	bin   string // of sender and receiver
	self  string // this program
	state string // of the sender: remembered transfers

	profile string // what names of CPU profiles begin with; empty: none
}

// arrived is where the work has to be afterwards.
func (t *trial) arrived() string { return filepath.Join(t.out, filepath.Base(t.work.path)) }

// ends are the two commands of a run.
type ends struct {
	server []string
	ready  func(*process) ([]string, error) // returns the client's command
	finish bool                             // the run is over when the server has ended by itself
	env    []string
	after  func(client *process, s *sample) error // reads the client's output
}

// run measures one transfer.
func (t *trial) run(ctx context.Context, e ends) (s sample, err error) {
	server, err := start(ctx, t.tmp, e.env, prefixed(t.place.to, e.server))
	if err != nil {
		return s, err
	}
	defer server.close()
	argv, err := e.ready(server)
	if err != nil {
		return s, err
	}
	server.mark()
	begin, busy := time.Now(), busyTime()
	client, err := start(ctx, t.tmp, e.env, prefixed(t.place.from, argv))
	if err != nil {
		return s, err
	}
	defer client.close()
	if err := client.wait(); err != nil {
		return s, errors.Join(context.Cause(ctx), err, fmt.Errorf("the other end said: %s", server.said()))
	}
	if e.finish {
		if err := server.wait(); err != nil {
			return s, errors.Join(context.Cause(ctx), err)
		}
	}
	s.took = time.Since(begin)
	busy = busyTime() - busy
	if err := server.stop(); err != nil {
		return s, err
	}
	<-client.sampled
	<-server.sampled
	s.sendCPU, s.recvCPU, s.sendMem, s.recvMem = client.cpu(), server.cpu(), client.memory(), server.memory()
	s.others = max(0, (busy-s.sendCPU-s.recvCPU).Seconds()/s.took.Seconds())
	if e.after != nil {
		err = e.after(client, &s)
	}
	return s, err
}

func prefixed(prefix, argv []string) []string {
	return append(append([]string(nil), prefix...), argv...)
}

// sluice is this project with one digest.
func sluice(digest string) contender { return sluiceWith("sluice "+digest, digest, nil, nil) }

// sluiceWith is this project with further flags at both ends.
func sluiceWith(name, digest string, serverFlags, clientFlags []string) contender {
	return contender{name: name, run: func(ctx context.Context, t *trial) (sample, error) {
		server := []string{
			filepath.Join(t.bin, "receiver"), "serve", "--dir", t.out, "--listen", t.place.host + ":0", "--data-listen", t.place.host + ":0",
			"--ping-listen", "off", "--admin-listen", "off", "--json",
		}
		client := []string{filepath.Join(t.bin, "sender"), "send", t.work.path, "--digest", digest, "-v"}
		server, client = append(server, serverFlags...), append(client, clientFlags...)
		if t.place.remote() {
			server, client = append(server, "--no-tls", "--no-auth"), append(client, "--no-tls")
		}
		if t.profile != "" {
			server, client = append(server, "--cpuprofile", t.profile+"-receiver.prof"), append(client, "--cpuprofile", t.profile+"-sender.prof")
		}
		return t.run(ctx, ends{
			server: server,
			env:    []string{"XDG_STATE_HOME=" + t.state},
			ready: func(p *process) ([]string, error) {
				line, err := p.firstLine()
				if err != nil {
					return nil, err
				}
				var serving struct{ Event, Control string }
				if err := json.Unmarshal([]byte(line), &serving); err != nil || serving.Event != "serving" {
					return nil, fmt.Errorf("receiver said %q: %w", line, errors.Join(err, errors.New("not a serving event")))
				}
				return append(client, "--to", serving.Control), nil
			},
			after: func(p *process, s *sample) error {
				return p.lines(func(line string) {
					if _, bound, ok := strings.Cut(line, "bounded by: "); ok {
						s.bound = bound
					}
				})
			},
		})
	}}
}

// bare is the bare loop with so many lanes; it moves single files.
func bare(lanes int) contender {
	name := "bare loop"
	if lanes > 1 {
		name = fmt.Sprintf("bare loop, %d lanes", lanes)
	}
	return contender{name: name, run: func(ctx context.Context, t *trial) (sample, error) {
		n := fmt.Sprint(lanes)
		server := []string{t.self, "bare-receive", "-listen", t.place.host + ":0", "-file", t.arrived(), "-lanes", n}
		if t.place.durable {
			server = append(server, "-fsync")
		}
		return t.run(ctx, ends{server: server, finish: true, ready: func(p *process) ([]string, error) {
			addr, err := p.firstLine()
			return []string{t.self, "bare-send", "-to", addr, "-file", t.work.path, "-lanes", n}, err
		}})
	}}
}

// pipe is tar at both ends of one connection, with a sync where that counts.
func pipe() contender {
	return contender{name: "tar over a socket", tools: []tool{{"tar", "tar"}}, run: func(ctx context.Context, t *trial) (sample, error) {
		server := []string{t.self, "pipe-receive", "-listen", t.place.host + ":0"}
		if t.place.durable {
			server = append(server, "-sync", t.out)
		}
		return t.run(ctx, ends{server: append(server, "tar", "-C", t.out, "-xf", "-"), finish: true, ready: func(p *process) ([]string, error) {
			addr, err := p.firstLine()
			return []string{t.self, "pipe-send", "-to", addr, "tar", "-C", filepath.Dir(t.work.path), "-cf", "-", filepath.Base(t.work.path)}, err
		}})
	}}
}

// freePort is a port that was free a moment ago.
func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// onPort adapts a server that cannot say which port it got.
func (t *trial) onPort(ctx context.Context, e func(port int) (ends, []string, error)) (sample, error) {
	port, err := freePort(ctx)
	if err != nil {
		return sample{}, err
	}
	both, client, err := e(port)
	if err != nil {
		return sample{}, err
	}
	both.ready = func(p *process) ([]string, error) { return client, p.listening(port) }
	return t.run(ctx, both)
}

// file writes a configuration file.
func (t *trial) file(name, format string, args ...any) (string, error) {
	path := filepath.Join(t.tmp, name)
	return path, os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600)
}
