package cmdtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// killSize takes some seconds at killRate, so that several checkpoints (1 s) pass.
const (
	killSize = 96 << 20
	killRate = "24MiB"
)

// event is the part of a --json line that the test looks at.
type event struct {
	Event string `json:"event"`
	Acked int64  `json:"bytes_acked"`
	Total int64  `json:"bytes_total"`
	Sent  int64  `json:"bytes_sent"`
	Kind  string `json:"kind"`
	Text  string `json:"message"`

	Receipt *struct {
		Counts map[string]int64 `json:"counts"`
	} `json:"receipt"`
}

// sendRun is a running sender send --json.
type sendRun struct {
	cmd    *exec.Cmd
	events chan event
	last   event

	receipt map[string]int64 // what it counts, once it came
}

func (w *world) send(extra ...string) *sendRun {
	w.t.Helper()
	args := append([]string{"send", w.file, "--to", w.control, "--json", "--limit", killRate, "--timeout", "50s", "--retries", "0"}, extra...)
	r := &sendRun{cmd: exec.Command(filepath.Join(bin, "sender"), args...), events: make(chan event, 1000)}
	r.cmd.Env, r.cmd.Stderr = w.env, os.Stderr
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(r.events)
		in := bufio.NewReader(out)
		for {
			line, err := in.ReadBytes('\n')
			var e event
			if json.Unmarshal(line, &e) == nil {
				r.events <- e
			}
			if err != nil {
				return
			}
		}
	}()
	return r
}

// until waits for an event that ok accepts; false when the sender ended before.
func (r *sendRun) until(ok func(event) bool) bool {
	deadline := time.After(patience)
	for {
		select {
		case e, open := <-r.events:
			if !open {
				return false
			}
			r.note(e)
			if ok(e) {
				return true
			}
		case <-deadline:
			return false
		}
	}
}

func (r *sendRun) note(e event) {
	r.last = e
	if e.Receipt != nil {
		r.receipt = e.Receipt.Counts
	}
}

// end waits for the sender and returns its last event.
func (r *sendRun) end() (event, error) {
	r.until(func(event) bool { return false })
	return r.last, r.cmd.Wait()
}

func (r *sendRun) kill() {
	_ = r.cmd.Process.Kill()
	_, _ = r.end()
}

// world is one receiver, one file, one state directory.
type world struct {
	t       *testing.T
	env     []string
	dir     string
	file    string
	args    []string
	recv    *service
	control string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	tmp := t.TempDir()
	w := &world{t: t, dir: filepath.Join(tmp, "inbox"), file: filepath.Join(tmp, "data.bin")}
	w.env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(tmp, "state"))
	f, err := os.Create(w.file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{1}), killSize); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// The gate says that it was reached, and waits until it is opened: there a
	// transfer stands still between verify and publish.
	gate := filepath.Join(tmp, "gate.sh")
	script := fmt.Sprintf("#!/bin/sh\nmkdir -p %q\nwhile ! [ -e %q ]; do sleep 0.05; done\n", filepath.Join(tmp, "in-gate"), filepath.Join(tmp, "open"))
	if err := os.WriteFile(gate, []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	w.args = []string{"--on-verified", gate}
	w.restart()
	t.Cleanup(func() {
		w.openGate() // lets go of a gate that outlived its receiver
		w.recv.kill()
	})
	return w
}

