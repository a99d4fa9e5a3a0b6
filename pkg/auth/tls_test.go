package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/e27efefb/sluice/internal/logtest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// site is an authority with the files of one server and one client.
type site struct {
	dir string
	ca  *CA
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), ca: must(GenerateCA("", 0, nil))(t)}
	s.write(t, "ca", s.ca.Pair())
	s.write(t, "server", must(s.ca.IssueServer([]string{"127.0.0.1", "receiver"}, 0))(t))
	s.write(t, "client", must(s.ca.IssueClient("bob", 0))(t))
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(t *testing.T, name string, p Pair) {
	t.Helper()
	if err := p.Write(s.path(name+".crt"), s.path(name+".key"), true); err != nil {
		t.Fatal(err)
	}
}

func (s *site) serverConfig() ServerTLSConfig {
	return ServerTLSConfig{CertFile: s.path("server.crt"), KeyFile: s.path("server.key"), ClientCAFile: s.path("ca.crt")}
}

func (s *site) clientConfig() ClientTLSConfig {
	return ClientTLSConfig{CAFile: s.path("ca.crt"), CertFile: s.path("client.crt"), KeyFile: s.path("client.key")}
}

// dial makes one connection on loopback and lets one octet pass each way, since
// in TLS 1.3 a client learns only then that the server refused it.
func dial(t *testing.T, server, client *tls.Config) (cs, ss tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer raw.Close()
		c := tls.Server(raw, server)
		err = c.HandshakeContext(ctx)
		if err == nil {
			ss = c.ConnectionState()
			_, err = io.CopyN(c, c, 1)
		}
		done <- err
	}()
	raw := must(net.Dial("tcp", ln.Addr().String()))(t)
	defer raw.Close()
	c := tls.Client(raw, client)
	clientErr = c.HandshakeContext(ctx)
	if clientErr == nil {
		cs = c.ConnectionState()
		if _, clientErr = c.Write([]byte{1}); clientErr == nil {
			_, clientErr = io.ReadFull(c, make([]byte, 1))
		}
	}
	_ = raw.Close()
	return cs, ss, <-done, clientErr
}

func wantConnected(t *testing.T, server, client *tls.Config) (cs, ss tls.ConnectionState) {
	t.Helper()
	cs, ss, serr, cerr := dial(t, server, client)
	if serr != nil || cerr != nil {
		t.Fatalf("server %v, client %v", serr, cerr)
	}
	return cs, ss
}

// wantRefused fails unless both ends gave up, and one of them for that reason.
func wantRefused(t *testing.T, server, client *tls.Config, why string) {
	t.Helper()
	_, _, serr, cerr := dial(t, server, client)
	if serr == nil || cerr == nil {
		t.Fatalf("connected: server %v, client %v; want both refused (%s)", serr, cerr, why)
	}
	if !strings.Contains(serr.Error(), why) && !strings.Contains(cerr.Error(), why) {
		t.Errorf("server %v, client %v; want %q", serr, cerr, why)
	}
}

func TestMutualTLS(t *testing.T) {
	s := newSite(t)
	server := must(NewServerTLS(s.serverConfig(), Options{}))(t)
	client := must(NewClientTLS(s.clientConfig(), Options{}))(t)
	for _, host := range []string{"127.0.0.1", "receiver"} {
		cs, ss := wantConnected(t, server.Config(ProtoLane), client.Config(ProtoLane, host))
		if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != ProtoLane {
			t.Errorf("version %x, protocol %q", cs.Version, cs.NegotiatedProtocol)
		}
		if p, err := FromCertificate(ss.VerifiedChains[0][0]); p != "bob" {
			t.Errorf("principal %q, %v", p, err)
		}
	}
	wantRefused(t, server.Config(ProtoLane), client.Config(ProtoLane, "127.0.0.2"), "127.0.0.2")
	wantRefused(t, server.Config(ProtoLane), client.Config(ProtoLane, "other"), "not other")

	// Given is checked, not given is the guard's business, unless required.
	cfg := s.clientConfig()
	cfg.CertFile, cfg.KeyFile = "", ""
	bare := must(NewClientTLS(cfg, Options{}))(t)
	if _, ss := wantConnected(t, server.Config(ProtoLane), bare.Config(ProtoLane, "receiver")); len(ss.VerifiedChains) != 0 {
		t.Error("a chain without a certificate")
	}
	scfg := s.serverConfig()
	scfg.RequireClientCert = true
	strict := must(NewServerTLS(scfg, Options{}))(t)
	wantRefused(t, strict.Config(ProtoLane), bare.Config(ProtoLane, "receiver"), "didn't provide a certificate")
	wantConnected(t, strict.Config(ProtoLane), client.Config(ProtoLane, "receiver"))
}

