package auth

import (
	"context"
	"net"
	"strings"

	"google.golang.org/grpc/credentials"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Credentials returns c for a gRPC client. credentials.NewTLS would keep the
// authorities of the moment for the life of the channel; this makes each
// handshake with the files as they are then. serverName overrides the host of
// the dialled address; "" does not.
func (c *ClientTLS) Credentials(serverName string) credentials.TransportCredentials {
	return &clientCredentials{tls: c, serverName: serverName}
}

type clientCredentials struct {
	tls        *ClientTLS
	serverName string
}

// ClientHandshake satisfies credentials.TransportCredentials.
func (c *clientCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if c.serverName != "" {
		authority = c.serverName // what NewTLS checks; it ignores the configuration's name
	}
	return credentials.NewTLS(c.tls.Config(ProtoControl, "")).ClientHandshake(ctx, authority, conn)
}

// ServerHandshake is refused: these are a client's.
func (c *clientCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, transfer.Errorf(transfer.Internal, "shake hands", "", "a client's credentials were given to a server")
}

// Info satisfies credentials.TransportCredentials.
func (c *clientCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone satisfies credentials.TransportCredentials.
func (c *clientCredentials) Clone() credentials.TransportCredentials {
	clone := *c
	return &clone
}

// OverrideServerName satisfies credentials.TransportCredentials.
func (c *clientCredentials) OverrideServerName(name string) error {
	c.serverName = name
	return nil
}

// Bearer gives a client's token to each gRPC call, as
// credentials.PerRPCCredentials. The file is read again when it changes, so a
// token is replaced without a restart.
type Bearer struct {
	get   func() string
	plain bool
}

// NewBearer takes a token that the caller has already, from an environment
// variable, say. allowPlain is as for LoadBearer. An error is Invalid and never
// shows the token.
func NewBearer(secret string, allowPlain bool) (*Bearer, error) {
	if !wellFormed(secret) {
		return nil, transfer.Errorf(transfer.Invalid, "read token", "", "the text given is not a token (%s and 43 characters)", TokenPrefix).
			WithHint("give the token as the operator made it (receiver token)")
	}
	return &Bearer{get: func() string { return secret }, plain: allowPlain}, nil
}

// LoadBearer reads a file that holds one token and perhaps white space. A token
// is sent over TLS only, unless allowPlain; that is for loopback and for
// networks that --no-tls calls trusted. An error is Invalid and never shows
// what the file holds.
func LoadBearer(path string, allowPlain bool, opts Options) (*Bearer, error) {
	f, err := watch(opts, func(files [][]byte) (string, error) {
		s := strings.TrimSpace(string(files[0]))
		if !wellFormed(s) {
			return "", transfer.Errorf(transfer.Invalid, "read token", "", "the file does not hold one token (%s and 43 characters)", TokenPrefix).
				WithHint("put only the token that the operator gave into the file")
		}
		return s, nil
	}, path)
	if err != nil {
		return nil, err
	}
	return &Bearer{get: f.get, plain: allowPlain}, nil
}

// GetRequestMetadata satisfies credentials.PerRPCCredentials.
func (b *Bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.get()}, nil
}

// RequireTransportSecurity satisfies credentials.PerRPCCredentials.
func (b *Bearer) RequireTransportSecurity() bool { return !b.plain }

// String hides the token, so that it never reaches a log by accident.
func (b *Bearer) String() string { return "bearer(hidden)" }
