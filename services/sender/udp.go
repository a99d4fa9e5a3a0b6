package main

import (
	"fmt"
	"net"
	"time"

	"github.com/e27efefb/sluice/pkg/plain"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// udpCmd talks to a UDP server line by line.
type udpCmd struct {
	Addr string `arg:"" name:"host:port" help:"Where the datagrams go."`

	Count   int           `help:"End after so many datagrams arrived; 0: no limit." default:"0"`
	Timeout time.Duration `help:"How long to wait for missing answers once the input has ended." default:"2s"`
}

// Help shows examples in the help text.
func (udpCmd) Help() string {
	return `Examples:
  sender udp 127.0.0.1:8002
  printf 'one\ntwo\n' | sender udp device.example:8002 --timeout 1s

Each line is one datagram, each datagram that arrives one line.
Exit codes: 0 something came back, 4 nothing did.`
}

func (c *udpCmd) run(a *app) error {
	if c.Count < 0 || c.Timeout <= 0 {
		return cli.Usagef("--count must not be negative, and --timeout must be above 0")
	}
	var d net.Dialer
	conn, err := d.DialContext(a.ctx, "udp", c.Addr)
	if err != nil {
		return transfer.Errorf(transfer.Unavailable, "open", c.Addr, "%w", err).WithHint("write HOST:PORT, with a host that resolves")
	}
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		_ = conn.Close()
		return fmt.Errorf("open %s: not a UDP socket", c.Addr)
	}
	talked, err := plain.Talk(a.ctx, udp, a.stdin, a.stdout, plain.TalkConfig{Count: c.Count, Timeout: c.Timeout, Notes: a.stderr})
	if err != nil {
		return err
	}
	if cli.IsTerminal(a.stderr) {
		fmt.Fprintf(a.stderr, "%d sent, %d received\n", talked.Sent, talked.Received)
	}
	return nil
}
