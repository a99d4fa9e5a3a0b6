package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/daemon"
	"github.com/e27efefb/sluice/pkg/health"
	"github.com/e27efefb/sluice/pkg/plain"
	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/admin"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// service is a receiver that is being put together: listeners open before
// anything serves.
type service struct {
	cfg *Config
	log *slog.Logger
	a   *app

	control, data, http, plain net.Listener
	ping, echo                 *net.UDPConn

	tls       *auth.ServerTLS // nil: plain
	guard     *auth.Guard
	store     *store.Disk
	receiver  *recv.Receiver
	reflector *health.Reflector
	metrics   *metrics
}

func (c *Config) run(a *app) (err error) {
	stop, err := c.Start()
	if err != nil {
		return err
	}
	defer stop()
	s := &service{cfg: c, a: a, log: c.Logger(a.stderr), metrics: newMetrics()}
	if err := s.exposed(); err != nil {
		return &cli.Usage{Err: err}
	}
	if s.guard, s.tls, err = c.Load(s.log); err != nil {
		return err
	}
	admin.WatchStale(s.metrics.registry, s.stale())
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(); err != nil {
		return err
	}
	g, err := s.tasks()
	if err != nil {
		return err
	}
	s.announce()
	err = g.Run(a.ctx, c.StopTimeout)
	s.log.Info("stopped")
	return err
}

// exposed refuses addresses off loopback without the means to protect them.
func (s *service) exposed() error {
	c := s.cfg
	if err := c.AccessFlags.Check(c.Listen, c.DataListen); err != nil {
		return err
	}
	if c.DataPlain && !c.HasTLS() {
		return transfer.Errorf(transfer.Invalid, "check configuration", "", "--data-plain has no meaning without TLS: lanes are plain already")
	}
	for _, a := range []string{c.PlainListen, c.EchoListen} {
		if a != "" && !auth.Loopback(a) && !c.NoAuth {
			return transfer.Errorf(transfer.Invalid, "check configuration", "", "%s is off loopback, and its protocol knows no callers", a).WithHint("give --no-auth as well, or listen on 127.0.0.1")
		}
	}
	return nil
}

// stale names the files of credentials for the metric.
func (s *service) stale() map[string]func() error {
	out := map[string]func() error{"access": s.guard.Stale}
	if s.tls != nil {
		out["tls"] = s.tls.Stale
	}
	return out
}

// open opens the store and every listener.
func (s *service) open() (err error) {
	c := s.cfg
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return fmt.Errorf("open --dir: %w", err)
	}
	var signer *auth.Signer
	sign := func(r *transfer.Receipt) error { return signer.SignReceipt(r) }
	if err := os.MkdirAll(strings.TrimSuffix(receiptKey(c.Dir), "receipt-key.pem"), 0o700); err != nil {
		return fmt.Errorf("open --dir: %w", err)
	}
	if signer, err = auth.LoadOrCreateSigner(receiptKey(c.Dir)); err != nil {
		return err
	}
	s.store, err = store.Open(store.Config{
		Root: c.Dir, KeepFree: int64(c.KeepFree), MaxTotal: int64(c.MaxTotal), MaxTransfer: int64(c.MaxTransfer),
		KeepReceipts: c.KeepReceipts, Logger: s.log, Sign: sign,
	})
	if err != nil {
		return err
	}
	s.metrics.watchStore(s.store)
	for _, l := range []struct {
		to         *net.Listener
		addr, what string
	}{
		{&s.control, c.Listen, "listen"}, {&s.data, c.DataListen, "data-listen"}, {&s.http, c.AdminListen, "admin-listen"}, {&s.plain, c.PlainListen, "plain-listen"},
	} {
		if *l.to, err = cli.Listen(s.a.ctx, l.addr, l.what); err != nil {
			return err
		}
	}
	for _, l := range []struct {
		to         **net.UDPConn
		addr, what string
	}{{&s.ping, c.PingListen, "ping-listen"}, {&s.echo, c.EchoListen, "echo-listen"}} {
		if *l.to, err = cli.ListenUDP(l.addr, l.what); err != nil {
			return err
		}
	}
	verified, published := s.gates()
	s.receiver, err = recv.New(recv.Config{
		Store: s.store, Logger: s.log, Observer: s.metrics, DataAddrs: s.dataAddrs,
		DataTLS: s.tls != nil && !c.DataPlain, AllowNone: c.AllowUnverified, RequireBLAKE3: c.DataPlain,
		Sign: sign, OnVerified: verified, OnPublished: published,
		Limits: recv.Limits{Transfers: c.MaxTransfers, LanesPerTransfer: c.MaxLanes, KeepPartial: c.KeepPartial, KeepReceipts: c.KeepReceipts},
	})
	return err
}

