package control

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"
	"unicode/utf8"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// ClientConfig says how to reach a receiver. Only Target is required.
type ClientConfig struct {
	Target string // host:port
	// TLS secures the connection (auth.ClientTLS.Credentials); nil: no TLS.
	TLS credentials.TransportCredentials
	// Token goes along with each call (*auth.Bearer); nil: none.
	Token credentials.PerRPCCredentials
	// Timeout bounds calls that do not last by their nature; 0: 30 s.
	Timeout time.Duration
	Logger  *slog.Logger            // nil: none
	Metrics *grpcprom.ClientMetrics // shared by all clients of a process; nil: none

	conns *openConns // set by Dial
}

// Client is a receiver over gRPC. It satisfies the interface that pkg/send
// consumes, and [View]. Errors are *transfer.Error. It is safe for concurrent
// use.
type Client struct {
	conn *grpc.ClientConn
	rpc  pb.ReceiverServiceClient
	host string

	conns *openConns
}

var _ View = (*Client)(nil)

// Dial returns a client; the connection is made by the first call and again
// after it was lost. The error is Invalid. Close it.
func Dial(cfg ClientConfig) (*Client, error) {
	cfg.conns = &openConns{open: map[netdiag.Ends]bool{}}
	conn, err := DialConn(cfg)
	if err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(cfg.Target) // DialConn has judged it
	return &Client{conn: conn, rpc: pb.NewReceiverServiceClient(conn), host: host, conns: cfg.conns}, nil
}

// Close ends the connection and every call that runs.
func (c *Client) Close() error { return c.conn.Close() }

// Negotiate offers a part. Names that are not UTF-8 are Invalid without a call.
func (c *Client) Negotiate(ctx context.Context, part *transfer.OfferPart) (*transfer.Answer, error) {
	if err := checkText(part); err != nil {
		return nil, err
	}
	m, err := c.rpc.Negotiate(ctx, offerToProto(part))
	if err != nil {
		return nil, FromStatus(err)
	}
	a, err := answerFromProto(m)
	if err != nil {
		return nil, err
	}
	for i, addr := range a.DataAddrs {
		a.DataAddrs[i] = c.fillHost(addr)
	}
	return a, nil
}

// checkText finds what protobuf could not carry and would only call a marshalling
// error.
func checkText(part *transfer.OfferPart) error {
	e := &transfer.Error{Kind: transfer.Invalid, Op: "offer files", Msg: "names that are not valid UTF-8 cannot be sent", Hint: "rename or exclude them"}
	for i := range part.Entries {
		en := &part.Entries[i]
		if !utf8.ValidString(string(en.Path)) || !utf8.ValidString(en.Link) {
			e.Problems = append(e.Problems, transfer.Problem{Path: string(en.Path), Kind: transfer.Invalid, Reason: "the name or the link's target is not valid UTF-8"})
		}
	}
	o := &part.Options
	if len(e.Problems) == 0 && utf8.ValidString(o.Into) && utf8.ValidString(o.Label) {
		return nil
	}
	return e
}

// fillHost puts the host of the control plane where an address has none.
func (c *Client) fillHost(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host != "" {
		return addr
	}
	return net.JoinHostPort(c.host, port)
}

// Commit makes one call of the verify and commit steps; it lasts as long as the
// receiver works.
func (c *Client) Commit(ctx context.Context, part *transfer.CommitPart) (*transfer.CommitResult, error) {
	m, err := c.rpc.Commit(ctx, commitToProto(part))
	if err != nil {
		return nil, FromStatus(err)
	}
	return resultFromProto(m)
}

// Abort gives a transfer up.
func (c *Client) Abort(ctx context.Context, id transfer.ID, session transfer.Session, reason string) error {
	m := &pb.AbortRequest{TransferId: id.String(), Reason: utf8Text(reason)}
	if session != (transfer.Session{}) {
		m.Session = sessionToProto(session)
	}
	_, err := c.rpc.Abort(ctx, m)
	return FromStatus(err)
}

