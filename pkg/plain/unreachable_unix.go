//go:build unix

package plain

import (
	"errors"
	"syscall"
)

// msgTrunc is the flag of a datagram that did not fit the buffer, recvmsg(2).
const msgTrunc = syscall.MSG_TRUNC

// isUnreachable reports whether err stands for an ICMP "port unreachable" that
// an earlier datagram drew (udp(7): ECONNREFUSED on a connected socket).
func isUnreachable(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// outOfResources reports whether accept(2) failed for a lack that passes.
func outOfResources(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}
