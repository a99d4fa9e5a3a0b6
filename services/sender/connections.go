package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/e27efefb/sluice/pkg/client"
	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// connectionsCmd shows what netstat -an shows, for the connections from this
// machine to a receiver.
type connectionsCmd struct {
	To       string        `help:"Control address of the receiver; it tells its other ports, and which transfer a lane belongs to." default:"127.0.0.1:7400" placeholder:"HOST:PORT"`
	Port     []uint16      `help:"Look at these ports of the receiver without asking it. May be repeated." placeholder:"PORT"`
	At       string        `help:"Ask the sender service at this address for its own connections instead: lanes by job, control connections, API." placeholder:"HOST:PORT"`
	Job      string        `help:"With --at: only the lanes of this job." placeholder:"ID"`
	Watch    bool          `help:"Follow the states as connections open and close, until interrupted."`
	Interval time.Duration `help:"How often --watch looks." default:"2ms"`
	JSON     bool          `name:"json" help:"One JSON object a line."`

	cli.ConnectFlags `group:"connection"`
}

// Help shows examples in the help text.
func (connectionsCmd) Help() string {
	return `Examples:
  sender connections --to files.example --tls-ca ca.pem --token-file token
  sender connections --watch --port 7401
  sender connections --at 127.0.0.1:7410

Asking takes a connection of its own, which is in the list. docs/tcp.md explains the states.`
}

func (c *connectionsCmd) run(a *app) error {
	if c.Interval <= 0 {
		return cli.Usagef("--interval must be above 0")
	}
	if c.At != "" {
		return c.service(a)
	}
	if c.Job != "" {
		return cli.Usagef("--job names a job of the sender service, which --at must give")
	}
	c.To = cli.WithPort(c.To, controlPort)
	keep, err := c.to(a.ctx)
	if err != nil {
		return err
	}
	q := netdiag.Query{RemotePorts: c.Port}
	if len(c.Port) == 0 {
		stop, err := c.ask(a, &q)
		if err != nil {
			return err
		}
		defer stop()
	}
	if c.Watch {
		return cli.WatchConnections(a.ctx, a.stdout, q, c.Interval, keep, c.JSON)
	}
	conns, err := netdiag.Connections(q)
	if err != nil {
		return err
	}
	return cli.WriteConnections(a.stdout, slices.DeleteFunc(conns, func(n netdiag.Conn) bool { return !keep(n) }), c.JSON)
}

// service lists what the sender service says of itself.
func (c *connectionsCmd) service(a *app) error {
	if c.Watch || len(c.Port) > 0 {
		return cli.Usagef("--watch and --port look into the kernel of this machine: leave --at out")
	}
	var id client.ID
	if c.Job != "" {
		var err error
		if id, err = transfer.ParseID(c.Job); err != nil {
			return &cli.Usage{Err: err}
		}
	}
	api := apiFlags{At: c.At, ConnectFlags: c.ConnectFlags}
	cl, err := api.dial()
	if err != nil {
		return err
	}
	defer cl.Close()
	conns, err := cl.Connections(a.ctx, id)
	if err != nil {
		return err
	}
	return cli.WriteConnections(a.stdout, conns, c.JSON)
}

// ask completes the query by what the receiver says. One that says nothing is no
// error: the kernel of this machine knows the connections all the same.
func (c *connectionsCmd) ask(a *app, q *netdiag.Query) (stop func(), err error) {
	const askFor = 5 * time.Second
	_, port, err := net.SplitHostPort(c.To)
	if err != nil {
		return nil, &cli.Usage{Err: err}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, cli.Usagef("--to %s: the port is not a number", c.To)
	}
	q.RemotePorts = []uint16{uint16(n), uint16(n) + 1} // the data port follows unless told otherwise
	far, err := cli.Dial(c.To, &c.ConnectFlags)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(a.ctx, askFor)
	defer cancel()
	conns, err := far.Connections(ctx, transfer.ID{})
	if err != nil {
		_ = far.Close()
		if a.ctx.Err() != nil {
			return nil, a.ctx.Err()
		}
		fmt.Fprintf(a.stderr, "note: %v; looking at ports %d and %d without transfer ids\n", err, q.RemotePorts[0], q.RemotePorts[1])
		return func() {}, nil
	}
	q.RemotePorts = append(q.RemotePorts[:1], cli.ListenPorts(conns)...)
	var labels cli.Labels
	labels.Set(conns)
	q.Label = labels.There
	follow := func() {}
	if c.Watch {
		follow = labels.Follow(a.ctx, far)
	}
	return func() { follow(); _ = far.Close() }, nil
}

// to returns what chooses the connections to the receiver's host.
func (c *connectionsCmd) to(ctx context.Context) (func(netdiag.Conn) bool, error) {
	host, _, err := net.SplitHostPort(c.To)
	if err != nil {
		return nil, &cli.Usage{Err: err}
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, transfer.Errorf(transfer.Unavailable, "look up", host, "%w", err).WithHint("check the name in --to")
	}
	addrs := map[netip.Addr]bool{}
	for _, ip := range ips {
		addrs[ip.Unmap()] = true
	}
	return func(n netdiag.Conn) bool { return addrs[n.Remote.Addr().Unmap().WithZone("")] }, nil
}
