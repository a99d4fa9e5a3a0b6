package recv

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout sets TCP_USER_TIMEOUT (tcp(7)), in milliseconds.
func setUserTimeout(c *net.TCPConn, d time.Duration) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// newReader reads by read(2), which says EAGAIN before it would block.
func newReader(c *net.TCPConn) func(p []byte, idle func() error) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return func(p []byte, idle func() error) (int, error) { return readIdle(raw, p, idle) }
}

func readIdle(raw syscall.RawConn, p []byte, idle func() error) (n int, err error) {
	failed := raw.Read(func(fd uintptr) bool {
		for {
			n, err = unix.Read(int(fd), p)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if !errors.Is(err, unix.EAGAIN) {
			return true
		}
		n, err = 0, nil
		if idle != nil {
			err, idle = idle(), nil
		}
		return err != nil
	})
	switch {
	case failed != nil: // closed, or the deadline passed
		return 0, failed
	case err != nil:
		return 0, err
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}
