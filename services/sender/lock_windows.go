package main

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// tryLock takes a lock that ends with the handle or the process (LockFileEx).
func tryLock(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped))
	if err == windows.ERROR_LOCK_VIOLATION {
		return fs.ErrExist
	}
	return err
}
