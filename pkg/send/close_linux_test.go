package send_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/e27efefb/sluice/pkg/recv/recvtest"
	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// laneEnds remembers with what error reading of each accepted connection ended.
type laneEnds struct {
	net.Listener

	mu   sync.Mutex
	ends map[string]error // by the sender's address
}

// known returns the senders' addresses so far.
func (l *laneEnds) known() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]bool{}
	for a := range l.ends {
		out[a] = true
	}
	return out
}

func (l *laneEnds) forgetOthers(than map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.ends, func(a string, _ error) bool { return !than[a] })
}

type watchedConn struct {
	*net.TCPConn

	l *laneEnds
}

func (l *laneEnds) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends[c.RemoteAddr().String()] = nil
	return &watchedConn{c.(*net.TCPConn), l}, nil
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if err != nil {
		c.l.mu.Lock()
		defer c.l.mu.Unlock()
		if _, ok := c.l.ends[c.RemoteAddr().String()]; ok {
			c.l.ends[c.RemoteAddr().String()] = err
		}
	}
	return n, err
}

// timeWait returns the ends in TIME_WAIT, local and remote address (/proc/net/tcp,
// proc(5): addresses are in the byte order of the machine, little-endian on all
// that run these tests; state 06).
func timeWait(t *testing.T) map[[2]string]bool {
	t.Helper()
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := map[[2]string]bool{}
	addr := func(text string) string {
		var ip uint32
		var port uint16
		if _, err := fmt.Sscanf(text, "%8X:%4X", &ip, &port); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], ip)
		return netip.AddrPortFrom(netip.AddrFrom4(b), port).String()
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if w := strings.Fields(lines.Text()); len(w) > 3 && w[3] == "06" {
			found[[2]string{addr(w[1]), addr(w[2])}] = true
		}
	}
	return found
}

// notNormal counts the lanes that the engine gave up: it resets those, and on a busy
// machine one may look stuck.
type notNormal struct{ lanes int }

func (*notNormal) Offer(*transfer.OfferPart)       {}
func (*notNormal) Answer(uint32, *transfer.Answer) {}
func (*notNormal) Progress(send.Progress)          {}
func (*notNormal) Receipt(*transfer.Receipt)       {}

func (n *notNormal) Lane(l send.LaneState) {
	if l.Event == "failed" || l.Event == "replaced" {
		n.lanes++
	}
}

// TestNormalEnd: a lane ends by FIN, ACK, FIN, ACK, and the sender's end is the
// one that closed first. So the receiver reads to the end of the stream and never
// a reset, and the kernel keeps the sender's end in TIME_WAIT; a reset leaves none.
func TestNormalEnd(t *testing.T) {
	server, client := recvtest.TLS(t)
	for _, secret := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", secret), func(t *testing.T) {
			ends := &laneEnds{ends: map[string]error{}}
			r := serveOn(t, t.TempDir(), func(ln net.Listener) net.Listener {
				ends.Listener = ln
				if secret {
					return tls.NewListener(ends, server)
				}
				return ends
			})
			file := filepath.Join(t.TempDir(), "file")
			fill(t, file, 9<<20+5)
			cfg := send.Config{Receiver: r.view, DialLane: dial, Source: scan(t, file), Lanes: 3}
			if secret {
				cfg.DialLane = func(ctx context.Context, addr string) (net.Conn, error) {
					return (&tls.Dialer{Config: client}).DialContext(ctx, "tcp", addr)
				}
			}
			for i, normal := 0, 0; normal < 3; i++ {
				before := ends.known()
				given := &notNormal{}
				cfg.ID, cfg.Observer = transfer.ID{}, given
				cfg.Options.Into = fmt.Sprint(i)
				if _, err := send.Send(t.Context(), cfg); err != nil {
					t.Fatal(err)
				}
				if given.lanes == 0 {
					normal++
					continue
				}
				if i == 50 {
					t.Fatal("lanes were given up in nearly every transfer")
				}
				ends.forgetOthers(before)
			}
			r.stop()
			waiting := timeWait(t)
			ends.mu.Lock()
			defer ends.mu.Unlock()
			if len(ends.ends) < 3 {
				t.Errorf("%d lanes", len(ends.ends))
			}
			for sender, err := range ends.ends {
				if !errors.Is(err, io.EOF) {
					t.Errorf("lane of %s: reading ended with %v, want the end of the stream", sender, err)
				}
				if !waiting[[2]string{sender, r.lanes}] {
					t.Errorf("lane of %s: the sender's end is not in TIME_WAIT", sender)
				}
				if waiting[[2]string{r.lanes, sender}] {
					t.Errorf("lane of %s: the receiver closed first", sender)
				}
			}
		})
	}
}
