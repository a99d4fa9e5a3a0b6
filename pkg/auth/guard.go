package auth

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// ErrUnauthenticated is in the chain of every error of Authenticate: the caller
// is not known, as against known and not allowed. Both are Denied; the boundary
// tells gRPC callers the difference.
var ErrUnauthenticated = errors.New("not authenticated")

const (
	opAuthenticate = "authenticate"
	hintToken      = "ask the operator for a new token and give it with --token-file"
)

func unauthenticated(msg, hint string) error {
	return &transfer.Error{Kind: transfer.Denied, Op: opAuthenticate, Msg: msg, Hint: hint, Err: ErrUnauthenticated}
}

// GuardConfig says how callers are known and what they may do.
type GuardConfig struct {
	NoAuth      bool      // every caller is Anonymous; excludes Tokens and ClientCerts
	Tokens      *Tokens   // nil: no bearer token is accepted
	ClientCerts bool      // verified client certificates are accepted
	DenyList    *DenyList // nil: no certificate is revoked
	Policies    *Policies // nil: DefaultPolicy, or OpenPolicy with NoAuth
	Now         func() time.Time
}

// Guard decides who a caller is and what it may do. It is safe for concurrent
// use.
type Guard struct {
	cfg GuardConfig

	mu     sync.Mutex
	proofs map[Principal][][]certID // chains by which a principal was known lately
}

const (
	maxProofs      = 16     // chains remembered for one principal, the oldest goes first
	maxProofOwners = 10_000 // principals remembered; about 2 MB
)

// NewGuard returns a guard. A configuration by which no caller could be known,
// or that both knows callers and does not care, is Invalid.
func NewGuard(cfg GuardConfig) (*Guard, error) {
	known := cfg.Tokens != nil || cfg.ClientCerts
	if cfg.NoAuth && known {
		return nil, transfer.Errorf(transfer.Invalid, "set up access", "", "--no-auth contradicts --tokens and --client-ca").
			WithHint("leave out --no-auth to know callers, or the others to serve everyone")
	}
	if !cfg.NoAuth && !known {
		return nil, transfer.Errorf(transfer.Invalid, "set up access", "", "there is no way to know callers").
			WithHint("give --tokens FILE or --client-ca FILE, or --no-auth to serve everyone")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Guard{cfg: cfg, proofs: make(map[Principal][][]certID)}, nil
}

// Authenticate returns the principal of a call. authorization is the value of
// the call's authorization header, "" when there is none; chain is the caller's
// certificate chain as the TLS handshake has verified it, leaf first
// (tls.ConnectionState.VerifiedChains[0], never PeerCertificates), empty when
// there is none.
//
// A token, when given, names the caller and must be good: a bad one is refused
// even beside a good certificate. Without one the certificate names the caller.
// A revoked or expired certificate is refused in either case, also on a
// connection that was open before. Errors are Denied, with ErrUnauthenticated
// in their chain; none holds any part of a token.
func (g *Guard) Authenticate(ctx context.Context, authorization string, chain []*x509.Certificate) (Principal, error) {
	if err := ctx.Err(); err != nil {
		return "", transfer.Errorf(transfer.Canceled, opAuthenticate, "", "%w", err)
	}
	if g.cfg.NoAuth {
		return Anonymous, nil
	}
	if !g.cfg.ClientCerts {
		chain = nil
	}
	if err := g.checkChain(chain); err != nil {
		return "", err
	}
	if authorization != "" {
		return g.byToken(authorization)
	}
	if len(chain) == 0 {
		return "", unauthenticated("the call carries neither a bearer token nor a client certificate that is accepted here", g.hint())
	}
	p, err := FromCertificate(chain[0])
	if err != nil {
		return "", err
	}
	g.remember(p, idsOf(chain))
	return p, nil
}

func (g *Guard) hint() string {
	switch {
	case g.cfg.Tokens == nil:
		return "give a client certificate with --tls-cert and --tls-key"
	case !g.cfg.ClientCerts:
		return "give a token with --token-file"
	}
	return "give a token with --token-file, or a client certificate with --tls-cert and --tls-key"
}

func (g *Guard) checkChain(chain []*x509.Certificate) error {
	now := g.cfg.Now()
	for _, c := range chain {
		if now.After(c.NotAfter) {
			return unauthenticated("the client certificate, or one that it depends on, expired at "+c.NotAfter.UTC().Format(time.RFC3339),
				"get a new certificate; it is loaded without a restart")
		}
	}
	return g.cfg.DenyList.Check(chain)
}

// byToken reads "Bearer TOKEN" (RFC 6750 section 2.1; the scheme's case does
// not matter, RFC 9110 section 11.1).
func (g *Guard) byToken(authorization string) (Principal, error) {
	if g.cfg.Tokens == nil {
		return "", unauthenticated("bearer tokens are not accepted here", g.hint())
	}
	scheme, secret, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "bearer") {
		return "", unauthenticated("the authorization header is not of the form Bearer TOKEN", g.hint())
	}
	return g.cfg.Tokens.Lookup(strings.TrimLeft(secret, " "))
}

