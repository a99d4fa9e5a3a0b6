package plain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

const (
	// lingerTime and lingerBytes bound how long a refused client is listened
	// to. Closing a socket with unread bytes sends RST, and an RST can overtake
	// the error line in the client's kernel (RFC 9293 section 3.6).
	lingerTime  = time.Second
	lingerBytes = 1 << 20
	// answerTimeout bounds writing an answer of at most answerMax bytes, which
	// fits any socket buffer.
	answerTimeout = 5 * time.Second
	answerMax     = 1024
	// waitHint is for the author of a client that does not wait.
	waitHint = "send the name alone, wait for ok, then send the content"
)

// conn is one client. Its life: quiet (the name is not whole) → named →
// receiving → published or discarded → closed.
type conn struct {
	srv   *Server
	nc    net.Conn
	peer  netip.AddrPort
	start time.Time

	mu    sync.Mutex
	cause error // why the connection was interrupted, or nil
}

// interrupt wakes the goroutine of c and makes all its reads fail from now on.
func (c *conn) interrupt(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = cause
	}
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

func (c *conn) interrupted() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// arm sets the time limit of the next read, unless c was interrupted.
func (c *conn) arm(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		_ = c.nc.SetReadDeadline(time.Now().Add(d))
	}
}

// serve runs the protocol with one client and closes the connection.
func (c *conn) serve(ctx context.Context) {
	out := Outcome{Peer: c.peer}
	up, err := c.greet(ctx, &out)
	if err == nil {
		out.Bytes, err = c.receive(up)
		if err != nil {
			up.Discard(err)
		} else if out.Receipt, err = up.Publish(ctx); err != nil {
			err = fmt.Errorf("publish %q: %w", out.Name, err)
		}
	}
	out.Err = err
	c.finish(out)
}

// greet reads the name, reserves its place and answers "ok". On an error
// nothing is left reserved.
func (c *conn) greet(ctx context.Context, out *Outcome) (Upload, error) {
	raw, err := c.readName()
	if err != nil {
		return nil, err
	}
	out.Name = string(raw)
	if err := checkName(out.Name, c.srv.cfg.Names); err != nil {
		return nil, err
	}
	if !c.srv.named(c) {
		return nil, c.interruption()
	}
	up, err := c.srv.cfg.Store.Begin(ctx, out.Name, c.peer)
	if err != nil {
		return nil, fmt.Errorf("receive %q: %w", out.Name, err)
	}
	// Whoever waits for "ok" has sent nothing yet.
	if err := c.unasked(); err != nil {
		up.Discard(err)
		return nil, err
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(answerTimeout))
	if _, err := io.WriteString(c.nc, answerOK); err != nil {
		err = failure(transfer.Unavailable, err, "answer ok for %q", out.Name)
		up.Discard(err)
		return nil, err
	}
	return up, nil
}

// readName returns what arrives until NameGap passes without a byte.
func (c *conn) readName() ([]byte, error) {
	buf := make([]byte, 0, MaxName+1)
	c.arm(c.srv.cfg.IdleTimeout)
	for {
		n, err := c.nc.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > MaxName:
			return nil, failure(transfer.Invalid, nil, "the name is longer than %d bytes", MaxName).WithHint(waitHint)
		case err == nil:
			c.arm(c.srv.cfg.NameGap)
		case c.interrupted() != nil:
			return nil, c.interruption()
		case errors.Is(err, os.ErrDeadlineExceeded) && len(buf) > 0:
			return buf, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, failure(transfer.Unavailable, nil, "no file name arrived within %v", c.srv.cfg.IdleTimeout)
		case errors.Is(err, io.EOF) && len(buf) == 0:
			return nil, failure(transfer.Invalid, errGone, "the connection was closed without a file name")
		case errors.Is(err, io.EOF):
			return nil, failure(transfer.Invalid, nil, "the client closed before it could read ok").WithHint(waitHint)
		default:
			return nil, failure(transfer.Unavailable, err, "read the file name")
		}
	}
}

