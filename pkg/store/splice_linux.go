package store

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// pipeSize is asked of each pipe: what an unprivileged process may have at most
// (pipe(7), /proc/sys/fs/pipe-max-size). A smaller one works as well.
const pipeSize = 1 << 20

// pipe is what splice(2) needs between a socket and a file.
type pipe struct {
	r, w int
	size int
}

func (p *pipe) close() {
	runtime.SetFinalizer(p, nil)
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
}

// pipes keeps empty pipes; those that it drops are closed by their finalizers.
var pipes sync.Pool //nolint:gochecknoglobals // a cache

func getPipe() (*pipe, error) {
	if p, ok := pipes.Get().(*pipe); ok {
		return p, nil
	}
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	p := &pipe{r: fd[0], w: fd[1], size: 64 << 10}
	if n, err := unix.FcntlInt(uintptr(p.r), unix.F_SETPIPE_SZ, pipeSize); err == nil {
		p.size = n
	}
	runtime.SetFinalizer(p, (*pipe).close)
	return p, nil
}

// splice lets the kernel move n octets from the socket to f at off. Only what
// writes to the file holds the lock: writers of one file would otherwise spin for
// its inode's.
func splice(f *os.File, off int64, lock sync.Locker, conn *net.TCPConn, n int64) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return readError{err}
	}
	p, err := getPipe()
	if err != nil {
		return err
	}
	for n > 0 {
		got, err := p.fill(raw, int(min(n, int64(p.size))))
		if err != nil {
			p.close() // it may hold octets
			return readError{err}
		}
		lock.Lock()
		err = p.empty(f, off, got)
		lock.Unlock()
		if err != nil {
			p.close()
			return err
		}
		off += int64(got)
		n -= int64(got)
	}
	pipes.Put(p)
	return nil
}

// fill waits for octets of the socket and moves some to the pipe, which is empty.
func (p *pipe) fill(raw interface {
	Read(func(uintptr) bool) error
}, n int,
) (got int, err error) {
	var serr error
	err = raw.Read(func(fd uintptr) bool {
		var m int64
		for {
			m, serr = unix.Splice(int(fd), nil, p.w, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			if serr != unix.EINTR {
				break
			}
		}
		got = int(m)
		return serr != unix.EAGAIN
	})
	switch {
	case err != nil:
		return 0, err
	case serr != nil:
		return 0, os.NewSyscallError("splice", serr)
	case got == 0:
		return 0, io.ErrUnexpectedEOF
	}
	return got, nil
}

// empty moves n octets from the pipe to f at off.
func (p *pipe) empty(f *os.File, off int64, n int) error {
	defer runtime.KeepAlive(f)
	for n > 0 {
		m, err := unix.Splice(p.r, nil, int(f.Fd()), &off, n, unix.SPLICE_F_MOVE)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return os.NewSyscallError("splice", err)
		case m == 0:
			return io.ErrShortWrite
		}
		n -= int(m) // the kernel moved off
	}
	return nil
}
