//go:build !linux && !darwin

package source

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// dir is an open directory, confined by os.Root.
type dir struct{ root *os.Root }

// file is an open file.
type file struct{ f *os.File }

func openRoot(path string) (dir, error) {
	r, err := os.OpenRoot(path)
	return dir{r}, err
}

func (d dir) openDir(name string) (dir, error) {
	if in, err := d.lstat(name); err != nil || in.kind != kindDir {
		return dir{}, errors.Join(err, fs.ErrInvalid)
	}
	r, err := d.root.OpenRoot(name)
	return dir{r}, err
}

func (d dir) openFile(name string) (file, error) {
	f, err := d.root.Open(name)
	return file{f}, err
}

func (d dir) close() { _ = d.root.Close() }

func (d dir) stat() (info, error) {
	fi, err := d.root.Stat(".")
	if err != nil {
		return info{}, err
	}
	return infoOf(fi), nil
}

func (d dir) lstat(name string) (info, error) {
	fi, err := d.root.Lstat(name)
	if err != nil {
		return info{}, err
	}
	return infoOf(fi), nil
}

func (d dir) readable(name string) error {
	f, err := d.root.Open(name)
	if err == nil {
		_ = f.Close()
	}
	return err
}

func (d dir) readlink(name string) (string, error) { return d.root.Readlink(name) }

func (d dir) list() (*names, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	out := &names{}
	for {
		batch, err := f.Readdirnames(1024)
		for _, n := range batch {
			out.add(n)
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (f file) close() { _ = f.f.Close() }

func (f file) stat() (info, error) {
	fi, err := f.f.Stat()
	if err != nil {
		return info{}, err
	}
	return infoOf(fi), nil
}

func (f file) readAt(b []byte, off int64) (int, error) {
	n, err := f.f.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (f file) osFile(string) (*os.File, error) { return os.Open(f.f.Name()) }

func infoOf(fi fs.FileInfo) info {
	in := info{Stamp: Stamp{Size: fi.Size(), MTime: fi.ModTime().UnixNano()}, perm: uint16(fi.Mode().Perm())} //nolint:gosec // 9 bits
	switch m := fi.Mode(); {
	case m.IsRegular():
		in.kind = kindFile
	case m.IsDir():
		in.kind, in.Size = kindDir, 0
	case m&fs.ModeSymlink != 0:
		in.kind = kindLink
	case m&fs.ModeNamedPipe != 0:
		in.kind = kindFIFO
	case m&fs.ModeSocket != 0:
		in.kind = kindSocket
	default:
		in.kind = kindDevice
	}
	return in
}

func privileged() bool { return false }
