package cli

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// TuneScheduler makes every thread of this process one of SCHED_BATCH, so that one
// that wakes up does not take the processor from one that runs (sched(7)): lanes,
// and the watchman of the Go runtime that wakes thousands of times a second, would
// cut each other's work short. 20,000 files of 4 KiB over loopback on two cores:
// 374 -> 347 ms, and 0.06 CPU seconds less. What wakes waits for the end of a slice,
// some milliseconds, and only where no core is idle.
//
// A process that was given another policy keeps it. Threads that come later have the
// policy of those that start them. Failures change nothing but speed.
func TuneScheduler() {
	if old, err := unix.SchedGetAttr(0, 0); err != nil || old.Policy != unix.SCHED_NORMAL {
		return
	}
	// Once more, for threads that others started meanwhile.
	for range 2 {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, t := range tasks {
			if tid, err := strconv.Atoi(t.Name()); err == nil {
				setBatch(tid)
			}
		}
	}
}

func setBatch(tid int) {
	old, err := unix.SchedGetAttr(tid, 0)
	if err != nil || old.Policy == unix.SCHED_BATCH {
		return
	}
	_ = unix.SchedSetAttr(tid, &unix.SchedAttr{Policy: unix.SCHED_BATCH, Nice: old.Nice}, 0)
}
