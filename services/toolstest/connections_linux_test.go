package toolstest

import (
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestConnections follows one plain transfer with both commands. The receiving
// end is played here, so that each state lasts until it was seen.
func TestConnections(t *testing.T) {
	t.Parallel()
	r := record(t)
	r.run(0, "", "receiver", "connections", "--at", "127.0.0.1:7400")
	listed := r.b.String()
	for _, port := range []string{"7400", "7401", "8001"} {
		if !regexp.MustCompile(`(?m)^127\.0\.0\.1:` + port + ` +\* +LISTEN `).MatchString(listed) {
			t.Errorf("port %s does not listen:\n%s", port, listed)
		}
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r.r.ports = ports{"127.0.0.1:8001": ln.Addr().String()}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	dir := r.r.dir
	r.file("hello.txt", "hello, world\n")

	receiving := startIn(t, dir, nil, "receiver", "connections", "--watch", "--port", port, "--interval", "1ms")
	sending := startIn(t, dir, nil, "sender", "connections", "--watch", "--port", port, "--interval", "1ms")
	receiving.out.await(t, "LISTEN")
	sender := startIn(t, dir, nil, "sender", "send", "hello.txt", "--plain", ln.Addr().String(), "--quiet")
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sending.out.await(t, "ESTABLISHED")
	receiving.out.await(t, "ESTABLISHED")
	name := make([]byte, len("hello.txt"))
	if _, err := io.ReadFull(c, name); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("ok")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello, world\n" {
		t.Fatalf("%q, %v", got, err)
	}
	sending.out.await(t, "FIN_WAIT_2") // the sender has half-closed
	receiving.out.await(t, "CLOSE_WAIT")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
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
	r.show("sender connections --watch --port 8001 --interval 1ms", r.r.ports.there(sending.out.String()), 0)
	r.show("receiver connections --watch --port 8001 --interval 1ms", r.r.ports.there(receiving.out.String()), 0)
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
