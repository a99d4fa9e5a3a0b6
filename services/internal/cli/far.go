package cli

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Credentials are how a client proves itself and checks the far side.
type Credentials struct {
	TLS        *auth.ClientTLS // nil: the system's authorities, or no TLS on loopback
	Token      *auth.Bearer    // nil: none
	ServerName string          // name that the certificate must have, if not the host
	NoTLS      bool            // no TLS even off loopback
}

// Far is a far receiver: its control plane, and how to open lanes to it.
type Far struct {
	Target  string
	Control *control.Client
	TLS     *auth.ClientTLS // nil: plain

	serverName string
	laneTLS    atomic.Bool // what the last answer said
}

// Negotiate offers a part, and notes whether lanes use TLS.
func (f *Far) Negotiate(ctx context.Context, part *transfer.OfferPart) (*transfer.Answer, error) {
	a, err := f.Control.Negotiate(ctx, part)
	if err == nil {
		f.laneTLS.Store(a.DataTLS)
	}
	return a, err
}

// Commit makes one call of the verify and commit steps.
func (f *Far) Commit(ctx context.Context, part *transfer.CommitPart) (*transfer.CommitResult, error) {
	return f.Control.Commit(ctx, part)
}

// Abort gives a transfer up.
func (f *Far) Abort(ctx context.Context, id transfer.ID, session transfer.Session, reason string) error {
	return f.Control.Abort(ctx, id, session, reason)
}

// Dial makes the client that flags describe. Nothing is connected yet.
func Dial(target string, f *ConnectFlags) (*Far, error) {
	c := Credentials{ServerName: f.TLSServerName, NoTLS: f.NoTLS}
	var err error
	if f.TLS(target) {
		c.TLS, err = auth.NewClientTLS(auth.ClientTLSConfig{CAFile: f.TLSCA, CertFile: f.TLSCert, KeyFile: f.TLSKey}, auth.Options{})
		if err != nil {
			return nil, &Usage{err}
		}
	}
	if c.Token, err = f.Bearer(target); err != nil {
		return nil, &Usage{err}
	}
	return DialWith(target, c)
}

// DialWith is Dial with credentials that are loaded already.
func DialWith(target string, c Credentials) (*Far, error) {
	if c.TLS == nil && !c.NoTLS && !Loopback(target) {
		var err error
		if c.TLS, err = auth.NewClientTLS(auth.ClientTLSConfig{}, auth.Options{}); err != nil {
			return nil, err
		}
	}
	cfg := control.ClientConfig{Target: target}
	var creds credentials.TransportCredentials
	if c.TLS != nil {
		creds = c.TLS.Credentials(c.ServerName)
	}
	cfg.TLS = creds
	if c.Token != nil {
		cfg.Token = c.Token
	}
	cl, err := control.Dial(cfg)
	if err != nil {
		return nil, err
	}
	return &Far{Target: target, Control: cl, TLS: c.TLS, serverName: c.ServerName}, nil
}

// Close ends the connection.
func (f *Far) Close() error { return f.Control.Close() }

// laneTimeout bounds connecting one lane.
const laneTimeout = 10 * time.Second

// DialLane opens one data connection, by TLS where the last answer said so.
func (f *Far) DialLane(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: laneTimeout}
	if !f.laneTLS.Load() {
		return d.DialContext(ctx, "tcp", addr)
	}
	if f.TLS == nil {
		return nil, transfer.Errorf(transfer.Invalid, "open lane", addr, "the receiver wants TLS on lanes, and the control plane was reached without")
	}
	name := f.serverName
	if name == "" {
		name, _, _ = net.SplitHostPort(f.Target)
	}
	td := tls.Dialer{NetDialer: &d, Config: f.TLS.Config(auth.ProtoLane, name)}
	return td.DialContext(ctx, "tcp", addr)
}

// Alive asks the health service, whatever it answers.
func (f *Far) Alive(ctx context.Context) error {
	_, err := f.Control.Serving(ctx)
	switch transfer.KindOf(err) {
	case transfer.Unavailable, transfer.Canceled:
		return err
	default:
		return nil // any answer is a sign of life
	}
}

// Healthcheck prints the state and returns an error unless the service serves.
// A probe needs no identity.
func Healthcheck(ctx context.Context, w io.Writer, target string, f *ConnectFlags, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	far, err := Dial(target, f)
	if err != nil {
		return err
	}
	defer far.Close()
	ok, err := far.Control.ServingService(ctx, "")
	if err != nil {
		return err
	}
	if !ok {
		fmt.Fprintln(w, "NOT_SERVING")
		return Code(ExitInternal)
	}
	_, err = fmt.Fprintln(w, "SERVING")
	return err
}
