package store_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// nobody is the conventional id of a user without rights (nobody(8)).
const nobody = 65534

// TestConformanceUnprivileged runs the suite once more as a user whom
// permissions bind. When the tests do not run as root, the other run was that.
func TestConformanceUnprivileged(t *testing.T) {
	if os.Getuid() != 0 {
		return
	}
	t.Parallel()
	base, err := os.MkdirTemp("", "store")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	work := memoryDir(t)
	binary := filepath.Join(base, "test")
	copySelf(t, binary)
	for _, err := range []error{os.Chmod(base, 0o755), os.Chown(work, nobody, nobody)} { //nolint:gosec // another user must reach the binary
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^TestConformance$", "-test.count=1")
	cmd.Dir, cmd.Env = work, []string{"TMPDIR=" + work, "HOME=" + work}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// copySelf copies the running test binary, because the directory that it lies in
// is closed to others.
func copySelf(t *testing.T, to string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()                                                      // only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755) //nolint:gosec // a program
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
