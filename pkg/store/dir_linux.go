package store

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dir is an open directory. Every call names one element below it, so nothing
// that another process does to the path above can lead a call elsewhere.
type dir struct {
	fd int
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

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR { //nolint:errorlint // raw errno
			return err
		}
	}
}

func openDir(path string) (*dir, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &dir{fd: fd}, nil
}

// sub opens a directory below d. A symbolic link is ELOOP, a mount point
// EXDEV (openat2(2)).
func (d *dir) sub(name string) (*dir, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS,
	}
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat2(d.fd, name, how)
		return err
	})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return d.subOld(name)
	}
	if err != nil {
		return nil, err
	}
	return &dir{fd: fd}, nil
}

// subOld serves kernels before 5.6 and containers whose seccomp filter answers
// openat2 with EPERM.
func (d *dir) subOld(name string) (*dir, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		return err
	})
	if errors.Is(err, unix.ENOTDIR) {
		if st, e := d.lstat(name); e == nil && st.kind == fs.ModeSymlink {
			err = unix.ELOOP
		}
	}
	if err != nil {
		return nil, err
	}
	var a, b unix.Stat_t
	if err := errors.Join(unix.Fstat(d.fd, &a), unix.Fstat(fd, &b)); err != nil || a.Dev != b.Dev {
		_ = unix.Close(fd)
		if err == nil {
			err = unix.EXDEV
		}
		return nil, err
	}
	return &dir{fd: fd}, nil
}

func (d *dir) close() error { return unix.Close(d.fd) }

func (d *dir) mkdir(name string, perm fs.FileMode) error {
	return retry(func() error { return unix.Mkdirat(d.fd, name, uint32(perm.Perm())) })
}

// file opens a regular file below d with flags of package os. It never follows
// a link and never blocks on a FIFO.
func (d *dir) file(name string, flag int, perm fs.FileMode) (*os.File, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Openat(d.fd, name, flag|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, uint32(perm.Perm()))
		return err
	})
	if err != nil {
		return nil, err
	}
	// O_NONBLOCK has no meaning for regular files; without it os.File would ask
	// the poller, which refuses them.
	if err := unix.SetNonblock(fd, false); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// writeNew makes a file and fills it. Setting chmod says that the umask would
