package plain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/plain"
	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestPublishOnFIN(t *testing.T) {
	r := start(t, plain.ServerConfig{})
	upload(t, r.addr, "hello.txt", "hello, world")
	o := r.outcome(t)
	if o.Err != nil || o.Name != "hello.txt" || o.Bytes != 12 || o.Receipt.Size != 12 || !o.Peer.IsValid() {
		t.Errorf("outcome %+v", o)
	}
	if f, ok := r.store.get("hello.txt"); !ok || string(f.head) != "hello, world" {
		t.Errorf("published %q, %v", f.head, ok)
	}
	upload(t, r.addr, "空.txt", "")
	if f, ok := r.store.get("空.txt"); !ok || f.size != 0 {
		t.Errorf("empty file: %+v, %v", f, ok)
	}
}

// A name in two segments is one name as long as the gap between them is less
// than NameGap. A wide gap makes the test independent of the machine's load.
func TestNameInTwoSegments(t *testing.T) {
	r := start(t, plain.ServerConfig{NameGap: 2 * time.Second})
	c := dial(t, r.addr)
	write(t, c, "two-")
	time.Sleep(20 * time.Millisecond) // makes two segments, asserts nothing
	write(t, c, "parts.txt")
	if a := answer(t, c, 2); a != "ok" {
		t.Fatalf("answer %q", a)
	}
	write(t, c, "x")
	_ = c.CloseWrite()
	if o := r.outcome(t); o.Err != nil || o.Name != "two-parts.txt" {
		t.Errorf("outcome %+v", o)
	}
}

func TestBadNames(t *testing.T) {
	r := start(t, plain.ServerConfig{})
	for _, name := range []string{
		"a/b", "/etc/passwd", "..", ".", "../x", "a\x00b", "a\nb", "a\rb",
		strings.Repeat("n", 256), strings.Repeat("n", 4096), strings.Repeat("n", 5000),
		"\xff\xfe", ".sluice",
	} {
		c := dial(t, r.addr)
		write(t, c, name)
		a := answer(t, c, 4096)
		if !strings.HasPrefix(a, "error: ") || strings.Count(a, "\n") != 1 || !strings.HasSuffix(a, "\n") {
			t.Errorf("name %.20q: answer %q, want one error line", name, a)
		}
		_ = c.Close()
		if o := r.outcome(t); kindOf(o.Err) != transfer.Invalid {
			t.Errorf("name %.20q: outcome %v", name, o.Err)
		}
	}
	// Empty: a client that closes without a byte is told nothing.
	c := dial(t, r.addr)
	_ = c.CloseWrite()
	if a := answer(t, c, 4096); a != "" {
		t.Errorf("answer to nothing: %q", a)
	}
	if o := r.outcome(t); o.Err == nil {
		t.Error("an empty name was published")
	}
	if files, discarded, open := r.store.counts(); files != 0 || discarded != 0 || open != 0 {
		t.Errorf("the store was touched: %d files, %d discarded, %d open", files, discarded, open)
	}
	upload(t, r.addr, "after.txt", "serves on")
}

func TestNotWaitingForOK(t *testing.T) {
	r := start(t, plain.ServerConfig{})
	for what, sent := range map[string]string{
		"a line":            "a.txtline one\nline two\n",
		"binary":            "a.png\x89PNG\r\n\x1a\n\x00\x00",
		"more than a name":  "a.txt" + strings.Repeat("x", 300),
		"more than 4 KiB":   "a.txt" + strings.Repeat("x", 100_000),
		"text and the end":  "a.txthello\x04",
		"a megabyte of nul": "a.txt" + strings.Repeat("\x00", 1<<20),
	} {
		c := dial(t, r.addr)
		// The rest is taken and thrown away: a reset could overtake the answer.
		write(t, c, sent)
		if a := answer(t, c, 4096); !strings.HasPrefix(a, "error: ") {
			t.Errorf("%s: answer %.80q, want an error line", what, a)
		}
		_ = c.Close()
		if o := r.outcome(t); kindOf(o.Err) != transfer.Invalid {
			t.Errorf("%s: outcome %v", what, o.Err)
		}
	}
	// Good letters only, but closed without reading ok. The wide gap gives the
	// test the time to close.
	patient := start(t, plain.ServerConfig{NameGap: patience, Store: r.store})
	c := dial(t, patient.addr)
	write(t, c, "a.txthello")
	_ = c.CloseWrite()
	if a := answer(t, c, 4096); !strings.Contains(a, "wait for ok") {
		t.Errorf("answer %q", a)
	}
	if files, _, open := r.store.counts(); files != 0 || open != 0 {
		t.Errorf("%d files, %d open", files, open)
	}
}

