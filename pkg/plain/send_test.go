package plain_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/plain"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// fakeServer handles one client with handle, and returns its address and a
// channel that is closed when handle has returned.
func fakeServer(t *testing.T, handle func(c *net.TCPConn)) (addr string, done <-chan struct{}) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan struct{})
	go func() {
		defer close(ch)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		handle(c.(*net.TCPConn))
	}()
	t.Cleanup(func() { _ = ln.Close(); <-ch })
	return ln.Addr().String(), ch
}

// fileOf makes a file of the given size, sparse but for its first bytes.
func fileOf(t *testing.T, name string, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("content"[:min(7, size)]); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return path
}

// readName reads the name as the notes say, with one read.
func readName(c net.Conn) string {
	b := make([]byte, 4096)
	n, _ := c.Read(b)
	return string(b[:n])
}

func TestSend(t *testing.T) {
	for _, ok := range []string{"ok", "OK"} {
		var name string
		var got int64
		addr, done := fakeServer(t, func(c *net.TCPConn) {
			name = readName(c)
			for _, letter := range ok { // in two segments
				_, _ = c.Write([]byte(string(letter)))
			}
			got, _ = io.Copy(io.Discard, c)
		})
		var progress int64
		sent, err := plain.Send(t.Context(), addr, fileOf(t, "名 字.bin", 5_000_000), plain.SendConfig{Progress: func(n int64) { progress = n }})
		if err != nil {
			t.Fatalf("%s: %v", ok, err)
		}
		<-done
		if name != "名 字.bin" || got != 5_000_000 || sent.Bytes != 5_000_000 || progress != 5_000_000 || sent.Said != "" {
			t.Errorf("%s: name %q, %d bytes, %+v, progress %d", ok, name, got, sent, progress)
		}
	}
}

func TestSendToOurServer(t *testing.T) {
	r := start(t, plain.ServerConfig{})
	path := fileOf(t, "a.bin", 100_000)
	if _, err := plain.Send(t.Context(), r.addr, path, plain.SendConfig{}); err != nil {
		t.Fatal(err)
	}
	// Send returned after the server closed, so the file is there.
	if f, ok := r.store.get("a.bin"); !ok || f.size != 100_000 {
		t.Errorf("published %+v, %v", f, ok)
	}
	_, err := plain.Send(t.Context(), r.addr, path, plain.SendConfig{})
	if kindOf(err) != transfer.Denied || !strings.Contains(err.Error(), "a file of this name exists") {
		t.Errorf("second time: %v", err)
	}
}

