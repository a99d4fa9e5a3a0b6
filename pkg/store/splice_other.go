//go:build !linux

package store

import (
	"io"
	"net"
	"os"
	"sync"
)

// splice copies n octets from the socket to f at off. Nothing here locks a file
// for long, so the lock is not used.
func splice(f *os.File, off int64, _ sync.Locker, conn *net.TCPConn, n int64) error {
	b := make([]byte, pieceSize)
	for n > 0 {
		m, err := io.ReadFull(conn, b[:min(n, pieceSize)])
		if err != nil {
			return readError{err}
		}
		if _, err := f.WriteAt(b[:m], off); err != nil {
			return err
		}
		off, n = off+int64(m), n-int64(m)
	}
	return nil
}