// strip bits of perm. On an error the file may be left.
func (d *dir) writeNew(name string, perm fs.FileMode, chmod bool, mtime int64, data []byte) (err error) {
	var fd int
	err = retry(func() (err error) {
		fd, err = unix.Openat(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(perm.Perm()))
		return err
	})
	if err != nil {
		return err
	}
	defer func() {
		if e := unix.Close(fd); err == nil {
			err = e
		}
	}()
	if chmod {
		if err := unix.Fchmod(fd, uint32(perm.Perm())); err != nil {
			return err
		}
	}
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR { // raw errno
			continue
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	return setTimes(fd, mtime)
}

func timespec(mtime int64) [2]unix.Timespec {
	return [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(mtime)}
}

// setTimes sets the modification time by descriptor (utimensat(2) with a null
// path, which the library offers only through the raw call).
func setTimes(fd int, mtime int64) error {
	if mtime == noTime {
		return nil
	}
	return futimens(fd, timespec(mtime))
}

// setMeta sets permission bits and modification time by descriptor.
func setMeta(f *os.File, perm fs.FileMode, mtime int64) error {
	if err := unix.Fchmod(int(f.Fd()), uint32(perm.Perm())); err != nil {
		return err
	}
	return setTimes(int(f.Fd()), mtime)
}

// setMeta sets permission bits and modification time of the directory itself
// and makes them durable.
func (d *dir) setMeta(perm fs.FileMode, mtime int64) error {
	if err := unix.Fchmod(d.fd, uint32(perm.Perm())); err != nil {
		return err
	}
	return setTimes(d.fd, mtime)
}

// setLinkTime sets the modification time of a symbolic link itself.
func (d *dir) setLinkTime(name string, mtime int64) error {
	if mtime == noTime {
		return nil
	}
	ts := timespec(mtime)
	return unix.UtimesNanoAt(d.fd, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

func (d *dir) lstat(name string) (info, error) {
	var st unix.Stat_t
	err := retry(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return info{}, err
	}
	return statInfo(&st), nil
}

func statInfo(st *unix.Stat_t) info {
	i := info{perm: fs.FileMode(st.Mode & 0o777), size: st.Size, mtime: nanos(time.Unix(st.Mtim.Unix())), ino: st.Ino, used: st.Blocks * 512}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		i.kind = fs.ModeDir
	case unix.S_IFLNK:
		i.kind = fs.ModeSymlink
	default:
		i.kind = fs.ModeIrregular
	}
	return i
}

// rename moves d/name to to/newName and never follows links. Without replace a
// taken name is EEXIST, decided by the kernel (renameat2(2)).
func (d *dir) rename(name string, to *dir, newName string, replace bool) error {
	flags := uint(unix.RENAME_NOREPLACE)
	if replace {
		flags = 0
	}
	return retry(func() error { return unix.Renameat2(d.fd, name, to.fd, newName, flags) })
}

func (d *dir) unlink(name string) error {
	return retry(func() error { return unix.Unlinkat(d.fd, name, 0) })
}

func (d *dir) rmdir(name string) error {
	return retry(func() error { return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR) })
}

func (d *dir) symlink(target, name string) error {
	return retry(func() error { return unix.Symlinkat(target, d.fd, name) })
}

func (d *dir) readlink(name string) (string, error) {
	var b [4096]byte
	n, err := unix.Readlinkat(d.fd, name, b[:])
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// names lists the directory.
func (d *dir) names() ([]string, error) {
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close() // only read
	return f.Readdirnames(-1)
}

// sync makes the names in the directory durable.
func (d *dir) sync() error { return retry(func() error { return unix.Fsync(d.fd) }) }

// syncAll makes everything on the directory's filesystem durable; since Linux
// 5.8 it reports errors of writing back (syncfs(2)).
func (d *dir) syncAll() error { return retry(func() error { return unix.Syncfs(d.fd) }) }

// syncData makes the content of f durable.
func syncData(f *os.File) error {
	err := retry(func() error { return unix.Fdatasync(int(f.Fd())) })
	runtime.KeepAlive(f)
	return err
}

// space is what statfs(2) says: octets and inodes free for this process.
func (d *dir) space() (octets, inodes int64, err error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(d.fd, &st) }); err != nil {
		return 0, 0, err
	}
	inodes = -1
	if st.Files > 0 {
		inodes = int64(min(st.Ffree, math.MaxInt64))
	}
	bavail := int64(min(st.Bavail, uint64(math.MaxInt64)/uint64(max(1, st.Frsize)))) //nolint:gosec // bounded
	return bavail * st.Frsize, inodes, nil
}

// inMemory reports tmpfs and ramfs, where preallocating only costs.
func (d *dir) inMemory() bool {
	var st unix.Statfs_t
	return unix.Fstatfs(d.fd, &st) == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC)
}

// allocate reserves the blocks of f. A filesystem that cannot is no error, a
// full one is ENOSPC.
func allocate(f *os.File, size int64) (bool, error) {
	err := retry(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, size) })
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG), errors.Is(err, unix.EIO):
		return false, err
	default:
		return false, nil
	}
}

// lockFile takes the lock or says who cannot.
func (d *dir) lockFile(name string) (*os.File, error) {
	f, err := d.file(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}
func isLocked(err error) bool  { return errors.Is(err, unix.EWOULDBLOCK) }
func isForeign(err error) bool { return errors.Is(err, unix.EXDEV) }
func isLink(err error) bool    { return errors.Is(err, unix.ELOOP) }
func isNotDir(err error) bool  { return errors.Is(err, unix.ENOTDIR) }

// isTaken reports every answer of rename(2) that means that something of
// another kind, or a directory with content, is in the way.
func isTaken(err error) bool {
	return errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTDIR)
}

// bootID changes with each start of the machine (random(4)).
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// umask reads the process's mask without changing it (proc_pid_status(5)).
func umask() fs.FileMode {
	b, err := os.ReadFile("/proc/self/status")
	if err == nil {
		if _, rest, ok := strings.Cut(string(b), "\nUmask:"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			if v, err := strconv.ParseUint(strings.TrimSpace(line), 8, 32); err == nil {
				return fs.FileMode(v).Perm()
			}
		}
	}
	return 0o022
}
