package health

import (
	"errors"
	"syscall"
)

// wsaeMsgSize reports a datagram that did not fit the buffer.
const wsaeMsgSize = syscall.Errno(10040)

// isRefused reports whether err stands for an ICMP "port unreachable" that an
// earlier datagram drew, which Windows calls a reset.
func isRefused(err error) bool { return errors.Is(err, refusedError) }

// isOversized reports whether err stands for a datagram that was cut.
func isOversized(err error) bool { return errors.Is(err, wsaeMsgSize) }

// refusedError is what isRefused recognises.
const refusedError = syscall.WSAECONNRESET
