package plain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// pieceSize is how much of the file one sendfile call gets before the time
// limit is renewed, in bytes.
const pieceSize = 4 << 20

// SendConfig sets up [Send]. The zero value is usable.
type SendConfig struct {
	// ConnectTimeout bounds opening the connection; 0 means 10 s.
	ConnectTimeout time.Duration
	// Timeout is the longest silence of the receiver: until it says ok, while
	// it takes content, and from our FIN until it closes; 0 means 60 s.
	Timeout time.Duration
	// Dialer opens the connection; nil means net.Dialer.
	Dialer interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	}
	// Progress is called with the number of content bytes handed to the kernel
	// so far, from the goroutine of Send; nil means it is not called.
	Progress func(bytes int64)
}

// Sent describes a file that the receiver took.
type Sent struct {
	// Name is what the receiver was asked to call it.
	Name string
	// Bytes is the size of the content.
	Bytes int64
	// Elapsed runs from dialling to the receiver's close.
	Elapsed time.Duration
	// Said is what the receiver wrote after ok, other than an error; usually
	// empty, for the protocol has no word for success.
	Said string
}

// Send sends the file at path to the plain receiver at addr, under its name
// without the path, and returns when the receiver has closed the connection.
//
// The error is a *transfer.Error. Denied: the receiver refused, with what it
// said in the text. Unavailable: it could not be reached, closed early, or was
// silent for longer than the timeout. Changed: the file changed while it was
// sent. Invalid: path names no regular file. Whenever Send gives up after ok
// it resets the connection (RST), so that a careful receiver discards what it
// has; a careless one keeps a part.
func Send(ctx context.Context, addr, path string, cfg SendConfig) (Sent, error) {
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 60 * time.Second
	}
	if cfg.Dialer == nil {
		cfg.Dialer = &net.Dialer{}
	}
	start := time.Now()
	f, info, err := openRegular(path)
	if err != nil {
		return Sent{}, err
	}
	defer f.Close()

	dctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	nc, err := cfg.Dialer.DialContext(dctx, "tcp", addr)
	cancel()
	if err != nil {
		return Sent{}, failure(transfer.Unavailable, err, "connect to the plain receiver at %s", addr).
			WithHint("check the address, and that the receiver runs with --plain-listen")
	}
	// A cancelled context wakes every blocked call.
	unhook := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer unhook()

	s := &sending{ctx: ctx, cfg: cfg, nc: nc, addr: addr, name: filepath.Base(info.Name())}
	if err := s.run(f, info); err != nil {
		s.reset()
		if ctx.Err() != nil {
			err = failure(transfer.Canceled, context.Cause(ctx), "send %q to %s: interrupted after %d bytes", s.name, addr, s.sent)
		}
		return Sent{}, err
	}
	_ = nc.Close()
	return Sent{Name: s.name, Bytes: s.sent, Elapsed: time.Since(start), Said: s.said}, nil
}

// openRegular opens a regular file by path, following symbolic links as
// os.Stat does.
func openRegular(path string) (*os.File, os.FileInfo, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, nil, failure(transfer.Invalid, nil, "send %q: the plain protocol sends one regular file, and this is %s", path, fileType(info.Mode())).
			WithHint("send it without --plain")
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(path)
	}
	if err != nil {
		kind := transfer.Invalid
		if errors.Is(err, os.ErrNotExist) {
			kind = transfer.NotFound
		}
		return nil, nil, failure(kind, err, "open the file to send")
	}
	return f, info, nil
}

func fileType(m os.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&os.ModeNamedPipe != 0:
		return "a named pipe"
	case m&os.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}

// sending is one file on its way out.
type sending struct {
	ctx  context.Context
	cfg  SendConfig
	nc   net.Conn
	addr string
	name string
	sent int64
	said string
}

