package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Protocols for ALPN (RFC 7301). Both ends insist on theirs, so a lane that
// reaches the control port, or the reverse, fails in the handshake.
const (
	ProtoControl = "h2"            // gRPC (RFC 9113 section 3.2)
	ProtoLane    = "sluice-lane/1" // data lanes, by their hello's version
)

// ServerTLSConfig names the files of a server.
type ServerTLSConfig struct {
	CertFile string // PEM chain, leaf first
	KeyFile  string // PEM key of the leaf

	// ClientCAFile holds the authorities of client certificates; "": clients are
	// not asked for certificates.
	ClientCAFile string
	// RequireClientCert refuses, in the handshake, clients without a certificate.
	// Leave it false where bearer tokens are accepted too. A certificate that is
	// given must be good in either case.
	RequireClientCert bool
	// DenyList refuses revoked client certificates in the handshake; nil: none.
	DenyList *DenyList
}

// ServerTLS makes TLS configurations of a server whose files are read again
// when they change. It is safe for concurrent use.
type ServerTLS struct {
	cfg  ServerTLSConfig
	pair *watched[*tls.Certificate]
	cas  *watched[*x509.CertPool] // nil: no client certificates
}

// NewServerTLS loads the files. An error is Invalid and names the file.
func NewServerTLS(cfg ServerTLSConfig, opts Options) (*ServerTLS, error) {
	const op = "set up TLS"
	if cfg.CertFile == "" || cfg.KeyFile == "" {
		return nil, transfer.Errorf(transfer.Invalid, op, "", "a certificate and its key are needed").WithHint("give both --tls-cert and --tls-key")
	}
	if cfg.ClientCAFile == "" && (cfg.RequireClientCert || cfg.DenyList != nil) {
		return nil, transfer.Errorf(transfer.Invalid, op, "", "client certificates cannot be checked without their authority").WithHint("give --client-ca")
	}
	s := &ServerTLS{cfg: cfg}
	var err error
	if s.pair, err = watchPair(cfg.CertFile, cfg.KeyFile, opts); err != nil {
		return nil, err
	}
	if cfg.ClientCAFile != "" {
		if s.cas, err = watchPool(cfg.ClientCAFile, opts); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Config returns the configuration for a listener of one protocol, ProtoControl
// or ProtoLane. Each handshake uses the files as they are then. The caller
// bounds the time of a handshake.
func (s *ServerTLS) Config(proto string) *tls.Config {
	c := s.current(proto)
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.current(proto), nil }
	return c
}

func (s *ServerTLS) current(proto string) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{proto},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.pair.get(), nil
		},
		// A resumed session would not show its certificate to a newer authority.
		SessionTicketsDisabled: true,
		VerifyConnection:       func(cs tls.ConnectionState) error { return s.verify(cs, proto) },
	}
	if s.cas != nil {
		c.ClientCAs = s.cas.get()
		c.ClientAuth = tls.VerifyClientCertIfGiven
		if s.cfg.RequireClientCert {
			c.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return c
}

func (s *ServerTLS) verify(cs tls.ConnectionState, proto string) error {
	if err := checkProto(cs, proto); err != nil {
		return err
	}
	for _, chain := range cs.VerifiedChains {
		if err := s.cfg.DenyList.Check(chain); err != nil {
			return err
		}
	}
	return nil
}

// checkProto refuses a peer that named no protocol at all, which crypto/tls
// lets pass.
func checkProto(cs tls.ConnectionState, proto string) error {
	if cs.NegotiatedProtocol != proto {
		return transfer.Errorf(transfer.Invalid, "agree on a protocol", "", "the far side does not speak %s here (ALPN %q)", proto, cs.NegotiatedProtocol).
			WithHint("check that the address is that of the right port")
	}
	return nil
}

// Stale returns, joined, why files as they are now are not in force, or nil.
func (s *ServerTLS) Stale() error {
	err := s.pair.stale()
	if s.cas != nil {
		err = errors.Join(err, s.cas.stale())
	}
	return err
}

// Describe says in a few words what is asked of clients, for the log at start.
func (s *ServerTLS) Describe() string {
	switch {
	case s.cas == nil:
		return "TLS 1.3"
	case s.cfg.RequireClientCert:
		return fmt.Sprintf("TLS 1.3, client certificates of %s required", s.cfg.ClientCAFile)
	}
	return fmt.Sprintf("TLS 1.3, client certificates of %s accepted", s.cfg.ClientCAFile)
}
