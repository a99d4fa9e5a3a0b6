package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTune runs itself as a process whose threads had one policy or another, and
// looks at what it has become.
func TestTune(t *testing.T) {
	const variable = "CLI_TEST_POLICY"
	if text := os.Getenv(variable); text != "" {
		policy, _ := strconv.Atoi(text)
		tuned(t, uint32(policy)) //nolint:gosec // small
		return
	}
	for _, policy := range []int{unix.SCHED_NORMAL, unix.SCHED_IDLE} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestTune$") //nolint:gosec // this program
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", variable, policy))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("policy %d: %v\n%s", policy, err, out)
		}
	}
}

func tuned(t *testing.T, policy uint32) {
	want, nice := policy, int32(0) // SCHED_IDLE has none
	if policy == unix.SCHED_NORMAL {
		want, nice = unix.SCHED_BATCH, 3
	}
	for range 2 { // again for threads that were made meanwhile
		for _, tid := range threads(t) {
			_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Policy: policy, Nice: nice}, 0) // gone
		}
	}
	TuneScheduler()
	stop, made := make(chan struct{}), sync.WaitGroup{}
	defer close(stop)
	for range 8 { // threads of their own, made afterwards
		made.Add(1)
		go func() {
			runtime.LockOSThread()
			made.Done()
			<-stop
		}()
	}
	made.Wait()
	for _, tid := range threads(t) {
		if a, err := unix.SchedGetAttr(tid, 0); err == nil && (a.Policy != want || a.Nice != nice) {
			t.Errorf("thread %d has policy %d and nice %d, want %d and %d", tid, a.Policy, a.Nice, want, nice)
		}
	}
	TuneDescriptors()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "\nFDSize:")
		line, _, _ := strings.Cut(rest, "\n")
		if n, _ := strconv.Atoi(strings.TrimSpace(line)); n >= roomFor() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is room for %s descriptors, want %d", strings.TrimSpace(line), roomFor())
		}
	}
}

func threads(t *testing.T) (tids []int) {
	t.Helper()
	paths, err := filepath.Glob("/proc/self/task/*")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d threads, %v", len(paths), err)
	}
	for _, p := range paths {
		tid, err := strconv.Atoi(filepath.Base(p))
		if err != nil {
			t.Fatal(err)
		}
		tids = append(tids, tid)
	}
	return tids
}