func TestOldTLSRefused(t *testing.T) {
	s := newSite(t)
	server := must(NewServerTLS(s.serverConfig(), Options{}))(t)
	client := must(NewClientTLS(s.clientConfig(), Options{}))(t)
	old := client.Config(ProtoLane, "receiver")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	wantRefused(t, server.Config(ProtoLane), old, "protocol version")
	oldServer := server.Config(ProtoLane)
	oldServer.GetConfigForClient = nil
	oldServer.MinVersion, oldServer.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	wantRefused(t, oldServer, client.Config(ProtoLane, "receiver"), "protocol version")
}

func TestProtocolsDoNotMix(t *testing.T) {
	s := newSite(t)
	server := must(NewServerTLS(s.serverConfig(), Options{}))(t)
	client := must(NewClientTLS(s.clientConfig(), Options{}))(t)
	wantRefused(t, server.Config(ProtoControl), client.Config(ProtoLane, "receiver"), "no application protocol")
	wantRefused(t, server.Config(ProtoLane), client.Config(ProtoControl, "receiver"), "no application protocol")
	silent := client.Config(ProtoLane, "receiver")
	silent.NextProtos, silent.VerifyConnection = nil, nil
	wantRefused(t, server.Config(ProtoLane), silent, "does not speak sluice-lane/1")
	deaf := server.Config(ProtoLane)
	deaf.NextProtos, deaf.GetConfigForClient, deaf.VerifyConnection = nil, nil, nil
	wantRefused(t, deaf, client.Config(ProtoLane, "receiver"), "does not speak sluice-lane/1")
}

func TestWrongAuthority(t *testing.T) {
	s, stranger := newSite(t), newSite(t)
	server := must(NewServerTLS(s.serverConfig(), Options{}))(t)
	// A server that we do not trust.
	distrust := must(NewClientTLS(stranger.clientConfig(), Options{}))(t)
	wantRefused(t, server.Config(ProtoLane), distrust.Config(ProtoLane, "receiver"), "unknown authority")
	// A client that the server does not trust.
	cfg := s.clientConfig()
	cfg.CertFile, cfg.KeyFile = stranger.path("client.crt"), stranger.path("client.key")
	wrong := must(NewClientTLS(cfg, Options{}))(t)
	wantRefused(t, server.Config(ProtoLane), wrong.Config(ProtoLane, "receiver"), "unknown authority")
	// A server's certificate does not serve as a client's, nor the reverse.
	cfg.CertFile, cfg.KeyFile = s.path("server.crt"), s.path("server.key")
	misused := must(NewClientTLS(cfg, Options{}))(t)
	wantRefused(t, server.Config(ProtoLane), misused.Config(ProtoLane, "receiver"), "incompatible key usage")
	scfg := s.serverConfig()
	scfg.CertFile, scfg.KeyFile = s.path("client.crt"), s.path("client.key")
	posing := must(NewServerTLS(scfg, Options{}))(t)
	client := must(NewClientTLS(s.clientConfig(), Options{}))(t)
	wantRefused(t, posing.Config(ProtoLane), client.Config(ProtoLane, "receiver"), "not valid for any names")
}

