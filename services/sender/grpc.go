package main

import (
	"context"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/daemon"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

// controlTask makes the gRPC server.
func (s *service) controlTask() (daemon.Task, error) {
	cfg := control.ServerConfig{
		Auth: s.guard, Logger: s.log, Metrics: s.metrics.registry,
		Serving: func(string) bool { return s.ready().Ready },
	}
	if s.tls != nil {
		cfg.TLS = s.tls.Config(auth.ProtoControl)
	}
	srv, err := control.NewServer(cfg)
	if err != nil {
		return daemon.Task{}, err
	}
	pb.RegisterSenderServiceServer(srv.Registrar(), control.NewSenderServer(control.SenderConfig{
		Queue: s.queue, Admit: s.admit, Receivers: s.fleet.receivers, Connections: s.connections, Stopping: srv.Stopping(),
	}))
	s.metrics.watchFleet(s.fleet)
	return daemon.Task{
		Name: "transfer API",
		Run:  func(ctx context.Context) error { return srv.Serve(ctx, s.control, s.cfg.StopTimeout/2) },
		Stop: func(context.Context) error { close(s.stopping); return nil },
	}, nil
}
