package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/e27efefb/sluice/pkg/health"
)

// receiverHost and senderHost are what wanlink gives its ends.
const (
	senderHost   = "10.99.0.1"
	receiverHost = "10.99.0.2"
)

// patience bounds every wait for what must happen.
const patience = 2 * time.Minute

// world is a sender service and a receiver on both ends of a link.
type world struct {
	s        *soak
	dir      string
	a, b     string // namespaces
	link     *link
	sender   *process
	receiver *process
}

// in runs f in a world of its own and takes it down.
func (s *soak) in(ctx context.Context, name string, shape []string, f func(context.Context, *world) error) (err error) {
	w := &world{s: s, dir: filepath.Join(s.dir, name), a: fmt.Sprintf("soak-a-%d", os.Getpid()), b: fmt.Sprintf("soak-b-%d", os.Getpid())}
	if err := os.MkdirAll(filepath.Join(w.dir, "inbox"), 0o755); err != nil {
		return err
	}
	lasting := context.WithoutCancel(ctx) // close ends them, in order
	defer func() { err = errors.Join(err, w.close()) }()
	if w.link, err = startLink(lasting, filepath.Join(s.dir, "wanlink"), append(shape, "-a", w.a, "-b", w.b)...); err != nil {
		return err
	}
	for _, ns := range []string{w.a, w.b} {
		if err := command(ctx, "ip", "-n", ns, "link", "set", "lo", "up"); err != nil {
			return err
		}
	}
	w.receiver, err = startProcess(w.exec(lasting, w.b, "receiver", "serve", "--json", "--log-format", "json", "--dir", filepath.Join(w.dir, "inbox"), "--no-tls", "--no-auth",
		"--listen", receiverHost+":7400", "--data-listen", receiverHost+":7401", "--ping-listen", receiverHost+":7402", "--admin-listen", "off"))
	if err != nil {
		return err
	}
	w.sender, err = startProcess(w.exec(lasting, w.a, "sender", "serve", "--json", "--log-format", "json", "--state", filepath.Join(w.dir, "state"), "--source-root", w.dir,
		"--receiver", "far="+receiverHost+":7400", "--receiver-no-tls", "--backoff-max", "1s", "--ping-listen", "off", "--admin-listen", "off"))
	if err != nil {
		return err
	}
	return f(ctx, w)
}

func (w *world) close() error {
	err := errors.Join(w.sender.stop(), w.receiver.stop())
	if w.link != nil {
		_, lerr := w.link.stop()
		err = errors.Join(err, lerr)
	}
	return err
}

// exec prepares one of our programs in a namespace.
func (w *world) exec(ctx context.Context, ns, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns, filepath.Join(w.s.bin, program)}, args...)...) //nolint:gosec // our own programs
	cmd.Env = append(os.Environ(), "HOME="+w.dir, "XDG_STATE_HOME="+filepath.Join(w.dir, ".state"))
	cmd.Dir = w.dir
	return cmd
}

// command runs one of our programs to its end and returns its output.
func (w *world) command(ctx context.Context, ns, program string, args ...string) ([]byte, error) {
	cmd := w.exec(ctx, ns, program, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %v: %w: %s%s", program, args, err, out.Bytes(), errOut.Bytes())
	}
	return out.Bytes(), nil
}

// drop drops what comes to the receiver's machine and matches.
func (w *world) drop(ctx context.Context, match ...string) error {
	return command(ctx, "ip", append(append([]string{"netns", "exec", w.b, "iptables", "-w", "-A", "INPUT"}, match...), "-j", "DROP")...)
}

func (w *world) dropNothing(ctx context.Context) error {
	return command(ctx, "ip", "netns", "exec", w.b, "iptables", "-w", "-F", "INPUT")
}

func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}

// job is one transfer by the sender service.
type job struct {
	w   *world
	id  string
	sum [sha256.Size]byte
	got jobState
}

// jobState is what sender jobs says of it.
type jobState struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Attempts int    `json:"attempts"`
}

// midTransfer submits a job and returns when a quarter of it has arrived.
func (w *world) midTransfer(ctx context.Context) (*job, error) {
	path := filepath.Join(w.dir, "file.bin")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	j, h := &job{w: w}, sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, h), rand.Reader, w.s.size)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	h.Sum(j.sum[:0])
	if _, err := w.sender.await(ctx, time.Time{}, health.Alive); err != nil {
		return nil, err
	}
	out, err := w.command(ctx, w.a, "sender", "jobs", "submit", path, "--receiver", "far", "--json")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(out, &j.got); err != nil || j.got.ID == "" {
		return nil, fmt.Errorf("read the job %q: %w", out, err)
	}
	j.id = j.got.ID
	return j, poll(ctx, "a quarter of the file", func() (bool, error) {
		out, err := w.command(ctx, w.b, "receiver", "transfers", "list", "--at", receiverHost+":7400", "--no-tls", "--json")
		if err != nil || len(out) == 0 {
			return false, err
		}
		var info struct {
			State string `json:"state"`
			Acked int64  `json:"bytes_acked"`
		}
		if err := json.Unmarshal(bytes.SplitN(out, []byte("\n"), 2)[0], &info); err != nil {
			return false, err
		}
		if info.State == "committed" {
			return false, errors.New("the transfer is over already: give a larger -size")
		}
		return info.Acked >= w.s.size/4, nil
	})
}

func poll(ctx context.Context, what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if done, err := ok(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// finish waits for the job and compares the digests.
func (j *job) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := j.w.command(ctx, j.w.a, "sender", "jobs", "wait", j.id, "--json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(bytes.TrimSpace(out), &j.got); err != nil {
		return fmt.Errorf("read the job %q: %w", out, err)
	}
	f, err := os.Open(filepath.Join(j.w.dir, "inbox", "file.bin"))
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), j.sum[:]) {
		return errors.New("the digests differ")
	}
	return nil
}

func (j *job) attempts() int { return j.got.Attempts }
