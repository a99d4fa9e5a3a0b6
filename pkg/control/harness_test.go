package control

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/e27efefb/sluice/internal/logtest"
	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// fakeView answers as its fields say.
type fakeView struct {
	negotiate func(context.Context, *transfer.OfferPart) (*transfer.Answer, error)
	commit    func(context.Context, *transfer.CommitPart) (*transfer.CommitResult, error)
	get       func(transfer.ID) (transfer.Info, error)
	watch     func(context.Context, []transfer.ID, func(transfer.Info) error) error
	filter    func(transfer.ListFilter) (transfer.Page, error)
	abort     func(transfer.ID, transfer.Session, string) error
}

func (f *fakeView) Negotiate(ctx context.Context, p *transfer.OfferPart) (*transfer.Answer, error) {
	return f.negotiate(ctx, p)
}

func (f *fakeView) Commit(ctx context.Context, p *transfer.CommitPart) (*transfer.CommitResult, error) {
	return f.commit(ctx, p)
}

func (f *fakeView) Abort(_ context.Context, id transfer.ID, s transfer.Session, reason string) error {
	return f.abort(id, s, reason)
}

func (f *fakeView) Get(_ context.Context, id transfer.ID) (transfer.Info, error) { return f.get(id) }

func (f *fakeView) List(_ context.Context, l transfer.ListFilter) (transfer.Page, error) {
	return f.filter(l)
}

func (f *fakeView) Files(context.Context, transfer.ID, string, int) (transfer.FilesPage, error) {
	return transfer.FilesPage{}, nil
}

func (f *fakeView) Watch(ctx context.Context, ids []transfer.ID, fn func(transfer.Info) error) error {
	return f.watch(ctx, ids, fn)
}

// openGuard lets everyone in.
func openGuard(t *testing.T) *auth.Guard {
	t.Helper()
	g, err := auth.NewGuard(auth.GuardConfig{NoAuth: true})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// running is a server on loopback and its log.
type running struct {
	server *Server
	addr   string
	log    *logtest.Buffer
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
	t      *testing.T
}

// serve starts a ReceiverService over v and ends it with the test.
func serve(t *testing.T, cfg ServerConfig, rc ReceiverConfig, limit time.Duration) *running {
	t.Helper()
	return serveWith(t, cfg, rc, limit, func(*Server) {})
}

// serveWith is serve with more services.
func serveWith(t *testing.T, cfg ServerConfig, rc ReceiverConfig, limit time.Duration, more func(*Server)) *running {
	t.Helper()
	r := &running{log: &logtest.Buffer{}, done: make(chan error, 1), t: t}
	if cfg.Auth == nil {
		cfg.Auth = openGuard(t)
	}
	cfg.Logger = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.server, err = NewServer(cfg); err != nil {
		t.Fatal(err)
	}
	r.server.RegisterReceiver(rc)
	more(r.server)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- r.server.Serve(ctx, ln, limit) }()
	t.Cleanup(r.stop)
	return r
}

// stop ends the server and waits for it.
func (r *running) stop() {
	r.once.Do(func() {
		r.cancel()
		if err := <-r.done; err != nil {
			r.t.Errorf("serve: %v", err)
		}
	})
}

func viewOf(v View) ReceiverConfig {
	return ReceiverConfig{View: func(auth.Principal, auth.Policy) View { return v }}
}

// dial returns a client of the server, closed with the test.
func (r *running) dial(cfg ClientConfig) *Client {
	r.t.Helper()
	cfg.Target = r.addr
	c, err := Dial(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// within returns a context with a generous end.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// peerContext is the context of a call from a.
func peerContext(a netip.Addr) context.Context {
	return peer.NewContext(context.Background(), &peer.Peer{Addr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 1))})
}
