package send_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

// flipper is a lane on which one bit of the first frame's header flips.
type flipper struct {
	net.Conn

	at, bit int // octet of the header, bit of the octet
	passed  int
}

func (f *flipper) Write(p []byte) (int, error) {
	if i := wire.HelloLen + f.at - f.passed; i >= 0 && i < len(p) {
		p = append([]byte(nil), p...)
		p[i] ^= 1 << f.bit
	}
	n, err := f.Conn.Write(p)
	f.passed += n
	return n, err
}

func (f *flipper) CloseWrite() error { return f.Conn.(*net.TCPConn).CloseWrite() }

// flipping dials lanes; the first bad of them flip a bit.
func flipping(bad int64, at, bit int, dialled *atomic.Int64) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := dial(ctx, addr)
		if err != nil || dialled.Add(1) > bad {
			return c, err
		}
		return &flipper{Conn: c, at: at, bit: bit}, nil
	}
}

// TestFlippedHeader: headers have no checksum of their own, so a flipped bit looks
// to the receiver like a frame that makes no sense, and it ends the lane as
// Invalid. Once is no reason to give up, again and again is a sender that is
// wrong. Each case is one octet of the header (pkg/wire/doc.go) whose change makes
// a frame of 3 MiB at offset 0 of the only file impossible.
func TestFlippedHeader(t *testing.T) {
	const maxInvalid = 3 // of pkg/send/lanes.go
	file := filepath.Join(t.TempDir(), "file")
	fill(t, file, 3<<20)
	for name, at := range map[string][2]int{
		"type": {0, 6}, "file": {7, 0}, "offset": {15, 3}, "offset past the end": {9, 2}, "length": {23, 0}, "length past the end": {17, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, t.TempDir())
			for _, tt := range []struct {
				flips int64
				ok    bool
			}{{1, true}, {maxInvalid, true}, {maxInvalid + 1, false}} {
				var dialled atomic.Int64
				cfg := send.Config{Receiver: r.view, Source: scan(t, file), Lanes: 1, ID: transfer.NewID(), DialLane: flipping(tt.flips, at[0], at[1], &dialled)}
				cfg.Options.Into = fmt.Sprint(tt.flips)
				res, err := send.Send(t.Context(), cfg)
				if tt.ok {
					if err != nil || dialled.Load() != tt.flips+1 || res.Stats.Sessions != 1 {
						t.Errorf("%d flips: %d lanes, %+v, %v", tt.flips, dialled.Load(), res.Stats, err)
						continue
					}
					same(t, file, filepath.Join(r.dir, cfg.Options.Into, "file"))
					continue
				}
				var e *transfer.Error
				if transfer.KindOf(err) != transfer.Invalid || !errors.As(err, &e) || !e.Remote || dialled.Load() != maxInvalid+1 {
					t.Errorf("%d flips: %d lanes, %v; want invalid, said by the receiver", tt.flips, dialled.Load(), err)
				}
				// Nothing is lost by it: the same transfer goes on when the way is good.
				cfg.DialLane, cfg.Source = dial, scan(t, file)
				if _, err := send.Send(t.Context(), cfg); err != nil {
					t.Errorf("after %d flips: %v", tt.flips, err)
				}
				same(t, file, filepath.Join(r.dir, cfg.Options.Into, "file"))
			}
		})
	}
}
