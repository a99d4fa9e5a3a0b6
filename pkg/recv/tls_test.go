package recv_test

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/recv/recvtest"
	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

// TestLanesOverTLS sends a tree over encrypted lanes and refuses a plain one.
func TestLanesOverTLS(t *testing.T) {
	h := newHouse(t, func(h *house) { h.cfg.DataTLS = true; h.cfg.Limits.HelloTimeout = time.Second })
	server, client := recvtest.TLS(t)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := tls.NewListener(plain, server)
	ctx, cancel := context.WithCancel(testContext(t))
	served := make(chan error, 1)
	go func() { served <- h.r.ServeLanes(ctx, ln) }()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	dial := func(ctx context.Context) (net.Conn, error) {
		d := tls.Dialer{Config: client}
		return d.DialContext(ctx, "tcp", ln.Addr().String())
	}
	fx := fixture(h)
	fx.Dial = dial
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]int{"large": 3*mib + 1, "small": 100, "middle": 300_000} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []transfer.Algorithm{transfer.BLAKE3, transfer.None} {
		res, err := recvtest.Send(ctx, t, fx, func(c *send.Config) { c.Options.Algorithm, c.Options.Into, c.Lanes = a, a.String(), 2 }, dir)
		if err != nil {
			t.Fatal(err)
		}
		if !res.Receipt.DataTLS || len(h.read(a.String()+"/tree/large")) != 3*mib+1 {
			t.Errorf("%+v", res.Receipt)
		}
	}
	// A plain hello is no TLS record: it is refused and nobody is harmed.
	j := h.offer("plain", 10)
	l, err := recvtest.OpenLane(ctx, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", ln.Addr().String())
	}, j.id, j.a.Epoch, j.a.Token, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := l.Ack(); err == nil && a.Type == wire.AckHello {
		t.Errorf("a plain lane was accepted: %+v", a)
	}
	_ = l.Close()
}
