package control

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/admin"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Limits of a server. grpc's own defaults are 2^32-1 streams, 16 MiB of headers,
// no idle limit, 120 s of handshake and pings each 5 minutes at most.
const (
	MaxStreams       = 100              // at once on a connection
	MaxHeaderList    = 16 << 10         // octets
	MaxMessage       = 4 << 20          // octets of a request
	maxAnswer        = 32 << 20         // octets of an answer, at the client: held ranges of a torn large file
	idleTime         = 5 * time.Minute  // connections without a stream
	handshakeTime    = 5 * time.Second  // TCP accept to the end of TLS and HTTP/2 settings
	pingMinTime      = 10 * time.Second // clients that ping more often are closed
	serverPing       = 30 * time.Second
	clientPing       = 20 * time.Second // above pingMinTime
	pingTimeout      = 10 * time.Second
	defaultPerSource = 64   // connections of one address
	defaultConns     = 1024 // connections in all
)

// ServerConfig says what both services' servers have in common.
type ServerConfig struct {
	Auth   Authenticator // required; *auth.Guard
	TLS    *tls.Config   // nil: no TLS
	Logger *slog.Logger  // nil: none
	// Version is told to callers that were admitted, in a header; "": nothing is.
	Version string
	// Metrics is where grpc_server_… are registered; nil: nowhere.
	Metrics prometheus.Registerer
	// Traces is where spans go; nil: the global provider.
	Traces trace.TracerProvider
	// Serving tells for grpc.health.v1 whether a service ("" for the process)
	// takes calls; nil: always. Asked once a second for each watcher.
	Serving func(service string) bool
	// CallsPerSecond and CallsBurst limit calls of each address; 0: 1,000 and
	// 2,000; negative: no limit.
	CallsPerSecond float64
	CallsBurst     int
	// TrustedProxies may say by X-Forwarded-For for whom they call; nil: nobody.
	TrustedProxies []netip.Prefix
	// Connections and ConnectionsPer bound connections in all and of one address;
	// 0: 1,024 and 64.
	Connections    int
	ConnectionsPer int
	// SendTimeout is how long a caller may leave a stream or its connection unread
	// while there is more for it: the stream then ends as Busy, and the connection
	// is closed. 0: 30 s.
	SendTimeout time.Duration
}

// Server is a gRPC server with the interceptors, limits and standard services of
// both Sluice services. Make it with NewServer, register services, then Serve.
type Server struct {
	cfg      ServerConfig
	grpc     *grpc.Server
	stopping context.Context //nolint:containedctx // ends when the server begins to stop
	stop     context.CancelFunc
	metrics  *grpcprom.ServerMetrics
	cleanup  func()
}

// NewServer returns a server with health, reflection and channelz registered.
// Errors are Invalid.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.Auth == nil {
		return nil, transfer.Errorf(transfer.Invalid, "make server", "", "nobody says who callers are")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Serving == nil {
		cfg.Serving = func(string) bool { return true }
	}
	if cfg.CallsPerSecond == 0 {
		cfg.CallsPerSecond = 1000
	}
	if cfg.CallsBurst <= 0 {
		cfg.CallsBurst = 2000
	}
	if cfg.Connections <= 0 {
		cfg.Connections = defaultConns
	}
	if cfg.ConnectionsPer <= 0 {
		cfg.ConnectionsPer = defaultPerSource
	}
	if cfg.SendTimeout <= 0 {
		cfg.SendTimeout = defaultSendTimeout
	}
	s := &Server{cfg: cfg}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.metrics = grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram())
	s.grpc = grpc.NewServer(s.options()...)
	healthpb.RegisterHealthServer(s.grpc, &healthService{server: s})
	reflection.Register(s.grpc) // v1 and v1alpha
	var err error
	if s.cleanup, err = admin.Register(s.grpc); err != nil {
		return nil, fmt.Errorf("register channelz: %w", err)
	}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(s.metrics); err != nil {
			return nil, transfer.Errorf(transfer.Invalid, "register metrics", "", "%w", err)
		}
	}
	return s, nil
}

func (s *Server) options() []grpc.ServerOption {
	unary, stream := chain(s.stopping, &s.cfg, s.metrics)
	traces := []otelgrpc.Option{otelgrpc.WithFilter(filters.Not(filters.HealthCheck()))}
	if s.cfg.Traces != nil {
		traces = append(traces, otelgrpc.WithTracerProvider(s.cfg.Traces))
	}
	opts := []grpc.ServerOption{
		grpc.StatsHandler(otelgrpc.NewServerHandler(traces...)),
		grpc.ChainUnaryInterceptor(unary...),
		grpc.ChainStreamInterceptor(stream...),
		grpc.MaxConcurrentStreams(MaxStreams),
		grpc.MaxHeaderListSize(MaxHeaderList),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTime, Time: serverPing, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingMinTime, PermitWithoutStream: true}),
	}
	if s.cfg.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(s.cfg.TLS)))
	}
	return opts
}

// Registrar is where services are registered, before Serve.
func (s *Server) Registrar() grpc.ServiceRegistrar { return s.grpc }

// Stopping returns a channel that is closed when the server begins to stop.
func (s *Server) Stopping() <-chan struct{} { return s.stopping.Done() }
