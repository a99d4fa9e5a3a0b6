package main

import (
	"context"
	"net"
	"net/netip"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/daemon"
	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// controlTask makes the gRPC server.
func (s *service) controlTask() (daemon.Task, error) {
	cfg := control.ServerConfig{
		Auth: s.guard, Logger: s.log, Metrics: s.metrics.registry, Version: cli.Version(),
		Serving: func(string) bool { return s.status().Serving },
	}
	if s.tls != nil {
		cfg.TLS = s.tls.Config(auth.ProtoControl)
	}
	srv, err := control.NewServer(cfg)
	if err != nil {
		return daemon.Task{}, err
	}
	rc := control.ReceiverConfig{View: control.ReceiverView(s.receiver), Connections: s.connections}
	if s.reflector != nil {
		rc.Ping = s.pingSession
	}
	srv.RegisterReceiver(rc)
	return daemon.Task{Name: "control plane", Run: func(ctx context.Context) error {
		return srv.Serve(ctx, s.control, s.cfg.StopTimeout/2)
	}}, nil
}

func (s *service) pingSession(principal string) (control.PingSession, error) {
	ses, err := s.reflector.NewSession(principal)
	if err != nil {
		return control.PingSession{}, err
	}
	host, port, _ := net.SplitHostPort(s.ping.LocalAddr().String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = ""
	}
	return control.PingSession{SSID: ses.SSID, Key: ses.Key[:], Expires: ses.Expires, Addr: net.JoinHostPort(host, port)}, nil
}

// connections lists our TCP connections, lanes and control.
func (s *service) connections(context.Context) ([]netdiag.Conn, error) {
	var ports []uint16
	for _, l := range []net.Listener{s.control, s.data, s.plain} {
		if l == nil {
			continue
		}
		if a, ok := l.Addr().(*net.TCPAddr); ok {
			ports = append(ports, uint16(a.Port)) //nolint:gosec // a port
		}
	}
	lanes := map[netdiag.Ends]transfer.ID{}
	s.receiver.EachLane(func(local, remote net.Addr, id transfer.ID) {
		if e, ok := netdiag.EndsOf(local, remote); ok {
			lanes[e] = id
		}
	})
	return netdiag.Connections(netdiag.Query{LocalPorts: ports, Label: func(local, remote netip.AddrPort) string {
		if id, ok := lanes[netdiag.Ends{Local: local, Remote: remote}]; ok {
			return id.String()
		}
		return ""
	}})
}
