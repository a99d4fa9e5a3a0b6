package cli

import "golang.org/x/sys/unix"

// descriptors is how many a busy receiver has: 128 directories and 64 files of a
// transfer, as many more while it publishes, and lanes.
const descriptors = 2048

// TuneDescriptors makes room for descriptors at once and beside everything else.
// The kernel's table holds 64 at first and grows by doubling; each time the open(2)
// that needs it waits, if the process has threads, until no processor reads the old
// one any more (expand_fdtable and synchronize_rcu of the Linux kernel): 13 of the
// 45 ms in which a tree of 200 directories was published.
func TuneDescriptors() {
	go func() {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return // the table grows when it has to
		}
		defer func() { _ = unix.Close(fd) }()
		if high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, roomFor()-1); err == nil {
			_ = unix.Close(high)
		}
	}()
}

// roomFor is descriptors, or what the process may have at most.
func roomFor() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > descriptors {
		return descriptors
	}
	return int(limit.Cur) //nolint:gosec // at most descriptors
}
