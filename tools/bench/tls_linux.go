package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/e27efefb/sluice/pkg/auth"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

// certificates makes a CA and a server certificate in memory, once.
func (b *bench) certificates(ctx context.Context) (dir string, err error) {
	dir = filepath.Join(b.memDir, "certificates")
	return dir, command(ctx, filepath.Join(b.bin, "receiver"), "cert", dir) // keeps what is there
}

// serverTLS are the flags of a service with the certificate.
func serverTLS(dir string) []string {
	return []string{"--tls-cert", filepath.Join(dir, "server.pem"), "--tls-key", filepath.Join(dir, "server-key.pem")}
}

// tls measures one big file without TLS, with it, and with plain lanes beside
// it, in turn.
func (b *bench) tls(ctx context.Context) error {
	p := tmpfsPlace(b.memDir)
	p.name = tlsPlaceName
	dir, err := b.certificates(ctx)
	if err != nil {
		return err
	}
	server, client := serverTLS(dir), []string{"--tls-ca", filepath.Join(dir, "ca.pem")}
	return b.at(ctx, p, b.chosen(p.name, []scenario{{b.sizes.bigName(), []contender{
		bare(1), sluice("blake3"), sluiceWith(tlsLanes, "blake3", server, client), sluiceWith(plainLanes, "blake3", append(server, "--data-plain"), client),
	}}}))
}

// roundTrips measures a call of the control plane, without and with TLS, beside
// an echo over a bare TCP connection: all in turn.
func (b *bench) roundTrips(ctx context.Context) (err error) {
	dir := filepath.Join(b.memDir, "rpc")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	certs, err := b.certificates(ctx)
	if err != nil {
		return err
	}
	ca, err := auth.NewClientTLS(auth.ClientTLSConfig{CAFile: filepath.Join(certs, "ca.pem")}, auth.Options{})
	if err != nil {
		return err
	}
	bare, closeBare, err := b.echoCall(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBare()) }()
	kinds := []*roundTrip{{key: "tcp", says: "8 octets and back over TCP, without gRPC: median", call: bare}}
	for _, k := range []struct {
		key, says string
		flags     []string
		creds     credentials.TransportCredentials
	}{
		{"plain", "gRPC round trip without TLS: median", nil, nil},
		{"tls", "gRPC round trip with TLS 1.3: median", serverTLS(certs), ca.Credentials("127.0.0.1")},
	} {
		home := filepath.Join(dir, k.key)
		if err := os.MkdirAll(home, 0o755); err != nil {
			return err
		}
		far, err := b.receiver(ctx, home, append([]string{"--admin-listen", "off"}, k.flags...)...)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, end(far)) }()
		conn, err := dialAs(len(kinds), far.Control, k.creds)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.Close()) }()
		rpc := pb.NewReceiverServiceClient(conn)
		kinds = append(kinds, &roundTrip{key: k.key, says: k.says, call: func() error {
			_, err := rpc.ListTransfers(ctx, &pb.ListTransfersRequest{PageSize: 1})
			return err
		}})
	}
	return b.inTurn(ctx, kinds)
}

// roundTrip is one way of asking and being answered.
type roundTrip struct {
	key, says string
	call      func() error
	took      []time.Duration
}

// inTurn calls each kind a hundred times, then the next: calls of a moment are
// alike, and the limit of calls a second is not reached.
func (b *bench) inTurn(ctx context.Context, kinds []*roundTrip) error {
	const run = 100
	for _, k := range kinds {
		if _, err := timed(run/10, func(int) error { return k.call() }); err != nil { // connects
			return err
		}
	}
	for range max(1, b.sizes.services.calls/run) {
		for _, k := range kinds {
			took, err := timed(run, func(int) error { return k.call() })
			if err != nil {
				return errors.Join(context.Cause(ctx), fmt.Errorf("%s: %w", k.says, err))
			}
			k.took = append(k.took, took...)
		}
	}
	for _, k := range kinds {
		p := percentilesOf(k.took)
		b.results.note(figure{"rpc/" + k.key, k.says, inMilliseconds(p.p50), "%.3f ms", p.detail(len(k.took))})
	}
	return nil
}

// echoOctets is how much goes there and back.
const echoOctets = 8

// echoCall starts this program as an echo and returns a call of it.
func (b *bench) echoCall(ctx context.Context) (call func() error, done func() error, err error) {
	p, err := start(ctx, b.memDir, nil, []string{b.self, "echo", "-listen", "127.0.0.1:0"})
	if err != nil {
		return nil, nil, err
	}
	addr, err := p.firstLine()
	var c *net.TCPConn
	if err == nil {
		c, err = dial(ctx, addr)
	}
	if err != nil {
		p.close()
		return nil, nil, err
	}
	buf := make([]byte, echoOctets)
	call = func() error {
		if _, err := c.Write(buf); err != nil {
			return err
		}
		_, err := io.ReadFull(c, buf)
		return err
	}
	return call, func() error {
		err := errors.Join(c.Close(), p.wait())
		p.close()
		return err
	}, nil
}

// echo prints its address, takes one connection and writes back what it reads.
func echo(ctx context.Context, args []string, stdout io.Writer) error {
	set := flag.NewFlagSet("echo", flag.ContinueOnError)
	addr := set.String("listen", "127.0.0.1:0", "address to listen on")
	if err := set.Parse(args); err != nil {
		return err
	}
	l, err := listen(ctx, *addr, stdout)
	if err != nil {
		return err
	}
	c, err := l.AcceptTCP()
	if err != nil {
		return errors.Join(err, l.Close())
	}
	buf := make([]byte, echoOctets)
	for err == nil {
		if _, err = io.ReadFull(c, buf); err == nil {
			_, err = c.Write(buf)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, c.Close(), l.Close())
}
