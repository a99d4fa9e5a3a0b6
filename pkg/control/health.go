package control

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// healthEvery is how often a watcher's service is asked for its state.
const healthEvery = time.Second

// healthService is grpc.health.v1 over a function, so that there is one source
// of truth and nothing to keep in step. Services that are not registered are
// unknown; "" is the process.
type healthService struct {
	healthpb.UnimplementedHealthServer

	server *Server
}

func (h *healthService) state(service string) healthpb.HealthCheckResponse_ServingStatus {
	if service != "" {
		if _, ok := h.server.grpc.GetServiceInfo()[service]; !ok {
			return healthpb.HealthCheckResponse_SERVICE_UNKNOWN
		}
	}
	if h.server.stopping.Err() != nil || !h.server.cfg.Serving(service) {
		return healthpb.HealthCheckResponse_NOT_SERVING
	}
	return healthpb.HealthCheckResponse_SERVING
}

// Check satisfies healthpb.HealthServer.
func (h *healthService) Check(_ context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	s := h.state(r.GetService())
	if s == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, status.Error(codes.NotFound, "unknown service")
	}
	return &healthpb.HealthCheckResponse{Status: s}, nil
}

// List satisfies healthpb.HealthServer.
func (h *healthService) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	out := &healthpb.HealthListResponse{Statuses: map[string]*healthpb.HealthCheckResponse{"": {Status: h.state("")}}}
	for name := range h.server.grpc.GetServiceInfo() {
		out.Statuses[name] = &healthpb.HealthCheckResponse{Status: h.state(name)}
	}
	return out, nil
}

// Watch satisfies healthpb.HealthServer. It sends the state now and each change.
func (h *healthService) Watch(r *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	t := time.NewTicker(healthEvery)
	defer t.Stop()
	last := healthpb.HealthCheckResponse_UNKNOWN
	for {
		if s := h.state(r.GetService()); s != last {
			last = s
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: s}); err != nil {
				return err
			}
		}
		select {
		case <-t.C:
		case <-stream.Context().Done():
			if h.server.stopping.Err() != nil { // the last word before the stream ends
				_ = stream.Send(&healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING})
			}
			return context.Cause(stream.Context())
		}
	}
}
