package health

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

// odd plays a reflector: for each request it gets what a good reply would be,
// and sends what it likes.
func odd(t *testing.T, act func(seq int, good []byte, send func([]byte))) (where string) {
	t.Helper()
	conn := listen(t, "127.0.0.1:0")
	run0(t, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		buf := make([]byte, bufferSize)
		for seq := 0; ; seq++ {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return nil
			}
			act(seq, goodReply(buf[:n]), func(b []byte) { send(conn, b, from) })
		}
	})
	return conn.LocalAddr().String()
}

func send(conn *net.UDPConn, b []byte, to netip.AddrPort) { _, _ = conn.WriteToUDPAddrPort(b, to) }

func goodReply(request []byte) []byte {
	p, _ := stamp.ParseSender(request)
	now := stamp.TimestampOf(time.Now())
	b := append([]byte(nil), request...)
	stamp.Reflected{
		Seq: p.Seq, T2: now, T3: now, Error: 1, SSID: p.SSID, SenderSeq: p.Seq, T1: p.T1, SenderError: p.Error, SenderTTL: 250,
	}.Put(b)
	stamp.ReflectTLVs(b, stamp.BaseLen, p.Seq, nil, &servingStatus)
	return b
}

// TestRejected sends replies that are wrong in one way each; a good one follows,
// so that the pinger need not wait.
func TestRejected(t *testing.T) {
	wrong := []func(b []byte) []byte{
		func(b []byte) []byte { b[35]++; return b },     // T1
		func(b []byte) []byte { b[28]++; return b },     // T1
		func(b []byte) []byte { b[24]++; return b },     // a sequence that was not sent
		func(b []byte) []byte { b[27] += 50; return b }, // one that was not sent yet
		func(b []byte) []byte { b[15]++; return b },     // SSID
		func(b []byte) []byte { return b[:37] },
		func([]byte) []byte { return nil },
	}
	where := odd(t, func(seq int, good []byte, send func([]byte)) {
		send(wrong[seq](append([]byte(nil), good...)))
		send(good)
	})
	rejected := 0
	s, err := Measure(within(t), PingerConfig{
		Addr: where, Interval: 2 * time.Millisecond, Timeout: patience,
		OnEvent: func(e Event) {
			if e.Kind == PingRejected {
				rejected++
			}
		},
	}, len(wrong))
	if err != nil || s.Received != uint64(len(wrong)) || s.Rejected != uint64(len(wrong)) || rejected != len(wrong) {
		t.Errorf("%d events, %+v, %v", rejected, s, err)
	}
	if s.HopsForward != 5 || !s.Serving() {
		t.Errorf("%+v", s)
	}
}

