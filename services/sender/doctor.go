package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/e27efefb/sluice/pkg/health"
	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// doctorCmd examines everything that a transfer to a receiver needs.
type doctorCmd struct {
	Addr string `arg:"" name:"host:port" help:"The receiver's control address; the port is 7400 unless given."`

	Ping      string   `help:"The receiver's ping address. Default: what the receiver says, else port 7402 of the same host." placeholder:"HOST:PORT"`
	Lanes     int      `help:"Lanes to judge socket buffers for." default:"4"`
	Bandwidth cli.Rate `help:"Bandwidth that the path should carry, to judge socket buffers by: 1Gbit/s, 100MiB/s." default:"0" placeholder:"RATE"`
	JSON      bool     `name:"json" help:"One JSON object with all checks."`

	cli.ConnectFlags `group:"connection"`
}

// Help shows examples in the help text.
func (doctorCmd) Help() string {
	return `Examples:
  sender doctor 127.0.0.1
  sender doctor files.example --tls-ca ca.pem --token-file token \
    --bandwidth 1Gbit/s

Each check is ok, a warning or a failure (docs/doctor.md). Exit codes: 0 no failure, 1 at least one.`
}

func (c *doctorCmd) run(a *app) error {
	if c.Lanes < 1 {
		return cli.Usagef("--lanes must be at least 1")
	}
	target := cli.WithPort(c.Addr, controlPort)
	far, err := cli.Dial(target, &c.ConnectFlags)
	if err != nil {
		return err
	}
	defer far.Close()
	v := &visit{cmd: c, far: far, target: target}
	each := func(l netdiag.Line) { _ = netdiag.WriteLine(a.stdout, l) }
	if c.JSON {
		each = nil
	}
	report := netdiag.Doctor(a.ctx, target, v.checks(), each)
	if a.ctx.Err() != nil {
		return a.ctx.Err()
	}
	if c.JSON {
		err = cli.JSONLine(a.stdout, struct {
			Event string `json:"event"` // "doctor"
			netdiag.Report
		}{"doctor", report})
	} else {
		err = netdiag.WriteSummary(a.stdout, report)
	}
	if err != nil {
		return err
	}
	if code := report.ExitCode(); code != 0 {
		return cli.Code(code)
	}
	return nil
}

// visit is what the checks tell each other: they run one after the other.
type visit struct {
	cmd    *doctorCmd
	far    *cli.Far
	target string

	plan   *transfer.Answer // nil: there was none
	ping   string           // set when the ping was tried
	pinged health.Summary
}

// How the ping is measured: long enough for a percentile, short enough to wait for.
const (
	doctorPings    = 20
	doctorInterval = 50 * time.Millisecond
)

func (v *visit) checks() []netdiag.Check {
	return []netdiag.Check{
		netdiag.CheckTCP("control port", v.target, "start the receiver with --listen on an address that this machine reaches"),
		{Name: "TLS and identity", Timeout: 10 * time.Second, Run: v.identity},
		{Name: "data port", Run: v.dataPort},
		netdiag.CheckPing(v.measure),
		netdiag.CheckClock(v.clock),
		{Name: "path MTU", Run: v.mtu},
		netdiag.CheckBuffers(v.cmd.Lanes, v.path),
		{Name: "disk space", Run: v.disk},
		netdiag.CheckVersions(cli.Version(), v.far.Control.Version),
	}
}

// identity makes two real calls: a list, which any caller may, and a plan, which
// leaves nothing behind and tells the data ports and the space.
func (v *visit) identity(ctx context.Context) netdiag.Result {
	if _, err := v.far.Control.List(ctx, transfer.ListFilter{PageSize: 1}); err != nil {
		return refusedCall(err)
	}
	plan, err := v.far.Control.Negotiate(ctx, &transfer.OfferPart{
		ID: transfer.NewID(), Session: transfer.NewSession(), Last: true, Plan: true,
		Options: transfer.Options{Algorithm: transfer.BLAKE3, TotalFiles: 1},
		Entries: []transfer.Entry{{Path: transfer.Path("doctor-" + transfer.NewID().String()), Type: transfer.Regular, Mode: 0o600}},
	})
	how := "without TLS"
	if v.far.TLS != nil {
		how = "by TLS"
	}
	if err != nil {
		return netdiag.Warn(cli.Hint(err), "known %s, but an empty file would be refused: %v", how, err)
	}
	v.plan = plan
	if plan.Principal == "" {
		return netdiag.Okay("%s; the receiver asks nobody who they are", how)
	}
	return netdiag.Okay("%s, as %s", how, transfer.Quote(plan.Principal))
}

