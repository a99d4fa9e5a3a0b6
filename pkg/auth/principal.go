package auth

import (
	"context"
	"crypto/x509"
	"strings"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Principal is the name of a caller, as its token or client certificate says.
// It is compared octet by octet; "alice" and "Alice" are two callers.
type Principal string

// Anonymous is every caller of a service that was started with --no-auth. No
// token and no certificate can carry this name.
const Anonymous Principal = "anonymous"

// MaxPrincipal is the longest name in octets. SPIFFE IDs may reach 2,048
// (SPIFFE-ID section 2.3), but names are kept in each transfer's journal and in
// every log line, and 255 is what one path element may have.
const MaxPrincipal = 255

// ParsePrincipal judges a name: 1 to MaxPrincipal octets, letters, digits and
// ". _ @ : / + -", beginning with a letter or a digit. So a name never needs
// quoting in a log, a token file or a URI, and SPIFFE IDs and mail addresses
// fit. The error is Invalid and does not repeat the name, which may be a token
// that was put in the wrong place.
func ParsePrincipal(s string) (Principal, error) {
	if reason := principalReason(s); reason != "" {
		return "", transfer.Errorf(transfer.Invalid, "read principal", "", "%s", reason)
	}
	return Principal(s), nil
}

func principalReason(s string) string {
	switch {
	case s == "":
		return "the name is empty"
	case len(s) > MaxPrincipal:
		return "the name is longer than 255 octets"
	case !alnum(s[0]):
		return "the name must begin with a letter or a digit"
	case strings.HasPrefix(s, TokenPrefix):
		return "the name begins like a token (slu_)"
	}
	for i := range len(s) {
		if !alnum(s[i]) && !strings.ContainsRune("._@:/+-", rune(s[i])) {
			return "the name has a character other than letters, digits and . _ @ : / + -"
		}
	}
	return ""
}

func alnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// uriScheme marks the URI name of a certificate that gives a plain principal.
const uriScheme = "sluice"

// FromCertificate derives the principal of a client certificate that the TLS
// handshake has verified. The first rule that applies decides:
//
//  1. URI names "spiffe://DOMAIN/PATH" (the principal is the whole URI) and
//     "sluice:NAME" (the principal is NAME). Exactly one such name may be there.
//  2. The DNS name, when there is exactly one.
//  3. The subject's common name, when there is no URI and no DNS name.
//
// A name of rules 2 and 3 that looks like a URI is refused, so a certificate
// authority that checks only URI names cannot be made to hand one out by
// another field. Anything else is Denied, with a hint how to issue it.
func FromCertificate(c *x509.Certificate) (Principal, error) {
	name, reason := certificateName(c)
	if reason == "" {
		p, err := ParsePrincipal(name)
		if err == nil && p != Anonymous {
			return p, nil
		}
		reason = "the name in the client certificate is not usable as a principal"
	}
	e := transfer.Error{Kind: transfer.Denied, Op: opAuthenticate, Msg: reason, Err: ErrUnauthenticated}
	return "", e.WithHint("issue the certificate with one URI name, sluice:NAME or spiffe://DOMAIN/PATH (receiver cert does)")
}

func certificateName(c *x509.Certificate) (name, reason string) {
	found := 0
	for _, u := range c.URIs {
		switch {
		case u.Scheme == "spiffe" && u.Host != "":
			name, found = u.String(), found+1
		case u.Scheme == uriScheme:
			name, found = u.Opaque, found+1
		}
	}
	switch {
	case found > 1:
		return "", "the client certificate has more than one URI name that could be the principal"
	case found == 1:
		return name, ""
	case len(c.DNSNames) > 1:
		return "", "the client certificate has several DNS names and no URI name, so its principal is not clear"
	case len(c.DNSNames) == 1:
		name = c.DNSNames[0]
	case len(c.URIs) == 0:
		name = c.Subject.CommonName
	}
	if name == "" {
		return "", "the client certificate names no principal"
	}
	if strings.ContainsAny(name, ":/") {
		return "", "the client certificate has a URI outside its URI names"
	}
	return name, ""
}

type contextKey struct{}

// WithPrincipal returns a context that carries p.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext returns the principal that an interceptor put into ctx. Without
// one ok is false: the caller must treat that as Denied, never as Anonymous.
func FromContext(ctx context.Context) (p Principal, ok bool) {
	p, ok = ctx.Value(contextKey{}).(Principal)
	return p, ok && p != ""
}
