//go:build linux || darwin

package source

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// dir is an open directory.
type dir struct{ fd int }

// file is an open regular file, or whatever stood in its place: check its stamp.
type file struct{ fd int }

const (
	dirFlags  = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NONBLOCK
	fileFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY
)

func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func openat(at int, name string, flags int) (fd int, err error) {
	err = retry(func() error { fd, err = unix.Openat(at, name, flags, 0); return err })
	return fd, err
}

// openRoot opens a directory that a person named; links on the way are followed.
func openRoot(path string) (dir, error) {
	fd, err := openat(unix.AT_FDCWD, path, dirFlags)
	return dir{fd}, err
}

// openDir opens a directory below d; a link in its place is an error.
func (d dir) openDir(name string) (dir, error) {
	fd, err := openat(d.fd, name, dirFlags|unix.O_NOFOLLOW)
	return dir{fd}, err
}

// openFile opens a file below d without following a link and without waiting.
func (d dir) openFile(name string) (file, error) {
	fd, err := openat(d.fd, name, fileFlags)
	return file{fd}, err
}

func (d dir) close() { _ = unix.Close(d.fd) }

func (d dir) stat() (info, error) { return fstat(d.fd) }

// lstat tells about a name below d without following it.
func (d dir) lstat(name string) (info, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) }); err != nil {
		return info{}, err
	}
	return infoOf(&st), nil
}

// readable reports whether a regular file may be opened, without opening it.
func (d dir) readable(name string) error {
	return unix.Faccessat(d.fd, name, unix.R_OK, unix.AT_EACCESS)
}

func (d dir) readlink(name string) (string, error) {
	b := make([]byte, 4096)
	n, err := unix.Readlinkat(d.fd, name, b)
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// list returns the names in d, packed.
func (d dir) list() (*names, error) {
	buf := make([]byte, 64<<10)
	out := &names{}
	var batch []string
	for {
		var n int
		err := retry(func() (err error) { n, err = unix.ReadDirent(d.fd, buf); return err })
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return out, nil
		}
		for rest := buf[:n]; len(rest) > 0; {
			var used int
			used, _, batch = unix.ParseDirent(rest, -1, batch[:0])
			if used == 0 {
				break
			}
			rest = rest[used:]
			for _, name := range batch {
				out.add(name)
			}
		}
	}
}

func (f file) close() { _ = unix.Close(f.fd) }

func (f file) stat() (info, error) { return fstat(f.fd) }

// readAt fills b from off on; it returns short only at the end of the file.
func (f file) readAt(b []byte, off int64) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Pread(f.fd, b[done:], off+int64(done))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return done, err
		}
		if n == 0 {
			break
		}
		done += n
	}
	return done, nil
}

// osFile returns a duplicate descriptor as *os.File for sendfile.
func (f file) osFile(name string) (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func fstat(fd int) (info, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return info{}, err
	}
	return infoOf(&st), nil
}

//nolint:unconvert // the fields' types differ between systems
func infoOf(st *unix.Stat_t) info {
	in := info{
		Stamp: Stamp{
			Size: st.Size, MTime: st.Mtim.Nano(), CTime: st.Ctim.Nano(),
			Inode: st.Ino, Device: uint64(st.Dev), //nolint:gosec // an identity, not a number
		},
		perm: uint16(st.Mode) & 0o777, //nolint:gosec // masked
	}
	switch uint32(st.Mode) & unix.S_IFMT {
	case unix.S_IFREG:
		in.kind = kindFile
	case unix.S_IFDIR:
		in.kind = kindDir
	case unix.S_IFLNK:
		in.kind = kindLink
	case unix.S_IFIFO:
		in.kind = kindFIFO
	case unix.S_IFSOCK:
		in.kind = kindSocket
	default:
		in.kind = kindDevice
	}
	return in
}

// privileged reports whether permission checks are moot. A process keeps its user:
// asking for each file was a sixth of a scan's system calls.
var privileged = sync.OnceValue(func() bool { return os.Geteuid() == 0 }) //nolint:gochecknoglobals // of the process