func TestRevokedCertificate(t *testing.T) {
	clk := newClock()
	s := newSite(t)
	deny := put(t, s.path("revoked"), "# none yet\n")
	scfg := s.serverConfig()
	scfg.DenyList = must(LoadDenyList(deny, Options{Now: clk.now}))(t)
	server := must(NewServerTLS(scfg, Options{Now: clk.now}))(t)
	client := must(NewClientTLS(s.clientConfig(), Options{}))(t)
	scfgConfig := server.Config(ProtoControl) // one listener for the whole test
	_, ss := wantConnected(t, scfgConfig, client.Config(ProtoControl, "receiver"))
	leaf := ss.VerifiedChains[0][0]
	fingerprint := idOf(leaf).fingerprint

	for _, line := range []string{
		serial(leaf),
		"serial:00" + strings.ToUpper(leaf.SerialNumber.Text(16)),
		"sha256:" + hexColons(fingerprint[:]),
		hexColons(fingerprint[:]),
		serial(s.ca.cert), // the authority itself
	} {
		put(t, deny, line)
		clk.advance(ReloadEvery)
		wantRefused(t, scfgConfig, client.Config(ProtoControl, "receiver"), "revoked")
		put(t, deny, "serial:01")
		clk.advance(ReloadEvery)
		wantConnected(t, scfgConfig, client.Config(ProtoControl, "receiver"))
	}
	for _, bad := range []string{"01", "serial:", "serial:xy", "serial:-1", "serial:+1", "sha256:00", "sha1:" + strings.Repeat("0", 40), strings.Repeat("z", 64)} {
		_, err := LoadDenyList(put(t, s.path("bad"), "\n"+bad), Options{})
		wantKind(t, err, transfer.Invalid, "line 2")
	}
}

func hexColons(b []byte) string {
	parts := make([]string, len(b))
	for i, c := range b {
		parts[i] = strings.ToUpper(string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]))
	}
	return strings.Join(parts, ":")
}

func TestServerReloads(t *testing.T) {
	clk, log := newClock(), new(logtest.Buffer)
	s := newSite(t)
	server := must(NewServerTLS(s.serverConfig(), Options{Now: clk.now, Log: logger(log)}))(t)
	listener := server.Config(ProtoLane)
	client := must(NewClientTLS(s.clientConfig(), Options{Now: clk.now}))(t)
	first, _ := wantConnected(t, listener, client.Config(ProtoLane, "receiver"))

	// The key alone is replaced: the pair does not match, the old one serves.
	fresh := must(s.ca.IssueServer([]string{"receiver"}, 0))(t)
	put(t, s.path("server.key"), string(fresh.Key))
	clk.advance(ReloadEvery)
	between, _ := wantConnected(t, listener, client.Config(ProtoLane, "receiver"))
	if !between.PeerCertificates[0].Equal(first.PeerCertificates[0]) {
		t.Error("half a pair was taken")
	}
	wantKind(t, server.Stale(), transfer.Invalid, "server.crt")
	put(t, s.path("server.crt"), string(fresh.Cert))
	clk.advance(ReloadEvery)
	second, _ := wantConnected(t, listener, client.Config(ProtoLane, "receiver"))
	if second.PeerCertificates[0].Equal(first.PeerCertificates[0]) || server.Stale() != nil {
		t.Errorf("the new pair is not in force: %v", server.Stale())
	}

	// Another authority for clients: the old client is refused, then, with
	// both authorities in the file, welcome again.
	other := newSite(t)
	mine := must(os.ReadFile(s.path("ca.crt")))(t)
	theirs := must(os.ReadFile(other.path("ca.crt")))(t)
	put(t, s.path("ca.crt"), string(theirs))
	clk.advance(ReloadEvery)
	lagging := client.Config(ProtoLane, "receiver") // the client reads the same file
	lagging.RootCAs = x509.NewCertPool()
	lagging.RootCAs.AddCert(s.ca.cert)
	wantRefused(t, listener, lagging, "unknown authority")
	put(t, s.path("ca.crt"), string(theirs)+string(mine))
	clk.advance(ReloadEvery)
	wantConnected(t, listener, client.Config(ProtoLane, "receiver"))
	if !strings.Contains(log.String(), "reloaded") {
		t.Error("the log does not tell of the reload")
	}
}

func TestClientReloads(t *testing.T) {
	clk := newClock()
	s := newSite(t)
	server := must(NewServerTLS(s.serverConfig(), Options{}))(t)
	client := must(NewClientTLS(s.clientConfig(), Options{Now: clk.now}))(t)
	long := client.Config(ProtoLane, "receiver") // kept by a caller
	s.write(t, "client", must(s.ca.IssueClient("carol", 0))(t))
	clk.advance(ReloadEvery)
	_, ss := wantConnected(t, server.Config(ProtoLane), long)
	if p, err := FromCertificate(ss.VerifiedChains[0][0]); p != "carol" {
		t.Errorf("principal %q, %v", p, err)
	}
	put(t, s.path("ca.crt"), string(newSite(t).ca.Pair().Cert))
	clk.advance(ReloadEvery)
	wantRefused(t, server.Config(ProtoLane), client.Config(ProtoLane, "receiver"), "unknown authority")
	if client.Stale() != nil {
		t.Error(client.Stale())
	}
}