func (s *sending) run(f *os.File, info os.FileInfo) error {
	if err := s.introduce(); err != nil {
		return err
	}
	// From ok on, a goroutine listens: a receiver that refuses or closes in
	// mid-file is noticed while sendfile is blocked.
	_ = s.nc.SetReadDeadline(time.Time{})
	l := &listener{nc: s.nc, done: make(chan struct{})}
	go l.run()
	defer func() {
		s.arm(s.nc.SetReadDeadline, -time.Second)
		<-l.done
	}()

	if err := s.content(f, l, info.Size()); err != nil {
		// What the receiver said is the better reason, if it said anything.
		s.arm(s.nc.SetReadDeadline, time.Second)
		<-l.done
		if early := s.early(l, info.Size()); early != nil {
			return early
		}
		return err
	}
	now, err := f.Stat()
	if err != nil || now.Size() != info.Size() || !now.ModTime().Equal(info.ModTime()) || s.sent != info.Size() {
		return failure(transfer.Changed, err, "send %q to %s: the file changed while it was sent; the connection was reset so that the receiver discards it", s.name, s.addr).
			WithHint("send it again when nobody writes to it")
	}
	return s.part(l)
}

// introduce sends the name and waits for ok.
func (s *sending) introduce() error {
	s.arm(s.nc.SetDeadline, s.cfg.Timeout)
	if _, err := io.WriteString(s.nc, s.name); err != nil {
		return failure(transfer.Unavailable, err, "send the name %q to %s", s.name, s.addr)
	}
	var answer []byte
	buf := make([]byte, len(answerOK))
	for len(answer) < len(answerOK) {
		n, err := s.nc.Read(buf[:len(answerOK)-len(answer)])
		answer = append(answer, buf[:n]...)
		switch {
		case n > 0:
		case errors.Is(err, os.ErrDeadlineExceeded):
			return failure(transfer.Unavailable, errSilent, "%s did not answer ok to the name %q within %v", s.addr, s.name, s.cfg.Timeout).
				WithHint("check that a plain receiver listens there, not a gRPC or data port")
		case errors.Is(err, io.EOF):
			return failure(transfer.Unavailable, errClosedEarly, "%s closed the connection instead of answering ok to the name %q", s.addr, s.name)
		case err != nil:
			return failure(transfer.Unavailable, err, "wait for ok from %s", s.addr)
		}
	}
	// Servers in the field also say it in capitals.
	if a := string(answer); a == answerOK || a == "OK" {
		return nil
	}
	s.arm(s.nc.SetReadDeadline, time.Second)
	more, _ := io.ReadAll(io.LimitReader(s.nc, answerMax+int64(len(answerError))))
	return s.refusal(string(answer) + string(more))
}

// refusal turns what the receiver said into an error, or nil for nothing. The
// text is quoted because a stranger wrote it.
func (s *sending) refusal(said string) error {
	said = strings.TrimSpace(said)
	if said == "" {
		return nil
	}
	reason, ok := strings.CutPrefix(said, strings.TrimSpace(answerError))
	if !ok {
		return failure(transfer.Denied, nil, "%s answered %q to %q instead of ok", s.addr, said, s.name)
	}
	return failure(transfer.Denied, nil, "%s refused %q: %q", s.addr, s.name, strings.TrimSpace(reason))
}

// content sends size bytes of f by sendfile, as io.Copy does from a limited
// *os.File to a *net.TCPConn; fewer where the file ends before. A file that grows
// faster than the receiver takes it would otherwise never end.
func (s *sending) content(f *os.File, l *listener, size int64) error {
	for s.sent < size {
		piece := min(pieceSize, size-s.sent)
		l.armWrite(func() { s.arm(s.nc.SetWriteDeadline, s.cfg.Timeout) })
		n, err := io.Copy(s.nc, io.LimitReader(f, piece))
		s.sent += n
		if s.cfg.Progress != nil && n > 0 {
			s.cfg.Progress(s.sent)
		}
		switch {
		case err == nil && n < piece:
			return nil
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded) && n > 0 && s.ctx.Err() == nil:
			// Slow is not silent.
		case errors.Is(err, os.ErrDeadlineExceeded):
			return failure(transfer.Unavailable, errSilent, "send %q to %s: the receiver took nothing for %v after %d bytes", s.name, s.addr, s.cfg.Timeout, s.sent)
		default:
			return failure(transfer.Unavailable, err, "send %q to %s: the connection broke after %d bytes", s.name, s.addr, s.sent)
		}
	}
	return nil
}

