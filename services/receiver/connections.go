package main

import (
	"time"

	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// connectionsCmd shows what netstat -an shows, for a receiver's ports.
type connectionsCmd struct {
	atFlags

	Port     []uint16      `help:"Look at these local ports of this machine instead of asking a receiver. May be repeated." placeholder:"PORT"`
	Transfer string        `help:"Only the lanes of this transfer." placeholder:"ID"`
	Watch    bool          `help:"Follow the states as connections open and close, on the receiver's machine, until interrupted."`
	Interval time.Duration `help:"How often --watch looks." default:"2ms"`
}

// Help shows examples in the help text.
func (connectionsCmd) Help() string {
	return `Examples:
  receiver connections
  receiver connections --watch --port 7401
  receiver connections --at files.example --tls-ca ca.pem --token-file token

Asking takes a connection of its own, which is in the list. docs/tcp.md explains the states.`
}

func (c *connectionsCmd) run(a *app) error {
	if c.Interval <= 0 {
		return cli.Usagef("--interval must be above 0")
	}
	var id transfer.ID
	if c.Transfer != "" {
		var err error
		if id, err = transfer.ParseID(c.Transfer); err != nil {
			return &cli.Usage{Err: err}
		}
	}
	if len(c.Port) > 0 {
		return c.local(a)
	}
	if c.Watch && !cli.Loopback(c.At) {
		return cli.Usagef("--watch looks into the kernel of this machine, and %s is another: run it there", c.At)
	}
	far, err := c.dial()
	if err != nil {
		return err
	}
	defer far.Close()
	conns, err := far.Connections(a.ctx, id)
	if err != nil {
		return err
	}
	if !c.Watch {
		return cli.WriteConnections(a.stdout, conns, c.JSON)
	}
	if id != (transfer.ID{}) {
		// The list of one transfer has no listening sockets.
		if conns, err = far.Connections(a.ctx, transfer.ID{}); err != nil {
			return err
		}
	}
	var labels cli.Labels
	labels.Set(conns)
	defer labels.Follow(a.ctx, far)()
	var keep func(netdiag.Conn) bool
	if id != (transfer.ID{}) {
		keep = func(n netdiag.Conn) bool { return n.Label == id.String() }
	}
	q := netdiag.Query{LocalPorts: cli.ListenPorts(conns), Label: labels.Here}
	return cli.WatchConnections(a.ctx, a.stdout, q, c.Interval, keep, c.JSON)
}

// local needs no receiver.
func (c *connectionsCmd) local(a *app) error {
	if c.Transfer != "" {
		return cli.Usagef("--port looks at this machine, which knows no transfers: leave one of --port and --transfer out")
	}
	q := netdiag.Query{LocalPorts: c.Port}
	if c.Watch {
		return cli.WatchConnections(a.ctx, a.stdout, q, c.Interval, nil, c.JSON)
	}
	conns, err := netdiag.Connections(q)
	if err != nil {
		return err
	}
	return cli.WriteConnections(a.stdout, conns, c.JSON)
}
