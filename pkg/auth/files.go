package auth

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Modes of the files that this package writes.
const (
	secretMode fs.FileMode = 0o600 // private keys, tokens
	publicMode fs.FileMode = 0o644 // certificates, public keys
)

// writeFile makes path appear with data, whole and durable, or not at all. With
// replace false a file that is there stays and the error is Exists.
func writeFile(path string, data []byte, mode fs.FileMode, replace bool) (err error) {
	fail := func(err error) error {
		kind, hint := transfer.Invalid, "check that the directory exists and that the service may write there"
		if errors.Is(err, fs.ErrExist) {
			kind, hint = transfer.Exists, "choose another name, or ask for it to be replaced"
		}
		return transfer.Errorf(kind, "write", path, "%w", cause(err)).WithHint("%s", hint)
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".sluice-*") // mode 0600
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(data)
	if err == nil && runtime.GOOS != "windows" {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = place(tmp.Name(), path, data, mode, replace)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// place gives the finished file its name. link(2) is the rename that never
// replaces; on a filesystem without hard links O_EXCL still never replaces,
// though a crash could leave the file short.
func place(tmp, path string, data []byte, mode fs.FileMode, replace bool) error {
	if replace {
		return os.Rename(tmp, path)
	}
	err := os.Link(tmp, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return err
}

// syncDir makes the directory's entries durable. Windows has no such call.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
