//go:build !linux

package store

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// dir is an open directory, here by os.Root. These systems serve development:
// a taken name is found by looking first, so two receivers of one name could
// race where Linux decides in the kernel.
type dir struct {
	root *os.Root
}

// info is what the store asks of a name.
type info struct {
	kind  fs.FileMode // type bits only
	perm  fs.FileMode // permission bits only
	size  int64
	mtime int64 // nanoseconds since 1970
	ino   uint64
	used  int64 // octets allocated
}

var (
	errForeign = errors.New("another filesystem")
	errLink    = errors.New("a symbolic link")
	errNotDir  = errors.New("not a directory")
	errLocked  = errors.New("locked by another process")
)

func openDir(path string) (*dir, error) {
	r, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &dir{root: r}, nil
}

func (d *dir) sub(name string) (*dir, error) {
	if name != "." {
		st, err := d.root.Lstat(name)
		switch {
		case err != nil:
			return nil, err
		case st.Mode()&fs.ModeSymlink != 0:
			return nil, errLink
		case !st.IsDir():
			return nil, errNotDir
		}
	}
	r, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &dir{root: r}, nil
}

func (d *dir) close() error { return d.root.Close() }

func (d *dir) mkdir(name string, perm fs.FileMode) error { return d.root.Mkdir(name, perm.Perm()) }

func (d *dir) file(name string, flag int, perm fs.FileMode) (*os.File, error) {
	if st, err := d.root.Lstat(name); err == nil && !st.Mode().IsRegular() {
		return nil, errLink
	}
	return d.root.OpenFile(name, flag, perm.Perm())
}

func (d *dir) writeNew(name string, perm fs.FileMode, _ bool, mtime int64, data []byte) error {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return errors.Join(d.setTime(name, mtime), d.root.Chmod(name, perm.Perm()))
}

func (d *dir) setTime(name string, mtime int64) error {
	if mtime == noTime {
		return nil
	}
	return d.root.Chtimes(name, time.Time{}, fromNanos(mtime))
}

func setMeta(f *os.File, perm fs.FileMode, mtime int64) error {
	err := os.Chtimes(f.Name(), time.Time{}, fromNanos(mtime))
	return errors.Join(err, os.Chmod(f.Name(), perm.Perm()))
}

func (d *dir) setMeta(perm fs.FileMode, mtime int64) error {
	return errors.Join(d.setTime(".", mtime), d.root.Chmod(".", perm.Perm()))
}

func (d *dir) setLinkTime(string, int64) error { return nil }

func (d *dir) lstat(name string) (info, error) {
	st, err := d.root.Lstat(name)
	if err != nil {
		return info{}, err
	}
	i := info{perm: st.Mode().Perm(), size: st.Size(), mtime: nanos(st.ModTime())}
	switch {
	case st.IsDir():
		i.kind = fs.ModeDir
	case st.Mode()&fs.ModeSymlink != 0:
		i.kind = fs.ModeSymlink
	case !st.Mode().IsRegular():
		i.kind = fs.ModeIrregular
	}
	return i, nil
}

func (d *dir) rename(name string, to *dir, newName string, replace bool) error {
	if _, err := to.root.Lstat(newName); err == nil && !replace {
		return fs.ErrExist
	}
	return os.Rename(d.root.Name()+"/"+name, to.root.Name()+"/"+newName)
}

func (d *dir) unlink(name string) error {
	if st, err := d.root.Lstat(name); err == nil && st.IsDir() {
		return errLink
	}
	return d.root.Remove(name)
}

func (d *dir) rmdir(name string) error { return d.root.Remove(name) }

func (d *dir) symlink(target, name string) error { return d.root.Symlink(target, name) }

func (d *dir) readlink(name string) (string, error) { return d.root.Readlink(name) }

func (d *dir) names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return f.Readdirnames(-1)
}

// sync and syncAll sync the directory where the system can; Windows cannot.
func (d *dir) sync() error {
	if f, err := d.root.Open("."); err == nil {
		_ = f.Sync()
		_ = f.Close()
	}
	return nil
}

func (d *dir) syncAll() error { return d.sync() }

func syncData(f *os.File) error { return f.Sync() }

// space is unknown here, so only quotas limit.
func (d *dir) space() (octets, inodes int64, err error) { return 1 << 61, -1, nil }

func (d *dir) inMemory() bool { return false }

func allocate(*os.File, int64) (bool, error) { return false, nil }

func (d *dir) lockFile(name string) (*os.File, error) {
	return d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

func isFull(error) bool        { return false }
func isLocked(err error) bool  { return errors.Is(err, errLocked) }
func isForeign(err error) bool { return errors.Is(err, errForeign) }
func isLink(err error) bool    { return errors.Is(err, errLink) }
func isNotDir(err error) bool  { return errors.Is(err, errNotDir) }
func isTaken(err error) bool   { return errors.Is(err, fs.ErrExist) }
func bootID() string           { return "" }
func umask() fs.FileMode       { return 0o022 }
