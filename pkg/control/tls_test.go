package control

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	pb "github.com/e27efefb/sluice/proto/sluice/v1"

	"github.com/e27efefb/sluice/pkg/auth"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// secured is a real engine behind TLS that knows callers by token and by client
// certificate, with the files of its authority.
type secured struct {
	*running

	t      *testing.T
	dir    string
	root   string // of the engine
	ca     *auth.CA
	passed atomic.Int64 // by how much its clock is ahead
}

func (s *secured) path(name string) string { return filepath.Join(s.dir, name) }

func (s *secured) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *secured) pair(name string, p auth.Pair, err error) {
	s.t.Helper()
	if err == nil {
		err = p.Write(s.path(name+".pem"), s.path(name+"-key.pem"), true)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// later moves the clock, so that files are read again and tokens age.
func (s *secured) later(d time.Duration) { s.passed.Add(int64(d)) }

func serveSecured(t *testing.T, require bool) *secured {
	t.Helper()
	s := &secured{t: t, dir: t.TempDir()}
	var err error
	if s.ca, err = auth.GenerateCA("", 0, nil); err != nil {
		t.Fatal(err)
	}
	s.pair("ca", s.ca.Pair(), nil)
	p, err := s.ca.IssueServer([]string{"127.0.0.1"}, 0)
	s.pair("server", p, err)
	p, err = s.ca.IssueClient("bob", 0)
	s.pair("bob", p, err)
	secret, line, err := auth.NewToken("alice", time.Now().Add(30*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	s.write("alice", secret)
	s.write("tokens", line+"\n")
	s.write("deny", "")

	opts := auth.Options{Now: func() time.Time { return time.Now().Add(time.Duration(s.passed.Load())) }}
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	guard := auth.GuardConfig{ClientCerts: true, Now: opts.Now}
	if !require {
		guard.Tokens, err = auth.LoadTokens(s.path("tokens"), opts)
		fatal(err)
	}
	guard.DenyList, err = auth.LoadDenyList(s.path("deny"), opts)
	fatal(err)
	g, err := auth.NewGuard(guard)
	fatal(err)
	server, err := auth.NewServerTLS(auth.ServerTLSConfig{
		CertFile: s.path("server.pem"), KeyFile: s.path("server-key.pem"), ClientCAFile: s.path("ca.pem"), RequireClientCert: require, DenyList: guard.DenyList,
	}, opts)
	fatal(err)
	engine, root := realEngine(t)
	s.root = root
	s.running = serve(t, ServerConfig{Auth: g, TLS: server.Config(auth.ProtoControl), CallsPerSecond: -1}, ReceiverConfig{View: ReceiverView(engine)}, time.Second)
	return s
}

// as returns a client that trusts ca.pem and shows a certificate or a token.
func (s *secured) as(ca, cert, token string) *Client {
	s.t.Helper()
	cfg := auth.ClientTLSConfig{CAFile: s.path(ca)}
	if cert != "" {
		cfg.CertFile, cfg.KeyFile = s.path(cert+".pem"), s.path(cert+"-key.pem")
	}
	c, err := auth.NewClientTLS(cfg, auth.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	cc := ClientConfig{TLS: c.Credentials("")}
	if token != "" {
		secret, err := os.ReadFile(s.path(token))
		if err != nil {
			s.t.Fatal(err)
		}
		if cc.Token, err = auth.NewBearer(string(secret), false); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.dial(cc)
}

// call asks for something that is not there: who is let in hears NotFound.
func (s *secured) call(c *Client) error {
	s.t.Helper()
	_, err := c.Get(within(s.t), transfer.NewID())
	if transfer.KindOf(err) == transfer.NotFound {
		return nil
	}
	if err == nil {
		s.t.Fatal("a transfer is there that nobody made")
	}
	return err
}

func (s *secured) want(what string, c *Client, k transfer.Kind, parts ...string) {
	s.t.Helper()
	err := s.call(c)
	if k == transfer.OK {
		if err != nil {
			s.t.Errorf("%s: %v, want to be let in", what, err)
		}
		return
	}
	if transfer.KindOf(err) != k {
		s.t.Errorf("%s: %v (%s), want %s", what, err, transfer.KindOf(err), k)
		return
	}
	for _, p := range parts {
		if all := err.Error() + " | " + transfer.HintOf(err); !strings.Contains(all, p) {
			s.t.Errorf("%s: %q does not say %q", what, all, p)
		}
	}
}

// TestCallersOverTLS goes through what a caller may show, over real connections.
func TestCallersOverTLS(t *testing.T) {
	s := serveSecured(t, false)
	other, err := auth.GenerateCA("", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.pair("otherca", other.Pair(), nil)
	p, err := other.IssueClient("bob", 0)
	s.pair("forged", p, err)

	alice, bob := s.as("ca.pem", "", "alice"), s.as("ca.pem", "bob", "")
	s.want("a token", alice, transfer.OK)
	s.want("a certificate", bob, transfer.OK)
	s.want("neither", s.as("ca.pem", "", ""), transfer.Denied, "token", "certificate")
	if _, err := s.as("ca.pem", "", "").rpc.GetTransfer(within(t), &pb.GetTransferRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("neither: %v", err)
	}
	s.want("a certificate of another authority", s.as("ca.pem", "forged", ""), transfer.Unavailable)
	s.want("a server of another authority", s.as("otherca.pem", "bob", ""), transfer.Unavailable, "certificate")
	s.want("no TLS", s.dial(ClientConfig{}), transfer.Unavailable)
	s.want("a token, still", alice, transfer.OK)
	transferOne(t, alice, s.root, "alice.bin")

	s.later(time.Hour)
	s.want("an expired token on an open connection", alice, transfer.Denied, "expired")
	s.want("an expired token", s.as("ca.pem", "", "alice"), transfer.Denied, "expired")
	secret, line, err := auth.NewToken("alice", time.Now().Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	s.write("alice", secret)
	s.write("tokens", line+"\n")
	s.later(time.Minute)
	s.want("a new token", s.as("ca.pem", "", "alice"), transfer.OK)
}

// TestMutualTLSOnly: without tokens a certificate is a must, in the handshake.
func TestMutualTLSOnly(t *testing.T) {
	s := serveSecured(t, true)
	s.want("no certificate", s.as("ca.pem", "", ""), transfer.Unavailable)
	bob := s.as("ca.pem", "bob", "")
	s.want("a certificate", bob, transfer.OK)
	transferOne(t, bob, s.root, "bob.bin")
}

// fingerprint is a certificate's line in the deny list.
func (s *secured) fingerprint(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(s.path(name + ".pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	sum := sha256.Sum256(block.Bytes)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// TestRevokedAndRotated: a certificate on the deny list is refused, on open
// connections too, and its successor let in; a new certificate of the server is
// shown to new connections, and old ones go on.
func TestRevokedAndRotated(t *testing.T) {
	s := serveSecured(t, false)
	bob := s.as("ca.pem", "bob", "")
	s.want("before", bob, transfer.OK)
	before := s.shown(bob)

	s.write("deny", s.fingerprint("bob")+"\n")
	s.later(time.Minute)
	s.want("revoked, on an open connection", bob, transfer.Denied, "revoked")
	s.want("revoked, on a new connection", s.as("ca.pem", "bob", ""), transfer.Unavailable)
	p, err := s.ca.IssueClient("bob", 0)
	s.pair("bob2", p, err)
	next := s.as("ca.pem", "bob2", "")
	s.want("its successor", next, transfer.OK)

	p, err = s.ca.IssueServer([]string{"127.0.0.1"}, 0)
	s.pair("server", p, err)
	s.later(time.Minute)
	s.want("an open connection after the server's change", next, transfer.OK)
	fresh := s.as("ca.pem", "bob2", "")
	s.want("a new one", fresh, transfer.OK)
	if old, now := s.shown(next), s.shown(fresh); !old.Equal(before) || now.Equal(before) {
		t.Error("the open connection shows another certificate, or the new one the old")
	}
}

// shown is the certificate of the server on a client's connection.
func (s *secured) shown(c *Client) *x509.Certificate {
	s.t.Helper()
	var p peer.Peer
	_, err := c.rpc.GetTransfer(within(s.t), &pb.GetTransferRequest{TransferId: transfer.NewID().String()}, grpc.Peer(&p))
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		s.t.Fatalf("no certificate is shown: %v", err)
	}
	return info.State.PeerCertificates[0]
}

// TestFloodsBesideATransfer: rapid resets, pings and settings from raw framers,
// which have a connection over TLS and no identity, do not disturb a transfer. The
// server sends away who pings, and each connection gives its place back: the flood
// comes again at once, more often than one address may have connections.
func TestFloodsBesideATransfer(t *testing.T) {
	s := serveSecured(t, false)
	pool := x509.NewCertPool()
	text, err := os.ReadFile(s.path("ca.pem"))
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal("no authority", err)
	}
	block := headers(pb.ReceiverService_WatchTransfers_FullMethodName)
	stop := make(chan struct{})
	var floods sync.WaitGroup
	defer floods.Wait()
	defer close(stop)
	for _, f := range []struct {
		name  string
		conns int // how many connections it needs before it counts as begun
		write func(fr *http2.Framer, i uint32) error
	}{
		{"resets", 1, func(fr *http2.Framer, i uint32) error {
			return errors.Join(fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: block, EndHeaders: true}), fr.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
		}},
		{"pings", defaultPerSource + 10, func(fr *http2.Framer, i uint32) error { return fr.WritePing(false, [8]byte{byte(i)}) }},
		{"settings", 1, func(fr *http2.Framer, _ uint32) error { return fr.WriteSettings() }},
	} {
		began := make(chan error, 1)
		floods.Go(func() {
			for sent, conns := 0, 1; ; conns++ {
				conn, err := tls.Dial("tcp", s.addr, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, NextProtos: []string{"h2"}})
				if err != nil {
					select {
					case began <- err:
					default: // it had begun
					}
					return
				}
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				floods.Go(func() { untilGoAway(conn) })
				_, _ = io.WriteString(conn, http2.ClientPreface)
				fr := http2.NewFramer(conn, conn)
				_ = fr.WriteSettings()
				for i := uint32(0); f.write(fr, i) == nil; i++ { // the server may close the connection
					if sent++; sent >= 100 && conns >= f.conns {
						select {
						case began <- nil:
						default:
						}
					}
					select {
					case <-stop:
						_ = conn.Close()
						return
					default:
					}
				}
				_ = conn.Close()
			}
		})
		select {
		case err := <-began:
			if err != nil {
				t.Fatalf("the flood of %s: %v", f.name, err)
			}
		case <-within(t).Done():
			t.Fatalf("the flood of %s did not use %d connections", f.name, f.conns)
		}
	}
	alice := s.as("ca.pem", "", "alice")
	for _, name := range []string{"1.bin", "2.bin", "3.bin"} {
		transferOne(t, alice, s.root, name)
	}
}

// untilGoAway reads what a server says, and closes the connection when it is told
// to go.
func untilGoAway(conn net.Conn) {
	for fr := http2.NewFramer(io.Discard, conn); ; {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		if _, gone := f.(*http2.GoAwayFrame); gone {
			_ = conn.Close()
			return
		}
	}
}
