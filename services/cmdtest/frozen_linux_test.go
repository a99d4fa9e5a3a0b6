package cmdtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFrozenReceiver: a job whose receiver froze says so while it waits, and is
// done when the receiver goes on.
func TestFrozenReceiver(t *testing.T) {
	t.Parallel()
	tmp, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tmp, "a.txt"), []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	recv, err := start(os.Environ(), tmp, "receiver", localArgs(filepath.Join(tmp, "inbox"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(recv.kill)
	ping := recv.where["ping"]
	send, err := start(os.Environ(), tmp, "sender", append(senderArgs(filepath.Join(tmp, "jobs")), "--source-root", tmp, "--backoff-max", "1s",
		"--receiver", "archive="+recv.where["control"]+"/"+ping[strings.LastIndexByte(ping, ':')+1:])...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(send.kill)
	if err := recv.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	jobs := func(args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "sender"), append([]string{"jobs"}, append(args, "--json", "--at", send.where["control"])...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v %s", args, err, out)
		}
		return out
	}
	var j struct {
		ID       string `json:"id"`
		State    string `json:"state"`
		Progress struct {
			Note string `json:"note"`
		} `json:"progress"`
	}
	read := func(out []byte) {
		if err := json.Unmarshal(out, &j); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	read(jobs("submit", filepath.Join(tmp, "a.txt"), "--receiver", "archive"))
	for deadline := time.Now().Add(patience); !strings.Contains(j.Progress.Note, "archive is gone or frozen"); {
		if time.Now().After(deadline) {
			t.Fatalf("the job never said it: %+v\n%s", j, send.log)
		}
		time.Sleep(50 * time.Millisecond)
		read(jobs("show", j.ID))
	}
	if err := recv.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if read(jobs("wait", j.ID)); j.State != "succeeded" {
		t.Errorf("the job ended as %+v", j)
	}
}
