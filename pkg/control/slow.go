package control

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// defaultSendTimeout is how long a message of a stream may wait for its reader.
// Before it waits, grpc has 64 KiB of the stream in its hands and the caller up to
// 64 KiB more (RFC 9113 section 6.9.2), so that short pauses are no matter.
const defaultSendTimeout = 30 * time.Second

// readStream is a stream whose caller must read: a message that finds no room for
// a while ends the call. Without it a caller that opens streams and never reads
// them would keep a goroutine and a watcher for each, for as long as it likes.
//
// The goroutine of a message that is stuck ends with the stream, right after the
// handler has returned: nothing but the end of the stream can interrupt it.
type readStream struct {
	grpc.ServerStream

	ctx   context.Context //nolint:containedctx // the stream's, with what interceptors added
	limit time.Duration
	stuck error // set once a message did not go: no other may follow
}

// Context satisfies grpc.ServerStream.
func (s *readStream) Context() context.Context { return s.ctx }

// SendMsg satisfies grpc.ServerStream.
func (s *readStream) SendMsg(m any) error {
	if s.stuck != nil {
		return s.stuck
	}
	sent := make(chan error, 1)
	go func() { sent <- s.ServerStream.SendMsg(m) }()
	t := time.NewTimer(s.limit)
	defer t.Stop()
	select {
	case err := <-sent:
		return err
	case <-t.C:
		s.stuck = transfer.Errorf(transfer.Busy, "send to stream", "", "the caller has not read for %s", s.limit).
			WithHint("read the stream as it comes, and open it again")
	}
	return s.stuck
}

// Write satisfies net.Conn. A caller that does not even empty its socket loses the
// connection after the limit; grpc's pings do not see that while it still sends.
func (c *boundedConn) Write(b []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.Conn.Close() // grpc leaves that to its reader, which still hears the caller
	}
	return n, err
}

var _ net.Conn = (*boundedConn)(nil)
