//go:build !linux

package send

import "net"

func tuneConn(net.Conn) {}

func resetOnClose(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
}

func paceConn(net.Conn, int64) bool { return false }

func delivered(net.Conn) (int64, bool) { return 0, false }

func (l *lane) noteTCP() {}