// early explains an end of the receiver's side before ours, or returns nil.
func (s *sending) early(l *listener, size int64) error {
	if refusal := s.refusal(l.text()); refusal != nil {
		return refusal
	}
	switch end := l.ending(); {
	case end == nil, errors.Is(end, os.ErrDeadlineExceeded):
		return nil
	case errors.Is(end, io.EOF):
		return failure(transfer.Unavailable, errClosedEarly, "send %q to %s: the receiver closed the connection after %d of %d bytes", s.name, s.addr, s.sent, size).
			WithHint("its log may say why")
	default:
		return failure(transfer.Unavailable, end, "send %q to %s: the connection broke after %d of %d bytes", s.name, s.addr, s.sent, size)
	}
}

// part half-closes and waits for the receiver to close.
func (s *sending) part(l *listener) error {
	half, ok := s.nc.(interface{ CloseWrite() error })
	if !ok {
		return failure(transfer.Invalid, nil, "send %q to %s: the connection cannot be half-closed", s.name, s.addr)
	}
	if l.ended() {
		if early := s.early(l, s.sent); early != nil {
			return early
		}
	}
	if err := half.CloseWrite(); err != nil {
		return failure(transfer.Unavailable, err, "send %q to %s: end the file", s.name, s.addr)
	}
	s.arm(s.nc.SetReadDeadline, s.cfg.Timeout)
	<-l.done
	said := strings.TrimSpace(l.text())
	if strings.HasPrefix(said, strings.TrimSpace(answerError)) {
		return s.refusal(said)
	}
	s.said = said
	switch end := l.ending(); {
	case errors.Is(end, io.EOF):
		return nil
	case errors.Is(end, os.ErrDeadlineExceeded):
		return failure(transfer.Unavailable, errSilent, "send %q to %s: all %d bytes were sent, but the receiver did not close within %v", s.name, s.addr, s.sent, s.cfg.Timeout).
			WithHint("ask the receiver whether it has the file")
	default:
		return failure(transfer.Unavailable, end, "send %q to %s: all %d bytes were sent, but the connection broke before the receiver closed", s.name, s.addr, s.sent).
			WithHint("ask the receiver whether it has the file")
	}
}

// arm sets a time limit from now, unless the context has ended.
func (s *sending) arm(set func(time.Time) error, d time.Duration) {
	_ = set(time.Now().Add(d))
	if s.ctx.Err() != nil {
		_ = s.nc.SetDeadline(time.Unix(1, 0))
	}
}

// reset closes the connection with RST, which discards what is in the kernel.
func (s *sending) reset() {
	if t, ok := s.nc.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0)
	}
	_ = s.nc.Close()
}

// listener collects what the receiver says after ok. Its goroutine ends with
// the stream or with the read deadline.
type listener struct {
	nc   net.Conn
	done chan struct{}

	mu   sync.Mutex
	said []byte
	end  error
	stop bool // nobody wants the rest of the file
}

func (l *listener) run() {
	defer close(l.done)
	buf := make([]byte, answerMax)
	for {
		n, err := l.nc.Read(buf)
		l.mu.Lock()
		if room := answerMax - len(l.said); room > 0 {
			l.said = append(l.said, buf[:min(n, room)]...)
		}
		l.end = err
		refused := strings.HasPrefix(string(l.said), answerError)
		if refused || (err != nil && !errors.Is(err, os.ErrDeadlineExceeded)) {
			l.stop = true
			_ = l.nc.SetWriteDeadline(time.Unix(1, 0)) // wakes a blocked sendfile
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// armWrite calls set to renew the write deadline, unless writing shall stop.
func (l *listener) armWrite(set func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.stop {
		set()
	}
}

func (l *listener) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.said)
}

func (l *listener) ending() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

func (l *listener) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// String shows what was sent, for people.
func (s Sent) String() string {
	return fmt.Sprintf("%s: %d bytes, length undeclared, in %v", s.Name, s.Bytes, s.Elapsed.Round(time.Millisecond))
}
