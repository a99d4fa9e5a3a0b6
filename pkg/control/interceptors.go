package control

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/realip"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// chain is the interceptors of a server, from the outside in: the real address,
// metrics, log, recovery, rate limit, identity, mapping of errors. Recovery lies
// within metrics and log, so that a panic is counted and logged as INTERNAL.
func chain(stopping context.Context, cfg *ServerConfig, metrics *grpcprom.ServerMetrics) (unary []grpc.UnaryServerInterceptor, stream []grpc.StreamServerInterceptor) {
	ipOptions := []realip.Option{realip.WithTrustedPeers(cfg.TrustedProxies), realip.WithHeaders([]string{realip.XForwardedFor}), realip.WithTrustedProxies(cfg.TrustedProxies)}
	logger, logOptions := logTo(cfg.Logger), []logging.Option{
		logging.WithLogOnEvents(logging.FinishCall), logging.WithLevels(level),
		logging.WithDisableLoggingFields(logging.SystemTag[0], logging.ComponentFieldKey, logging.MethodTypeFieldKey),
	}
	onPanic := recovery.WithRecoveryHandlerContext(func(ctx context.Context, p any) error {
		logging.AddFields(ctx, logging.Fields{"panic", fmt.Sprint(p), "stack", string(debug.Stack())})
		return ToStatus(&transfer.Error{Kind: transfer.Internal})
	})
	limit := newLimiter(cfg.CallsPerSecond, cfg.CallsBurst)
	unary = []grpc.UnaryServerInterceptor{
		realip.UnaryServerInterceptorOpts(ipOptions...),
		metrics.UnaryServerInterceptor(),
		logging.UnaryServerInterceptor(logger, logOptions...),
		recovery.UnaryServerInterceptor(onPanic),
		func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			ctx, err := admit(ctx, cfg.Auth, limit, info.FullMethod)
			if err != nil {
				return nil, err
			}
			tellVersion(ctx, cfg.Version)
			nameTransfer(ctx, req)
			if waits(info.FullMethod) {
				var done func()
				ctx, done = endWith(ctx, stopping)
				defer done()
			}
			resp, err := next(ctx, req)
			return resp, mapError(ctx, err)
		},
	}
	stream = []grpc.StreamServerInterceptor{
		realip.StreamServerInterceptorOpts(ipOptions...),
		metrics.StreamServerInterceptor(),
		logging.StreamServerInterceptor(logger, logOptions...),
		recovery.StreamServerInterceptor(onPanic),
		func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			ctx, err := admit(ss.Context(), cfg.Auth, limit, info.FullMethod)
			if err != nil {
				return err
			}
			ctx, done := endWith(ctx, stopping)
			defer done()
			return mapError(ctx, next(srv, &readStream{ServerStream: ss, ctx: ctx, limit: cfg.SendTimeout}))
		},
	}
	return unary, stream
}

// admit is rate limit, then identity, then, for the means of inspection, the
// right to use them. Its errors are statuses.
func admit(ctx context.Context, a Authenticator, limit *limiter, method string) (context.Context, error) {
	if err := limit.allow(ctx); err != nil {
		return nil, ToStatus(err)
	}
	if open(method) {
		return ctx, nil
	}
	id, err := identify(ctx, a)
	if err != nil {
		return nil, mapError(ctx, err)
	}
	ctx = id
	if inspection(method) {
		if _, policy, err := Caller(ctx); err != nil || !policy.Admin {
			return nil, ToStatus(transfer.Errorf(transfer.Denied, "inspect the service", "", "this principal may not").
				WithHint("have \"admin\" set for the principal in the policy file"))
		}
	}
	return ctx, nil
}

// endWith returns a context that also ends, with a cause for the caller, when
// the server stops. Streams and calls that wait would hold up a graceful stop.
func endWith(ctx, stopping context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(stopping, func() {
		cancel(transfer.Errorf(transfer.Unavailable, "serve call", "", "the service is stopping").WithHint("try again in a moment"))
	})
	return ctx, func() { stop(); cancel(nil) }
}

// waits reports the unary calls that last until something happens.
func waits(method string) bool { return strings.HasSuffix(method, "/WaitTransfer") }

func service(method string) string {
	s, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return s
}

// open reports the methods that need no identity: probes of health, and the
// description of the API, which is public as source.
func open(method string) bool {
	switch service(method) {
	case "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection":
		return true
	}
	return false
}

// inspection reports the methods that show other callers' connections.
func inspection(method string) bool {
	s := service(method)
	return strings.HasPrefix(s, "grpc.channelz.") || strings.HasPrefix(s, "envoy.")
}

// mapError turns an error of a handler into a status. The cause of a fault of
// ours goes into the finish line of the log, since the status hides it.
func mapError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	s := ToStatus(err)
	if status.Code(s) == codes.Internal && ctx != nil {
		logging.AddFields(ctx, logging.Fields{"cause", err.Error()})
	}
	return s
}

// nameTransfer puts the transfer's id into the log.
func nameTransfer(ctx context.Context, req any) {
	switch r := req.(type) {
	case interface{ GetTransferId() string }:
		logging.AddFields(ctx, logging.Fields{"transfer", cut(r.GetTransferId(), 64)})
	case interface{ GetJobId() string }:
		logging.AddFields(ctx, logging.Fields{"transfer", cut(r.GetJobId(), 64)})
	}
}

// level logs what a person must see at warn and above, refusals at info, success
// at debug: a transfer's own lines tell what happened.
func level(c codes.Code) logging.Level {
	switch c {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return logging.LevelError
	case codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied:
		return logging.LevelWarn
	case codes.OK, codes.Canceled:
		return logging.LevelDebug
	}
	return logging.LevelInfo
}

func logTo(l *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
		l.Log(ctx, slog.Level(level), msg, fields...)
	})
}
