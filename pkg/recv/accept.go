package recv

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// outOfResources reports a failure of Accept that passes: no descriptors or
// memory, or a client that was gone before it was accepted (accept(2)).
func outOfResources(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	var t interface{ Temporary() bool }
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM) ||
		errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &t) && t.Temporary()
}
