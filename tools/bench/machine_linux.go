package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// machine describes what was measured on and with what.
func machine(ctx context.Context, o *options) []string {
	lines := []string{
		fmt.Sprintf("%s, %d cores, %s of memory, Linux %s, %s", after("/proc/cpuinfo", "model name\t: "), runtime.NumCPU(),
			amount(kibibytes("MemTotal:")), strings.TrimSpace(read("/proc/sys/kernel/osrelease")), runtime.Version()),
		fmt.Sprintf("TCP: %s, buffers of at most %s (receiving) and %s (sending)", strings.TrimSpace(read("/proc/sys/net/ipv4/tcp_congestion_control")),
			last("/proc/sys/net/ipv4/tcp_rmem"), last("/proc/sys/net/ipv4/tcp_wmem")),
	}
	date := time.Now().UTC().Format("2006-01-02 15:04 UTC")
	if commit := output(ctx, "git", "-C", o.repo, "describe", "--tags", "--always", "--dirty"); commit != "" {
		date += ", at " + commit
	}
	lines = append(lines, date, "load when it began: "+strings.Join(strings.Fields(read("/proc/loadavg"))[:3], " "))
	// The system call gives 20 less the nice value, see getpriority(2).
	if p, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil && p != 20 {
		lines = append(lines, fmt.Sprintf("all contenders ran with a nice value of %d, beside other programs", 20-p))
	}
	var versions []string
	for _, argv := range [][]string{{"rsync", "--version"}, {"nginx", "-v"}, {"curl", "--version"}, {"tar", "--version"}, {"iperf3", "--version"}, {"ssh", "-V"}, {"rclone", "version"}} {
		path, err := find(argv[0])
		if err != nil {
			continue
		}
		line, _, _ := strings.Cut(output(ctx, path, argv[1:]...), "\n")
		for _, f := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" /_,", r) }) {
			if f = strings.TrimPrefix(f, "v"); f[0] >= '0' && f[0] <= '9' {
				versions = append(versions, argv[0]+" "+f)
				break
			}
		}
	}
	return append(lines, strings.Join(versions, ", "))
}

func output(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput() //nolint:gosec // said by this program
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func read(path string) string {
	text, _ := os.ReadFile(path) // described as empty
	return string(text)
}

// after is the rest of the first line of a file that begins with prefix.
func after(path, prefix string) string {
	for line := range strings.Lines(read(path)) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func last(path string) string {
	f := strings.Fields(read(path))
	if len(f) == 0 {
		return "?"
	}
	n, _ := strconv.ParseInt(f[len(f)-1], 10, 64)
	return amount(n)
}

// kibibytes reads an amount of /proc/meminfo, in octets.
func kibibytes(field string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(after("/proc/meminfo", field), "kB")), 10, 64)
	return n << 10
}

// available is the memory that can still be used, octets.
func available() int64 { return kibibytes("MemAvailable:") }

// filesystem names the type of a directory's filesystem.
func filesystem(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err == nil && s.Type == unix.EXT4_SUPER_MAGIC {
		return "ext4"
	}
	return "a filesystem that is not ext4"
}
