package plain_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/plain"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// echo serves an Echo on addr and returns it with the address it got.
func echo(t *testing.T, addr string, cfg plain.EchoConfig) (*plain.Echo, *net.UDPAddr) {
	t.Helper()
	return echoOn(t, "udp", addr, cfg)
}

func echoOn(t *testing.T, network, addr string, cfg plain.EchoConfig) (*plain.Echo, *net.UDPAddr) {
	t.Helper()
	pc, err := net.ListenPacket(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	e := plain.NewEcho(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx, pc.(*net.UDPConn)) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("Serve did not return")
		}
	})
	return e, pc.LocalAddr().(*net.UDPAddr)
}

func dialUDP(t *testing.T, local string, to *net.UDPAddr) *net.UDPConn {
	t.Helper()
	var from *net.UDPAddr
	if local != "" {
		from = net.UDPAddrFromAddrPort(mustAddrPort(t, local))
	}
	c, err := net.DialUDP("udp", from, to)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends a datagram and returns the answer, for which it waits as long as
// dialUDP has set.
func ask(t *testing.T, c *net.UDPConn, what []byte) []byte {
	t.Helper()
	b, err := exchange(c, what)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// exchange is ask for any goroutine.
func exchange(c *net.UDPConn, what []byte) ([]byte, error) {
	if _, err := c.Write(what); err != nil {
		return nil, err
	}
	b := make([]byte, 70_000)
	n, err := c.Read(b)
	if err != nil {
		return nil, fmt.Errorf("no answer to %d bytes: %w", len(what), err)
	}
	return b[:n], nil
}

func TestEchoSimpleAndConcurrent(t *testing.T) {
	for _, workers := range []int{0, 1, 4} {
		answers := t.Run(fmt.Sprint(workers), func(t *testing.T) {
			e, addr := echo(t, "127.0.0.1:0", plain.EchoConfig{Workers: workers})
			var wg sync.WaitGroup
			for i := range 4 {
				c := dialUDP(t, "", addr)
				wg.Go(func() {
					for j := range 20 {
						q := bytes.Repeat([]byte{byte(i), byte(j)}, j*50)
						if a, err := exchange(c, q); err != nil || !bytes.Equal(a, q) {
							t.Errorf("client %d: sent %d bytes, got %d others, %v", i, len(q), len(a), err)
							return
						}
					}
				})
			}
			wg.Wait()
			if t.Failed() {
				return
			}
			c := dialUDP(t, "", addr)
			for _, size := range []int{0, 1, 1472, 65_507} { // 65,507: the largest over IPv4
				if a := ask(t, c, make([]byte, size)); len(a) != size {
					t.Errorf("%d bytes answered by %d", size, len(a))
				}
			}
			// A reply may arrive before it is counted.
			waitFor(t, "84 answers to be counted", func() bool { return e.Stats().Answered >= 84 })
			if st := e.Stats(); st.Answered != 84 || st.Received != 84 {
				t.Errorf("stats %+v, want 84 answered", st)
			}
		})
		if !answers {
			return // each wait for an answer that does not come takes its time
		}
	}
}

// On a wildcard socket the answer comes from the address that was asked. The
// client is connected, so that an answer from another address is not seen.
func TestEchoAnswersFromTheAskedAddress(t *testing.T) {
	for network, listen := range map[string]string{"udp4": "0.0.0.0:0", "udp": "[::]:0"} {
		_, addr := echoOn(t, network, listen, plain.EchoConfig{})
		for _, host := range []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"} {
			c := dialUDP(t, "127.0.0.1:0", &net.UDPAddr{IP: net.ParseIP(host), Port: addr.Port})
			if a := ask(t, c, []byte("hello")); string(a) != "hello" {
				t.Errorf("%s asked at %s: %q", listen, host, a)
			}
		}
		if network == "udp" && addr.IP.To4() == nil {
			if a := ask(t, dialUDP(t, "", &net.UDPAddr{IP: net.IPv6loopback, Port: addr.Port}), []byte("six")); string(a) != "six" {
				t.Errorf("%s asked over IPv6: %q", listen, a)
			}
		}
	}
}

func TestEchoIgnoresLowPorts(t *testing.T) {
	// Port 7 of another loopback address is free, whoever uses 127.0.0.1:7.
	const low = "127.0.7.7:7"
	e, addr := echo(t, "127.0.0.1:0", plain.EchoConfig{})
	c := dialUDP(t, low, addr)
	if _, err := c.Write([]byte("loop?")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the datagram to be refused", func() bool { return e.Stats().Refused == 1 })
	_ = c.Close()

	_, addr = echo(t, "127.0.0.1:0", plain.EchoConfig{LowPorts: true})
	if a := ask(t, dialUDP(t, low, addr), []byte("hello")); string(a) != "hello" {
		t.Errorf("with LowPorts: %q", a)
	}
}

func TestEchoIgnoresItsOwnPort(t *testing.T) {
	e, addr := echo(t, "127.0.0.1:0", plain.EchoConfig{})
	c := dialUDP(t, fmt.Sprintf("127.0.0.2:%d", addr.Port), addr)
	if _, err := c.Write([]byte("loop?")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the datagram to be refused", func() bool { return e.Stats().Refused == 1 })
}

// Two echo servers and one packet with a forged source: it goes round until
// one of them drops it, and it ends.
func TestEchoLoopEnds(t *testing.T) {
	cfg := plain.EchoConfig{SourceRate: 1_000_000, TotalRate: 1_000_000}
	a, addrA := echo(t, "127.0.0.1:0", cfg)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// The packet is sent from the very socket that becomes the second server.
	if _, err := pc.WriteTo([]byte("round and round"), addrA); err != nil {
		t.Fatal(err)
	}
	b := plain.NewEcho(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, pc.(*net.UDPConn)) }()
	waitFor(t, "the loop to be cut", func() bool { return a.Stats().Limited+b.Stats().Limited == 1 })
	if n := a.Stats().Answered; n > 300 {
		t.Errorf("the packet went round %d times", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestEchoLimitsASource(t *testing.T) {
	// The clock stands still, so that only the burst of 100 passes.
	now := time.Now()
	e, addr := echo(t, "127.0.0.1:0", plain.EchoConfig{SourceRate: 1, Now: func() time.Time { return now }})
	c := dialUDP(t, "127.0.0.1:0", addr)
	for i := range 100 {
		ask(t, c, fmt.Append(nil, i))
	}
	if _, err := c.Write([]byte("one too many")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the limit", func() bool { return e.Stats().Limited == 1 })
	// Another source is served.
	ask(t, dialUDP(t, "127.0.0.2:0", addr), []byte("hello"))
	waitFor(t, "its answer to be counted", func() bool { return e.Stats().Answered >= 101 })
	if st := e.Stats(); st.Answered != 101 {
		t.Errorf("stats %+v", st)
	}
}

func TestTalkInAPipe(t *testing.T) {
	_, addr := echo(t, "127.0.0.1:0", plain.EchoConfig{})
	var out bytes.Buffer
	got, err := plain.Talk(t.Context(), dialUDP(t, "", addr), strings.NewReader("one\ntwo\n\nlast without newline"), &out, plain.TalkConfig{Timeout: patience})
	if err != nil || got.Sent != 4 || got.Received != 4 {
		t.Errorf("%+v, %v", got, err)
	}
	if out.String() != "one\ntwo\n\nlast without newline\n" {
		t.Errorf("printed %q", out.String())
	}
}

// What arrives is printed while the input is still open.
func TestTalkAtTheSameTime(t *testing.T) {
	_, addr := echo(t, "127.0.0.1:0", plain.EchoConfig{Workers: 2})
	keys, typing := io.Pipe()
	screen, printing := io.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := plain.Talk(ctx, dialUDP(t, "", addr), keys, printing, plain.TalkConfig{Count: 3})
		// Neither typing nor reading waits for one that has ended.
		_ = keys.Close()
		_ = printing.Close()
		done <- err
	}()
	for _, line := range []string{"first\n", "second\n", "third\n"} {
		write(t, typing, line)
		if a := answer(t, screen, len(line)); a != line {
			t.Fatalf("printed %q, want %q", a, line)
		}
	}
	// Count is reached: Talk ends although the input is open.
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTalkPortUnreachable(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := pc.LocalAddr().(*net.UDPAddr)
	_ = pc.Close()
	var notes bytes.Buffer
	got, err := plain.Talk(t.Context(), dialUDP(t, "", addr), strings.NewReader("anybody?\n"), io.Discard, plain.TalkConfig{Timeout: patience, Notes: &notes})
	if kindOf(err) != transfer.Unavailable || !strings.Contains(err.Error(), "port unreachable") || got.Unreachable != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if !strings.Contains(notes.String(), "port unreachable") {
		t.Errorf("notes %q", notes.String())
	}
}

func TestTalkSilence(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	_, err = plain.Talk(t.Context(), dialUDP(t, "", pc.LocalAddr().(*net.UDPAddr)), strings.NewReader("hello\n"), io.Discard, plain.TalkConfig{Timeout: 50 * time.Millisecond})
	if kindOf(err) != transfer.Unavailable || !strings.Contains(err.Error(), "none of 1 datagrams was answered") {
		t.Error(err)
	}
}

func TestTalkLineTooLong(t *testing.T) {
	_, addr := echo(t, "127.0.0.1:0", plain.EchoConfig{})
	_, err := plain.Talk(t.Context(), dialUDP(t, "", addr), strings.NewReader(strings.Repeat("x", 70_000)), io.Discard, plain.TalkConfig{})
	if kindOf(err) != transfer.Invalid {
		t.Error(err)
	}
}