// Get returns a transfer.
func (c *Client) Get(ctx context.Context, id transfer.ID) (transfer.Info, error) {
	m, err := c.rpc.GetTransfer(ctx, &pb.GetTransferRequest{TransferId: id.String()})
	if err != nil {
		return transfer.Info{}, FromStatus(err)
	}
	return infoFromProto(m.GetTransfer())
}

// List returns a page of transfers.
func (c *Client) List(ctx context.Context, f transfer.ListFilter) (transfer.Page, error) {
	req := &pb.ListTransfersRequest{PageSize: clampInt32(f.PageSize), PageToken: f.PageToken, Principal: f.Principal}
	for _, s := range f.States {
		req.States = append(req.States, stateToProto(s))
	}
	m, err := c.rpc.ListTransfers(ctx, req)
	if err != nil {
		return transfer.Page{}, FromStatus(err)
	}
	page := transfer.Page{Next: m.GetNextPageToken(), Transfers: make([]transfer.Info, len(m.GetTransfers()))}
	for i, t := range m.GetTransfers() {
		if page.Transfers[i], err = infoFromProto(t); err != nil {
			return transfer.Page{}, err
		}
	}
	return page, nil
}

// Files returns a page of a receipt's files.
func (c *Client) Files(ctx context.Context, id transfer.ID, token string, n int) (transfer.FilesPage, error) {
	m, err := c.rpc.ListTransferFiles(ctx, &pb.ListTransferFilesRequest{TransferId: id.String(), PageToken: token, PageSize: clampInt32(n)})
	if err != nil {
		return transfer.FilesPage{}, FromStatus(err)
	}
	files, err := filesFromProto(m.GetFiles())
	return transfer.FilesPage{Files: files, Next: m.GetNextPageToken()}, err
}

// Watch calls f for each change until f fails, ctx ends or, when ids are given,
// all of them have ended (then the error is nil).
func (c *Client) Watch(ctx context.Context, ids []transfer.ID, f func(transfer.Info) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := &pb.WatchTransfersRequest{}
	for _, id := range ids {
		req.TransferIds = append(req.TransferIds, id.String())
	}
	stream, err := c.rpc.WatchTransfers(ctx, req)
	for err == nil {
		var m *pb.WatchTransfersResponse
		if m, err = stream.Recv(); err != nil {
			break
		}
		info, e := infoFromProto(m.GetTransfer())
		if e == nil {
			e = f(info)
		}
		if e != nil {
			return e
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return FromStatus(err)
}

// PingSession asks for a session of authenticated pings.
func (c *Client) PingSession(ctx context.Context) (PingSession, error) {
	m, err := c.rpc.CreatePingSession(ctx, &pb.CreatePingSessionRequest{})
	if err != nil {
		return PingSession{}, FromStatus(err)
	}
	ssid, key := m.GetSsid(), m.GetKey()
	if ssid == 0 || ssid > 1<<16-1 || len(key) != 32 {
		return PingSession{}, transfer.Errorf(transfer.Invalid, "open ping session", "", "the receiver's session has identifier %d and a key of %d octets", ssid, len(key))
	}
	return PingSession{SSID: uint16(ssid), Key: key, Expires: m.GetExpires().AsTime(), Addr: c.fillHost(m.GetPingAddress())}, nil
}

// Connections lists the receiver's TCP connections: the lanes of one transfer,
// or all for the zero ID.
func (c *Client) Connections(ctx context.Context, id transfer.ID) ([]*pb.Connection, error) {
	req := &pb.ListConnectionsRequest{}
	if !id.IsZero() {
		req.TransferId = id.String()
	}
	m, err := c.rpc.ListConnections(ctx, req)
	return m.GetConnections(), FromStatus(err)
}

// Serving reports whether the receiver's health check says SERVING. The error is
// that of the call.
func (c *Client) Serving(ctx context.Context) (bool, error) {
	return c.ServingService(ctx, pb.ReceiverService_ServiceDesc.ServiceName)
}

// ServingService is Serving for a service by its full name; "" is the process.
func (c *Client) ServingService(ctx context.Context, service string) (bool, error) {
	m, err := healthpb.NewHealthClient(c.conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	return m.GetStatus() == healthpb.HealthCheckResponse_SERVING, FromStatus(err)
}
