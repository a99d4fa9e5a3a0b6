package plain_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/plain"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// TestSendChangedFile: a file that is not at its end what it was when it was begun
// is an error that names it, and the receiver sees a reset, not the end of a file
// that looks whole. The receiver here changes it in the middle: 64 MiB are more
// than both kernels hold for it.
func TestSendChangedFile(t *testing.T) {
	const size = 64 << 20
	hourAgo := time.Now().Add(-time.Hour)
	for name, change := range map[string]func(path string) error{
		"grown":     func(path string) error { return os.Truncate(path, size+1) },
		"truncated": func(path string) error { return os.Truncate(path, size-1) },
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"rewritten": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("other"), 100)
			return errors.Join(err, f.Close())
		},
		"touched": func(path string) error { return os.Chtimes(path, time.Time{}, hourAgo.Add(time.Second)) },
		"growing": func(path string) error { return os.Truncate(path, 1<<40) }, // as if its writer were the faster one
	} {
		t.Run(name, func(t *testing.T) {
			path := fileOf(t, "log.txt", size)
			if err := os.Chtimes(path, hourAgo, hourAgo); err != nil {
				t.Fatal(err)
			}
			var got int64
			var end error
			addr, done := fakeServer(t, func(c *net.TCPConn) {
				readName(c)
				_, _ = c.Write([]byte("ok"))
				var n int64
				if n, end = io.CopyN(io.Discard, c, 1<<20); end != nil {
					return
				}
				if end = change(path); end != nil {
					return
				}
				got, end = io.Copy(io.Discard, c)
				got += n
			})
			_, err := plain.Send(t.Context(), addr, path, plain.SendConfig{})
			<-done
			if transfer.KindOf(err) != transfer.Changed || !strings.Contains(err.Error(), "log.txt") || transfer.HintOf(err) == "" {
				t.Errorf("%v, want changed", err)
			}
			if !errors.Is(end, syscall.ECONNRESET) || got > size {
				t.Errorf("the receiver saw %v after %d bytes, want a reset", end, got)
			}
		})
	}
}
