//go:build linux && root

package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// shutdown is FS_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH, which xfs calls
// XFS_IOC_GOINGDOWN and XFS_FSOP_GOING_FLAGS_NOLOGFLUSH: the filesystem stops at
// once and forgets what is not on the device (fs/ext4/ext4.h, fs/xfs/libxfs/xfs_fs.h).
const (
	shutdown   = 0x8004587d
	noLogFlush = 2
)

type disk struct {
	*testing.T
	image, dir string
}

// filesystems are made with these programs, on a sparse image of so many octets:
// mkfs.xfs refuses less than 300 MiB.
var filesystems = []struct {
	name string
	mkfs []string
	size int64
}{
	{"ext4", []string{"mkfs.ext4", "-q", "-F"}, 128 << 20},
	{"xfs", []string{"mkfs.xfs", "-q", "-f"}, 320 << 20},
}

func mountDisk(t *testing.T, size int64, mkfs ...string) *disk {
	base := t.TempDir()
	d := &disk{T: t, image: filepath.Join(base, "image"), dir: filepath.Join(base, "mnt")}
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(d.image)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	d.do(mkfs[0], append(mkfs[1:len(mkfs):len(mkfs)], d.image)...)
	d.mount()
	t.Cleanup(func() { _ = exec.Command("umount", d.dir).Run() }) // after the test's context
	return d
}

func (d *disk) do(name string, args ...string) {
	d.Helper()
	if out, err := exec.CommandContext(d.Context(), name, args...).CombinedOutput(); err != nil {
		d.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func (d *disk) mount() { d.Helper(); d.do("mount", "-o", "loop", d.image, d.dir) }

// cut cuts the power, and switches it on again.
func (d *disk) cut(s *store.Disk) {
	d.Helper()
	f, err := os.Open(d.dir)
	if err != nil {
		d.Fatal(err)
	}
	flags := uint32(noLogFlush)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), shutdown, uintptr(unsafe.Pointer(&flags)))
	_ = f.Close()
	if errno != 0 {
		d.Fatal(errno)
	}
	s.Crash()
	d.do("umount", d.dir)
	d.mount()
}

// TestPowerCuts cuts the power between a checkpoint and the next and after
// publishing: what was held is there and right, what was published stays.
func TestPowerCuts(t *testing.T) {
	for _, fs := range filesystems {
		t.Run(fs.name, func(t *testing.T) { powerCuts(t, mountDisk(t, fs.size, fs.mkfs...)) })
	}
}