// restart starts the receiver, from the second time on at the same addresses.
func (w *world) restart(extra ...string) {
	w.t.Helper()
	args := append(localArgs(w.dir), w.args...)
	if w.recv != nil {
		args = append(args, "--listen", w.recv.where["control"], "--data-listen", w.recv.where["data"])
	}
	s, err := start(w.env, filepath.Dir(w.file), "receiver", append(args, extra...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.recv, w.control = s, s.where["control"]
}

func (w *world) inGate() bool {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(w.file), "in-gate")); err == nil {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// openGate lets everything pass.
func (w *world) openGate() { _ = os.Mkdir(filepath.Join(filepath.Dir(w.file), "open"), 0o700) }

// steps brings a transfer to each of the five steps; false means that it ended.
func steps() []struct {
	name string
	at   func(w *world, r *sendRun) bool
} {
	return []struct {
		name string
		at   func(w *world, r *sendRun) bool
	}{
		{"offer", func(_ *world, r *sendRun) bool { return r.until(func(e event) bool { return e.Event == "offer" }) }},
		{"answer", func(_ *world, r *sendRun) bool { return r.until(func(e event) bool { return e.Event == "answer" }) }},
		{"lanes", func(_ *world, r *sendRun) bool {
			return r.until(func(e event) bool { return e.Event == "progress" && e.Acked > killSize/2 })
		}},
		{"verify", func(w *world, _ *sendRun) bool { return w.inGate() }},
		{"commit", func(w *world, r *sendRun) bool {
			w.openGate()
			return r.until(func(e event) bool { return e.Event == "receipt" })
		}},
	}
}

// TestKillSender kills the sender at each step; the same command then finishes,
// and what was held is not sent again.
func TestKillSender(t *testing.T) {
	t.Parallel()
	for _, step := range steps() {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.send()
			if !step.at(w, r) {
				t.Fatalf("the transfer never came to this step: %+v", r.last)
			}
			r.kill()
			noPartial(t, w)
			w.openGate()
			r = w.send()
			last, err := r.end()
			if step.name == "commit" {
				// The receipt was printed: the id is forgotten or the name is taken.
				if last.Event != "receipt" && last.Kind != "exists" {
					t.Fatalf("again: %+v, %v", last, err)
				}
			} else if err != nil || last.Event != "receipt" {
				t.Fatalf("again: %+v, %v", last, err)
			}
			if step.name == "lanes" && last.Sent > killSize-killSize/4 {
				t.Errorf("%d of %d octets were sent again, and half was acknowledged", last.Sent, killSize)
			}
			if step.name == "verify" && last.Sent > 2*64<<20 {
				t.Errorf("%d octets were sent again after all were acknowledged", last.Sent)
			}
			published(t, w)
		})
	}
}

// TestKillReceiver kills the receiver at each step; restarted at the same
// address, the running sender finishes by itself.
func TestKillReceiver(t *testing.T) {
	t.Parallel()
	for _, step := range steps() {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			r := w.send()
			if !step.at(w, r) {
				t.Fatalf("the transfer never came to this step: %+v", r.last)
			}
			w.recv.kill()
			if step.name != "commit" {
				noPartial(t, w)
			}
			w.openGate()
			w.restart()
			last, err := r.end()
			if err != nil || last.Event != "receipt" {
				t.Fatalf("%+v, %v\n%s", last, err, w.recv.log)
			}
			if step.name == "lanes" && last.Sent > killSize+killSize/2 {
				t.Errorf("%d of %d octets were sent in all", last.Sent, killSize)
			}
			published(t, w)
		})
	}
}

// noPartial checks that the final name holds the whole file or nothing.
func noPartial(t *testing.T, w *world) {
	t.Helper()
	st, err := os.Stat(filepath.Join(w.dir, "data.bin"))
	if err == nil && st.Size() != killSize {
		t.Errorf("a partial file of %d octets under the final name", st.Size())
	}
}

func published(t *testing.T, w *world) {
	t.Helper()
	if err := sameFiles(w.file, filepath.Join(w.dir, "data.bin")); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 { // data.bin and .sluice
		t.Errorf("the directory holds %v", entries)
	}
}

// TestInterruptedSenderResumes: Ctrl-C leaves a transfer that the same command
// resumes, and the exit code is 130.
func TestInterruptedSenderResumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.openGate()
	r := w.send()
	if !r.until(func(e event) bool { return e.Event == "progress" && e.Acked > killSize/2 }) {
		t.Fatal("no progress")
	}
	_ = r.cmd.Process.Signal(os.Interrupt)
	last, _ := r.end()
	if code := r.cmd.ProcessState.ExitCode(); code != 130 || last.Event != "error" || last.Kind != "canceled" {
		t.Errorf("exit code %d, %+v", code, last)
	}
	last, err := w.send().end()
	if err != nil || last.Event != "receipt" || last.Sent > killSize-killSize/4 {
		t.Errorf("again: %+v, %v", last, err)
	}
	published(t, w)
}

// TestGracefulStopParks: a receiver that is stopped in mid-transfer loses
// nothing, and the sender goes on with the next one.
func TestGracefulStopParks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.openGate()
	r := w.send()
	if !r.until(func(e event) bool { return e.Event == "progress" && e.Acked > killSize/2 }) {
		t.Fatal("no progress")
	}
	if err := w.recv.stop(); err != nil {
		t.Fatal(err)
	}
	w.restart()
	last, err := r.end()
	if err != nil || last.Event != "receipt" {
		t.Fatalf("%+v, %v\n%s", last, err, w.recv.log)
	}
	if last.Sent > killSize+killSize/4 {
		t.Errorf("%d of %d octets were sent in all after a graceful stop", last.Sent, killSize)
	}
	published(t, w)
}
