package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/daemon"
	"github.com/e27efefb/sluice/pkg/health"
	"github.com/e27efefb/sluice/pkg/jobs"
	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/admin"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// Config is everything that `sender serve` can be told, by flag, SLUICE_…
// variable or configuration file, in that order of precedence.
type Config struct {
	State      string   `help:"Directory for the job file; default: $XDG_STATE_HOME/sluice/sender." type:"path" placeholder:"DIR"`
	SourceRoot []string `help:"Directories that jobs may send from. May be repeated." type:"path" placeholder:"DIR"`
	Receiver   []string `help:"Receivers that jobs may name: NAME=HOST:PORT, with /PINGPORT if that is not 7402. May be repeated." placeholder:"NAME=HOST:PORT"`
	Group      []string `help:"Groups of receivers, of which the healthiest gets a job: NAME=RECEIVER+RECEIVER. May be repeated." placeholder:"NAME=A+B"`

	ReceiverCA        string `name:"receiver-ca" help:"CA of the receivers' certificates (PEM)." type:"path" placeholder:"FILE"`
	ReceiverCert      string `help:"Own client certificate for receivers (PEM)." type:"path" placeholder:"FILE"`
	ReceiverKey       string `help:"Its private key (PEM)." type:"path" placeholder:"FILE"`
	ReceiverTokenFile string `help:"File with the bearer token for receivers." type:"path" placeholder:"FILE"`
	ReceiverNoTLS     bool   `name:"receiver-no-tls" help:"Speak without TLS to receivers off loopback."`

	Listen      string `help:"Address of the gRPC transfer API." default:"127.0.0.1:7410"`
	PingListen  string `help:"UDP address of the ping reflector; \"off\" for none." default:"127.0.0.1:7412"`
	AdminListen string `help:"HTTP address of /metrics, /healthz and /readyz; \"off\" for none." default:"127.0.0.1:7413"`

	MaxRunning     int           `help:"Most jobs at once." default:"4"`
	MaxPerReceiver int           `help:"Most jobs at once for one receiver or group; 0: --max-running." default:"0"`
	MaxQueued      int           `help:"Most unfinished jobs." default:"1000000"`
	MaxRetries     int           `help:"How often a job is tried again, unless it says." default:"100"`
	BackoffMax     time.Duration `help:"Longest wait between tries." default:"2m"`
	KeepFinished   time.Duration `help:"How long ended jobs are kept." default:"168h"`
	Timeout        time.Duration `help:"How long a running job may be without progress." default:"1m"`

	cli.AccessFlags

	PingOpen bool `help:"Answer unauthenticated pings from the network."`

	StopTimeout time.Duration `help:"How long a graceful stop may take." default:"10s"`
	Pprof       bool          `help:"Serve /debug/pprof/ on the HTTP address."`

	cli.LogFlags
	cli.ProfileFlags

	JSON bool `name:"json" help:"Print the addresses as one JSON object when serving."`
}

// serveCmd is sender serve.
type serveCmd struct {
	Config

	ConfigFile  kong.ConfigFlag `name:"config" help:"JSON file: names of flags with _ for -, as --print-config shows." placeholder:"FILE" type:"path"`
	PrintConfig bool            `help:"Print the configuration in force as JSON and exit."`
}

func (c *serveCmd) run(a *app) error {
	if c.PrintConfig {
		return cli.PrintConfig(a.stdout, a.kong)
	}
	return c.Config.run(a)
}

// service is a sender that is being put together.
type service struct {
	cfg *Config
	log *slog.Logger
	a   *app

	control, http net.Listener
	ping          *net.UDPConn

	tls      *auth.ServerTLS // nil: plain
	guard    *auth.Guard
	farTLS   *auth.ClientTLS // nil: plain
	farToken *auth.Bearer    // nil: none

	fleet    *fleet
	queue    *jobs.Queue
	metrics  *metrics
	stopping chan struct{}
	started  time.Time
}

