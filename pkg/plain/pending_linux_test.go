package plain_test

import (
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/e27efefb/sluice/pkg/plain"
)

// Bytes that are there before ok is written are content sent blindly. The store
// holds Begin until they are.
func TestContentBeforeOK(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	store := newMemStore()
	r := start(t, plain.ServerConfig{Store: slowStore{store, begun, goOn}})
	c := dial(t, r.addr)
	write(t, c, "blind.txt")
	<-begun
	write(t, c, "content")
	waitFor(t, "the content to reach the receiver's kernel", func() bool { return unacked(t, c) == 0 })
	close(goOn)
	if a := answer(t, c, 4096); !strings.HasPrefix(a, "error: content arrived before ok") {
		t.Errorf("answer %q", a)
	}
	if files, discarded, _ := store.counts(); files != 0 || discarded != 1 {
		t.Errorf("%d files, %d discarded", files, discarded)
	}
}

// unacked is the number of bytes the far kernel has not acknowledged.
func unacked(t *testing.T, c *net.TCPConn) int {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := -1
	if cerr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return n
}
