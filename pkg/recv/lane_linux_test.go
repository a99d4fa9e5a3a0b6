package recv

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestReaderIsIdle sees that idle is called once before a read waits, and only then.
func TestReaderIsIdle(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = near.Close() }()
	read := newReader(near.(*net.TCPConn)) //nolint:forcetypeassert // listens on TCP
	say := func(s string) error {
		_, err := io.WriteString(far, s)
		return err
	}
	p := make([]byte, 2)
	idle := 0
	if n, err := read(p, func() error { idle++; return say("abcd") }); n != 2 || err != nil || idle != 1 || string(p) != "ab" {
		t.Errorf("read %d octets %q, %v, after idle was called %d times; want 2, ab, once", n, p, err, idle)
	}
	if n, err := read(p, func() error { idle++; return nil }); n != 2 || err != nil || idle != 1 || string(p) != "cd" {
		t.Errorf("read %d octets %q, %v, after idle was called %d times; want 2, cd, and no other call", n, p, err, idle)
	}
	broken := errors.New("broken")
	if n, err := read(p, func() error { return broken }); n != 0 || !errors.Is(err, broken) {
		t.Errorf("read %d octets, %v, want idle's error", n, err)
	}
	if n, err := read(p, func() error { return near.SetReadDeadline(time.Unix(1, 0)) }); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d octets, %v, want the deadline", n, err)
	}
	if err := near.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, err := read(p, func() error { return far.Close() }); n != 0 || err != io.EOF { //nolint:errorlint // as io.Reader has it
		t.Errorf("read %d octets, %v, want the end", n, err)
	}
}
