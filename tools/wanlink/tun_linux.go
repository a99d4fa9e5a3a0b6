package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// device is the name of the TUN device in each namespace.
const device = "wan0"

// openTUN makes a TUN device with address addr inside the namespace ns, sets
// it up and returns it.
func openTUN(ctx context.Context, ns, addr string, mtu int) (*os.File, error) {
	tun, err := inNamespace(ns, newTUN)
	if err != nil {
		return nil, fmt.Errorf("make a TUN device in namespace %s: %w", ns, err)
	}
	for _, args := range [][]string{
		{"addr", "add", addr, "dev", device},
		{"link", "set", device, "mtu", strconv.Itoa(mtu), "txqueuelen", "10000", "up"},
		{"link", "set", "lo", "up"},
	} {
		if err := ip(ctx, append([]string{"-n", ns}, args...)...); err != nil {
			return nil, errors.Join(err, tun.Close())
		}
	}
	return tun, nil
}

// inNamespace calls open on a thread of its own that has entered the network
// namespace ns. The thread is never unlocked, so that it ends with its
// goroutine and no other code of this process runs inside the namespace.
func inNamespace(ns string, open func() (*os.File, error)) (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		file, err := func() (*os.File, error) {
			handle, err := os.Open(filepath.Join("/run/netns", ns))
			if err != nil {
				return nil, err
			}
			defer handle.Close()
			if err := unix.Setns(int(handle.Fd()), unix.CLONE_NEWNET); err != nil {
				return nil, fmt.Errorf("enter it: %w", err)
			}
			return open()
		}()
		done <- result{file, err}
	}()
	r := <-done
	return r.file, r.err
}

// newTUN opens a TUN device in the calling thread's namespace. It is set up
// before os.NewFile sees it: the poller refuses a device without a name.
func newTUN() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(device)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up the device: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}
