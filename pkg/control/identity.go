package control

import (
	"context"
	"crypto/x509"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Authenticator tells who a caller is and what it may do; *auth.Guard is one.
type Authenticator interface {
	// Authenticate returns the principal of a call from its authorization header
	// and its verified certificate chain; the error is Denied.
	Authenticate(ctx context.Context, authorization string, chain []*x509.Certificate) (auth.Principal, error)
	// Policy returns what a principal may do; the error is Denied.
	Policy(p auth.Principal) (auth.Policy, error)
}

var _ Authenticator = (*auth.Guard)(nil)

type policyKey struct{}

// identify is the auth interceptor's work: the context it returns carries
// principal and policy, which also go to the log.
func identify(ctx context.Context, a Authenticator) (context.Context, error) {
	var header string
	if v := metadata.ValueFromIncomingContext(ctx, "authorization"); len(v) > 1 {
		return nil, transfer.Errorf(transfer.Invalid, "authenticate", "", "the call has %d authorization headers, want one", len(v))
	} else if len(v) == 1 {
		header = v[0]
	}
	p, err := a.Authenticate(ctx, header, verifiedChain(ctx))
	if err != nil {
		return nil, err
	}
	policy, err := a.Policy(p)
	if err != nil {
		return nil, err
	}
	logging.AddFields(ctx, logging.Fields{"principal", string(p)})
	return context.WithValue(auth.WithPrincipal(ctx, p), policyKey{}, policy), nil
}

func verifiedChain(ctx context.Context) []*x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0]
}

// Caller returns principal and policy of the call that ctx belongs to. Without
// the auth interceptor it is Denied, never anonymous.
func Caller(ctx context.Context) (auth.Principal, auth.Policy, error) {
	p, ok := auth.FromContext(ctx)
	policy, has := ctx.Value(policyKey{}).(auth.Policy)
	if !ok || !has {
		return "", auth.Policy{}, &transfer.Error{Kind: transfer.Denied, Op: "authenticate", Msg: "the call has no identity", Err: auth.ErrUnauthenticated}
	}
	return p, policy, nil
}
