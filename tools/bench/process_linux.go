package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sampleEvery is how often the memory of a process is read: seldom enough
	// to cost nothing, since VmHWM keeps the highest value itself.
	sampleEvery = 50 * time.Millisecond

	// pollEvery is how often a server is asked whether it is ready.
	pollEvery = 5 * time.Millisecond

	// patience is how long a server may take to be ready, or to end.
	patience = 15 * time.Second

	// tick is the unit of CPU times in /proc/PID/stat: USER_HZ, which is 100
	// on every architecture that Go supports.
	tick = 10 * time.Millisecond
)

// process is one end of a measurement: a program in a process group of its own,
// which is killed as a whole.
type process struct {
	name string
	cmd  *exec.Cmd
	logs *os.File // its standard output and error

	ended   chan struct{} // closed once it was waited for
	sampled chan struct{} // closed once its memory is no longer read
	err     error         // of the wait; read after ended

	before time.Duration // CPU time at the last mark
	peak   atomic.Int64  // octets
}

// start runs argv with its output in a file below dir, until it ends or ctx
// does.
func start(ctx context.Context, dir string, env, argv []string) (*process, error) {
	logs, err := os.CreateTemp(dir, "log-")
	if err != nil {
		return nil, err
	}
	p := &process{name: filepath.Base(argv[0]), logs: logs, ended: make(chan struct{}), sampled: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // what is measured is said by this program
	p.cmd.Stdout, p.cmd.Stderr = logs, logs
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = p.kill
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", strings.Join(argv, " "), err), logs.Close())
	}
	go p.sample()
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// kill ends the whole group.
func (p *process) kill() error {
	err := unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// wait returns when the process has ended, with what it said if it failed.
func (p *process) wait() error {
	<-p.ended
	if p.err != nil {
		return fmt.Errorf("%s: %w: %s", p.name, p.err, p.said())
	}
	return nil
}

// said is the end of the output.
func (p *process) said() string {
	const most = 2000 // octets
	text, err := os.ReadFile(p.logs.Name())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

// firstLine waits for the first line of output.
func (p *process) firstLine() (string, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(pollEvery) {
		text, err := os.ReadFile(p.logs.Name())
		if err != nil {
			return "", err
		}
		if line, _, ok := bytes.Cut(text, []byte("\n")); ok {
			return string(line), nil
		}
		if err := p.early(); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%s said nothing in %v", p.name, patience)
}

// listening waits until the process's network namespace has a listener on port.
func (p *process) listening(port int) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(pollEvery) {
		for _, table := range []string{"tcp", "tcp6"} {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.cmd.Process.Pid, table)) // gone: early says so
			if hasListener(text, port) {
				return nil
			}
		}
		if err := p.early(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s does not listen on port %d after %v: %s", p.name, port, patience, p.said())
}

// early is an error if the process has ended.
func (p *process) early() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended early, with %v: %s", p.name, p.cmd.ProcessState, p.said())
	default:
		return nil
	}
}

// hasListener reports whether a table as of /proc/net/tcp, see proc_net(5), has
// a socket in LISTEN (0A) on port.
func hasListener(table []byte, port int) bool {
	want := fmt.Sprintf(":%04X", port)
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 3 && f[3] == "0A" && strings.HasSuffix(f[1], want) {
			return true
		}
	}
	return false
}

// mark makes cpu count from now on.
func (p *process) mark() { p.before = treeTime(p.cmd.Process.Pid) }

// cpu is the CPU time since the mark, of the process and of all that it waited
// for. The process must have ended.
func (p *process) cpu() time.Duration {
	s := p.cmd.ProcessState
	return max(0, s.UserTime()+s.SystemTime()-p.before)
}

// memory is the largest resident set of one process of this end, octets. The
// process must have ended.
func (p *process) memory() int64 {
	peak := p.peak.Load()
	if u, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		// A process starts with the peak of the one that started it, which is
		// this one: only a larger value is its own.
		if most := u.Maxrss << 10; most > highWater(os.Getpid()) {
			peak = max(peak, most)
		}
	}
	return peak
}

// stop ends a server politely, once the processes that it started have ended:
// those of a connection, whose CPU time counts only after they were waited for.
func (p *process) stop() error {
	deadline := time.Now().Add(patience)
	for polite := time.Now().Add(2 * time.Second); time.Now().Before(polite); time.Sleep(pollEvery) {
		if p.early() != nil || p.name == "nginx" || len(children(p.cmd.Process.Pid)) == 0 {
			break
		}
	}
	_ = unix.Kill(p.cmd.Process.Pid, unix.SIGTERM) // it may have ended
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		_ = p.kill() // it may have ended
		<-p.ended
		return fmt.Errorf("%s did not stop within %v and was killed", p.name, patience)
	}
	_ = p.kill() // what is left of the group
	return nil
}

// close ends whatever still runs and removes the output.
func (p *process) close() {
	if p.early() == nil {
		_ = p.kill() // it may end meanwhile
	}
	<-p.ended
	<-p.sampled
	_ = p.logs.Close()
	_ = os.Remove(p.logs.Name())
}

// sample follows the peak of memory until the process has ended.
func (p *process) sample() {
	defer close(p.sampled)
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		for _, pid := range tree(p.cmd.Process.Pid) {
			p.peak.Store(max(p.peak.Load(), highWater(pid)))
		}
		select {
		case <-p.ended:
			return
		case <-ticker.C:
		}
	}
}

// tree lists pid and its descendants.
func tree(pid int) []int {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children(pids[i])...)
	}
	return pids
}

// children lists what the main thread of pid has started and not waited for.
func children(pid int) []int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)) // gone: none
	var pids []int
	for _, f := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(f); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// highWater is VmHWM of pid in octets, 0 if it is gone.
func highWater(pid int) int64 { return statusField(pid, "VmHWM:") }

// statusField is an amount of /proc/PID/status in octets, 0 if pid is gone.
func statusField(pid int, name string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // gone: no line
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// treeTime is the CPU time of pid and its descendants so far, and of those that
// pid waited for.
func treeTime(pid int) time.Duration {
	var sum time.Duration
	for _, p := range tree(pid) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p)) // gone: nothing
		sum += statTime(string(text))
	}
	return sum
}

// statTime adds utime, stime, cutime and cstime of a line of /proc/PID/stat:
// fields 14 to 17, see proc_pid_stat(5). The name before may have spaces.
func statTime(line string) time.Duration {
	f := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	var sum time.Duration
	for i := 11; i <= 14 && i < len(f); i++ {
		n, _ := strconv.ParseInt(f[i], 10, 64)
		sum += time.Duration(n) * tick
	}
	return sum
}

// lines calls f with each line of the output. The process must have ended.
func (p *process) lines(f func(string)) error {
	file, err := os.Open(p.logs.Name())
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	s := bufio.NewScanner(file)
	for s.Scan() {
		f(s.Text())
	}
	return s.Err()
}

// busyTime is the CPU time that the machine has spent so far on anything, all
// cores together: user, nice, system, irq, softirq and steal of the first line
// of /proc/stat, see proc_stat(5).
func busyTime() time.Duration {
	text, _ := os.ReadFile("/proc/stat") // none: the figure stays empty
	line, _, _ := strings.Cut(string(text), "\n")
	return busyOf(line)
}

func busyOf(line string) time.Duration {
	f := strings.Fields(line)
	var sum time.Duration
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		if i < len(f) {
			n, _ := strconv.ParseInt(f[i], 10, 64)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}
