package source

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Reader reads files of a source. It keeps a few directories and one file open
// between calls, and is not safe for concurrent use: each lane has its own.
type Reader struct {
	s     *Source
	dirs  dirStack
	f     file
	idx   uint32
	open  bool
	stamp Stamp
	osf   *os.File
}

// NewReader returns a reader. Close it.
func (s *Source) NewReader() *Reader { return &Reader{s: s} }

// Close gives back the descriptors. The reader may be used again.
func (r *Reader) Close() {
	r.closeFile()
	r.dirs.truncate(0)
}

func (r *Reader) closeFile() {
	if r.osf != nil {
		_ = r.osf.Close()
		r.osf = nil
	}
	if r.open {
		r.f.close()
		r.open = false
	}
}

// locate returns what is needed to open entry i.
func (r *Reader) locate(i uint32) (hops []hop, name string, stamp Stamp) {
	s := r.s
	s.mu.RLock()
	rec := s.m.at(i)
	if n := len(r.dirs.open); n == 0 || r.dirs.open[n-1].idx != rec.dir {
		hops = r.dirs.path(&s.m, rec.dir)
	}
	name, stamp = s.m.text(rec.name, rec.nameLen), s.m.stamp(rec)
	s.mu.RUnlock()
	return hops, name, stamp
}

// ReadFile reads the whole of file i into b, whose length must be the file's
// size, and checks that it is the file that was scanned. The error is Changed,
// Denied or Internal and names the file.
func (r *Reader) ReadFile(i uint32, b []byte) error {
	hops, name, stamp := r.locate(i)
	if hops != nil {
		if _, err := r.dirs.walk(hops); err != nil {
			return r.failed(i, err)
		}
	}
	f, err := r.dirs.top().openFile(name)
	if err != nil {
		return r.failed(i, err)
	}
	n, err := f.readAt(b, 0)
	in, serr := f.stat()
	f.close()
	switch {
	case serr != nil:
		return r.failed(i, serr)
	case stamp != in.Stamp || in.kind != kindFile:
		return r.changed(i, stamp.Changed(in.Stamp))
	case err != nil:
		return r.failed(i, err)
	case n != len(b):
		return r.changed(i, "it ended early")
	}
	return nil
}

// Open makes file i the one that ReadAt, SendTo and Check work on.
func (r *Reader) Open(i uint32) error {
	if r.open && r.idx == i {
		return nil
	}
	r.closeFile()
	hops, name, stamp := r.locate(i)
	if hops != nil {
		if _, err := r.dirs.walk(hops); err != nil {
			return r.failed(i, err)
		}
	}
	f, err := r.dirs.top().openFile(name)
	if err != nil {
		return r.failed(i, err)
	}
	r.f, r.idx, r.open, r.stamp = f, i, true, stamp
	if err := r.Check(); err != nil {
		r.closeFile()
		return err
	}
	return nil
}

// ReadAt fills b from off on. Less than that is Changed: the file shrank.
func (r *Reader) ReadAt(b []byte, off int64) error {
	n, err := r.f.readAt(b, off)
	if err != nil {
		return r.failed(r.idx, err)
	}
	if n != len(b) {
		if err := r.Check(); err != nil {
			return err
		}
		return r.changed(r.idx, "it ended early")
	}
	return nil
}

// SendTo copies n octets from off on to w; a *net.TCPConn gets them by sendfile.
// It returns how many w took. An error of w is returned as it is.
func (r *Reader) SendTo(w io.Writer, off, n int64) (int64, error) {
	if r.osf == nil {
		f, err := r.f.osFile(r.s.LocalPath(r.idx))
		if err != nil {
			return 0, r.failed(r.idx, err)
		}
		r.osf = f
	}
	if _, err := r.osf.Seek(off, io.SeekStart); err != nil {
		return 0, r.failed(r.idx, err)
	}
	done, err := io.Copy(w, &io.LimitedReader{R: r.osf, N: n})
	if err == nil && done != n {
		err = r.Check()
		if err == nil {
			err = r.changed(r.idx, "it ended early")
		}
	}
	return done, err
}

// Check compares the open file with what the scan saw. Called after the last
// octet was read, nil means that what was read is one state of the file.
func (r *Reader) Check() error {
	in, err := r.f.stat()
	if err != nil {
		return r.failed(r.idx, err)
	}
	if in.Stamp != r.stamp || in.kind != kindFile {
		return r.changed(r.idx, r.stamp.Changed(in.Stamp))
	}
	return nil
}

func (r *Reader) changed(i uint32, how string) error {
	if how == "" {
		how = "it was replaced by another file"
	}
	return (&transfer.Error{Kind: transfer.Changed, Op: "read", Path: r.s.LocalPath(i), Msg: "the file changed while it was sent: " + how}).
		WithHint("send it again when nothing writes to it")
}

func (r *Reader) failed(i uint32, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return r.changed(i, "it is gone")
	}
	k, why := reason(err)
	if k == transfer.Changed {
		return r.changed(i, why)
	}
	return &transfer.Error{Kind: k, Op: "read", Path: r.s.LocalPath(i), Msg: why, Err: nil}
}
