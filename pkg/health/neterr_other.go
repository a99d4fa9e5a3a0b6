//go:build !windows

package health

import (
	"errors"
	"syscall"
)

// isRefused reports whether err stands for an ICMP "port unreachable" that an
// earlier datagram drew (udp(7): ECONNREFUSED on a connected socket).
func isRefused(err error) bool { return errors.Is(err, refusedError) }

// isOversized is false: a flag reports a datagram that was cut.
func isOversized(error) bool { return false }

// refusedError is what isRefused recognises.
const refusedError = syscall.ECONNREFUSED