// unasked fails if the client sent something after its name without having
// been answered, or is gone. Bytes still on their way cannot be seen.
func (c *conn) unasked() error {
	if c.interrupted() != nil {
		return c.interruption()
	}
	waiting, eof, err := pending(c.nc)
	switch {
	case err != nil:
		return failure(transfer.Unavailable, err, "the connection broke before ok")
	case eof:
		return failure(transfer.Invalid, nil, "the client closed before it could read ok").WithHint(waitHint)
	case waiting:
		return failure(transfer.Invalid, nil, "content arrived before ok was answered").WithHint(waitHint)
	}
	return nil
}

// receive copies content into up until the client's FIN and returns how many
// bytes came.
func (c *conn) receive(up Upload) (int64, error) {
	bp := c.srv.buf.Get().(*[]byte)
	defer c.srv.buf.Put(bp)
	var total int64
	for {
		c.arm(c.srv.cfg.IdleTimeout)
		n, err := c.nc.Read(*bp)
		total += int64(n)
		if most := c.srv.cfg.MaxSize; most > 0 && total > most {
			return total, failure(transfer.Invalid, nil, "the file is larger than the limit of %d bytes", most)
		}
		if n > 0 {
			if _, err := up.Write((*bp)[:n]); err != nil {
				return total, fmt.Errorf("write the file: %w", err)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return total, nil
		case c.interrupted() != nil:
			return total, c.interruption()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return total, failure(transfer.Unavailable, nil, "nothing arrived for %v in the middle of the file; it was discarded after %d bytes", c.srv.cfg.IdleTimeout, total)
		default:
			return total, failure(transfer.Unavailable, err, "the connection broke after %d bytes; the file was discarded", total)
		}
	}
}

// interruption is the error of an interrupted connection.
func (c *conn) interruption() error {
	switch cause := c.interrupted(); {
	case errors.Is(cause, errEvicted):
		return failure(transfer.Busy, cause, "busy: %d connections are open and this one was the longest without a file name", c.srv.cfg.MaxConns).WithHint("try again in a while")
	default:
		return failure(transfer.Unavailable, cause, "the receiver is stopping").WithHint("try again later")
	}
}

// turnAway answers a client for which there is no room.
func (c *conn) turnAway() {
	c.finish(Outcome{Peer: c.peer, Err: failure(transfer.Busy, nil, "busy: all %d connections are receiving files", c.srv.cfg.MaxConns).WithHint("try again in a while")})
}

// finish tells the client what went wrong, if anything, closes the connection
// and reports the outcome.
func (c *conn) finish(out Outcome) {
	// From here on c takes no place: lingering is bounded on its own.
	c.srv.leave(c)
	if out.Err != nil && !errors.Is(out.Err, errGone) {
		c.refuse(out.Err)
	}
	_ = c.nc.Close()
	out.Elapsed = time.Since(c.start)
	c.srv.report(out)
}

// refuse writes the error line and waits a little for the client to read it.
func (c *conn) refuse(err error) {
	_ = c.nc.SetWriteDeadline(time.Now().Add(answerTimeout))
	if _, werr := io.WriteString(c.nc, errorLine(err)); werr != nil {
		return
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || errors.Is(c.interrupted(), errStopping) {
		return
	}
	select {
	case c.srv.linger <- struct{}{}:
		defer func() { <-c.srv.linger }()
	default:
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
}

// report logs an outcome and tells the observer.
func (s *Server) report(out Outcome) {
	log := s.cfg.Logger.With("peer", out.Peer, "name", out.Name, "bytes", out.Bytes, "elapsed", out.Elapsed)
	switch {
	case out.Err == nil:
		log.Info("plain: file published, length undeclared", "as", out.Receipt.Name, "transfer", out.Receipt.ID, "digest", out.Receipt.Digest)
	case errors.Is(out.Err, errGone):
		log.Debug("plain: client left without a name")
	default:
		log.Warn("plain: no file published", "err", out.Err)
	}
	if s.cfg.Observer != nil {
		s.cfg.Observer(out)
	}
}

// errorLine renders err for the client: one line, without control characters.
// Only a transfer.Error is meant for the far side; anything else is hidden.
func errorLine(err error) string {
	text := strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(publicText(err), "?"))
	if len(text) > answerMax {
		text = strings.ToValidUTF8(text[:answerMax], "")
	}
	return answerError + text + "\n"
}

// addrPort returns the address of a connection's end, or the zero value when
// it has none.
func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