func (g *Guard) remember(p Principal, ids []certID) {
	if g.cfg.DenyList == nil && g.cfg.Tokens == nil {
		return // nothing could ever make the proof worthless
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	proofs := g.proofs[p]
	for _, known := range proofs {
		if known[0].fingerprint == ids[0].fingerprint {
			return
		}
	}
	if proofs == nil && len(g.proofs) >= maxProofOwners {
		return
	}
	if len(proofs) >= maxProofs {
		proofs = proofs[1:]
	}
	g.proofs[p] = append(proofs, ids)
}

// Policy returns what p may do now. Ask again while work goes on: a principal
// that the operator removed is Denied here, also for what it began earlier.
//
// Removed means: its entry in the policy file is gone; or its last line in the
// token file is gone, unless a certificate proved the same name; or every
// certificate that proved it in this process is on the deny list. A token that
// merely expired removes nobody, so expiry never cuts open work.
//
// Names from certificates cannot be listed. So with ClientCerts and without a
// policy file, a principal that was not seen since the start (that of a job of
// an earlier run) is taken for known; a policy file takes away that doubt.
func (g *Guard) Policy(p Principal) (Policy, error) {
	if !g.cfg.NoAuth && !g.known(p) {
		return Policy{}, g.denied(p, "is not known, or not any more", "have a token or a certificate made for it")
	}
	if g.cfg.Policies != nil {
		policy, ok := g.cfg.Policies.For(p)
		if !ok {
			return Policy{}, g.denied(p, "has no entry in the policy file", "add one under \"principals\"; it is read within a second")
		}
		return policy, nil
	}
	if g.cfg.NoAuth {
		return OpenPolicy(), nil
	}
	return DefaultPolicy(), nil
}

func (g *Guard) denied(p Principal, why, hint string) error {
	return transfer.Errorf(transfer.Denied, "check policy", "", "the principal %s %s", transfer.Quote(string(p)), why).WithHint("%s", hint)
}

func (g *Guard) known(p Principal) bool {
	if p == "" || p == Anonymous {
		return false
	}
	if g.cfg.Tokens != nil && g.cfg.Tokens.Has(p) {
		return true
	}
	if !g.cfg.ClientCerts {
		return false
	}
	g.mu.Lock()
	proofs := g.proofs[p]
	g.mu.Unlock()
	for _, ids := range proofs {
		if g.cfg.DenyList == nil || !g.cfg.DenyList.has(ids) {
			return true
		}
	}
	return len(proofs) == 0 && (g.cfg.Tokens == nil || !g.cfg.Tokens.Removed(p))
}

// Stale returns, joined, why files as they are now are not in force, or nil; for
// metrics and a page of health. The service goes on with what it had.
func (g *Guard) Stale() error {
	var errs []error
	if g.cfg.Tokens != nil {
		errs = append(errs, g.cfg.Tokens.Stale())
	}
	if g.cfg.Policies != nil {
		errs = append(errs, g.cfg.Policies.Stale())
	}
	if g.cfg.DenyList != nil {
		errs = append(errs, g.cfg.DenyList.Stale())
	}
	return errors.Join(errs...)
}
