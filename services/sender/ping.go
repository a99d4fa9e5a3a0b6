package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/health"
	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

// pingCmd asks a receiver over UDP whether it is alive and ready.
type pingCmd struct {
	Addr string `arg:"" optional:"" name:"host:port" help:"The receiver's ping address. Without a port: with --auth or --control the one that the receiver names, else 7402."`

	Count    int         `short:"c" help:"Pings to send; 0: until interrupted." default:"0"`
	Interval cli.Seconds `short:"i" help:"Between two pings: 0.2 or 200ms." default:"1s" placeholder:"TIME"`
	Size     int         `short:"s" help:"Octets of each datagram; 0: no padding." default:"0"`
	Wait     cli.Seconds `short:"W" help:"Give a ping up after this long." default:"2s" placeholder:"TIME"`
	Auth     bool        `help:"Authenticated pings, in a session from the control plane: what a receiver off loopback answers."`
	Control  string      `help:"Control address to ask for a session and for the ping address; implies --auth. Default for --auth: port 7400 of the same host." placeholder:"HOST:PORT"`
	JSON     bool        `name:"json" help:"One JSON object a line: sent, replied, lost …, then summary."`

	cli.ConnectFlags `group:"connection"`
}

// Help shows examples in the help text.
func (pingCmd) Help() string {
	return `Examples:
  sender ping 127.0.0.1 -c 10 -i 0.2
  sender ping files.example --auth --tls-ca ca.pem --token-file token -c 10
  sender ping --control files.example:7400 --tls-ca ca.pem --token-file token
  sender ping files.example --json | jq -c 'select(.event=="summary")'

Exit codes: 0 alive and serving, 3 alive but not serving, 4 no reply.`
}

func (c *pingCmd) run(a *app) error {
	cfg, done, err := c.config(a.ctx)
	if err != nil {
		return err
	}
	defer done()
	out := newPingLines(a.stdout, cfg.Addr, c.JSON)
	cfg.OnEvent = out.event
	p, err := health.NewPinger(cfg)
	if err != nil {
		return &cli.Usage{Err: err}
	}
	if !c.JSON {
		fmt.Fprintf(a.stdout, "ping %s by STAMP (RFC 8762), %s\n", cfg.Addr, authWord(c.Auth))
	}
	stop := out.start()
	err = p.Run(a.ctx)
	stop()
	if err != nil {
		return err
	}
	s := p.Summary()
	if c.JSON {
		err = cli.JSONLine(a.stdout, struct {
			Event string `json:"event"` // "summary"
			health.Summary
		}{"summary", s})
	} else {
		err = writeSummary(a.stdout, &s)
	}
	if err != nil {
		return err
	}
	return c.judge(&s)
}

// config returns the pinger's, and what to call in the end.
func (c *pingCmd) config(ctx context.Context) (health.PingerConfig, func(), error) {
	cfg := health.PingerConfig{Interval: time.Duration(c.Interval), Timeout: time.Duration(c.Wait), Count: c.Count, Size: c.Size}
	c.Auth = c.Auth || c.Control != ""
	switch {
	case cfg.Interval == 0 || cfg.Timeout == 0:
		return cfg, nil, cli.Usagef("-i and -W must be above 0")
	case c.Addr == "" && c.Control == "":
		return cfg, nil, cli.Usagef("give the receiver's ping address, or its control address with --control")
	}
	cfg.Addr = cli.WithPort(c.Addr, pingPort)
	if !c.Auth {
		return cfg, func() {}, nil
	}
	if c.Control == "" {
		host, _, err := net.SplitHostPort(cfg.Addr)
		if err != nil {
			return cfg, nil, &cli.Usage{Err: err}
		}
		c.Control = net.JoinHostPort(host, controlPort)
	}
	far, err := cli.Dial(cli.WithPort(c.Control, controlPort), &c.ConnectFlags)
	if err != nil {
		return cfg, nil, err
	}
	done := func() { _ = far.Close() }
	cfg.Open = pingSessions(far)
	if _, port, err := net.SplitHostPort(c.Addr); err == nil && port != "" {
		return cfg, done, nil // the address was said
	}
	if err := c.ask(ctx, far, &cfg); err != nil {
		done()
		return cfg, nil, err
	}
	return cfg, done, nil
}