// TestOldReflectors accepts an SSID of zero, and 38 octets.
func TestOldReflectors(t *testing.T) {
	where := odd(t, func(seq int, good []byte, send func([]byte)) {
		if seq == 0 {
			good[14], good[15] = 0, 0
			send(good)
		} else {
			send(good[:38])
		}
	})
	s, err := Measure(within(t), PingerConfig{Addr: where, Interval: time.Millisecond, Timeout: patience}, 2)
	if err != nil || s.Received != 2 || s.Rejected != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestCounts sends replies twice, in another order, late, and not at all.
func TestCounts(t *testing.T) {
	var held []byte
	where := odd(t, func(seq int, good []byte, send func([]byte)) {
		switch seq {
		case 0: // twice
			send(good)
			send(good)
		case 1: // after the next
			held = good
		case 2:
			send(good)
			send(held)
		case 3: // late: after the loss was told, see below
			held = good
		case 4: // never
		default:
			send(good)
		}
		if seq == 6 {
			send(held)
		}
	})
	var kinds []EventKind
	var p *Pinger
	p, err := NewPinger(PingerConfig{
		// Only the first five pings follow each other; the others wait until 3 and
		// 4 were given up.
		Addr: where, Interval: time.Millisecond, Timeout: time.Second, Count: 8,
		OnEvent: func(e Event) {
			kinds = append(kinds, e.Kind)
			switch {
			case e.Kind == PingSent && e.Seq == 4:
				p.SetInterval(time.Hour)
			case e.Kind == PingLost && e.Seq == 4:
				p.SetInterval(time.Millisecond)
			case e.Kind == PingReplied && e.Late != (e.Seq == 3), e.Kind == PingReplied && e.Reordered != (e.Seq == 1 || e.Seq == 3):
				t.Errorf("%+v", e)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(within(t)); err != nil {
		t.Fatal(err)
	}
	s := p.Summary()
	if s.Sent != 8 || s.Received != 7 || s.Lost != 1 || s.Pending != 0 || s.Duplicates != 1 || s.Reordered != 2 || s.Late != 1 || s.LossPercent != 12.5 {
		t.Errorf("%+v\n%v", s, kinds)
	}
}

// TestLossBothWays drops pings and replies between a pinger and a reflector that
// counts, and wants to hear how many each way.
func TestLossBothWays(t *testing.T) {
	r, where, _ := serve(t, ReflectorConfig{}, "127.0.0.1:0")
	session, err := r.NewSession("alice")
	if err != nil {
		t.Fatal(err)
	}
	front := listen(t, "127.0.0.1:0")
	back, err := net.Dial("udp", where)
	if err != nil {
		t.Fatal(err)
	}
	run0(t, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = front.Close(); _ = back.Close() })()
		buf := make([]byte, bufferSize)
		for i := 0; ; i++ {
			n, from, err := front.ReadFromUDPAddrPort(buf)
			if err != nil {
				return nil
			}
			if i == 3 || i == 7 || i == 8 {
				continue // lost on the way there
			}
			if _, err := back.Write(buf[:n]); err != nil {
				return nil
			}
			if n, err = back.Read(buf); err != nil {
				return nil
			}
			if i == 5 || i == 12 {
				continue // lost on the way back
			}
			send(front, buf[:n], from)
		}
	})
	s, err := Measure(within(t), PingerConfig{
		Addr: front.LocalAddr().String(), Interval: 2 * time.Millisecond, Timeout: time.Second, Session: &session,
	}, 20)
	if err != nil || s.Received != 15 || s.Lost != 5 || !s.Directional || s.LostForward != 3 || s.LostBack != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestForgedReplies flips a bit of each octet of authenticated replies: none is
// believed.
func TestForgedReplies(t *testing.T) {
	r, where, _ := serve(t, ReflectorConfig{Status: func() stamp.Status { return servingStatus }, SessionRate: 1e6}, "127.0.0.1:0")
	session, err := r.NewSession("alice")
	if err != nil {
		t.Fatal(err)
	}
	front := listen(t, "127.0.0.1:0")
	back, err := net.Dial("udp", where)
	if err != nil {
		t.Fatal(err)
	}
	run0(t, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = front.Close(); _ = back.Close() })()
		buf := make([]byte, bufferSize)
		for i := 0; ; i++ {
			n, from, err := front.ReadFromUDPAddrPort(buf)
			if err != nil {
				return nil
			}
			if _, err := back.Write(buf[:n]); err != nil {
				return nil
			}
			if n, err = back.Read(buf); err != nil {
				return nil
			}
			buf[i] ^= 1
			send(front, buf[:n], from)
			buf[i] ^= 1
			send(front, buf[:n], from)
		}
	})
	s, err := Measure(within(t), PingerConfig{
		Addr: front.LocalAddr().String(), Interval: time.Millisecond, Timeout: patience, Session: &session,
	}, stamp.AuthLen)
	if err != nil || s.Received != stamp.AuthLen || s.Rejected != stamp.AuthLen || !s.Serving() {
		t.Errorf("%+v, %v", s, err)
	}
}
