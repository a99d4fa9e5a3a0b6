package netdiag

import (
	"syscall"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// cpuTime returns the processor time of this process, user and kernel
// (GetProcessTimes, in units of 100 ns).
func cpuTime() (time.Duration, error) {
	self, err := syscall.GetCurrentProcess()
	if err != nil {
		return 0, failure(transfer.Internal, err, "read the processor time")
	}
	var created, exited, kernel, user syscall.Filetime
	if err := syscall.GetProcessTimes(self, &created, &exited, &kernel, &user); err != nil {
		return 0, failure(transfer.Internal, err, "read the processor time")
	}
	ticks := func(f syscall.Filetime) int64 { return int64(f.HighDateTime)<<32 | int64(f.LowDateTime) }
	return time.Duration(ticks(kernel)+ticks(user)) * 100, nil
}
