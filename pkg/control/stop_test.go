package control

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// watchForever sends one info and waits for the end of the context.
func watchForever(ctx context.Context, _ []transfer.ID, f func(transfer.Info) error) error {
	if err := f(transfer.Info{ID: transfer.NewID(), State: transfer.StateOpen}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestStopEndsWatches(t *testing.T) {
	// The limit is longer than the test may take: only an ended stream passes.
	s := serve(t, ServerConfig{}, viewOf(&fakeView{watch: watchForever}), time.Hour)
	c := s.dial(ClientConfig{})
	first, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- c.Watch(within(t), nil, func(transfer.Info) error { close(first); return nil })
	}()
	<-first
	h, err := healthpb.NewHealthClient(c.conn).Watch(within(t), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := h.Recv(); err != nil || m.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", m, err)
	}
	s.stop()
	if m, err := h.Recv(); err != nil || m.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("at the stop health says %v, %v", m, err)
	}
	if err := <-ended; transfer.KindOf(err) != transfer.Unavailable || transfer.HintOf(err) == "" {
		t.Errorf("the watch ended with %v", err)
	}
}

func TestStopCutsAfterTheLimit(t *testing.T) {
	entered := make(chan struct{})
	v := &fakeView{commit: func(ctx context.Context, _ *transfer.CommitPart) (*transfer.CommitResult, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	s := serve(t, ServerConfig{}, viewOf(v), 10*time.Millisecond)
	c, ended := s.dial(ClientConfig{}), make(chan error, 1)
	go func() {
		_, err := c.Commit(within(t), &transfer.CommitPart{ID: transfer.NewID(), Last: true})
		ended <- err
	}()
	<-entered
	s.stop()
	if err := <-ended; err == nil {
		t.Error("the call was not cut")
	}
}

func TestHealthFollowsTheStatus(t *testing.T) {
	var serving atomic.Bool
	serving.Store(true)
	s := serve(t, ServerConfig{Serving: func(string) bool { return serving.Load() }}, viewOf(&fakeView{}), time.Second)
	c := s.dial(ClientConfig{})
	health := healthpb.NewHealthClient(c.conn)
	watch, err := health.Watch(within(t), &healthpb.HealthCheckRequest{Service: "sluice.v1.ReceiverService"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING} {
		if m, err := watch.Recv(); err != nil || m.GetStatus() != want {
			t.Errorf("%v, %v, want %v", m, err, want)
		}
		serving.Store(false)
	}
	if ok, err := c.Serving(within(t)); ok || err != nil {
		t.Errorf("serving %v, %v", ok, err)
	}
	if _, err := health.Check(within(t), &healthpb.HealthCheckRequest{Service: "nobody"}); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	if l, err := health.List(within(t), &healthpb.HealthListRequest{}); err != nil || len(l.GetStatuses()) < 5 {
		t.Errorf("%v, %v", l, err)
	}
}

func TestReflectionOfBothVersions(t *testing.T) {
	s := serve(t, ServerConfig{}, viewOf(&fakeView{}), time.Second)
	c := s.dial(ClientConfig{})
	v1, err := grpc_reflection_v1.NewServerReflectionClient(c.conn).ServerReflectionInfo(within(t))
	if err != nil {
		t.Fatal(err)
	}
	_ = v1.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
	m, err := v1.Recv()
	found := false
	for _, x := range m.GetListServicesResponse().GetService() {
		found = found || x.GetName() == pb.ReceiverService_ServiceDesc.ServiceName
	}
	if !found {
		t.Errorf("v1: %v, %v", m, err)
	}
	_ = v1.CloseSend()
	alpha, err := grpc_reflection_v1alpha.NewServerReflectionClient(c.conn).ServerReflectionInfo(within(t))
	if err != nil {
		t.Fatal(err)
	}
	//nolint:staticcheck // clients in the field still ask by v1alpha
	_ = alpha.Send(&grpc_reflection_v1alpha.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1alpha.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "sluice.v1.Entry"}})
	//nolint:staticcheck // the same
	if m, err := alpha.Recv(); len(m.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("v1alpha: %v, %v", m, err)
	}
	_ = alpha.CloseSend()
}