// TestCredentials shakes hands as gRPC does, twice, with another authority in
// the client's file the second time.
func TestCredentials(t *testing.T) {
	clk := newClock()
	s := newSite(t)
	server := credentials.NewTLS(must(NewServerTLS(s.serverConfig(), Options{}))(t).Config(ProtoControl))
	client := must(NewClientTLS(s.clientConfig(), Options{Now: clk.now}))(t)
	creds := client.Credentials("")
	if info := creds.Clone().Info(); info.SecurityProtocol != "tls" {
		t.Errorf("info %+v", info)
	}
	shake := func(creds credentials.TransportCredentials) (serverErr, clientErr error) {
		ln := must(net.Listen("tcp", "127.0.0.1:0"))(t)
		defer ln.Close()
		done := make(chan error, 1)
		go func() {
			raw, err := ln.Accept()
			if err == nil {
				defer raw.Close()
				_, _, err = server.ServerHandshake(raw)
			}
			done <- err
		}()
		raw := must(net.Dial("tcp", ln.Addr().String()))(t)
		_, _, clientErr = creds.ClientHandshake(t.Context(), ln.Addr().String(), raw)
		_ = raw.Close()
		return <-done, clientErr
	}
	if serr, cerr := shake(creds); serr != nil || cerr != nil {
		t.Fatalf("server %v, client %v", serr, cerr)
	}
	for name, ok := range map[string]bool{"other": false, "receiver": true} {
		if _, cerr := shake(client.Credentials(name)); (cerr == nil) != ok {
			t.Errorf("server name %s: %v", name, cerr)
		}
	}
	put(t, s.path("ca.crt"), string(newSite(t).ca.Pair().Cert))
	clk.advance(ReloadEvery)
	if _, cerr := shake(creds); cerr == nil || !strings.Contains(cerr.Error(), "unknown authority") {
		t.Fatalf("the authorities were not read again: %v", cerr)
	}
	if _, _, err := creds.ServerHandshake(nil); err == nil {
		t.Error("a client's credentials served")
	}
}

func TestTLSFilesStrict(t *testing.T) {
	s := newSite(t)
	_, err := NewServerTLS(ServerTLSConfig{CertFile: s.path("server.crt")}, Options{})
	wantKind(t, err, transfer.Invalid, "--tls-cert", "--tls-key")
	_, err = NewServerTLS(ServerTLSConfig{CertFile: s.path("server.crt"), KeyFile: s.path("server.key"), RequireClientCert: true}, Options{})
	wantKind(t, err, transfer.Invalid, "--client-ca")
	_, err = NewServerTLS(ServerTLSConfig{CertFile: s.path("server.crt"), KeyFile: s.path("client.key")}, Options{})
	wantKind(t, err, transfer.Invalid, "server.crt", "client.key")
	_, err = NewServerTLS(ServerTLSConfig{CertFile: s.path("none"), KeyFile: s.path("server.key")}, Options{})
	wantKind(t, err, transfer.Invalid, "none", "no such file")
	cfg := s.serverConfig()
	cfg.ClientCAFile = s.path("server.key")
	_, err = NewServerTLS(cfg, Options{})
	wantKind(t, err, transfer.Invalid, "server.key", "PRIVATE KEY")
	cfg.ClientCAFile = put(t, s.path("empty"), "")
	_, err = NewServerTLS(cfg, Options{})
	wantKind(t, err, transfer.Invalid, "empty", "no PEM certificate")
	_, err = NewClientTLS(ClientTLSConfig{CertFile: s.path("client.crt")}, Options{})
	wantKind(t, err, transfer.Invalid, "--tls-key")
	late := func() time.Time { return time.Now().Add(DefaultCertValidity + time.Hour) }
	_, err = NewServerTLS(s.serverConfig(), Options{Now: late})
	wantKind(t, err, transfer.Invalid, "expired at", "receiver cert")
}

