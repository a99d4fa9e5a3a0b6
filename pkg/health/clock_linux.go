package health

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/e27efefb/sluice/pkg/stamp"
)

// timeError is the state of an unsynchronised clock, adjtimex(2).
const timeError = 5

// clockEstimate asks the kernel how good the clock is: adjtimex(2) tells whether
// something keeps it synchronised, and its largest error in microseconds.
func clockEstimate() stamp.ErrorEstimate {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	if err != nil {
		return stamp.NewErrorEstimate(false, unknownError)
	}
	return stamp.NewErrorEstimate(state != timeError && tx.Status&unix.STA_UNSYNC == 0, time.Duration(tx.Maxerror)*time.Microsecond)
}
