package recvtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

// Lane is a data connection driven by hand.
type Lane struct {
	net.Conn

	Hello wire.Hello
}

// OpenLane dials and sends a hello with a fresh nonce (or the given one).
func OpenLane(ctx context.Context, dial func(context.Context) (net.Conn, error), id transfer.ID, epoch transfer.Epoch, token transfer.Token, nonce *[16]byte) (*Lane, error) {
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(Patience))
	l := &Lane{Conn: conn, Hello: wire.Hello{ID: id, Epoch: epoch}}
	if nonce != nil {
		l.Hello.Nonce = *nonce
	} else {
		_, _ = rand.Read(l.Hello.Nonce[:])
	}
	if _, err := conn.Write(l.Hello.Append(nil, token)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return l, nil
}

// Ack reads one record.
func (l *Lane) Ack() (wire.Ack, error) {
	var b [wire.AckLen]byte
	if _, err := io.ReadFull(l, b[:]); err != nil {
		return wire.Ack{}, err
	}
	return wire.ParseAck(b[:])
}

// Frame sends one frame.
func (l *Lane) Frame(file uint32, offset int64, data []byte) error {
	_, err := (&net.Buffers{wire.Header{File: file, Offset: offset, Length: int64(len(data))}.Append(nil), data}).WriteTo(l.Conn)
	return err
}

// word reads one record and says it as the state table does.
func (l *Lane) word() string {
	a, err := l.Ack()
	switch {
	case err != nil:
		return fmt.Sprintf("no record: %v", err)
	case a.Type == wire.AckHello:
		return "hello"
	case a.Type == wire.AckWritten:
		return "written"
	case a.Type == wire.AckEnd:
		return a.Kind.String()
	}
	return fmt.Sprintf("record %+v", a)
}

// Write sends octets through a lane of its own: hello, one frame, half-close, and
// waits for the acknowledgement and the end.
func Write(ctx context.Context, dial func(context.Context) (net.Conn, error), id transfer.ID, a *transfer.Answer, file uint32, data []byte) error {
	l, err := OpenLane(ctx, dial, id, a.Epoch, a.Token, nil)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	if w := l.word(); w != "hello" {
		return fmt.Errorf("hello was answered by %s", w)
	}
	if err := l.Frame(file, 0, data); err != nil {
		return err
	}
	if w := l.word(); w != "written" {
		return fmt.Errorf("frame was answered by %s", w)
	}
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		if err := c.CloseWrite(); err != nil {
			return err
		}
	}
	if _, err := l.Ack(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the half-close: %w, want the end", err)
	}
	return nil
}