func (c *Config) run(a *app) (err error) {
	stop, err := c.Start()
	if err != nil {
		return err
	}
	defer stop()
	s := &service{cfg: c, a: a, log: c.Logger(a.stderr), metrics: newMetrics(), stopping: make(chan struct{}), started: time.Now()}
	if err := c.AccessFlags.Check(c.Listen); err != nil {
		return &cli.Usage{Err: err}
	}
	if err := s.credentials(); err != nil {
		return err
	}
	admin.WatchStale(s.metrics.registry, s.stale())
	if s.fleet, err = newFleet(s); err != nil {
		return &cli.Usage{Err: err}
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(); err != nil {
		return err
	}
	var g daemon.Group
	if s.http != nil {
		g.Add(daemon.Task{Name: "admin HTTP", Run: func(ctx context.Context) error {
			return admin.Serve(ctx, s.http, admin.Config{Registry: s.metrics.registry, Ready: s.ready, Pprof: c.Pprof})
		}})
	}
	if s.ping != nil {
		r := health.NewReflector(health.ReflectorConfig{Open: c.PingOpen || c.NoAuth, Status: s.pingStatus, Logger: s.log})
		g.Add(daemon.Task{Name: "ping", Run: func(ctx context.Context) error { return r.Serve(ctx, s.ping) }})
	}
	g.Add(daemon.Task{Name: "receivers", Run: s.fleet.run})
	g.Add(daemon.Task{Name: "jobs", Run: s.queue.Run})
	control, err := s.controlTask()
	if err != nil {
		return err
	}
	g.Add(control)
	s.announce()
	err = g.Run(a.ctx, c.StopTimeout)
	s.log.Info("stopped")
	return err
}

// stale names the files of credentials for the metric.
func (s *service) stale() map[string]func() error {
	out := map[string]func() error{"access": s.guard.Stale}
	if s.tls != nil {
		out["tls"] = s.tls.Stale
	}
	if s.farTLS != nil {
		out["receivers"] = s.farTLS.Stale
	}
	return out
}

func (s *service) credentials() (err error) {
	c, opts := s.cfg, auth.Options{Log: s.log}
	if s.guard, s.tls, err = c.Load(s.log); err != nil {
		return err
	}
	if c.ReceiverTokenFile != "" {
		if s.farToken, err = auth.LoadBearer(c.ReceiverTokenFile, c.ReceiverNoTLS, opts); err != nil {
			return err
		}
	}
	if c.ReceiverCA != "" || c.ReceiverCert != "" {
		s.farTLS, err = auth.NewClientTLS(auth.ClientTLSConfig{CAFile: c.ReceiverCA, CertFile: c.ReceiverCert, KeyFile: c.ReceiverKey}, opts)
	}
	return err
}

// open opens the job file and every listener.
func (s *service) open() (err error) {
	c := s.cfg
	dir := c.State
	if dir == "" {
		state, err := stateDir()
		if err != nil {
			return cli.Usagef("find state directory: %w; give one with --state", err)
		}
		dir = filepath.Join(state, "sender")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("open --state: %w", err)
	}
	for i, root := range c.SourceRoot {
		real, err := filepath.EvalSymlinks(root)
		if err != nil {
			return cli.Usagef("--source-root: %w", err)
		}
		c.SourceRoot[i] = real
	}
	s.queue, err = jobs.Open(jobs.Config{
		Path: filepath.Join(dir, "jobs.db"), Runner: s.fleet, MaxRunning: c.MaxRunning, MaxPerReceiver: c.MaxPerReceiver, MaxQueued: c.MaxQueued,
		MaxRetries: c.MaxRetries, BackoffMax: c.BackoffMax, KeepFinished: c.KeepFinished, Logger: s.log, Jitter: jitter, Ended: s.metrics.ended,
	})
	if err != nil {
		return err
	}
	s.metrics.watchQueue(s.queue)
	if s.control, err = cli.Listen(s.a.ctx, c.Listen, "listen"); err != nil {
		return err
	}
	if s.http, err = cli.Listen(s.a.ctx, c.AdminListen, "admin-listen"); err != nil {
		return err
	}
	s.ping, err = cli.ListenUDP(c.PingListen, "ping-listen")
	return err
}

func (s *service) ready() admin.Ready {
	select {
	case <-s.stopping:
		return admin.Ready{Reason: "the sender is stopping"}
	default:
	}
	if waiting, running := s.queue.Counts(); waiting+running >= s.cfg.MaxQueued {
		return admin.Ready{Reason: "the queue is full"}
	}
	return admin.Ready{Ready: true}
}

// pingStatus is what the sender's own reflector tells.
func (s *service) pingStatus() stamp.Status {
	waiting, running := s.queue.Counts()
	st := stamp.Status{Serving: stamp.ServingYes, Incarnation: uint64(s.started.UnixNano()), Active: uint16(min(running, 1<<16-1)), FreeSlots: uint16(max(0, min(s.cfg.MaxQueued-waiting-running, 1<<16-1)))} //nolint:gosec // bounded
	if !s.ready().Ready {
		st.Serving = stamp.ServingNo
	}
	return st
}

// serving is the object that --json prints when every listener is open.
type serving struct {
	Event   string `json:"event"` // "serving"
	Control string `json:"control"`
	Ping    string `json:"ping,omitempty"`
	Admin   string `json:"admin,omitempty"`
}

func (s *service) announce() {
	e := serving{Event: "serving", Control: s.control.Addr().String()}
	if s.ping != nil {
		e.Ping = s.ping.LocalAddr().String()
	}
	if s.http != nil {
		e.Admin = s.http.Addr().String()
	}
	if s.cfg.JSON {
		_ = cli.JSONLine(s.a.stdout, e)
	}
	s.log.Info("serving", "control", e.Control, "ping", e.Ping, "admin", e.Admin, "tls", s.tls != nil)
}

func (s *service) close() error {
	for _, l := range []net.Listener{s.control, s.http} {
		if l != nil {
			_ = l.Close()
		}
	}
	if s.ping != nil {
		_ = s.ping.Close()
	}
	s.fleet.close()
	if s.queue != nil {
		return s.queue.Close()
	}
	return nil
}

// admit completes and judges a spec before it is stored.
func (s *service) admit(ctx context.Context, p auth.Policy, spec *jobs.Spec) error {
	const op = "submit job"
	if !s.fleet.known(spec.Receiver) {
		return transfer.Errorf(transfer.NotFound, op, "", "receiver %s is not configured", transfer.Quote(spec.Receiver)).WithHint("the configured ones are: %s", s.fleet.names())
	}
	if len(spec.Sources) > 1 {
		for _, src := range spec.Sources {
			if src.As != "" || !src.Expected.IsZero() {
				return transfer.Errorf(transfer.Invalid, op, src.Path, "another name or an expected digest needs a job of its own")
			}
		}
	}
	if err := p.CheckTransfer(spec.Conflict, 0); err != nil {
		return err
	}
	if spec.Into != "" {
		if _, err := transfer.ParsePath(spec.Into, spec.Names); err != nil {
			return err
		}
	}
	for i := range spec.Sources {
		real, err := s.confine(spec.Sources[i].Path)
		if err != nil {
			return err
		}
		spec.Sources[i].Path = real
	}
	spec.Trace = traceOf(ctx)
	return nil
}

// confine resolves a source and checks that it lies in a source root.
func (s *service) confine(path string) (string, error) {
	const op = "submit job"
	if !filepath.IsAbs(path) {
		return "", transfer.Errorf(transfer.Invalid, op, path, "the source is not an absolute path")
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		if !s.inside(filepath.Clean(path)) {
			return "", outside(path)
		}
		return "", transfer.Errorf(transfer.NotFound, op, path, "the source is not there")
	}
	if err != nil {
		return "", transfer.Errorf(transfer.Invalid, op, path, "%w", err)
	}
	if !s.inside(real) {
		return "", outside(path)
	}
	return real, nil
}

func outside(path string) error {
	return transfer.Errorf(transfer.Denied, "submit job", path, "the source lies outside the directories that may be sent from").WithHint("give its directory to the sender with --source-root")
}

func (s *service) inside(path string) bool {
	for _, root := range s.cfg.SourceRoot {
		if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}
