package recv_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/recv/recvtest"
)

// Lanes that say hello are welcome although their address has its fill of
// connections that do not.
func TestHelloBeyondTheLimit(t *testing.T) {
	h := newHouse(t, func(h *house) {
		h.cfg.Limits.UnidentifiedPer = 1
		h.cfg.Limits.HelloTimeout = recvtest.Patience
		h.cfg.Limits.HelloBrief = recvtest.Patience
	})
	j := h.offer("good", 100)
	silent := raw(t, h)
	for range 8 { // the first may come before the silent one is counted
		l, err := recvtest.OpenLane(testContext(t), h.dial, j.id, j.a.Epoch, j.a.Token, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Ack(); err != nil {
			t.Error(err)
		}
		_ = l.Close()
	}
	_ = silent.Close()
	j.finish()
}

// The places beyond the limit of an address have a limit, too.
func TestTooManyBriefOnes(t *testing.T) {
	h := newHouse(t, func(h *house) {
		h.cfg.Limits.UnidentifiedPer = 1
		h.cfg.Limits.Unidentified = 2
		h.cfg.Limits.HelloTimeout = recvtest.Patience
		h.cfg.Limits.HelloBrief = recvtest.Patience
	})
	closed := make(chan error, 4)
	var all []net.Conn
	for range 4 { // one has the place of the address, two are brief
		c := raw(t, h)
		all = append(all, c)
		go func() {
			_, err := c.Read(make([]byte, 1))
			closed <- err
		}()
	}
	if err := <-closed; err != io.EOF { //nolint:errorlint // Read returns it bare
		t.Errorf("the fourth ended with %v", err)
	}
	for _, c := range all {
		_ = c.SetDeadline(time.Unix(1, 0))
	}
	for range 3 {
		if err := <-closed; !isTimeout(err) {
			t.Errorf("another one ended, too: %v", err)
		}
	}
}
