package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// ClientTLSConfig names the files of a client.
type ClientTLSConfig struct {
	CAFile   string // authorities of servers; "": those of the system
	CertFile string // PEM chain of the client, leaf first; "": none
	KeyFile  string // PEM key of the leaf; given with CertFile or not at all
}

// ClientTLS makes TLS configurations of a client whose files are read again
// when they change. It is safe for concurrent use.
type ClientTLS struct {
	cas  *watched[*x509.CertPool]
	pair *watched[*tls.Certificate]
}

// NewClientTLS loads the files. An error is Invalid and names the file.
func NewClientTLS(cfg ClientTLSConfig, opts Options) (*ClientTLS, error) {
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, transfer.Errorf(transfer.Invalid, "set up TLS", "", "a client certificate and its key go together").
			WithHint("give both --tls-cert and --tls-key, or neither")
	}
	c := &ClientTLS{}
	var err error
	if cfg.CAFile != "" {
		if c.cas, err = watchPool(cfg.CAFile, opts); err != nil {
			return nil, err
		}
	}
	if cfg.CertFile != "" {
		if c.pair, err = watchPair(cfg.CertFile, cfg.KeyFile, opts); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Config returns the configuration of one connection, for ProtoControl or
// ProtoLane, with the authorities as the file has them now: ask for a new one
// for each connection (Credentials does, for gRPC). serverName is the host, a
// name or an IP address, that the server's certificate must have.
func (c *ClientTLS) Config(proto, serverName string) *tls.Config {
	cfg := &tls.Config{
		MinVersion:       tls.VersionTLS13,
		NextProtos:       []string{proto},
		ServerName:       serverName,
		VerifyConnection: func(cs tls.ConnectionState) error { return checkProto(cs, proto) },
	}
	if c.cas != nil {
		cfg.RootCAs = c.cas.get()
	}
	if c.pair != nil {
		// The certificate is sent also to a server that does not name its
		// authority: "unknown authority" tells more than "certificate required".
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.pair.get(), nil }
	}
	return cfg
}

// Stale returns, joined, why files as they are now are not in force, or nil.
func (c *ClientTLS) Stale() error {
	var errs []error
	if c.cas != nil {
		errs = append(errs, c.cas.stale())
	}
	if c.pair != nil {
		errs = append(errs, c.pair.stale())
	}
	return errors.Join(errs...)
}