func powerCuts(t *testing.T, m *disk) {
	root := filepath.Join(m.dir, "inbox")
	data := random(6 << 20)
	opts := transfer.Options{Algorithm: transfer.BLAKE3}
	entries := []transfer.Entry{{Path: "t/big", Size: 6 << 20}}
	for i := range 40 {
		entries = append(entries, transfer.Entry{Index: uint32(i + 1), Path: transfer.Path(fmt.Sprintf("t/d%d/s%d", i%5, i)), Size: 3000})
	}
	ctx := t.Context()
	open := func() *store.Disk {
		d, err := store.Open(store.Config{Root: root, Logger: logger(t)})
		if err != nil {
			t.Fatal(err)
		}
		store.SetBoot(d, fmt.Sprint(transfer.NewID())) // as after a real one
		return d
	}
	for round := range 6 {
		id := transfer.NewID()
		d := open()
		st, err := d.Create(ctx, store.Spec{ID: id, Options: opts})
		held := map[[2]uint32]bool{}
		for cuts := 0; ; cuts++ {
			if err == nil {
				err = st.Begin(ctx, st.Epoch()+1, opts)
			}
			var fs []store.FileState
			if err == nil {
				fs, err = st.Add(ctx, entries)
			}
			if err == nil {
				err = st.Seal(ctx)
			}
			if err != nil {
				t.Fatal(err)
			}
			for k := range held {
				if !fs[k[0]].Held.Has(k[1]) {
					t.Errorf("round %d: chunk %d of file %d was held and is lost", round, k[1], k[0])
				}
			}
			var fresh [][2]uint32
			write := func(file, chunk uint32, b []byte) {
				if st.Written(file, chunk) {
					return
				}
				if err := st.WriteChunk(ctx, file, chunk, int64(len(b)), bytes.NewReader(b)); err != nil {
					t.Fatal(err)
				}
				fresh = append(fresh, [2]uint32{file, chunk})
			}
			for c := range uint32(6) {
				if cuts < 2 && int(c) > 2*cuts+round%3 {
					break
				}
				write(0, c, data[c<<20:(c+1)<<20])
			}
			for f := range uint32(40) {
				if cuts >= 2 || int(f) < 7+15*cuts {
					write(f+1, 0, data[f:f+3000])
				}
			}
			if cuts == 2 {
				break
			}
			if round%2 == 0 {
				if _, err := st.Checkpoint(ctx); err != nil {
					t.Fatal(err)
				}
				for _, k := range fresh {
					held[k] = true
				}
			}
			m.cut(d)
			d = open()
			st, err = d.Open(ctx, id)
		}
		if _, err := st.Publish(ctx, transfer.Receipt{ID: id}, nil); err != nil {
			t.Fatal(err)
		}
		m.cut(d)
		d = open()
		if tomb, err := d.Tombstone(ctx, id); err != nil || tomb.Info.State != transfer.StateCommitted {
			t.Errorf("round %d: the receipt is lost: %+v, %v", round, tomb, err)
		}
		for i, e := range entries {
			want := data
			if i > 0 {
				want = data[i-1 : i-1+3000]
			}
			if got, err := os.ReadFile(filepath.Join(root, string(e.Path))); err != nil || !bytes.Equal(got, want) {
				t.Errorf("round %d: %s: %d octets differ, %v", round, e.Path, len(got), err)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(filepath.Join(root, "t")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskFull fills a small filesystem, by octets and by inodes: an honest
// refusal at the offer, and one that loses nothing when others fill the disk.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,nr_inodes=60"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	root := filepath.Join(dir, "inbox")
	d, err := store.Open(store.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() // a test
	ctx, opts := t.Context(), transfer.Options{Algorithm: transfer.BLAKE3}
	stage := func(entries ...transfer.Entry) (store.Stage, error) {
		st, err := d.Create(ctx, store.Spec{ID: transfer.NewID(), Options: opts})
		if err == nil {
			err = st.Begin(ctx, 1, opts)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range entries {
			entries[i].Index = uint32(i)
		}
		_, err = st.Add(ctx, entries)
		if err == nil {
			err = st.Seal(ctx)
		}
		return st, err
	}
	discard := func(st store.Stage) {
		if err := st.Discard(ctx, transfer.StateAborted, nil); err != nil {
			t.Error(err)
		}
	}
	st, err := stage(transfer.Entry{Path: "big", Size: 9 << 20})
	if transfer.KindOf(err) != transfer.NoSpace || transfer.HintOf(err) == "" {
		t.Errorf("too large: %v", err)
	}
	discard(st)
	many := make([]transfer.Entry, 100)
	for i := range many {
		many[i] = transfer.Entry{Path: transfer.Path(fmt.Sprintf("n%d", i)), Size: 1}
	}
	if st, err = stage(many...); transfer.KindOf(err) != transfer.NoSpace {
		t.Errorf("too many: %v", err)
	}
	discard(st)
	if st, err = stage(transfer.Entry{Path: "a", Size: 4 << 20}, transfer.Entry{Path: "b", Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	// Another program fills the disk.
	hog, err := os.Create(filepath.Join(dir, "hog"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = hog.Write(make([]byte, 1<<16))
	}
	data := random(4 << 20)
	if err := st.WriteChunk(ctx, 0, 0, 1<<20, bytes.NewReader(data)); transfer.KindOf(err) != transfer.NoSpace || transfer.HintOf(err) == "" {
		t.Errorf("a chunk on a full disk: %v", err)
	}
	if err := st.WriteSmall(ctx, 1, data[:1<<20]); transfer.KindOf(err) != transfer.NoSpace {
		t.Errorf("a file on a full disk: %v", err)
	}
	if err := errors.Join(hog.Truncate(0), hog.Close()); err != nil {
		t.Fatal(err)
	}
	for c := range uint32(4) {
		if err := st.WriteChunk(ctx, 0, c, 1<<20, bytes.NewReader(data[c<<20:])); err != nil {
			t.Errorf("after there was room again: %v", err)
		}
	}
	if err := st.WriteSmall(ctx, 1, data[:1<<20]); err != nil {
		t.Error(err)
	}
	if _, err := st.Publish(ctx, transfer.Receipt{}, nil); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(root, "a")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("content differs, %v", err)
	}
	if u, err := d.Usage(ctx); err != nil || u.Reserved != 0 || u.Staged != 0 {
		t.Errorf("usage %+v, %v", u, err)
	}
}

// TestMountBelow refuses another filesystem below the target, at the offer.
func TestMountBelow(t *testing.T) {
	root := t.TempDir()
	mount := filepath.Join(root, "d/mounted")
	if err := os.MkdirAll(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mount, 0) })
	bind := filepath.Join(root, "bind")
	if err := os.Mkdir(bind, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(t.TempDir(), bind, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(bind, 0) })
	d, err := store.Open(store.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() // a test
	for _, p := range []string{"d/mounted/x", "bind/x"} {
		problems, err := d.Check(t.Context(), store.Spec{ID: transfer.NewID()}, []transfer.Entry{{Path: transfer.Path(p), Size: 1}})
		if err != nil || len(problems) != 1 || problems[0].Kind != transfer.Denied {
			t.Errorf("%s: %v, %v", p, problems, err)
		}
	}
	_, err = d.Check(t.Context(), store.Spec{ID: transfer.NewID(), Options: transfer.Options{Into: "bind"}}, []transfer.Entry{{Path: "x", Size: 1}})
	if transfer.KindOf(err) != transfer.Denied {
		t.Errorf("into a mount: %v", err)
	}
}
