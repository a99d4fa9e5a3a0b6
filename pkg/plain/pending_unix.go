//go:build unix

package plain

import (
	"errors"
	"net"
	"syscall"
)

// pending looks, without waiting and without taking anything, whether bytes or
// the end of the stream have arrived on nc (recv(2), MSG_PEEK).
func pending(nc net.Conn) (waiting, eof bool, err error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false, false, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false, false, err
	}
	var one [1]byte
	var n int
	var rerr error
	// Control, unlike Read, works with a read deadline in the past.
	if err := raw.Control(func(fd uintptr) {
		n, _, rerr = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}); err != nil {
		return false, false, err
	}
	switch {
	case errors.Is(rerr, syscall.EAGAIN), errors.Is(rerr, syscall.EINTR):
		return false, false, nil
	case rerr != nil:
		return false, false, rerr
	}
	return n > 0, n == 0, nil
}
