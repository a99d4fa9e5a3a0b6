package main

import (
	"time"

	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// compareCmd measures TCP and UDP on the path to a receiver.
type compareCmd struct {
	Addr string `arg:"" name:"host:port" help:"The receiver's control address; the port is 7400 unless given."`

	Ping  string      `help:"The receiver's ping address. Default: what the receiver says, else port 7402 of the same host." placeholder:"HOST:PORT"`
	For   cli.Seconds `help:"How long each of the three long measurements takes." default:"2s" placeholder:"TIME"`
	Most  cli.Bytes   `help:"Most octets that the measurement of TCP sends; the receiver needs room for them and throws them away." default:"1GiB" placeholder:"SIZE"`
	Lanes int         `help:"Data connections for TCP; 0: chosen." default:"0"`
	JSON  bool        `name:"json" help:"One JSON object with all figures."`

	cli.ConnectFlags `group:"connection"`
}

// Help shows examples in the help text.
func (compareCmd) Help() string {
	return `Examples:
  sender compare 127.0.0.1
  sender compare files.example --tls-ca ca.pem --token-file token --for 5s

TCP's throughput is measured by a transfer of random octets that is aborted in the end:
nothing is published, and a line "aborted" stays in the receiver's list. docs/compare.md explains the table.`
}

func (c *compareCmd) run(a *app) error {
	if c.For <= 0 || c.Most <= 0 || c.Lanes < 0 {
		return cli.Usagef("--for and --most must be above 0, and --lanes not below")
	}
	target := cli.WithPort(c.Addr, controlPort)
	far, err := cli.Dial(target, &c.ConnectFlags)
	if err != nil {
		return err
	}
	defer far.Close()
	// One who is not let in would measure a part and take it for the path.
	if _, err := far.Control.List(a.ctx, transfer.ListFilter{PageSize: 1}); transfer.KindOf(err) == transfer.Denied {
		return err
	}
	p := &prober{target: target, far: far, most: int64(c.Most), lanes: c.Lanes, ping: c.Ping}
	comparison, err := netdiag.Compare(a.ctx, target, p, netdiag.CompareConfig{Duration: time.Duration(c.For)})
	if err != nil {
		return err
	}
	if c.JSON {
		return cli.JSONLine(a.stdout, struct {
			Event string `json:"event"` // "compare"
			netdiag.Comparison
		}{"compare", comparison})
	}
	return netdiag.WriteComparison(a.stdout, comparison)
}