// ask opens the first session, with which the receiver names its reflector.
func (c *pingCmd) ask(ctx context.Context, far *cli.Far, cfg *health.PingerConfig) error {
	s, err := far.Control.PingSession(ctx)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil || port == "" {
		return transfer.Errorf(transfer.NotFound, "ping", c.Control, "the receiver names no ping address").WithHint("give it: sender ping HOST:PORT --control %s", c.Control)
	}
	if c.Addr != "" {
		host = strings.Trim(c.Addr, "[]")
	}
	cfg.Addr = net.JoinHostPort(host, port)
	session := healthSession(&s)
	cfg.Session = &session
	return nil
}

// pingSessions opens sessions over the control plane.
func pingSessions(far *cli.Far) func(ctx context.Context) (health.Session, error) {
	return func(ctx context.Context) (health.Session, error) {
		s, err := far.Control.PingSession(ctx)
		if err != nil {
			return health.Session{}, err
		}
		return healthSession(&s), nil
	}
}

func healthSession(s *control.PingSession) health.Session {
	out := health.Session{SSID: s.SSID, Expires: s.Expires}
	copy(out.Key[:], s.Key)
	return out
}

func authWord(auth bool) string {
	if auth {
		return "authenticated"
	}
	return "unauthenticated"
}

// judge turns what was found into the exit code.
func (c *pingCmd) judge(s *health.Summary) error {
	switch {
	case s.Serving():
		return nil
	case s.Alive():
		if c.JSON {
			return cli.Code(cli.ExitRefused)
		}
		if s.Status == nil {
			return transfer.Errorf(transfer.Denied, "ping", s.Target, "it answers, but does not say whether it serves").WithHint("another program's reflector listens there, not a Sluice receiver")
		}
		return transfer.Errorf(transfer.Denied, "ping", s.Target, "it answers, but takes no transfers: %s", s.Status.Serving).WithHint("see its log and /readyz")
	}
	e := transfer.Errorf(transfer.Unavailable, "ping", s.Target, "none of %d pings was answered", s.Sent)
	switch {
	case s.Refused > 0:
		return e.WithHint("nothing listens on that UDP port: check the address and the receiver's --ping-listen")
	case !s.Authenticated && !cli.Loopback(s.Target):
		return e.WithHint("a receiver answers strangers only with --ping-open: try --auth; or UDP is blocked, which sender doctor HOST:7400 tells")
	default:
		return e.WithHint("the receiver is stopped or stuck, or UDP is blocked: sender doctor HOST:7400 tells which")
	}
}

// pingLines prints events from a goroutine of its own: a terminal that is held
// must not hold the pings.
type pingLines struct {
	w      io.Writer
	target string
	json   bool
	live   bool // a terminal: the sparkline is drawn below the lines

	events  chan health.Event
	missed  atomic.Int64
	spark   cli.Spark
	pending bool // the sparkline is on the screen
}

// pingBacklog is how many events may wait for the terminal.
const pingBacklog = 4096

func newPingLines(w io.Writer, target string, json bool) *pingLines {
	return &pingLines{w: w, target: target, json: json, live: !json && cli.IsTerminal(w), events: make(chan health.Event, pingBacklog)}
}

func (l *pingLines) event(e health.Event) {
	select {
	case l.events <- e:
	default:
		l.missed.Add(1)
	}
}

// start prints until the returned function is called, which prints the rest.
func (l *pingLines) start() (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range l.events {
			l.print(e)
		}
		l.clear()
	}()
	return func() {
		close(l.events)
		<-done
		if n := l.missed.Load(); n > 0 && !l.json {
			fmt.Fprintf(l.w, "(%d lines were left out: the output was too slow)\n", n)
		}
	}
}

// clear takes the sparkline off the screen.
func (l *pingLines) clear() {
	if l.pending {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.pending = false
	}
}

func (l *pingLines) print(e health.Event) {
	if l.json {
		_ = cli.JSONLine(l.w, pingEvent{Event: e, Error: errText(e.Err)})
		return
	}
	line := pingLine(l.target, &e)
	if line == "" {
		return
	}
	l.clear()
	fmt.Fprintln(l.w, line)
	switch e.Kind {
	case health.PingReplied:
		if !e.Late {
			l.spark.Add(e.RTT)
		}
	case health.PingLost:
		l.spark.Gap()
	}
	if l.live {
		fmt.Fprint(l.w, l.spark.String())
		l.pending = true
	}
}

