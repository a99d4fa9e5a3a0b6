package toolstest

import (
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/e27efefb/sluice/pkg/netdiag"
)

// between stands on the path of lanes. It passes octets on, but holds back what
// the receiver answers: to the hello until up is closed, to the half-close until
// free is. So long the lane's ends stay as they are.
type between struct {
	net.Listener

	up, free chan struct{}

	wg sync.WaitGroup
}

func standBetween(t *testing.T) *between {
	t.Helper()
	var ln net.Listener
	for ln == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		// Who had the port before may have left connections in TIME_WAIT.
		port := []uint16{l.Addr().(*net.TCPAddr).AddrPort().Port()}
		old, err := netdiag.Connections(netdiag.Query{LocalPorts: port, RemotePorts: port})
		if err != nil {
			t.Fatal(err)
		}
		if ln = l; len(old) > 1 {
			ln = nil
			_ = l.Close()
		}
	}
	b := &between{Listener: ln, up: make(chan struct{}), free: make(chan struct{})}
	t.Cleanup(func() {
		_ = ln.Close()
		b.wg.Wait()
	})
	return b
}

// serve takes lanes to the address until the test ends.
func (b *between) serve(t *testing.T, to string) {
	b.wg.Go(func() {
		for {
			c, err := b.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() { b.lane(t, c.(*net.TCPConn), to) })
		}
	})
}

func (b *between) lane(t *testing.T, c *net.TCPConn, to string) {
	defer c.Close()
	far, err := net.Dial("tcp", to)
	if err != nil {
		t.Error(err)
		return
	}
	defer far.Close()
	halved := make(chan struct{})
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		buf := make([]byte, 4096)
		for {
			n, err := far.Read(buf)
			<-b.up
			select {
			case <-halved:
				<-b.free
			default:
			}
			if n > 0 {
				if _, err := c.Write(buf[:n]); err != nil {
					t.Errorf("answer to the sender: %v", err)
				}
			}
			if err != nil {
				return
			}
		}
	}()
	if _, err := io.Copy(far, c); err != nil {
		t.Errorf("the lane ended with %v, want the end of the stream", err)
	}
	close(halved)
	<-b.free
	_ = far.(*net.TCPConn).CloseWrite()
	<-answers
}

// TestConnections follows one lane with both commands, through the half-close
// that ends it.
func TestConnections(t *testing.T) {
	t.Parallel()
	path := standBetween(t)
	r := record(t, "--data-advertise", path.Addr().String())
	path.serve(t, r.r.ports["127.0.0.1:7401"])
	r.run(0, "", "receiver", "connections", "--at", "127.0.0.1:7400")
	listed := r.b.String()
	for _, port := range []string{"7400", "7401", "8001"} {
		if !regexp.MustCompile(`(?m)^127\.0\.0\.1:` + port + ` +\* +LISTEN `).MatchString(listed) {
			t.Errorf("port %s does not listen:\n%s", port, listed)
		}
	}

	r.r.ports["127.0.0.1:7401"] = path.Addr().String()
	_, port, _ := net.SplitHostPort(path.Addr().String())
	r.file("hello.txt", "hello, world\n")
	receiving := r.r.start(t, "receiver", "connections", "--watch", "--port", port, "--interval", "1ms")
	sending := r.r.start(t, "sender", "connections", "--watch", "--port", port, "--interval", "1ms")
	receiving.out.await(t, "LISTEN")
	sender := r.r.start(t, "sender", "send", "hello.txt", "--to", "127.0.0.1:7400", "--quiet")
	sending.out.await(t, "ESTABLISHED")
	receiving.out.await(t, "ESTABLISHED")
	close(path.up)
	sending.out.await(t, "FIN_WAIT_2") // the sender has half-closed
	receiving.out.await(t, "CLOSE_WAIT")
	close(path.free)
	if code := sender.wait(t); code != 0 {
		t.Fatalf("exit code %d\n%s", code, sender.out)
	}
	sending.out.await(t, "TIME_WAIT")
	receiving.out.await(t, "→ CLOSED")
	for _, w := range []*running{receiving, sending} {
		if code := w.interrupt(t); code != 0 {
			t.Errorf("%v: exit code %d\n%s", w.cmd.Args, code, w.out)
		}
	}
	r.show("sender connections --watch --port 7401 --interval 1ms", r.r.ports.there(sending.out.String()), 0)
	r.show("receiver connections --watch --port 7401 --interval 1ms", r.r.ports.there(receiving.out.String()), 0)
	r.check("tcp.md", states)
}

// states are the commands and the states that a connection went through, without
// those that are too short to be seen each time.
func states(text string) string {
	var out []string
	state := regexp.MustCompile(`→ ([A-Z_0-9]+)`)
	short := []string{"SYN_SENT", "SYN_RECEIVED", "FIN_WAIT_1", "LAST_ACK", "CLOSING"}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "$") {
			out = append(out, line)
		}
		if m := state.FindStringSubmatch(line); len(m) > 1 && !slices.Contains(short, m[1]) {
			out = append(out, m[1]+"\n")
		}
	}
	return strings.Join(out, "")
}
