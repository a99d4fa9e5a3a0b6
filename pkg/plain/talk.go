package plain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// TalkConfig sets up [Talk]. The zero value is usable.
type TalkConfig struct {
	// Count ends the conversation after this many datagrams have arrived;
	// 0 means no limit.
	Count int
	// Timeout is how long to wait for missing answers once the input has ended;
	// 0 means 2 s. Each line sent is expected to draw one datagram.
	Timeout time.Duration
	// Notes gets remarks for a person, such as that the port is unreachable;
	// nil discards them.
	Notes io.Writer
}

// Talked counts what went over the wire.
type Talked struct {
	// Sent is the number of datagrams sent.
	Sent int
	// Received is the number of datagrams that arrived.
	Received int
	// Unreachable is the number of times the far machine said that nobody
	// listens on the port.
	Unreachable int
}

// Talk sends each line of in, without its line ending, as one datagram over
// the connected conn and at the same time prints each datagram that arrives as
// a line on out. It ends when the input has ended and every datagram sent has
// been answered or found unreachable, when Timeout has passed after the input
// ended, after Count datagrams, or with ctx; it closes conn.
//
// The error is a *transfer.Error: Unavailable if lines were sent and nothing
// at all came back, saying so when the port is unreachable; Invalid for a line
// that no datagram can hold.
//
// A Read of in that blocks cannot be interrupted unless in has a working
// SetReadDeadline, as pipes and sockets do; the goroutine that reads a
// terminal may then outlive Talk until the next line.
func Talk(ctx context.Context, conn *net.UDPConn, in io.Reader, out io.Writer, cfg TalkConfig) (Talked, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 2 * time.Second
	}
	if cfg.Notes == nil {
		cfg.Notes = io.Discard
	}
	t := &talk{conn: conn, cfg: cfg, changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	var wg sync.WaitGroup
	wg.Go(func() { t.listen(out) })
	typed := make(chan struct{})
	go func() {
		defer close(typed)
		t.speak(ctx, in)
	}()
	t.wait(ctx)
	cancel()
	_ = conn.Close()
	wg.Wait()
	if d, ok := in.(interface{ SetReadDeadline(time.Time) error }); ok && d.SetReadDeadline(time.Unix(1, 0)) == nil {
		<-typed
		_ = d.SetReadDeadline(time.Time{})
	}
	return t.result()
}

// talk is one conversation.
type talk struct {
	conn    *net.UDPConn
	cfg     TalkConfig
	changed chan struct{} // holds one token after each change below

	mu    sync.Mutex
	did   Talked
	ended bool  // the input
	err   error // what ended it badly
}

// note changes the state under the lock and wakes wait.
func (t *talk) note(change func()) {
	t.mu.Lock()
	change()
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// wait returns when the conversation is over.
func (t *talk) wait(ctx context.Context) {
	var late <-chan time.Time
	for {
		t.mu.Lock()
		did, ended, err := t.did, t.ended, t.err
		t.mu.Unlock()
		switch {
		case err != nil,
			t.cfg.Count > 0 && did.Received >= t.cfg.Count,
			ended && did.Received+did.Unreachable >= did.Sent:
			return
		case ended && late == nil:
			timer := time.NewTimer(t.cfg.Timeout)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-t.changed:
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}

// speak sends the lines of in until it ends.
func (t *talk) speak(ctx context.Context, in io.Reader) {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 4096), echoBuffer)
	for ctx.Err() == nil && lines.Scan() {
		// Counted first, so that a fast answer is never ahead of its question.
		t.note(func() { t.did.Sent++ })
		_, err := t.conn.Write(lines.Bytes())
		if isUnreachable(err) {
			// The error belongs to an earlier datagram; this one was not sent.
			t.unreachable()
			_, err = t.conn.Write(lines.Bytes())
		}
		if err != nil && ctx.Err() == nil {
			t.note(func() {
				t.did.Sent--
				t.err = failure(transfer.Unavailable, err, "send %d bytes to %s", len(lines.Bytes()), t.conn.RemoteAddr())
			})
			return
		}
	}
	t.note(func() {
		t.ended = true
		switch err := lines.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			t.err = failure(transfer.Invalid, nil, "a line is longer than a datagram can be, %d bytes", echoBuffer-29)
		case err != nil && ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded):
			t.err = failure(transfer.Unavailable, err, "read the lines to send")
		}
	})
}

// listen prints what arrives until conn is closed.
func (t *talk) listen(out io.Writer) {
	buf := make([]byte, echoBuffer)
	for {
		n, err := t.conn.Read(buf[:echoBuffer-1])
		switch {
		case isUnreachable(err):
			// Somebody may start listening yet.
			t.unreachable()
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t.note(func() { t.err = failure(transfer.Unavailable, err, "read from %s", t.conn.RemoteAddr()) })
			return
		}
		line := buf[:n]
		if n == 0 || line[n-1] != '\n' {
			line = append(line, '\n')
		}
		_, err = out.Write(line)
		full := false
		t.note(func() {
			t.did.Received++
			full = t.cfg.Count > 0 && t.did.Received >= t.cfg.Count
			if err != nil {
				t.err = fmt.Errorf("print a datagram: %w", err)
			}
		})
		if full || err != nil {
			return
		}
	}
}

func (t *talk) unreachable() {
	first := false
	t.note(func() {
		t.did.Unreachable++
		first = t.did.Unreachable == 1
	})
	if first {
		fmt.Fprintf(t.cfg.Notes, "%s: port unreachable: nobody listens on UDP port %d there\n", t.conn.RemoteAddr(), t.conn.RemoteAddr().(*net.UDPAddr).Port)
	}
}

func (t *talk) result() (Talked, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	did, remote := t.did, t.conn.RemoteAddr()
	switch {
	case t.err != nil:
		return did, t.err
	case did.Sent > 0 && did.Received == 0 && did.Unreachable > 0:
		return did, failure(transfer.Unavailable, nil, "talk to %s: port unreachable: the machine is there, but nobody listens on this UDP port", remote).
			WithHint("check the port, and that the server runs with --echo-listen")
	case did.Sent > 0 && did.Received == 0:
		return did, failure(transfer.Unavailable, errSilent, "talk to %s: none of %d datagrams was answered within %v", remote, did.Sent, t.cfg.Timeout).
			WithHint("a firewall may drop them, or the server may not answer")
	}
	return did, nil
}
