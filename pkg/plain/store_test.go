package plain_test

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/zeebo/xxh3"
	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/pkg/plain"
	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// memStore is a Store that keeps a digest and the first bytes of each file.
type memStore struct {
	mu        sync.Mutex
	files     map[string]file
	discarded []error
	open      int
	limit     error // what the next Begin fails with
	failWrite error
	failPub   error
}

type file struct {
	size   int64
	digest string
	head   []byte
}

func newMemStore() *memStore { return &memStore{files: map[string]file{}} }

func (s *memStore) Begin(_ context.Context, name string, _ netip.AddrPort) (plain.Upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit != nil {
		return nil, s.limit
	}
	if _, ok := s.files[name]; ok {
		return nil, newError(transfer.Exists, "a file of this name exists")
	}
	s.open++
	return &memUpload{s: s, name: name, h: xxh3.New128()}, nil
}

func (s *memStore) get(name string) (file, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.files[name]
	return f, ok
}

func (s *memStore) counts() (files, discarded, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.files), len(s.discarded), s.open
}

type memUpload struct {
	s    *memStore
	name string
	h    hash.Hash
	f    file
}

func (u *memUpload) Write(p []byte) (int, error) {
	u.s.mu.Lock()
	err := u.s.failWrite
	u.s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	u.h.Write(p)
	u.f.size += int64(len(p))
	u.f.head = append(u.f.head, p[:min(len(p), 64-min(64, len(u.f.head)))]...)
	return len(p), nil
}

func (u *memUpload) Publish(context.Context) (plain.Receipt, error) {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	u.s.open--
	if u.s.failPub != nil {
		return plain.Receipt{}, u.s.failPub
	}
	if _, ok := u.s.files[u.name]; ok {
		return plain.Receipt{}, newError(transfer.Exists, "a file of this name exists")
	}
	u.f.digest = fmt.Sprintf("%x", u.h.Sum(nil))
	u.s.files[u.name] = u.f
	return plain.Receipt{Name: u.name, Size: u.f.size, Digest: u.f.digest}, nil
}

func (u *memUpload) Discard(cause error) {
	u.s.mu.Lock()
	defer u.s.mu.Unlock()
	u.s.open--
	u.s.discarded = append(u.s.discarded, cause)
}

// running is a Server that a test serves on loopback.
type running struct {
	*plain.Server
	addr     string
	store    *memStore
	outcomes chan plain.Outcome
	stop     func()
}

func start(t *testing.T, cfg plain.ServerConfig) *running {
	t.Helper()
	r := &running{store: newMemStore(), outcomes: make(chan plain.Outcome, 5000)}
	if cfg.Store == nil {
		cfg.Store = r.store
	}
	cfg.Observer = func(o plain.Outcome) { r.outcomes <- o }
	r.Server = plain.NewServer(cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, ln) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("Serve: %v", err)
				}
			case <-time.After(patience):
				t.Error("Serve did not return after its context ended")
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

// outcome waits for the next connection to end.
func (r *running) outcome(t *testing.T) plain.Outcome {
	t.Helper()
	select {
	case o := <-r.outcomes:
		return o
	case <-time.After(patience):
		t.Fatal("no connection ended")
		return plain.Outcome{}
	}
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

func write(t *testing.T, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// answer reads what the server says until n bytes came or it closed.
func answer(t *testing.T, c io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	got, err := io.ReadFull(c, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Fatalf("read the answer: %v after %q", err, b[:got])
	}
	return string(b[:got])
}

// upload is a correct client.
func upload(t *testing.T, addr, name, content string) {
	t.Helper()
	c := dial(t, addr)
	write(t, c, name)
	if a := answer(t, c, 2); a != "ok" {
		t.Fatalf("answer to %q: %q, want ok", name, a)
	}
	write(t, c, content)
	_ = c.CloseWrite()
	if rest := answer(t, c, 4096); rest != "" {
		t.Fatalf("after the content the server said %q", rest)
	}
}

func newError(k transfer.Kind, msg string) error { return &transfer.Error{Kind: k, Msg: msg} }

func kindOf(err error) transfer.Kind { return transfer.KindOf(err) }

// slowStore holds Begin until goOn is closed.
type slowStore struct {
	plain.Store
	begun, goOn chan struct{}
}

func (s slowStore) Begin(ctx context.Context, name string, peer netip.AddrPort) (plain.Upload, error) {
	close(s.begun)
	<-s.goOn
	return s.Store.Begin(ctx, name, peer)
}

// waitFor polls until ok holds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

func mustAddrPort(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		t.Fatal(err)
	}
	return ap
}