func TestSendFailures(t *testing.T) {
	ok := func(c *net.TCPConn) { _ = readName(c); _, _ = io.WriteString(c, "ok") }
	for _, tc := range []struct {
		what    string
		size    int64
		timeout time.Duration
		handle  func(c *net.TCPConn, hold <-chan struct{})
		kind    transfer.Kind
		text    string
	}{
		{"refusal", 10, 0, func(c *net.TCPConn, _ <-chan struct{}) {
			_ = readName(c)
			_, _ = io.WriteString(c, "error: no such luck\n")
		}, transfer.Denied, `refused "f.bin": "no such luck"`},
		{"something else", 10, 0, func(c *net.TCPConn, _ <-chan struct{}) {
			_ = readName(c)
			_, _ = io.WriteString(c, "HTTP/1.1 400 \x1b[31mBad")
		}, transfer.Denied, `answered "HTTP/1.1 400 \x1b[31mBad"`},
		{"Ok is not ok", 10, 0, func(c *net.TCPConn, _ <-chan struct{}) {
			_ = readName(c)
			_, _ = io.WriteString(c, "Ok")
		}, transfer.Denied, `answered "Ok"`},
		{"close instead of ok", 10, 0, func(c *net.TCPConn, _ <-chan struct{}) { _ = readName(c) }, transfer.Unavailable, "closed the connection instead of answering ok"},
		{"silence instead of ok", 10, time.Second, func(_ *net.TCPConn, hold <-chan struct{}) { <-hold }, transfer.Unavailable, "did not answer ok"},
		{"early close", 64 << 20, 0, func(c *net.TCPConn, _ <-chan struct{}) {
			ok(c)
			_, _ = io.CopyN(io.Discard, c, 1000)
		}, transfer.Unavailable, "bytes"},
		{"early half-close", 512 << 20, 0, func(c *net.TCPConn, _ <-chan struct{}) {
			ok(c)
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		}, transfer.Unavailable, "the receiver closed the connection after"},
		{"refusal in mid-file", 512 << 20, 0, func(c *net.TCPConn, _ <-chan struct{}) {
			ok(c)
			_, _ = io.WriteString(c, "error: disk full\n")
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		}, transfer.Denied, `"disk full"`},
		{"refusal while nothing is read", 512 << 20, 0, func(c *net.TCPConn, hold <-chan struct{}) {
			ok(c)
			_, _ = io.WriteString(c, "error: disk full\n")
			_ = c.CloseWrite()
			<-hold
		}, transfer.Denied, `"disk full"`},
		{"silence in mid-file", 512 << 20, time.Second, func(c *net.TCPConn, hold <-chan struct{}) { ok(c); <-hold }, transfer.Unavailable, "took nothing for"},
		{"refusal at the end", 10, 0, func(c *net.TCPConn, _ <-chan struct{}) {
			ok(c)
			_, _ = io.Copy(io.Discard, c)
			_, _ = io.WriteString(c, "error: not durable\n")
		}, transfer.Denied, `"not durable"`},
		{"no close at the end", 10, time.Second, func(c *net.TCPConn, hold <-chan struct{}) {
			ok(c)
			_, _ = io.Copy(io.Discard, c)
			<-hold
		}, transfer.Unavailable, "did not close within"},
		{"reset at the end", 10, 0, func(c *net.TCPConn, _ <-chan struct{}) {
			ok(c)
			_, _ = io.Copy(io.Discard, c)
			_ = c.SetLinger(0)
		}, transfer.Unavailable, "the connection broke before the receiver closed"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			t.Parallel()
			hold := make(chan struct{})
			addr, _ := fakeServer(t, func(c *net.TCPConn) { tc.handle(c, hold) })
			defer close(hold)
			begun := time.Now()
			_, err := plain.Send(t.Context(), addr, fileOf(t, "f.bin", tc.size), plain.SendConfig{Timeout: tc.timeout})
			if time.Since(begun) > patience {
				t.Errorf("Send sat out its own time limit")
			}
			if kindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("%v: %v, want %v with %q", kindOf(err), err, tc.kind, tc.text)
			}
		})
	}
}

func TestSendWrongFiles(t *testing.T) {
	for path, kind := range map[string]transfer.Kind{
		t.TempDir():                            transfer.Invalid,
		filepath.Join(t.TempDir(), "not-here"): transfer.NotFound,
	} {
		if _, err := plain.Send(t.Context(), "127.0.0.1:9", path, plain.SendConfig{}); kindOf(err) != kind {
			t.Errorf("%s: %v, want %v", path, err, kind)
		}
	}
}

func TestSendNobodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	_, err = plain.Send(t.Context(), addr, fileOf(t, "f", 1), plain.SendConfig{})
	if kindOf(err) != transfer.Unavailable || !errors.Is(err, syscall.ECONNREFUSED) || transfer.HintOf(err) == "" {
		t.Errorf("%v, hint %q", err, transfer.HintOf(err))
	}
}

// Giving up after ok is a reset: FIN would publish a part of the file.
func TestSendCancelledResets(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var end error
	addr, done := fakeServer(t, func(c *net.TCPConn) {
		_ = readName(c)
		_, _ = io.WriteString(c, "ok")
		_, _ = io.CopyN(io.Discard, c, 1000)
		cancel()
		_, end = io.Copy(io.Discard, c)
	})
	_, err := plain.Send(ctx, addr, fileOf(t, "f", 1<<30), plain.SendConfig{})
	if kindOf(err) != transfer.Canceled || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	<-done
	if !errors.Is(end, syscall.ECONNRESET) {
		t.Errorf("the receiver saw %v, want a reset", end)
	}
}

func TestSendFileThatGrows(t *testing.T) {
	path := fileOf(t, "log", 1000)
	var end error
	addr, done := fakeServer(t, func(c *net.TCPConn) {
		_ = readName(c)
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return
		}
		_, _ = f.WriteString("more")
		_ = f.Close()
		_, _ = io.WriteString(c, "ok")
		_, end = io.Copy(io.Discard, c)
	})
	_, err := plain.Send(t.Context(), addr, path, plain.SendConfig{})
	if kindOf(err) != transfer.Changed || !strings.Contains(err.Error(), "changed while it was sent") {
		t.Errorf("error %v", err)
	}
	<-done
	if !errors.Is(end, syscall.ECONNRESET) {
		t.Errorf("the receiver saw %v, want a reset", end)
	}
}
