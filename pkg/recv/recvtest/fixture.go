package recvtest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Patience is how long the suite waits for what must happen.
const Patience = 30 * time.Second

// Endpoint is a receiver as one principal sees it; recv.View is one, and so is a
// gRPC client.
type Endpoint interface {
	Negotiate(ctx context.Context, p *transfer.OfferPart) (*transfer.Answer, error)
	Commit(ctx context.Context, p *transfer.CommitPart) (*transfer.CommitResult, error)
	Abort(ctx context.Context, id transfer.ID, session transfer.Session, reason string) error
	Get(ctx context.Context, id transfer.ID) (transfer.Info, error)
	List(ctx context.Context, f transfer.ListFilter) (transfer.Page, error)
	Files(ctx context.Context, id transfer.ID, token string, n int) (transfer.FilesPage, error)
	Watch(ctx context.Context, ids []transfer.ID, f func(transfer.Info) error) error
}

// Fixture is a running receiver over an empty directory, with Gate as its
// OnVerified. It ends with the test.
type Fixture struct {
	As      func(principal string) Endpoint
	Dial    func(ctx context.Context) (net.Conn, error) // opens a data connection
	Restart func(t *testing.T)                          // replaces the receiver by a new one over the same directory
	Root    string                                      // where files are published
}

// Gate holds commits back, to look at a transfer while it is committing.
type Gate struct {
	mu   sync.Mutex
	held map[transfer.ID]*hold
}

type hold struct {
	entered chan struct{}
	free    chan struct{}
}

// Verified is for recv.Config.OnVerified.
func (g *Gate) Verified(ctx context.Context, v *recv.Verified) error {
	g.mu.Lock()
	h := g.held[v.ID]
	g.mu.Unlock()
	if h == nil {
		return nil
	}
	select {
	case h.entered <- struct{}{}:
	default:
	}
	select {
	case <-h.free:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hold makes the commit of id wait in the gate until it is released.
func (g *Gate) hold(id transfer.ID) *hold {
	h := &hold{entered: make(chan struct{}, 1), free: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		g.held = map[transfer.ID]*hold{}
	}
	g.held[id] = h
	return h
}

func (g *Gate) release(id transfer.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h := g.held[id]; h != nil {
		close(h.free)
		delete(g.held, id)
	}
}
