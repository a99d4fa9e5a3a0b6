package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the tests start this program as an end of a measurement.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles()[os.Args[1]] != nil {
		if err := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
			panic(err) // shown by the test that started this
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func newTrial(t *testing.T, w *work) *trial {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	return &trial{place: tmpfsPlace(out), work: w, out: out, tmp: t.TempDir(), self: self}
}

func TestBareLoop(t *testing.T) {
	w := &work{path: filepath.Join(t.TempDir(), "file")}
	if err := randomFile(w.path, 3<<20+7); err != nil {
		t.Fatal(err)
	}
	for _, lanes := range []int{1, 4} {
		for _, durable := range []bool{false, true} {
			trial := newTrial(t, w)
			trial.place.durable = durable
			s, err := bare(lanes).run(t.Context(), trial)
			if err != nil {
				t.Fatal(err)
			}
			if err := compare(t.Context(), trial.arrived(), w.path, true); err != nil {
				t.Errorf("%d lanes: %v", lanes, err)
			}
			if s.took <= 0 || s.sendMem <= 0 || s.recvMem <= 0 {
				t.Errorf("%d lanes: sample %+v", lanes, s)
			}
		}
	}
}

func TestTarOverSocket(t *testing.T) {
	w := &work{path: filepath.Join(t.TempDir(), "tree"), tree: true}
	if err := manyFiles(t.Context(), w.path, 300, smallFile); err != nil {
		t.Fatal(err)
	}
	for _, durable := range []bool{false, true} {
		trial := newTrial(t, w)
		trial.place.durable = durable
		if _, err := pipe().run(t.Context(), trial); err != nil {
			t.Fatal(err)
		}
		if err := compare(t.Context(), trial.arrived(), w.path, true); err != nil {
			t.Error(err)
		}
	}
}

// A run that is stopped ends both processes, and what they started.
func TestStoppedRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	trial := newTrial(t, &work{path: "nothing"})
	pids := filepath.Join(t.TempDir(), "pids")
	script := fmt.Sprintf("sleep 600 & echo $$ $! >>%s; wait", pids)
	go func() {
		for ctx.Err() == nil { // until both have said who they are
			if text, err := os.ReadFile(pids); err == nil && bytes.Count(text, []byte("\n")) == 2 {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	_, err := trial.run(ctx, ends{server: []string{"sh", "-c", script}, ready: func(*process) ([]string, error) { return []string{"sh", "-c", script}, nil }})
	if err == nil {
		t.Fatal("a stopped run is not an error")
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(text)) {
		for deadline := time.Now().Add(20 * time.Second); alive(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %s still runs", pid)
			}
		}
	}
}

// alive reports whether a process runs; one that nobody waited for does not.
func alive(pid string) bool {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !strings.Contains(string(text), ") Z ")
}

func TestProcess(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	p, err := start(ctx, dir, nil, []string{"sh", "-c", "echo first; echo second; exit 3"})
	if err != nil {
		t.Fatal(err)
	}
	if line, err := p.firstLine(); err != nil || line != "first" {
		t.Errorf("first line %q: %v", line, err)
	}
	if err := p.wait(); err == nil || !strings.Contains(err.Error(), "second") {
		t.Errorf("failure without what was said: %v", err)
	}
	p.close()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	p, err = start(ctx, dir, nil, []string{"sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; (exec dd if=/dev/zero of=/dev/null bs=64M count=100)"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.wait(); err != nil {
		t.Fatal(err)
	}
	<-p.sampled
	if p.cpu() <= 0 {
		t.Error("a busy process took no CPU time")
	}
	if p.memory() < 64<<20 {
		t.Errorf("a child with 64 MiB is missing in %d octets", p.memory())
	}
}

func TestProcFormats(t *testing.T) {
	table := "  sl  local_address rem_address   st\n   0: 0100007F:1CE8 00000000:0000 0A 00000000\n   1: 0100007F:1CE9 00000000:0000 01 00000000\n"
	if !hasListener([]byte(table), 0x1CE8) || hasListener([]byte(table), 0x1CE9) {
		t.Error("only the socket in LISTEN is a listener")
	}
	if got := statTime("7 (a b) c) S 1 7 7 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0"); got != time.Second {
		t.Errorf("CPU time %v, want 1s", got)
	}
	if got := busyOf("cpu  10 20 30 1000 1000 5 15 20 7 7"); got != time.Second {
		t.Errorf("busy time %v, want 1s", got)
	}
	if highWater(os.Getpid()) <= 0 || treeTime(os.Getpid()) < 0 {
		t.Error("nothing is known about this process")
	}
}

func TestIperfRate(t *testing.T) {
	if rate, err := iperfRate([]byte(`{"end":{"sum_received":{"bits_per_second":8e9}}}`)); rate != 8e9 || err != nil {
		t.Errorf("rate %v: %v", rate, err)
	}
	for _, bad := range []string{`{}`, `not JSON`} {
		if _, err := iperfRate([]byte(bad)); err == nil {
			t.Errorf("%s is not an error", bad)
		}
	}
}

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"-rounds", "0"}, {"extra"}, {"-only", "("}, {"-bin", dir}, {"-bin", dir, "-tmpfs", "/nowhere"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%v is not an error", args)
		}
	}
	for _, name := range []string{"sender", "receiver"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	memory := t.TempDir()
	err := run(t.Context(), []string{"-bin", dir, "-tmpfs", memory, "-only", "^nothing$", "-repo", "../.."}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "nothing was measured") {
		t.Errorf("no case: %v", err)
	}
	if left, _ := os.ReadDir(memory); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
