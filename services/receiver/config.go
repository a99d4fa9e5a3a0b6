package main

import (
	"time"

	"github.com/alecthomas/kong"

	"github.com/e27efefb/sluice/services/internal/cli"
)

// Config is everything that `receiver serve` can be told, by flag, SLUICE_…
// variable or configuration file, in that order of precedence.
type Config struct {
	Dir string `help:"Directory that files are published in." default:"./inbox" type:"path"`

	Listen        string   `help:"Address of the gRPC control plane." default:"127.0.0.1:7400"`
	DataListen    string   `help:"Address of the data lanes." default:"127.0.0.1:7401"`
	DataAdvertise []string `help:"Addresses that senders are told to open lanes to (behind NAT or containers); an empty host means the one that the sender used. Default: the port of --data-listen." placeholder:"HOST:PORT"`
	PingListen    string   `help:"UDP address of the ping reflector; \"off\" for none." default:"127.0.0.1:7402"`
	AdminListen   string   `help:"HTTP address of /metrics, /healthz and /readyz; \"off\" for none." default:"127.0.0.1:7403"`
	PlainListen   string   `help:"Address of the plain file protocol (docs/plain.md); off unless given, 127.0.0.1:8001 by convention." placeholder:"HOST:PORT"`
	EchoListen    string   `help:"UDP address of the echo server; off unless given." placeholder:"HOST:PORT"`
	EchoWorkers   int      `help:"Workers that answer echo datagrams; 0: the one that reads." default:"0"`

	MaxTransfer  cli.Bytes     `help:"Largest transfer; 0: no limit." default:"0" placeholder:"SIZE"`
	MaxTotal     cli.Bytes     `help:"Most that unfinished transfers may occupy together; 0: no limit." default:"0" placeholder:"SIZE"`
	KeepFree     cli.Bytes     `help:"Space that is left free on the filesystem." default:"64MiB" placeholder:"SIZE"`
	KeepPartial  time.Duration `help:"How long unfinished transfers are kept without progress." default:"24h"`
	KeepReceipts time.Duration `help:"How long committed transfers stay queryable." default:"168h"`
	MaxTransfers int           `help:"Most transfers at once." default:"1024"`
	MaxLanes     int           `help:"Most lanes of one transfer." default:"16"`

	AllowUnverified bool `help:"Accept --digest none, whose receipts say unverified." default:"true" negatable:""`

	cli.AccessFlags

	DataPlain bool `help:"Plain lanes beside a TLS control plane; requires blake3 and is said in answer and receipt."`
	PingOpen  bool `help:"Answer unauthenticated pings from the network; loopback always may."`

	OnVerified  string        `help:"Command that sees each verified file before it is published and may refuse it (docs/operations.md)." placeholder:"COMMAND"`
	OnPublished string        `help:"Command that runs after publishing." placeholder:"COMMAND"`
	GateTimeout time.Duration `help:"Time limit of those commands." default:"1m"`

	StopTimeout time.Duration `help:"How long a graceful stop may take." default:"10s"`
	Pprof       bool          `help:"Serve /debug/pprof/ on the HTTP address."`

	cli.LogFlags
	cli.ProfileFlags

	JSON bool `name:"json" help:"Print the addresses as one JSON object when serving."`
}

// serveCmd is receiver serve.
type serveCmd struct {
	Config

	ConfigFile  kong.ConfigFlag `name:"config" help:"JSON file: names of flags with _ for -, as --print-config shows." placeholder:"FILE" type:"path"`
	PrintConfig bool            `help:"Print the configuration in force as JSON and exit."`
}

func (c *serveCmd) run(a *app) error {
	if c.PrintConfig {
		return cli.PrintConfig(a.stdout, a.kong)
	}
	return c.Config.run(a)
}

// grammar is the whole command line.
type grammar struct {
	Serve serveCmd `cmd:"" help:"Serve: take transfers and publish them under --dir."`

	Transfers struct {
		List  transfersList  `cmd:"" help:"List transfers, newest first."`
		Show  transfersShow  `cmd:"" help:"Show one transfer, with its receipt."`
		Files transfersFiles `cmd:"" help:"List the files of a committed transfer."`
		Watch transfersWatch `cmd:"" help:"Follow transfers until interrupted, or one until it ends."`
		Abort transfersAbort `cmd:"" help:"Give up a transfer and its partial files."`
	} `cmd:"" help:"Ask a running receiver about its transfers."`

	Connections connectionsCmd `cmd:"" help:"Show the receiver's TCP connections and their states."`

	Cert          certCmd          `cmd:"" help:"Make a development CA and certificates."`
	Token         tokenCmd         `cmd:"" help:"Make a bearer token."`
	PublicKey     publicKeyCmd     `cmd:"" help:"Print the key that verifies this receiver's receipts."`
	VerifyReceipt verifyReceiptCmd `cmd:"" help:"Check a signed receipt."`

	Healthcheck healthcheck `cmd:"" help:"Exit 0 if the receiver serves, else 1."`
	Version     versionCmd  `cmd:"" help:"Print the version."`

	ShowVersion kong.VersionFlag `name:"version" env:"-" help:"Print the version."`
}
