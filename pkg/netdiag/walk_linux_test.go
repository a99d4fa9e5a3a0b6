package netdiag_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/e27efefb/sluice/pkg/netdiag"
)

// With -update the recording in docs/tcp.md is written anew.
var update = flag.Bool("update", false, "rewrite the recordings in docs/")

// recordingDoc is the page that holds the recording, between two marks.
const recordingDoc = "../../docs/tcp.md"

// walker drives one connection through every state that Linux shows, and holds
// it in each until the watch has seen it.
type walker struct {
	t    *testing.T
	port uint16 // of the server
	skip uint16 // the port of the connection that fills the queue

	mu      sync.Mutex
	out     bytes.Buffer
	start   time.Time
	client  []netdiag.State
	server  []netdiag.State
	heard   bool // the listener has been seen
	changed chan struct{}
}

func (w *walker) emit(c netdiag.Change) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.skip != 0 && (c.Local.Port() == w.skip || c.Remote.Port() == w.skip) {
		return nil
	}
	switch {
	case c.State == netdiag.StateListen:
		w.heard = true
	case c.Local.Port() == w.port:
		w.server = append(w.server, c.State)
	default:
		w.client = append(w.client, c.State)
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return netdiag.WriteChange(&w.out, w.start, c)
}

// say writes a remark between the lines of the recording.
func (w *walker) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(&w.out, "# "+format+"\n", args...)
}

// until waits for the last states of both ends.
func (w *walker) until(client, server netdiag.State) {
	w.t.Helper()
	last := func(s []netdiag.State) netdiag.State {
		if len(s) == 0 {
			return netdiag.StateClosed
		}
		return s[len(s)-1]
	}
	deadline := time.After(patience)
	for {
		w.mu.Lock()
		c, s, heard := last(w.client), last(w.server), w.heard
		w.mu.Unlock()
		if heard && c == client && s == server {
			return
		}
		select {
		case <-w.changed:
		case <-deadline:
			w.t.Fatalf("client %s, server %s; waited for %s and %s\n%s", c, s, client, server, w.out.String())
		}
	}
}

func TestWalkThroughTheStates(t *testing.T) {
	ln, err := (&net.ListenConfig{Control: sockopt(unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10)}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	w := &walker{t: t, port: uint16(ln.Addr().(*net.TCPAddr).Port), start: time.Now(), changed: make(chan struct{}, 1)}

	// A backlog of 0 holds one connection that nobody accepts: the next SYN is
	// dropped, as on a busy server.
	onListener(t, ln, func(fd int) error { return syscall.Listen(fd, 0) })
	filler, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	w.skip = uint16(filler.LocalAddr().(*net.TCPAddr).Port)

	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() {
		q := netdiag.Query{LocalPorts: []uint16{w.port}, RemotePorts: []uint16{w.port}}
		watched <- netdiag.Watch(ctx, q, time.Millisecond, w.emit)
	}()
	defer func() {
		cancel()
		if err := <-watched; err != nil {
			t.Error(err)
		}
	}()

	w.until(netdiag.StateClosed, netdiag.StateClosed)
	w.say("the sender connects: SYN; the receiver's queue is full, so nobody answers yet")
	dialled := make(chan *net.TCPConn, 1)
	go func() {
		d := net.Dialer{Timeout: patience, Control: sockopt(unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10)}
		c, err := d.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Error(err)
			c = &net.TCPConn{}
		}
		dialled <- c.(*net.TCPConn)
	}()
	w.until(netdiag.StateSynSent, netdiag.StateClosed)

	w.say("the queue has room: SYN again, SYN+ACK, ACK; the receiver waits for the first data (TCP_DEFER_ACCEPT)")
	onListener(t, ln, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30)
	})
	if c, err := ln.Accept(); err == nil {
		_ = c.Close()
	}
	w.until(netdiag.StateEstablished, netdiag.StateSynReceived)
	client := <-dialled
	defer client.Close()

	w.say("the sender writes the name")
	mustWrite(t, client, 8)
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	w.until(netdiag.StateEstablished, netdiag.StateEstablished)

	w.say("the sender writes the content and half-closes: its FIN waits behind bytes that the receiver has no room for")
	setBuffer(t, client, 256<<10)
	mustWrite(t, client, 128<<10)
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	w.until(netdiag.StateFinWait1, netdiag.StateEstablished)

	w.say("the receiver reads to the end and its kernel acknowledges the FIN: half-closed")
	if n, err := io.Copy(io.Discard, server); err != nil || n != 8+128<<10 {
		t.Fatalf("the receiver got %d bytes, %v", n, err)
	}
	w.until(netdiag.StateFinWait2, netdiag.StateCloseWait)

	w.say("the other half still carries data: the receiver answers and closes; its FIN waits behind the answer")
	setBuffer(t, server.(*net.TCPConn), 256<<10)
	mustWrite(t, server, 128<<10)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	w.until(netdiag.StateFinWait2, netdiag.StateLastAck)

	w.say("the sender reads the answer to its end: ACK; it waits for twice the longest life of a segment")
	if n, err := io.Copy(io.Discard, client); err != nil || n != 128<<10 {
		t.Fatalf("the sender got %d bytes, %v", n, err)
	}
	w.until(netdiag.StateTimeWait, netdiag.StateClosed)

	compareWithDoc(t, w.out.String())
}

// compareWithDoc compares the states and remarks of each end with the recording
// in the documentation, or rewrites that.
func compareWithDoc(t *testing.T, recording string) {
	t.Helper()
	page, err := os.ReadFile(recordingDoc)
	if err != nil {
		t.Fatal(err)
	}
	const open, shut = "<!-- recording: pkg/netdiag -update -->\n```\n", "```\n<!-- end of recording -->"
	before, rest, ok1 := strings.Cut(string(page), open)
	old, after, ok2 := strings.Cut(rest, shut)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no marks of a recording", recordingDoc)
	}
	if *update {
		if err := os.WriteFile(recordingDoc, []byte(before+open+recording+shut+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, end := range []string{"sender", "receiver"} {
		if want, got := normalise(old, end), normalise(recording, end); want != got {
			t.Errorf("the %s's states differ from %s\nrecorded:\n%s\nnow:\n%s", end, recordingDoc, want, got)
		}
	}
}

var changeLine = regexp.MustCompile(`^ *[0-9.]+ s +(\S+) +(\S+) +(\S+ → \S+)`)

// normalise keeps the remarks and the changes of one end, without times and
// addresses. The ends are told apart by the port that listens.
func normalise(recording, end string) string {
	var out []string
	listening := ""
	for line := range strings.Lines(recording) {
		m := changeLine.FindStringSubmatch(line)
		switch {
		case strings.HasPrefix(line, "#"):
			out = append(out, strings.TrimSpace(line))
		case m == nil:
		case m[2] == "*":
			listening = m[1]
		case (m[1] == listening) == (end == "receiver"):
			out = append(out, m[3])
		}
	}
	return strings.Join(out, "\n")
}

func sockopt(level, opt, value int) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, opt, value) }); cerr != nil {
			return cerr
		}
		return err
	}
}

func onListener(t *testing.T, ln net.Listener, f func(fd int) error) {
	t.Helper()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}

func setBuffer(t *testing.T, c *net.TCPConn, n int) {
	t.Helper()
	if err := c.SetWriteBuffer(n); err != nil {
		t.Fatal(err)
	}
}

func mustWrite(t *testing.T, c net.Conn, n int) {
	t.Helper()
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

func congestionOf(t *testing.T, c *net.TCPConn) string {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var name string
	if cerr := raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return name
}
