package source

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestFIFOs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	write(t, filepath.Join(dir, "f"), "content")
	p := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(p, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := all(t, start(t, Config{Roots: []string{dir}}), 100)
	if transfer.KindOf(err) != transfer.Invalid || !strings.Contains(err.Error(), p+": it is a FIFO") {
		t.Errorf("got %v", err)
	}
	if _, err := Scan(ctx(t), Config{Roots: []string{p}}); transfer.KindOf(err) != transfer.Invalid {
		t.Errorf("a FIFO as a root: got %v", err)
	}
}

// TestSwapped puts other things in the place of a scanned file: reading must
// neither hang nor follow.
func TestSwapped(t *testing.T) {
	for name, put := range map[string]func(p string) error{
		"FIFO": func(p string) error { return unix.Mkfifo(p, 0o644) },
		"link": func(p string) error { return os.Symlink("/etc/passwd", p) },
		"dir":  func(p string) error { return os.Mkdir(p, 0o755) },
	} {
		dir := filepath.Join(t.TempDir(), "root")
		p := filepath.Join(dir, "d/f")
		write(t, p, "content")
		s := start(t, Config{Roots: []string{dir}})
		if _, err := all(t, s, 100); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(p)
		if err := put(p); err != nil {
			t.Fatal(err)
		}
		r := s.NewReader()
		b := make([]byte, 7)
		if err := r.ReadFile(2, b); transfer.KindOf(err) != transfer.Changed {
			t.Errorf("%s: got %v, read %q", name, err, b)
		}
		if err := r.Open(2); transfer.KindOf(err) != transfer.Changed {
			t.Errorf("%s: got %v", name, err)
		}
		r.Close()
	}
}

// TestSwappedDirectory puts a link in the place of a directory on the way.
func TestSwappedDirectory(t *testing.T) {
	base := t.TempDir()
	dir, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
	write(t, filepath.Join(dir, "d/e/f"), "content")
	write(t, filepath.Join(outside, "e/f"), "secrets")
	s := start(t, Config{Roots: []string{dir}})
	if _, err := all(t, s, 100); err != nil {
		t.Fatal(err)
	}
	_ = os.Rename(filepath.Join(dir, "d"), filepath.Join(base, "away"))
	if err := os.Symlink(outside, filepath.Join(dir, "d")); err != nil {
		t.Fatal(err)
	}
	r := s.NewReader()
	defer r.Close()
	b := make([]byte, 7)
	if err := r.ReadFile(3, b); transfer.KindOf(err) != transfer.Changed || string(b) == "secrets" {
		t.Errorf("got %v, read %q", err, b)
	}
}

// TestUnreadable runs itself without privileges, since root reads everything.
func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		tmp, err := os.MkdirTemp("", "unprivileged")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(tmp) }()
		if err := os.Chmod(tmp, 0o777); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(exe)
		if err != nil {
			t.Fatal(err)
		}
		run := filepath.Join(tmp, "test")
		if err := os.WriteFile(run, b, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(run, "-test.run=^TestUnreadable$")
		cmd.Dir, cmd.Env = tmp, append(os.Environ(), "TMPDIR="+tmp)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "root")
	write(t, filepath.Join(dir, "secret"), "x")
	write(t, filepath.Join(dir, "closed/f"), "x")
	write(t, filepath.Join(dir, "good"), "x")
	for p, mode := range map[string]os.FileMode{"secret": 0o200, "closed": 0} {
		p = filepath.Join(dir, p)
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.Chmod(p, 0o700) }()
	}
	_, err := all(t, start(t, Config{Roots: []string{dir}}), 100)
	if transfer.KindOf(err) != transfer.Denied || !strings.Contains(err.Error(), dir+"/secret") || !strings.Contains(err.Error(), dir+"/closed") {
		t.Errorf("got %v", err)
	}
	s := start(t, Config{Roots: []string{dir}, KeepGoing: true})
	got, err := all(t, s, 100)
	if err != nil {
		t.Fatal(err)
	}
	want(t, paths(got), "root/", "root/good")
	// Readable when scanned, not when sent.
	_ = os.Chmod(filepath.Join(dir, "secret"), 0o600)
	s = start(t, Config{Roots: []string{dir}, KeepGoing: true})
	if _, err := all(t, s, 100); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(filepath.Join(dir, "secret"), 0)
	r := s.NewReader()
	defer r.Close()
	if err := r.ReadFile(2, make([]byte, 1)); transfer.KindOf(err) != transfer.Denied {
		t.Errorf("got %v", err)
	}
}

// TestLoop mounts a directory into itself where that is allowed.
func TestLoop(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	write(t, filepath.Join(dir, "a/b/f"), "x")
	loop := filepath.Join(dir, "a/b/loop")
	if err := os.Mkdir(loop, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(filepath.Join(dir, "a"), loop, "", unix.MS_BIND, ""); err != nil {
		t.Logf("no mount allowed here (%v): the loop is checked without one", err)
		s := start(t, Config{Roots: []string{dir}})
		if _, err := all(t, s, 100); err != nil {
			t.Fatal(err)
		}
		w := &walk{s: s}
		if in := s.m.dirs[1]; !w.loops(2, info{Stamp: Stamp{Inode: in.inode, Device: s.m.devices[in.device]}}) {
			t.Error("the loop was not seen")
		}
		return
	}
	defer func() { _ = unix.Unmount(loop, unix.MNT_DETACH) }()
	_, err := all(t, start(t, Config{Roots: []string{dir}}), 100)
	if transfer.KindOf(err) != transfer.Invalid || !strings.Contains(err.Error(), loop+": the directory contains itself") {
		t.Errorf("got %v", err)
	}
}
