//go:build unix

package netdiag

import (
	"syscall"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// cpuTime returns the processor time of this process, user and system
// (getrusage(2), RUSAGE_SELF).
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, failure(transfer.Internal, err, "read the processor time")
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
