//go:build unix

package main

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// tryLock takes an flock(2), which ends with the descriptor or the process.
func tryLock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) //nolint:gosec // descriptors fit an int
	if err == unix.EWOULDBLOCK {
		return fs.ErrExist
	}
	return err
}