// gates returns the commands before and after publishing, nil where none is set.
func (s *service) gates() (func(context.Context, *recv.Verified) error, func(context.Context, *transfer.Receipt)) {
	command := func(line string) *recv.Command {
		return &recv.Command{Argv: strings.Fields(line), Timeout: s.cfg.GateTimeout, Logger: s.log}
	}
	var verified func(context.Context, *recv.Verified) error
	var published func(context.Context, *transfer.Receipt)
	if s.cfg.OnVerified != "" {
		verified = command(s.cfg.OnVerified).Verified
	}
	if s.cfg.OnPublished != "" {
		published = command(s.cfg.OnPublished).Published
	}
	return verified, published
}

// dataAddrs is what answers say: the advertised addresses, or the port of the
// data listener at the host that the sender reached the control plane at.
func (s *service) dataAddrs() []string {
	if len(s.cfg.DataAdvertise) > 0 {
		return s.cfg.DataAdvertise
	}
	host, port, _ := net.SplitHostPort(s.data.Addr().String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() {
		host = ""
	}
	return []string{net.JoinHostPort(host, port)}
}

func (s *service) tasks() (*daemon.Group, error) {
	var g daemon.Group
	g.Add(daemon.Task{Name: "receiver", Run: s.receiver.Run, Stop: s.receiver.Drain})
	if s.http != nil {
		g.Add(daemon.Task{Name: "admin HTTP", Run: func(ctx context.Context) error {
			return admin.Serve(ctx, s.http, admin.Config{Registry: s.metrics.registry, Ready: s.ready, Pprof: s.cfg.Pprof})
		}})
	}
	if s.ping != nil {
		s.reflector = health.NewReflector(health.ReflectorConfig{Open: s.cfg.PingOpen || s.cfg.NoAuth, Status: s.pingStatus(), Logger: s.log})
		g.Add(daemon.Task{Name: "ping", Run: func(ctx context.Context) error { return s.reflector.Serve(ctx, s.ping) }})
	}
	if s.echo != nil {
		echo := plain.NewEcho(plain.EchoConfig{Workers: s.cfg.EchoWorkers, Logger: s.log})
		g.Add(daemon.Task{Name: "echo", Run: func(ctx context.Context) error { return echo.Serve(ctx, s.echo) }})
	}
	if s.plain != nil {
		srv := plain.NewServer(plain.ServerConfig{Store: plainStore{s.receiver}, MaxSize: int64(s.cfg.MaxTransfer), Logger: s.log})
		g.Add(daemon.Task{Name: "plain protocol", Run: func(ctx context.Context) error { return srv.Serve(ctx, s.plain) }})
	}
	lanes := s.data
	if s.tls != nil && !s.cfg.DataPlain {
		lanes = tls.NewListener(s.data, s.tls.Config(auth.ProtoLane))
	}
	g.Add(daemon.Task{Name: "lanes", Run: func(ctx context.Context) error { return s.receiver.ServeLanes(ctx, lanes) }})
	control, err := s.controlTask()
	if err != nil {
		return nil, err
	}
	g.Add(control)
	return &g, nil
}

// serving is the object that --json prints when every listener is open.
type serving struct {
	Event   string `json:"event"` // "serving"
	Control string `json:"control"`
	Data    string `json:"data"`
	Ping    string `json:"ping,omitempty"`
	Admin   string `json:"admin,omitempty"`
	Plain   string `json:"plain,omitempty"`
	Echo    string `json:"echo,omitempty"`
	Dir     string `json:"dir"`
}

func (s *service) announce() {
	e := serving{Event: "serving", Control: s.control.Addr().String(), Data: s.data.Addr().String(), Dir: s.cfg.Dir}
	if s.ping != nil {
		e.Ping = s.ping.LocalAddr().String()
	}
	if s.http != nil {
		e.Admin = s.http.Addr().String()
	}
	if s.plain != nil {
		e.Plain = s.plain.Addr().String()
	}
	if s.echo != nil {
		e.Echo = s.echo.LocalAddr().String()
	}
	if s.cfg.JSON {
		_ = cli.JSONLine(s.a.stdout, e)
	}
	s.log.Info("serving", "control", e.Control, "data", e.Data, "ping", e.Ping, "admin", e.Admin, "plain", e.Plain, "echo", e.Echo, "dir", e.Dir, "tls", s.tls != nil)
}

// close closes what is open, in reverse.
func (s *service) close() error {
	for _, l := range []net.Listener{s.control, s.data, s.http, s.plain} {
		if l != nil {
			_ = l.Close()
		}
	}
	for _, c := range []*net.UDPConn{s.ping, s.echo} {
		if c != nil {
			_ = c.Close()
		}
	}
	if s.receiver != nil {
		s.receiver.Close()
	}
	if s.store != nil {
		return s.store.Close()
	}
	return nil
}
