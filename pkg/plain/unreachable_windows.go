package plain

import (
	"errors"
	"syscall"
)

// msgTrunc is zero: Windows reports a datagram that did not fit as an error.
const msgTrunc = 0

// wsaeMFile and wsaeNoBufs are Windows Sockets errors without a name in the
// standard library.
const (
	wsaeMFile  = syscall.Errno(10024)
	wsaeNoBufs = syscall.Errno(10055)
)

// isUnreachable reports whether err stands for an ICMP "port unreachable" that
// an earlier datagram drew, which Windows calls a reset.
func isUnreachable(err error) bool { return errors.Is(err, syscall.WSAECONNRESET) }

// outOfResources reports whether accept failed for a lack that passes.
func outOfResources(err error) bool {
	return errors.Is(err, wsaeMFile) || errors.Is(err, wsaeNoBufs)
}