func TestResetInMidFile(t *testing.T) {
	r := start(t, plain.ServerConfig{})
	c := dial(t, r.addr)
	write(t, c, "cut.bin")
	if a := answer(t, c, 2); a != "ok" {
		t.Fatal(a)
	}
	write(t, c, strings.Repeat("x", 100_000))
	_ = c.SetLinger(0)
	_ = c.Close()
	if o := r.outcome(t); kindOf(o.Err) != transfer.Unavailable {
		t.Errorf("outcome %v", o.Err)
	}
	if files, discarded, open := r.store.counts(); files != 0 || discarded != 1 || open != 0 {
		t.Errorf("%d files, %d discarded, %d open", files, discarded, open)
	}
	upload(t, r.addr, "cut.bin", "whole")
}

func TestSilence(t *testing.T) {
	t.Run("before the name", func(t *testing.T) {
		t.Parallel()
		r := start(t, plain.ServerConfig{IdleTimeout: 50 * time.Millisecond})
		c := dial(t, r.addr)
		if a := answer(t, c, 4096); !strings.HasPrefix(a, "error: no file name arrived") {
			t.Errorf("answer %q", a)
		}
		if o := r.outcome(t); kindOf(o.Err) != transfer.Unavailable {
			t.Errorf("outcome %v", o.Err)
		}
	})
	t.Run("in mid-file", func(t *testing.T) {
		t.Parallel()
		// Long enough for a loaded machine to get as far as mid-file.
		r := start(t, plain.ServerConfig{IdleTimeout: 2 * time.Second})
		c := dial(t, r.addr)
		write(t, c, "stalled.bin")
		if a := answer(t, c, 2); a != "ok" {
			t.Fatal(a)
		}
		write(t, c, "half")
		if a := answer(t, c, 4096); !strings.HasPrefix(a, "error: nothing arrived for") {
			t.Errorf("answer %q", a)
		}
		if files, discarded, open := r.store.counts(); files != 0 || discarded != 1 || open != 0 {
			t.Errorf("%d files, %d discarded, %d open", files, discarded, open)
		}
	})
}

func TestSecondFileOfTheSameName(t *testing.T) {
	r := start(t, plain.ServerConfig{})
	upload(t, r.addr, "one.txt", "first")
	c := dial(t, r.addr)
	write(t, c, "one.txt")
	if a := answer(t, c, 4096); !strings.HasPrefix(a, "error: ") || !strings.Contains(a, "exists") {
		t.Errorf("answer %q", a)
	}
	// Two at once: the one that publishes first wins, the other is told.
	a, b := dial(t, r.addr), dial(t, r.addr)
	for _, c := range []interface{ Write([]byte) (int, error) }{a, b} {
		write(t, c, "race.txt")
	}
	if answer(t, a, 2) != "ok" || answer(t, b, 2) != "ok" {
		t.Fatal("no ok")
	}
	write(t, a, "a")
	_ = a.CloseWrite()
	if rest := answer(t, a, 4096); rest != "" {
		t.Errorf("the first was told %q", rest)
	}
	write(t, b, "b")
	_ = b.CloseWrite()
	if rest := answer(t, b, 4096); !strings.HasPrefix(rest, "error: ") {
		t.Errorf("the second was told %q", rest)
	}
	if f, _ := r.store.get("race.txt"); string(f.head) != "a" {
		t.Errorf("published %q", f.head)
	}
}

func TestSizeLimit(t *testing.T) {
	r := start(t, plain.ServerConfig{MaxSize: 10})
	upload(t, r.addr, "ten", "0123456789")
	c := dial(t, r.addr)
	write(t, c, "eleven")
	if a := answer(t, c, 2); a != "ok" {
		t.Fatal(a)
	}
	write(t, c, "0123456789X")
	if a := answer(t, c, 4096); !strings.HasPrefix(a, "error: the file is larger than the limit of 10 bytes") {
		t.Errorf("answer %q", a)
	}
	if _, ok := r.store.get("eleven"); ok {
		t.Error("a file over the limit was published")
	}
}

