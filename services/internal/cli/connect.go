package cli

import (
	"context"
	"net"
	"os"
	"strings"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// ConnectFlags say how a command reaches a service. Their variables are others
// than those of serve: SLUICE_TLS_CERT is what a service shows, SLUICE_CLIENT_CERT
// what a command shows to a service.
type ConnectFlags struct {
	TLSCA         string `name:"tls-ca" help:"CA of the far side's certificate (PEM); turns on TLS." placeholder:"FILE" type:"path"`
	TLSCert       string `name:"tls-cert" help:"Own client certificate (PEM), for mutual TLS." placeholder:"FILE" type:"path" env:"SLUICE_CLIENT_CERT"`
	TLSKey        string `name:"tls-key" help:"Own private key (PEM)." placeholder:"FILE" type:"path" env:"SLUICE_CLIENT_KEY"`
	TLSServerName string `name:"tls-server-name" help:"Name that the certificate must have, if not the host." placeholder:"NAME"`
	NoTLS         bool   `name:"no-tls" help:"Speak without TLS to an address off loopback." env:"-"`
	TokenFile     string `help:"File with the bearer token; or the variable SLUICE_TOKEN." placeholder:"FILE" type:"path"`
}

// TLS reports whether the connection to target uses TLS: when a CA or a
// certificate is given, and always off loopback unless --no-tls was said.
func (f *ConnectFlags) TLS(target string) bool {
	if f.NoTLS {
		return false
	}
	return f.TLSCA != "" || f.TLSCert != "" || !Loopback(target)
}

// Bearer returns the token for target, or nil. It is read from a file or a
// variable, never from an argument, which every user of the machine could see.
func (f *ConnectFlags) Bearer(target string) (*auth.Bearer, error) {
	plain := !f.TLS(target)
	if f.TokenFile != "" {
		return auth.LoadBearer(f.TokenFile, plain, auth.Options{})
	}
	if secret := os.Getenv("SLUICE_TOKEN"); secret != "" {
		return auth.NewBearer(secret, plain)
	}
	return nil, nil
}

// Loopback reports whether the host of target is a loopback address or name.
func Loopback(target string) bool {
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = target
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// WithPort returns target with the default port when it has none.
func WithPort(target, port string) string {
	if _, _, err := net.SplitHostPort(target); err == nil {
		return target
	}
	return net.JoinHostPort(strings.Trim(target, "[]"), port)
}

// Off turns an optional listener off.
const Off = "off"

// Listen opens a TCP listener, or none for "" and "off". The error names the flag.
func Listen(ctx context.Context, addr, flag string) (net.Listener, error) {
	if addr == "" || addr == Off {
		return nil, nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, transfer.Errorf(transfer.Internal, "listen on", addr, "%w", err).WithHint("another program may use the port; give another one with --%s", flag)
	}
	return l, nil
}

// ListenUDP opens a UDP socket, or none for "" and "off".
func ListenUDP(addr, flag string) (*net.UDPConn, error) {
	if addr == "" || addr == Off {
		return nil, nil
	}
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, Usagef("--%s: %w", flag, err)
	}
	c, err := net.ListenUDP("udp", a)
	if err != nil {
		return nil, transfer.Errorf(transfer.Internal, "listen on", addr, "%w", err).WithHint("another program may use the port; give another one with --%s", flag)
	}
	return c, nil
}
