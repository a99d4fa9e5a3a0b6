package main

import (
	"time"

	"github.com/alecthomas/kong"

	"github.com/e27efefb/sluice/services/internal/cli"
)

// grammar is the whole command line.
type grammar struct {
	Send sendCmd `cmd:"" help:"Send files to a receiver and wait for the receipt."`

	Jobs      jobCmds      `cmd:"" help:"Jobs of a running sender service."`
	Receivers receiverCmds `cmd:"" help:"Receivers of a running sender service."`

	Serve serveCmd `cmd:"" help:"Serve the transfer API: durable jobs for other programs."`

	Ping pingCmd `cmd:"" help:"Ask a receiver over UDP whether it is alive and ready, and how good the path is."`
	UDP  udpCmd  `cmd:"" name:"udp" help:"Send lines as datagrams and print what arrives."`

	Doctor      doctorCmd      `cmd:"" help:"Examine everything that a transfer to a receiver needs."`
	Compare     compareCmd     `cmd:"" help:"Measure TCP and UDP on the path to a receiver."`
	Connections connectionsCmd `cmd:"" help:"Show the TCP connections to a receiver and their states."`

	Healthcheck healthcheck `cmd:"" help:"Exit 0 if the sender serves, else 1."`
	Version     versionCmd  `cmd:"" help:"Print the version."`

	ShowVersion kong.VersionFlag `name:"version" env:"-" help:"Print the version."`
}

// sendCmd sends files once.
type sendCmd struct {
	Paths []string `arg:"" name:"path" help:"Files and directories to send, or - for standard input."`

	To   string `help:"Receiver's control address." placeholder:"HOST:PORT" default:"127.0.0.1:7400"`
	As   string `help:"Name at the receiver, for one file or standard input." placeholder:"NAME"`
	Into string `help:"Directory at the receiver, made if it is not there." placeholder:"DIR"`

	OnConflict string `help:"When a name is taken: fail, overwrite, rename, skip-identical." enum:"fail,overwrite,rename,skip-identical" default:"fail"`
	Names      string `help:"Rules for names: posix or portable." enum:"posix,portable" default:"posix"`
	Links      string `help:"Symbolic links: skip them, or preserve those that stay inside." enum:"skip,preserve" default:"skip"`

	SkipSpecial bool     `help:"Skip devices, sockets and FIFOs instead of refusing them."`
	Exclude     []string `help:"Leave out what matches (gitignore-like: *.o, build/, /top, **/x). May be repeated." placeholder:"PATTERN" sep:"none"`
	Include     []string `help:"Take what matches although an --exclude does." placeholder:"PATTERN" sep:"none"`
	KeepGoing   bool     `help:"Send the rest when files cannot be read; exit code 7."`

	Lanes   int           `help:"Data connections; 0: chosen." default:"0"`
	Digest  string        `help:"Digest: blake3 (what b3sum prints), xxh3 (fast, not against malice), none." enum:"blake3,xxh3,none" default:"blake3"`
	Limit   cli.Rate      `help:"Most octets per second: 10MiB/s, 400Mbit/s; 0: no limit." default:"0" placeholder:"RATE"`
	Timeout time.Duration `help:"Give up after this long without progress." default:"2m"`
	Retries int           `help:"How often a lost receiver is tried again." default:"5"`
	ID      string        `name:"id" help:"Transfer id (UUIDv7): the same id resumes. Default: remembered per command." placeholder:"ID"`
	Label   string        `help:"Free text for the receiver's lists." placeholder:"TEXT"`
	Plan    bool          `help:"Ask what would happen; send nothing. Which names of several files are taken is seen only when they are published."`
	Plain   string        `help:"Send one file by the plain protocol (docs/plain.md) to this address instead." placeholder:"HOST:PORT"`

	JSON    bool `name:"json" help:"One JSON object a line: offer, answer, progress, receipt, error."`
	Quiet   bool `short:"q" help:"Print nothing but errors."`
	Verbose bool `short:"v" help:"Say at the end what bounded the transfer."`

	cli.ConnectFlags `group:"connection"`
	cli.ProfileFlags `group:"profile"`
}

// Help shows examples in the help text.
func (sendCmd) Help() string {
	return `Examples:
  sender send build.tar --to files.example:7400
  sender send ./dist --into releases/1.4 --on-conflict skip-identical
  pg_dump db | sender send - --as db.sql
  sender send big.iso --json | jq -c 'select(.event=="receipt")'

Interrupted with Ctrl-C or killed, the same command resumes.
Exit codes: 0 done, 1 internal, 2 usage, 3 refused, 4 unreachable,
5 verification failed, 6 source changed, 7 published in part, 130 interrupted.`
}

type versionCmd struct{}

// healthcheck asks the gRPC health service, as a container's health check does.
type healthcheck struct {
	At      string        `help:"Address of the transfer API." default:"127.0.0.1:7410" env:"SLUICE_HEALTHCHECK_AT" placeholder:"HOST:PORT"`
	Timeout time.Duration `help:"How long to wait." default:"2s"`

	cli.ConnectFlags `group:"connection"`
}

func (c *healthcheck) run(a *app) error {
	return cli.Healthcheck(a.ctx, a.stdout, cli.WithPort(c.At, "7410"), &c.ConnectFlags, c.Timeout)
}
