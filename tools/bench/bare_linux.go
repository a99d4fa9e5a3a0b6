package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// The bare loop is the least that a transfer with TCP can be: dial, a header of
// 16 octets (offset and length of the lane's share, big endian), sendfile at
// one end, splice into the file at the other, one octet of acknowledgement when
// the share is written. No name, no digest, no resumption.

const shareHeader = 16 // octets

// roles are what this program does when started as an end of a measurement.
func roles() map[string]func(ctx context.Context, args []string, stdout io.Writer) error {
	return map[string]func(context.Context, []string, io.Writer) error{
		"bare-receive": bareReceive,
		"bare-send":    bareSend,
		"pipe-receive": pipeReceive,
		"pipe-send":    pipeSend,
		"echo":         echo,
	}
}

func listen(ctx context.Context, addr string, stdout io.Writer) (*net.TCPListener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(stdout, l.Addr())
	return l.(*net.TCPListener), nil
}

func dial(ctx context.Context, addr string) (*net.TCPConn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// bareReceive prints its address and takes one file over so many lanes.
func bareReceive(ctx context.Context, args []string, stdout io.Writer) error {
	set := flag.NewFlagSet("bare-receive", flag.ContinueOnError)
	addr := set.String("listen", "127.0.0.1:0", "address to listen on")
	name := set.String("file", "", "file to write")
	lanes := set.Int("lanes", 1, "connections to take")
	durable := set.Bool("fsync", false, "fsync before the acknowledgement")
	if err := set.Parse(args); err != nil {
		return err
	}
	l, err := listen(ctx, *addr, stdout)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	if err := os.MkdirAll(filepath.Dir(*name), 0o755); err != nil {
		return err
	}
	var group errgroup.Group
	for range *lanes {
		c, err := l.AcceptTCP()
		if err != nil {
			return err
		}
		group.Go(func() error { return takeShare(c, *name, *durable) })
	}
	return group.Wait()
}

func takeShare(c *net.TCPConn, name string, durable bool) error {
	defer func() { _ = c.Close() }()
	var header [shareHeader]byte
	if _, err := io.ReadFull(c, header[:]); err != nil {
		return err
	}
	offset, length := int64(binary.BigEndian.Uint64(header[:8])), int64(binary.BigEndian.Uint64(header[8:])) //nolint:gosec // from bare-send
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)                                              // a descriptor of its own: splice moves its offset
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	if n, err := f.ReadFrom(&io.LimitedReader{R: c, N: length}); err != nil || n != length {
		return fmt.Errorf("took %d of %d octets: %w", n, length, err)
	}
	if durable {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	return f.Close()
}

// bareSend sends one file over so many lanes, an equal share on each.
func bareSend(ctx context.Context, args []string, _ io.Writer) error {
	set := flag.NewFlagSet("bare-send", flag.ContinueOnError)
	to := set.String("to", "", "address of bare-receive")
	name := set.String("file", "", "file to send")
	lanes := set.Int64("lanes", 1, "connections")
	if err := set.Parse(args); err != nil {
		return err
	}
	info, err := os.Stat(*name)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for i := range *lanes {
		from, end := info.Size()*i / *lanes, info.Size()*(i+1) / *lanes
		group.Go(func() error { return giveShare(ctx, *to, *name, from, end-from) })
	}
	return group.Wait()
}

func giveShare(ctx context.Context, to, name string, offset, length int64) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	c, err := dial(ctx, to)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	header := binary.BigEndian.AppendUint64(nil, uint64(offset))   //nolint:gosec // not negative
	header = binary.BigEndian.AppendUint64(header, uint64(length)) //nolint:gosec // not negative
	if _, err := c.Write(header); err != nil {
		return err
	}
	if n, err := c.ReadFrom(&io.LimitedReader{R: f, N: length}); err != nil || n != length {
		return fmt.Errorf("sent %d of %d octets: %w", n, length, err)
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	return err
}

// pipeReceive prints its address and runs a command with one connection as its
// standard input; then it makes a filesystem durable if told to.
func pipeReceive(ctx context.Context, args []string, stdout io.Writer) error {
	set := flag.NewFlagSet("pipe-receive", flag.ContinueOnError)
	addr := set.String("listen", "127.0.0.1:0", "address to listen on")
	sync := set.String("sync", "", "sync the filesystem of this directory afterwards")
	if err := set.Parse(args); err != nil {
		return err
	}
	l, err := listen(ctx, *addr, stdout)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	c, err := l.AcceptTCP()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	f, err := blocking(c)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	cmd := exec.CommandContext(ctx, set.Arg(0), set.Args()[1:]...) //nolint:gosec // what is measured is said by this program
	cmd.Stdin, cmd.Stderr = f, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	if *sync == "" {
		return nil
	}
	return syncDir(*sync)
}

// pipeSend becomes a command with one connection as its standard output.
func pipeSend(ctx context.Context, args []string, _ io.Writer) error {
	set := flag.NewFlagSet("pipe-send", flag.ContinueOnError)
	to := set.String("to", "", "address of pipe-receive")
	if err := set.Parse(args); err != nil {
		return err
	}
	path, err := exec.LookPath(set.Arg(0))
	if err != nil {
		return err
	}
	c, err := dial(ctx, *to)
	if err != nil {
		return err
	}
	f, err := blocking(c)
	if err != nil {
		return err
	}
	if err := unix.Dup3(int(f.Fd()), 1, 0); err != nil {
		return err
	}
	return unix.Exec(path, set.Args(), os.Environ())
}

// blocking is the connection as a file whose reads and writes wait, which is
// what programs expect of their standard input and output.
func blocking(c *net.TCPConn) (*os.File, error) {
	f, err := c.File()
	if err != nil {
		return nil, err
	}
	return f, unix.SetNonblock(int(f.Fd()), false)
}

// syncDir makes the filesystem of dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return unix.Syncfs(int(f.Fd()))
}
