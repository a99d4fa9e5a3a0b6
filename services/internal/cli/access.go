package cli

import (
	"log/slog"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// AccessFlags are the flags of a service that say how it is protected: what it
// shows to callers, and what callers have to show.
type AccessFlags struct {
	NoTLS    bool   `name:"no-tls" help:"Serve off loopback without TLS."`
	NoAuth   bool   `help:"Serve off loopback without knowing callers."`
	TLSCert  string `name:"tls-cert" help:"Certificate chain (PEM), reloaded when it changes." type:"path" placeholder:"FILE"`
	TLSKey   string `name:"tls-key" help:"Private key (PEM)." type:"path" placeholder:"FILE"`
	ClientCA string `name:"client-ca" help:"CA of client certificates (PEM): turns on mutual TLS." type:"path" placeholder:"FILE"`
	DenyList string `help:"File of revoked certificates: SHA-256 fingerprints, one a line." type:"path" placeholder:"FILE"`
	Tokens   string `help:"File of bearer tokens, hashed (see receiver token), reloaded when it changes." type:"path" placeholder:"FILE"`
	Policies string `help:"File of policies per principal (JSON), reloaded when it changes." type:"path" placeholder:"FILE"`
}

// HasTLS reports whether there is what TLS needs.
func (f *AccessFlags) HasTLS() bool { return f.TLSCert != "" && f.TLSKey != "" }

func (f *AccessFlags) knowsCallers() bool { return f.Tokens != "" || f.ClientCA != "" }

// Check refuses addresses (host:port) off loopback without the means to protect
// them, and flags that have no meaning without each other.
func (f *AccessFlags) Check(addrs ...string) error {
	if err := auth.CheckExposure(addrs, f.HasTLS(), f.NoTLS, f.knowsCallers(), f.NoAuth); err != nil {
		return err
	}
	const op = "check configuration"
	if (f.TLSCert == "") != (f.TLSKey == "") {
		return transfer.Errorf(transfer.Invalid, op, "", "--tls-cert and --tls-key belong together")
	}
	if f.ClientCA != "" && !f.HasTLS() {
		return transfer.Errorf(transfer.Invalid, op, "", "--client-ca needs --tls-cert and --tls-key")
	}
	return nil
}

// Load reads the files. Without TLS the second result is nil; a service on
// loopback that was told of no callers lets in everyone.
func (f *AccessFlags) Load(log *slog.Logger) (guard *auth.Guard, tls *auth.ServerTLS, err error) {
	opts := auth.Options{Log: log}
	cfg := auth.GuardConfig{NoAuth: f.NoAuth || !f.knowsCallers(), ClientCerts: f.ClientCA != ""}
	if f.Tokens != "" {
		if cfg.Tokens, err = auth.LoadTokens(f.Tokens, opts); err != nil {
			return nil, nil, err
		}
	}
	if f.DenyList != "" {
		if cfg.DenyList, err = auth.LoadDenyList(f.DenyList, opts); err != nil {
			return nil, nil, err
		}
	}
	if f.Policies != "" {
		if cfg.Policies, err = auth.LoadPolicies(f.Policies, opts); err != nil {
			return nil, nil, err
		}
	}
	if guard, err = auth.NewGuard(cfg); err != nil {
		return nil, nil, err
	}
	if f.TLSCert != "" {
		tls, err = auth.NewServerTLS(auth.ServerTLSConfig{CertFile: f.TLSCert, KeyFile: f.TLSKey, ClientCAFile: f.ClientCA, DenyList: cfg.DenyList}, opts)
	}
	return guard, tls, err
}
