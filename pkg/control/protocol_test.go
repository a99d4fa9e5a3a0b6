package control

import (
	"context"
	"crypto/x509"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/recv/recvtest"
	"github.com/e27efefb/sluice/pkg/store"
)

// people knows callers by the tokens that it gave out. Each may do everything with
// what is his own.
type people struct {
	mu      sync.Mutex
	byToken tokenGuard
	tokens  map[string]string // by principal
}

func (p *people) Authenticate(ctx context.Context, header string, chain []*x509.Certificate) (auth.Principal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byToken.Authenticate(ctx, header, chain)
}

func (*people) Policy(auth.Principal) (auth.Policy, error) {
	p := auth.OpenPolicy()
	p.Admin, p.ListOthers = false, false
	return p, nil
}

// token returns the token of a principal.
func (p *people) token(principal string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if secret, ok := p.tokens[principal]; ok {
		return secret, nil
	}
	secret, _, err := auth.NewToken(auth.Principal(principal), time.Time{})
	p.byToken[secret], p.tokens[principal] = auth.Principal(principal), secret
	return secret, err
}

// tower is a receiver over a directory, behind a gRPC server.
type tower struct {
	t      *testing.T
	root   string
	gate   *recvtest.Gate
	people *people
	server *running
	lanes  string // where they go
	stop   func()

	mu      sync.Mutex
	clients map[string]*Client // by principal
}

func (w *tower) start() {
	w.t.Helper()
	st, err := store.Open(store.Config{Root: w.root})
	if err != nil {
		w.t.Fatal(err)
	}
	lanes, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.lanes = lanes.Addr().String()
	_, port, _ := net.SplitHostPort(w.lanes)
	engine, err := recv.New(recv.Config{
		Store: st, AllowNone: true, OnVerified: w.gate.Verified,
		DataAddrs: func() []string { return []string{":" + port} },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- engine.ServeLanes(ctx, lanes) }()
	w.server = serve(w.t, ServerConfig{Auth: w.people}, ReceiverConfig{View: ReceiverView(engine)}, time.Second)
	w.clients = map[string]*Client{}
	w.stop = func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range w.clients {
			_ = c.Close()
		}
		w.server.stop()
		engine.Close()
		cancel()
		if err := <-served; err != nil {
			w.t.Errorf("ServeLanes: %v", err)
		}
		if err := st.Close(); err != nil {
			w.t.Errorf("close store: %v", err)
		}
		w.stop = func() {}
	}
}

// as returns the client of a principal.
func (w *tower) as(principal string) recvtest.Endpoint {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.clients[principal]; c != nil {
		return c
	}
	secret, err := w.people.token(principal)
	if err != nil {
		w.t.Fatal(err)
	}
	bearer, err := auth.NewBearer(secret, true)
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.server.dial(ClientConfig{Token: bearer})
	w.clients[principal] = c
	return c
}

// TestProtocol runs the suite of pkg/recv/recvtest over real gRPC: what an engine
// says reaches its caller through messages and statuses unchanged.
func TestProtocol(t *testing.T) {
	recvtest.Run(t, "../../docs/protocol.md", func(t *testing.T, gate *recvtest.Gate) *recvtest.Fixture {
		w := &tower{t: t, root: t.TempDir(), gate: gate, people: &people{byToken: tokenGuard{}, tokens: map[string]string{}}}
		w.start()
		t.Cleanup(func() { w.stop() })
		return &recvtest.Fixture{
			As: w.as,
			Dial: func(ctx context.Context) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", w.lanes)
			},
			Root: w.root,
			Restart: func(t *testing.T) {
				w.stop()
				w.t = t
				w.start()
			},
		}
	})
}
