package control

import (
	"context"
	"sync"

	"google.golang.org/grpc/stats"

	"github.com/e27efefb/sluice/pkg/netdiag"
)

// openConns knows the connections of a client that are open now. It is a stats
// handler, which sees them without standing in their way.
type openConns struct {
	mu   sync.Mutex
	open map[netdiag.Ends]bool
}

type endsKey struct{}

// TagRPC satisfies stats.Handler.
func (*openConns) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC satisfies stats.Handler.
func (*openConns) HandleRPC(context.Context, stats.RPCStats) {}

// TagConn satisfies stats.Handler.
func (*openConns) TagConn(ctx context.Context, i *stats.ConnTagInfo) context.Context {
	if e, ok := netdiag.EndsOf(i.LocalAddr, i.RemoteAddr); ok {
		return context.WithValue(ctx, endsKey{}, e)
	}
	return ctx
}

// HandleConn satisfies stats.Handler.
func (o *openConns) HandleConn(ctx context.Context, s stats.ConnStats) {
	e, ok := ctx.Value(endsKey{}).(netdiag.Ends)
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch s.(type) {
	case *stats.ConnBegin:
		o.open[e] = true
	case *stats.ConnEnd:
		delete(o.open, e)
	}
}

// Ends returns the client's connections that are open now, most often one or none.
func (c *Client) Ends() []netdiag.Ends {
	c.conns.mu.Lock()
	defer c.conns.mu.Unlock()
	out := make([]netdiag.Ends, 0, len(c.conns.open))
	for e := range c.conns.open {
		out = append(out, e)
	}
	return out
}
