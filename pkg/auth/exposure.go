package auth

import (
	"net"
	"net/netip"
	"strings"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// CheckExposure refuses to let a service start that strangers could reach
// without TLS or without being known. listenAddrs are the addresses as
// configured (host:port); haveTLS says that --tls-cert and --tls-key were given,
// haveAuth that --tokens or --client-ca was, noTLS and noAuth that the flags of
// these names were.
//
// Loopback addresses need nothing. Any other one, the empty host (every
// interface) and every host name except localhost included, needs TLS or
// --no-tls, and a way to know callers or --no-auth, each for itself. A flag
// beside its opposite is refused everywhere. The error is Invalid; its hint
// names every flag that is missing.
func CheckExposure(listenAddrs []string, haveTLS, noTLS, haveAuth, noAuth bool) error {
	const op = "check exposure"
	if haveTLS && noTLS {
		return transfer.Errorf(transfer.Invalid, op, "", "--no-tls contradicts --tls-cert and --tls-key").WithHint("leave one of them out")
	}
	if haveAuth && noAuth {
		return transfer.Errorf(transfer.Invalid, op, "", "--no-auth contradicts --tokens and --client-ca").WithHint("leave one of them out")
	}
	var exposed []string
	for _, a := range listenAddrs {
		if !Loopback(a) {
			exposed = append(exposed, a)
		}
	}
	var missing, hints []string
	if !haveTLS && !noTLS {
		missing = append(missing, "without encryption")
		hints = append(hints, "--tls-cert and --tls-key (receiver cert makes both), or --no-tls where the network is trusted")
	}
	if !haveAuth && !noAuth {
		missing = append(missing, "by callers whom nobody knows")
		hints = append(hints, "--tokens or --client-ca, or --no-auth to serve everyone")
	}
	if len(exposed) == 0 || len(missing) == 0 {
		return nil
	}
	return transfer.Errorf(transfer.Invalid, op, "", "%s can be reached from other machines %s",
		strings.Join(exposed, ", "), strings.Join(missing, " and ")).
		WithHint("give %s; or listen on 127.0.0.1 only", strings.Join(hints, "; and "))
}

// Loopback reports whether a listening address (host:port) is reachable from
// this machine only, as far as its text tells: names are not resolved, and
// "localhost" is the only one that counts (RFC 6761 section 6.3).
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