func TestThousandSilentConnections(t *testing.T) {
	r := start(t, plain.ServerConfig{MaxConns: 50})
	for range 1000 {
		dial(t, r.addr)
	}
	upload(t, r.addr, "through.txt", "served")
	if f, ok := r.store.get("through.txt"); !ok || string(f.head) != "served" {
		t.Errorf("published %+v, %v", f, ok)
	}
	waitFor(t, "the silent ones to be turned away", func() bool { return r.Refused() >= 951 })
	// A connection that was turned away has been told.
	o := r.outcome(t)
	if kindOf(o.Err) != transfer.Busy {
		t.Errorf("outcome %v", o.Err)
	}
	if n := r.Active(); n > 50 {
		t.Errorf("%d connections are served, more than 50", n)
	}
}

// With every place taken by a transfer, a newcomer is told to come back.
func TestBusy(t *testing.T) {
	r := start(t, plain.ServerConfig{MaxConns: 2})
	held := []string{"one", "two"}
	for _, name := range held {
		c := dial(t, r.addr)
		write(t, c, name)
		if a := answer(t, c, 2); a != "ok" {
			t.Fatal(a)
		}
		defer func() {
			_ = c.CloseWrite()
			if rest := answer(t, c, 4096); rest != "" {
				t.Errorf("a transfer in flight was disturbed: %q", rest)
			}
		}()
	}
	c := dial(t, r.addr)
	if a := answer(t, c, 4096); !strings.HasPrefix(a, "error: busy") {
		t.Errorf("answer %q", a)
	}
}

func TestStoreErrors(t *testing.T) {
	r := start(t, plain.ServerConfig{})
	set := func(begin, write, publish error) {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		r.store.limit, r.store.failWrite, r.store.failPub = begin, write, publish
	}
	secret := errors.New("open /srv/secret: permission denied")

	set(secret, nil, nil)
	c := dial(t, r.addr)
	write(t, c, "a")
	if a := answer(t, c, 4096); !strings.HasPrefix(a, "error: ") || strings.Contains(a, "secret") {
		t.Errorf("Begin: answer %q", a)
	}
	set(nil, newError(transfer.NoSpace, "no space is left"), nil)
	c = dial(t, r.addr)
	write(t, c, "b")
	if a := answer(t, c, 2); a != "ok" {
		t.Fatal(a)
	}
	write(t, c, "content")
	if a := answer(t, c, 4096); !strings.HasPrefix(a, "error: ") || !strings.Contains(a, "no space is left") {
		t.Errorf("Write: answer %q", a)
	}
	set(nil, nil, secret)
	c = dial(t, r.addr)
	write(t, c, "c")
	if a := answer(t, c, 2); a != "ok" {
		t.Fatal(a)
	}
	_ = c.CloseWrite()
	if a := answer(t, c, 4096); !strings.HasPrefix(a, "error: ") || strings.Contains(a, "secret") {
		t.Errorf("Publish: answer %q", a)
	}
	if files, _, open := r.store.counts(); files != 0 || open != 0 {
		t.Errorf("%d files, %d open", files, open)
	}
}

func TestStopDiscardsAndGraceLetsFinish(t *testing.T) {
	for _, grace := range []time.Duration{0, patience} {
		t.Run(fmt.Sprint(grace), func(t *testing.T) {
			r := start(t, plain.ServerConfig{Grace: grace})
			quiet, busy := dial(t, r.addr), dial(t, r.addr)
			write(t, busy, "f")
			if a := answer(t, busy, 2); a != "ok" {
				t.Fatal(a)
			}
			stopped := make(chan struct{})
			go func() { defer close(stopped); r.stop() }()
			if a := answer(t, quiet, 4096); !strings.HasPrefix(a, "error: the receiver is stopping") {
				t.Errorf("quiet: %q", a)
			}
			if grace > 0 {
				write(t, busy, "content")
				_ = busy.CloseWrite()
			}
			answer(t, busy, 4096)
			<-stopped
			if _, ok := r.store.get("f"); ok != (grace > 0) {
				t.Errorf("grace %v: published %v", grace, ok)
			}
		})
	}
}
