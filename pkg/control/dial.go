package control

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/timeout"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/e27efefb/sluice/pkg/transfer"
)

const defaultTimeout = 30 * time.Second

// DialConn makes the connection of a client to either service; Dial uses it, and
// clients of the sender service do. The error is Invalid.
func DialConn(cfg ClientConfig) (*grpc.ClientConn, error) {
	host, port, err := net.SplitHostPort(cfg.Target)
	if err != nil || host == "" || port == "" {
		return nil, transfer.Errorf(transfer.Invalid, "reach the service", "", "%q is not an address of the form host:port", cfg.Target)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	conn, err := grpc.NewClient("dns:///"+cfg.Target, dialOptions(&cfg)...)
	if err != nil {
		return nil, transfer.Errorf(transfer.Invalid, "reach the service", "", "%w", err).
			WithHint("a token is sent over TLS only: turn TLS on, or allow plain tokens on loopback")
	}
	return conn, nil
}

func dialOptions(cfg *ClientConfig) []grpc.DialOption {
	logger := logTo(cfg.Logger)
	logOptions := []logging.Option{
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithLevels(func(codes.Code) logging.Level { return logging.LevelDebug }), // the engine says what matters
		logging.WithDisableLoggingFields(logging.SystemTag[0], logging.ComponentFieldKey, logging.MethodTypeFieldKey),
	}
	unary := []grpc.UnaryClientInterceptor{
		selector.UnaryClientInterceptor(timeout.UnaryClientInterceptor(cfg.Timeout), selector.MatchFunc(brief)),
	}
	var stream []grpc.StreamClientInterceptor
	if cfg.Metrics != nil {
		unary = append(unary, cfg.Metrics.UnaryClientInterceptor())
		stream = append(stream, cfg.Metrics.StreamClientInterceptor())
	}
	unary = append(unary, logging.UnaryClientInterceptor(logger, logOptions...))
	stream = append(stream, logging.StreamClientInterceptor(logger, logOptions...))
	creds := cfg.TLS
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithStatsHandler(otelgrpc.NewClientHandler()),
		grpc.WithChainUnaryInterceptor(unary...),
		grpc.WithChainStreamInterceptor(stream...),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientPing, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDisableRetry(),         // only the engine repeats calls
		grpc.WithDisableServiceConfig(), // nor may a DNS record make grpc do it
		grpc.WithNoProxy(),              // lanes could not follow
	}
	if cfg.conns != nil {
		opts = append(opts, grpc.WithStatsHandler(cfg.conns))
	}
	if cfg.Token != nil {
		opts = append(opts, grpc.WithPerRPCCredentials(cfg.Token))
	}
	return opts
}

// brief reports the calls that end soon when all is well. Commit works and
// WaitTransfer waits for as long as it takes; keepalive watches over them.
func brief(_ context.Context, c interceptors.CallMeta) bool {
	return c.Method != "Commit" && c.Method != "WaitTransfer"
}