func TestFromCertificate(t *testing.T) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	uris := func(ss ...string) (us []*url.URL) {
		for _, s := range ss {
			us = append(us, must(url.Parse(s))(t))
		}
		return us
	}
	for _, c := range []struct {
		name string
		cert x509.Certificate
		want Principal
	}{
		{"spiffe", x509.Certificate{URIs: uris("spiffe://prod/build/farm"), DNSNames: []string{"x"}}, "spiffe://prod/build/farm"},
		{"sluice", x509.Certificate{URIs: uris("sluice:build/farm@x"), DNSNames: []string{"x"}}, "build/farm@x"},
		{"another URI beside", x509.Certificate{URIs: uris("https://x/", "sluice:a")}, "a"},
		{"two that count", x509.Certificate{URIs: uris("sluice:a", "sluice:b")}, ""},
		{"two of two kinds", x509.Certificate{URIs: uris("sluice:a", "spiffe://d/b")}, ""},
		{"rooted", x509.Certificate{URIs: uris("sluice:/a")}, ""},
		{"with authority", x509.Certificate{URIs: uris("sluice://a")}, ""},
		{"anonymous", x509.Certificate{URIs: uris("sluice:anonymous")}, ""},
		{"DNS", x509.Certificate{DNSNames: []string{"host.example"}, Subject: pkix.Name{CommonName: "cn"}}, "host.example"},
		{"two DNS", x509.Certificate{DNSNames: []string{"a", "b"}}, ""},
		{"wildcard", x509.Certificate{DNSNames: []string{"*.example"}}, ""},
		{"CN", x509.Certificate{Subject: pkix.Name{CommonName: "cn"}}, "cn"},
		{"CN beside a foreign URI", x509.Certificate{URIs: uris("https://x/"), Subject: pkix.Name{CommonName: "cn"}}, ""},
		{"CN as SPIFFE ID", x509.Certificate{Subject: pkix.Name{CommonName: "spiffe://d/admin"}}, ""},
		{"CN with a space", x509.Certificate{Subject: pkix.Name{CommonName: "a b"}}, ""},
		{"nothing", x509.Certificate{}, ""},
	} {
		c.cert.NotAfter = time.Now().Add(time.Hour)
		_, cert, err := makePair(&c.cert, &c.cert, key, key)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		p, err := FromCertificate(cert)
		if p != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q, %v; want %q", c.name, p, err, c.want)
		}
		if err != nil {
			wantUnauthenticated(t, err, "URI name")
		}
	}
}

func TestBearer(t *testing.T) {
	clk := newClock()
	a, _ := newToken(t, "a", time.Time{})
	b, _ := newToken(t, "a", time.Time{})
	path := file(t, a+"\n")
	var creds credentials.PerRPCCredentials
	bearer := must(LoadBearer(path, false, Options{Now: clk.now}))(t)
	creds = bearer
	if md, err := creds.GetRequestMetadata(t.Context()); err != nil || md["authorization"] != "Bearer "+a {
		t.Errorf("metadata %v, %v", md, err)
	}
	put(t, path, b)
	clk.advance(ReloadEvery)
	if md, _ := creds.GetRequestMetadata(t.Context()); md["authorization"] != "Bearer "+b {
		t.Error("the token was not read again")
	}
	if !creds.RequireTransportSecurity() || must(LoadBearer(path, true, Options{}))(t).RequireTransportSecurity() {
		t.Error("RequireTransportSecurity is wrong")
	}
	fixed := must(NewBearer(a, false))(t)
	if md, _ := fixed.GetRequestMetadata(t.Context()); md["authorization"] != "Bearer "+a || !fixed.RequireTransportSecurity() {
		t.Error("the given token is not sent")
	}
	_, err := NewBearer("hunter2", false)
	wantKind(t, err, transfer.Invalid, "not a token")
	if s := bearer.String(); strings.Contains(s, b) {
		t.Error("String shows the token")
	}
	for _, bad := range []string{"", "slu_x", a + a, a[:20] + " " + a[21:]} {
		_, err := LoadBearer(file(t, bad), false, Options{})
		wantKind(t, err, transfer.Invalid, "one token")
		if bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("the error shows the file: %v", err)
		}
	}
	if _, err := LoadBearer(path+"none", false, Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