func refusedCall(err error) netdiag.Result {
	do := cli.Hint(err)
	switch transfer.KindOf(err) {
	case transfer.Unavailable:
		do = "check that the receiver runs, the address is right, and both sides agree on TLS (--tls-ca, --no-tls)"
	case transfer.Denied:
		do = "give the token (--token-file) or certificate (--tls-cert, --tls-key) that the receiver knows"
	}
	return netdiag.Fail(do, "%v", err)
}

func (v *visit) dataPort(ctx context.Context) netdiag.Result {
	if v.plan == nil {
		return netdiag.Fail("see the check before: the receiver tells its data port only to callers that it knows", "not known")
	}
	result := netdiag.Fail("give the receiver --data-advertise", "the receiver names no data port")
	for _, addr := range v.plan.DataAddrs {
		result = netdiag.CheckTCP("data port", addr, "open the port that the receiver's --data-listen or --data-advertise names").Run(ctx)
		if result.Status == netdiag.OK {
			if v.plan.DataTLS {
				result.Detail += ", lanes by TLS"
			}
			return result
		}
	}
	return result
}

// pingAddr is where a receiver's reflector listens, unless said otherwise, and a
// session for it, if the receiver gives one.
func pingAddr(ctx context.Context, far *cli.Far, target, said string) (addr string, session *health.Session) {
	host, _, _ := net.SplitHostPort(target)
	addr = net.JoinHostPort(host, pingPort)
	if s, err := far.Control.PingSession(ctx); err == nil {
		opened := healthSession(&s)
		session = &opened
		if h, port, err := net.SplitHostPort(s.Addr); err == nil {
			if h == "" {
				h = host
			}
			addr = net.JoinHostPort(h, port)
		}
	}
	if said != "" {
		addr = cli.WithPort(said, pingPort)
	}
	return addr, session
}

func (v *visit) measure(ctx context.Context) (netdiag.PingStats, error) {
	addr, session := pingAddr(ctx, v.far, v.target, v.cmd.Ping)
	v.ping = addr
	s, err := health.Measure(ctx, health.PingerConfig{Addr: addr, Session: session, Interval: doctorInterval, Timeout: time.Second}, doctorPings)
	v.pinged = s
	return pingStats(&s), err
}

func pingStats(s *health.Summary) netdiag.PingStats {
	count := func(n uint64) int { return int(min(n, math.MaxInt32)) } //nolint:gosec // bounded
	return netdiag.PingStats{Sent: count(s.Sent), Received: count(s.Received), Reordered: count(s.Reordered), MinRTT: s.Min, MedianRTT: s.P50, P99RTT: s.P99}
}

func (v *visit) clock(context.Context) (offset, uncertainty time.Duration, err error) {
	if v.pinged.ClockOffset == nil {
		return 0, 0, fmt.Errorf("no ping was answered")
	}
	return *v.pinged.ClockOffset, v.pinged.ClockError, nil
}

func (v *visit) mtu(ctx context.Context) netdiag.Result {
	return netdiag.CheckMTU(v.ping).Run(ctx)
}

// path is the round trip by ping or, where UDP is blocked, by the open of the
// control port.
func (v *visit) path(ctx context.Context) (rtt time.Duration, bandwidth float64, err error) {
	if v.pinged.Alive() {
		return v.pinged.P50, float64(v.cmd.Bandwidth), nil
	}
	m, err := netdiag.MeasureConnect(ctx, v.target)
	return m.Elapsed, float64(v.cmd.Bandwidth), err
}

// disk says what is free for this caller, which quotas may make less than the
// disk has.
func (v *visit) disk(context.Context) netdiag.Result {
	const do = "make room at the receiver before large transfers (--keep-free and --max-total count too)"
	switch st := v.pinged.Status; {
	case st != nil && st.Flags&stamp.ReadOnly != 0:
		return netdiag.Fail("look at the receiver's disk and its log", "the storage cannot be written")
	case v.plan == nil && st == nil:
		return netdiag.Warn("look at the receiver's disk by hand", "not known")
	case v.plan == nil:
		return judgeFree(int64(st.FreeMiB)<<20, st.Flags&stamp.DiskLow != 0, do)
	default:
		return judgeFree(v.plan.FreeBytes, st != nil && st.Flags&stamp.DiskLow != 0, do)
	}
}

func judgeFree(free int64, low bool, do string) netdiag.Result {
	switch {
	case free <= 0:
		return netdiag.Fail("make room at the receiver: new transfers are refused", "nothing is free for transfers")
	case low:
		return netdiag.Warn(do, "%s free, which the receiver calls low", cli.Size(free))
	default:
		return netdiag.Okay("%s free for transfers", cli.Size(free))
	}
}