// pingEvent is one line of --json.
type pingEvent struct {
	health.Event
	Error string `json:"error,omitempty"`
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// pingLine shows one event as ping(8) does; "" for those that say nothing yet.
func pingLine(target string, e *health.Event) string {
	switch e.Kind {
	case health.PingReplied, health.PingRepeated:
		var b strings.Builder
		fmt.Fprintf(&b, "%d octets from %s: seq=%d time=%s", e.Size, target, e.Seq, cli.Duration(e.RTT))
		if e.HopsForward >= 0 && e.HopsBack >= 0 {
			fmt.Fprintf(&b, " hops=%d/%d", e.HopsForward, e.HopsBack)
		}
		if e.Status != nil {
			fmt.Fprintf(&b, " %s load=%d%%", e.Status.Serving, e.Status.Load)
		}
		for _, mark := range []struct {
			is   bool
			word string
		}{{e.Kind == health.PingRepeated, "(DUP!)"}, {e.Late, "(late)"}, {e.Reordered, "(out of order)"}} {
			if mark.is {
				b.WriteString(" " + mark.word)
			}
		}
		return b.String()
	case health.PingLost:
		return fmt.Sprintf("no reply to seq=%d", e.Seq)
	case health.PingRefused:
		return fmt.Sprintf("from %s: port unreachable: nothing listens there", target)
	case health.PingRejected:
		return "a datagram came that answers nothing we sent; dropped"
	case health.PingFailed:
		return fmt.Sprintf("seq=%d could not be sent: %v", e.Seq, e.Err)
	default:
		return ""
	}
}

// writeSummary shows what was found.
func writeSummary(w io.Writer, s *health.Summary) error {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s "+format+"\n", append([]any{name}, args...)...)
	}
	fmt.Fprintf(&b, "\n--- %s, %s, %s ---\n", s.Target, authWord(s.Authenticated), cli.Duration(s.Elapsed))
	loss := fmt.Sprintf("%.3g %% lost", s.LossPercent)
	if s.Directional {
		loss += fmt.Sprintf(" (%d on the way there, %d on the way back)", s.LostForward, s.LostBack)
	} else if s.Lost > 0 && s.Alive() {
		loss += " (which way is known with --auth)"
	}
	row("pings", "%d sent, %d received, %s", s.Sent, s.Received, loss)
	row("oddities", "%d duplicates, %d reordered, %d late, %d rejected, %d refused", s.Duplicates, s.Reordered, s.Late, s.Rejected, s.Refused)
	if s.Alive() {
		row("round trip", "min %s, p50 %s, p90 %s, p99 %s, max %s", cli.Duration(s.Min), cli.Duration(s.P50), cli.Duration(s.P90), cli.Duration(s.P99), cli.Duration(s.Max))
		row("jitter", "%s (there %s, back %s)", cli.Duration(s.Jitter), cli.Duration(s.JitterForward), cli.Duration(s.JitterBack))
		row("estimate", "SRTT %s, RTTVAR %s, RTO %s", cli.Duration(s.SRTT), cli.Duration(s.RTTVAR), cli.Duration(s.RTO))
		row("residence", "mean %s, max %s", cli.Duration(s.ResidenceMean), cli.Duration(s.ResidenceMax))
		row("hops", "%s there, %s back", hops(s.HopsForward), hops(s.HopsBack))
	}
	if s.DelayForward != nil && s.DelayBack != nil {
		row("one way", "%s there, %s back, as far as both clocks are right", cli.Duration(*s.DelayForward), cli.Duration(*s.DelayBack))
	}
	if st := s.Status; st != nil {
		row("receiver", "%s, load %d %%, %d open transfers, room for %d, %s free%s", st.Serving, st.Load, st.Active, st.FreeSlots, cli.Size(int64(st.FreeMiB)<<20), statusFlags(st))
		row("incarnation", "%016x, restarted %d times meanwhile", st.Incarnation, s.Restarts)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func hops(n int) string {
	if n < 0 {
		return "unknown"
	}
	return strconv.Itoa(n)
}

func statusFlags(s *stamp.Status) string {
	var b strings.Builder
	for _, f := range []struct {
		flag stamp.StatusFlags
		text string
	}{{stamp.Draining, ", draining"}, {stamp.ReadOnly, ", storage read-only"}, {stamp.DiskLow, ", storage nearly full"}} {
		if s.Flags&f.flag != 0 {
			b.WriteString(f.text)
		}
	}
	return b.String()
}
