//go:build !linux

package recv

import (
	"net"
	"time"
)

// setUserTimeout does nothing: keepalive alone finds dead peers here.
func setUserTimeout(*net.TCPConn, time.Duration) {}

// newReader cannot tell here whether a read would block.
func newReader(*net.TCPConn) func(p []byte, idle func() error) (int, error) { return nil }
