package control

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// tokenGuard knows callers by token; "root" is an administrator.
type tokenGuard map[string]auth.Principal

func (g tokenGuard) Authenticate(_ context.Context, header string, _ []*x509.Certificate) (auth.Principal, error) {
	if p, ok := g[strings.TrimPrefix(header, "Bearer ")]; ok {
		return p, nil
	}
	return "", &transfer.Error{Kind: transfer.Denied, Op: "authenticate", Msg: "no good token", Err: auth.ErrUnauthenticated}
}

func (g tokenGuard) Policy(p auth.Principal) (auth.Policy, error) {
	if p == "root" {
		return auth.OpenPolicy(), nil
	}
	return auth.DefaultPolicy(), nil
}

// serveBoth is a server of every service, ours and the standard ones.
func serveBoth(t *testing.T, rc ReceiverConfig) *running {
	t.Helper()
	return serveWith(t, ServerConfig{Auth: tokenGuard{"good": "alice", "root": "root"}}, rc, time.Second, func(s *Server) {
		pb.RegisterSenderServiceServer(s.Registrar(), pb.UnimplementedSenderServiceServer{})
	})
}

// callAny calls a method with an empty request and returns the status.
func callAny(ctx context.Context, conn *grpc.ClientConn, m protoreflect.MethodDescriptor) error {
	name := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return conn.Invoke(ctx, name, in, out)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: m.IsStreamingServer(), ClientStreams: m.IsStreamingClient()}, name)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(in); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(out)
}

// TestDeniedByDefault enumerates every method of every registered service from
// the descriptors and calls it without credentials.
func TestDeniedByDefault(t *testing.T) {
	s := serveBoth(t, viewOf(&fakeView{}))
	c := s.dial(ClientConfig{})
	methods := 0
	for service := range s.server.grpc.GetServiceInfo() {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
		if err != nil {
			t.Fatal(err)
		}
		list := d.(protoreflect.ServiceDescriptor).Methods() //nolint:forcetypeassert // it was found by a service's name
		for i := range list.Len() {
			m := list.Get(i)
			ctx, cancel := context.WithCancel(within(t))
			err := callAny(ctx, c.conn, m)
			cancel()
			free := service == "grpc.health.v1.Health" || strings.HasPrefix(service, "grpc.reflection.")
			if denied := status.Code(err) == codes.Unauthenticated; denied == free {
				t.Errorf("%s without credentials: %v", m.FullName(), err)
			}
			if strings.HasPrefix(service, "grpc.channelz.") && status.Code(callAny(withToken(within(t), "good"), c.conn, m)) != codes.PermissionDenied {
				t.Errorf("%s is open to everyone", m.FullName())
			}
			methods++
		}
	}
	if methods < 9+11+3+2 {
		t.Errorf("only %d methods were tried", methods)
	}
}

func TestIdentityReachesTheEngine(t *testing.T) {
	seen := make(chan string, 8)
	rc := ReceiverConfig{View: func(p auth.Principal, policy auth.Policy) View {
		return &fakeView{filter: func(f transfer.ListFilter) (transfer.Page, error) {
			seen <- string(p) + " lists " + f.Principal
			return transfer.Page{}, nil
		}}
	}}
	s := serveBoth(t, rc)
	c := s.dial(ClientConfig{})
	for token, want := range map[string]string{"good": "alice lists alice", "root": "root lists bob"} {
		if _, err := c.List(withToken(within(t), token), transfer.ListFilter{Principal: "bob"}); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	err := FromStatus(callAny(withToken(withToken(within(t), "good"), "root"), c.conn, pb.File_sluice_v1_receiver_proto.Services().Get(0).Methods().ByName("ListTransfers")))
	if transfer.KindOf(err) != transfer.Invalid {
		t.Errorf("two identities: %v", err)
	}
	if _, err := c.List(withToken(within(t), "bad"), transfer.ListFilter{}); transfer.KindOf(err) != transfer.Denied {
		t.Errorf("%v, want denied", err)
	}
	if _, err := c.Connections(withToken(within(t), "good"), transfer.ID{}); transfer.KindOf(err) != transfer.NotFound {
		t.Errorf("%v", err)
	}
}
