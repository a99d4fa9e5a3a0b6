package control

import (
	"context"
	"errors"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Engine is what takes a transfer. Errors are *transfer.Error; anything else is
// a fault of ours.
type Engine interface {
	Negotiate(ctx context.Context, part *transfer.OfferPart) (*transfer.Answer, error)
	Commit(ctx context.Context, part *transfer.CommitPart) (*transfer.CommitResult, error)
	Abort(ctx context.Context, id transfer.ID, session transfer.Session, reason string) error
}

// Lister is what shows transfers. Watch calls f until it fails, ctx ends or, when
// ids are given, all of them have ended.
type Lister interface {
	Get(ctx context.Context, id transfer.ID) (transfer.Info, error)
	List(ctx context.Context, f transfer.ListFilter) (transfer.Page, error)
	Files(ctx context.Context, id transfer.ID, token string, n int) (transfer.FilesPage, error)
	Watch(ctx context.Context, ids []transfer.ID, f func(transfer.Info) error) error
}

// View is a receiver as one caller sees it: *recv.View in process, [Client] over
// gRPC.
type View interface {
	Engine
	Lister
}

// PingSession is handed out for authenticated pings. It is not to be logged.
type PingSession struct {
	SSID    uint16
	Key     []byte // 32 octets
	Expires time.Time
	Addr    string // host:port of the reflector; an empty host is that of the control plane
}

// ReceiverConfig says what a ReceiverService serves.
type ReceiverConfig struct {
	// View returns the engine as this caller may see it; required.
	View func(p auth.Principal, policy auth.Policy) View
	// Ping makes a session; nil: there is no reflector.
	Ping func(principal string) (PingSession, error)
	// Connections lists our TCP connections, with the lanes' transfers as labels;
	// nil: not supported.
	Connections func(ctx context.Context) ([]netdiag.Conn, error)
}

// maxWatched bounds the ids of one watch.
const maxWatched = 100

type receiverServer struct {
	pb.UnimplementedReceiverServiceServer

	cfg ReceiverConfig
}

// RegisterReceiver adds ReceiverService to the server.
func (s *Server) RegisterReceiver(cfg ReceiverConfig) {
	pb.RegisterReceiverServiceServer(s.grpc, &receiverServer{cfg: cfg})
}

func (s *receiverServer) view(ctx context.Context) (View, error) {
	p, policy, err := Caller(ctx)
	if err != nil {
		return nil, err
	}
	return s.cfg.View(p, policy), nil
}

// Negotiate satisfies pb.ReceiverServiceServer.
func (s *receiverServer) Negotiate(ctx context.Context, m *pb.NegotiateRequest) (*pb.NegotiateResponse, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	part, err := offerFromProto(m)
	if err != nil {
		return nil, err
	}
	a, err := v.Negotiate(ctx, part)
	var e *transfer.Error
	if errors.As(err, &e) && refusable(e.Kind) {
		logging.AddFields(ctx, logging.Fields{"refused", e.Kind.String(), "reason", e.Error()})
		return refusalToProto(e), nil
	}
	if err != nil {
		return nil, err
	}
	return answerToProto(a), nil
}

// Commit satisfies pb.ReceiverServiceServer.
func (s *receiverServer) Commit(ctx context.Context, m *pb.CommitRequest) (*pb.CommitResponse, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	part, err := commitFromProto(m)
	if err != nil {
		return nil, err
	}
	r, err := v.Commit(ctx, part)
	if err != nil {
		return nil, err
	}
	return resultToProto(r), nil
}

// Abort satisfies pb.ReceiverServiceServer.
func (s *receiverServer) Abort(ctx context.Context, m *pb.AbortRequest) (*pb.AbortResponse, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	id, err := idFromProto(m.GetTransferId())
	if err != nil {
		return nil, err
	}
	var session transfer.Session
	if len(m.GetSession()) > 0 {
		if session, err = sessionFromProto(m.GetSession()); err != nil {
			return nil, err
		}
	}
	if err := v.Abort(ctx, id, session, cut(m.GetReason(), maxMessage)); err != nil {
		return nil, err
	}
	return &pb.AbortResponse{}, nil
}

// GetTransfer satisfies pb.ReceiverServiceServer.
func (s *receiverServer) GetTransfer(ctx context.Context, m *pb.GetTransferRequest) (*pb.GetTransferResponse, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	id, err := idFromProto(m.GetTransferId())
	if err != nil {
		return nil, err
	}
	info, err := v.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return &pb.GetTransferResponse{Transfer: infoToProto(&info)}, nil
}

// ListTransfers satisfies pb.ReceiverServiceServer.
func (s *receiverServer) ListTransfers(ctx context.Context, m *pb.ListTransfersRequest) (*pb.ListTransfersResponse, error) {
	p, policy, err := Caller(ctx)
	if err != nil {
		return nil, err
	}
	f := transfer.ListFilter{Principal: m.GetPrincipal(), PageSize: pageSize(m.GetPageSize(), 100), PageToken: m.GetPageToken()}
	if !policy.ListOthers && !policy.Admin {
		f.Principal = string(p)
	}
	for _, st := range m.GetStates() {
		state, err := stateFromProto(st)
		if err != nil {
			return nil, err
		}
		f.States = append(f.States, state)
	}
	page, err := s.cfg.View(p, policy).List(ctx, f)
	if err != nil {
		return nil, err
	}
	out := &pb.ListTransfersResponse{NextPageToken: page.Next, Transfers: make([]*pb.Transfer, len(page.Transfers))}
	for i := range page.Transfers {
		out.Transfers[i] = summary(&page.Transfers[i])
	}
	return out, nil
}

// summary leaves a receipt's files out.
func summary(i *transfer.Info) *pb.Transfer {
	t := infoToProto(i)
	if t.GetReceipt() != nil {
		t.Receipt.Files = nil
	}
	return t
}

// pageSize gives the default for 0 and bounds the rest.
func pageSize(n int32, def int) int {
	if n <= 0 {
		return def
	}
	return min(int(n), 1000)
}

// ListTransferFiles satisfies pb.ReceiverServiceServer.
func (s *receiverServer) ListTransferFiles(ctx context.Context, m *pb.ListTransferFilesRequest) (*pb.ListTransferFilesResponse, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	id, err := idFromProto(m.GetTransferId())
	if err != nil {
		return nil, err
	}
	page, err := v.Files(ctx, id, m.GetPageToken(), pageSize(m.GetPageSize(), 1000))
	if err != nil {
		return nil, err
	}
	return &pb.ListTransferFilesResponse{Files: filesToProto(page.Files), NextPageToken: page.Next}, nil
}

// WatchTransfers satisfies pb.ReceiverServiceServer.
func (s *receiverServer) WatchTransfers(m *pb.WatchTransfersRequest, stream grpc.ServerStreamingServer[pb.WatchTransfersResponse]) error {
	ctx := stream.Context()
	v, err := s.view(ctx)
	if err != nil {
		return err
	}
	if n := len(m.GetTransferIds()); n > maxWatched {
		return transfer.Errorf(transfer.Invalid, "watch transfers", "", "%d ids are given, at most %d are allowed", n, maxWatched)
	}
	var ids []transfer.ID
	for _, text := range m.GetTransferIds() {
		id, err := idFromProto(text)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	err = v.Watch(ctx, ids, func(i transfer.Info) error {
		return stream.Send(&pb.WatchTransfersResponse{Transfer: summary(&i)})
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// CreatePingSession satisfies pb.ReceiverServiceServer.
func (s *receiverServer) CreatePingSession(ctx context.Context, _ *pb.CreatePingSessionRequest) (*pb.CreatePingSessionResponse, error) {
	p, _, err := Caller(ctx)
	if err != nil {
		return nil, err
	}
	if s.cfg.Ping == nil {
		return nil, transfer.Errorf(transfer.NotFound, "open ping session", "", "this receiver answers no pings").WithHint("start it with --ping-listen")
	}
	ps, err := s.cfg.Ping(string(p))
	if err != nil {
		return nil, err
	}
	return &pb.CreatePingSessionResponse{Ssid: uint32(ps.SSID), Key: ps.Key, Expires: timestamppb.New(ps.Expires), PingAddress: ps.Addr}, nil
}
