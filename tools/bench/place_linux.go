package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// place is where bytes go and over what.
type place struct {
	name string // for people, and for -only
	says string // what it is

	dir      string   // where the receiving end writes
	host     string   // its address
	from, to []string // what a command of the sending and receiving end begins with: its namespace
	lanes    int      // of the bare loop and of iperf3
	durable  bool     // contenders must have the data on stable storage when they end
}

// remote reports whether the ends have namespaces of their own.
func (p *place) remote() bool { return len(p.from) > 0 }

// settle waits until nothing of the last run is being written.
func (p *place) settle() error {
	if !p.durable {
		return nil
	}
	return syncDir(p.dir)
}

func tmpfsPlace(dir string) *place {
	return &place{name: "tmpfs", says: "memory to memory over loopback", dir: dir, host: "127.0.0.1", lanes: 1}
}

// ext4Place mounts a new ext4 in an image of so many octets below dir. The
// returned function removes it.
func ext4Place(ctx context.Context, dir string, size int64) (*place, func() error, error) {
	image, mount := filepath.Join(dir, "ext4.image"), filepath.Join(dir, "ext4")
	if err := errors.Join(sparseFile(image, size), os.Mkdir(mount, 0o755)); err != nil {
		return nil, nil, err
	}
	// An inode for each 4 KiB, and nothing left to do in the background.
	if err := command(ctx, "mkfs.ext4", "-q", "-i", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", image); err != nil {
		return nil, nil, err
	}
	if err := command(ctx, "mount", "-o", "loop", image, mount); err != nil {
		return nil, nil, err
	}
	remove := func() error {
		var err error
		for range 50 { // a process that was killed may still be leaving
			if err = command(context.WithoutCancel(ctx), "umount", mount); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		return errors.Join(err, os.Remove(image))
	}
	return &place{
		name: "ext4", says: "source in memory, over loopback to ext4 on a loop device, on stable storage at the end",
		dir: mount, host: "127.0.0.1", lanes: 1, durable: true,
	}, remove, nil
}

// wanPlace makes the link by the program at path. The returned function
// removes it.
func wanPlace(ctx context.Context, path, dir string, w wan) (*place, func() error, error) {
	a, b := fmt.Sprintf("bench-%d-a", os.Getpid()), fmt.Sprintf("bench-%d-b", os.Getpid())
	p, err := start(context.WithoutCancel(ctx), dir, nil, []string{
		path, "-rate", fmt.Sprint(w.rate), "-rtt", w.rtt.String(), "-mtu", fmt.Sprint(w.mtu), "-loss", fmt.Sprint(w.loss), "-a", a, "-b", b,
	})
	if err != nil {
		return nil, nil, err
	}
	remove := func() error {
		err := p.stop()
		p.close()
		for _, ns := range []string{a, b} {
			if _, missing := os.Stat("/run/netns/" + ns); missing == nil {
				err = errors.Join(err, command(context.WithoutCancel(ctx), "ip", "netns", "del", ns))
			}
		}
		return err
	}
	if line, err := p.firstLine(); err != nil || line != "ready" {
		return nil, nil, errors.Join(fmt.Errorf("wanlink said %q", line), err, remove())
	}
	for _, ns := range []string{a, b} {
		if err := command(ctx, "ip", "-n", ns, "link", "set", "lo", "up"); err != nil {
			return nil, nil, errors.Join(err, remove())
		}
	}
	return &place{
		name: w.name(), says: fmt.Sprintf("memory to memory over an emulated link: %d Mbit/s, round trip %v, MTU %d, loss %g %% each way", w.rate, w.rtt, w.mtu, w.loss*100),
		dir: dir, host: "10.99.0.2", lanes: 4,
		from: []string{"ip", "netns", "exec", a}, to: []string{"ip", "netns", "exec", b},
	}, remove, nil
}

// warm has the machine hold about so many octets of memory ready: touches and gives
// them back. See Memory in the package comment.
func warm(octets int64) error {
	const step = 256 << 20
	var parts [][]byte
	var err error
	for n := int64(0); n < octets && err == nil; n += step {
		var b []byte
		if b, err = unix.Mmap(-1, 0, step, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE); err == nil {
			parts = append(parts, b)
		}
	}
	for _, b := range parts {
		err = errors.Join(err, unix.Munmap(b))
	}
	return err
}

// command runs a command that prepares something.
func command(ctx context.Context, argv ...string) error {
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil { //nolint:gosec // said by this program
		return fmt.Errorf("run %s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// free is how many octets a filesystem has left.
func free(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil //nolint:gosec // a size
}
