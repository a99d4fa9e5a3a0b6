//go:build !linux

package recv

import (
	"net"
	"time"
)

// setUserTimeout does nothing: keepalive alone finds dead peers here.
func setUserTimeout(*net.TCPConn, time.Duration) {}

func newReader(*net.TCPConn) reader { return nil }
