package netdiag

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Prober measures TCP and UDP on the path to one receiver, which takes part.
// Its methods are called one after the other.
type Prober interface {
	// TCPConnect opens a connection to the control port and closes it; see
	// MeasureConnect.
	TCPConnect(ctx context.Context) (Connected, error)
	// TCPRoundTrip sends the smallest request over an open connection and waits
	// for its answer.
	TCPRoundTrip(ctx context.Context) (time.Duration, error)
	// TCPThroughput moves bytes to the receiver for about d.
	TCPThroughput(ctx context.Context, d time.Duration) (Throughput, error)
	// UDPPing sends pings for about d.
	UDPPing(ctx context.Context, d time.Duration) (PingStats, error)
	// UDPThroughput sends datagrams for about d, at a rate that does not press
	// other traffic off the path, and counts those that arrived.
	UDPThroughput(ctx context.Context, d time.Duration) (Throughput, error)
}

// Throughput is what arrived at the far side, and what it took.
type Throughput struct {
	// Bytes is the payload that arrived.
	Bytes int64 `json:"bytes"`
	// Elapsed is the time between the first byte sent and the last acknowledged.
	Elapsed time.Duration `json:"elapsed_ns"`
	// Packets and Lost count segments or datagrams sent, and those sent again
	// (TCP) or missing (UDP); zero when unknown.
	Packets int64 `json:"packets"`
	Lost    int64 `json:"lost"`
	// Reordered counts datagrams that arrived after a later one. TCP sorts
	// before anybody can see it.
	Reordered int64 `json:"reordered"`
	// Capped is the rate in bytes a second at which the prober held itself back,
	// or 0.
	Capped float64 `json:"capped,omitempty"`
}

// Side is the result for one of the two protocols. A nil figure was not
// measured; Problems says why.
type Side struct {
	// Setup is the time before the first byte may be sent.
	Setup *time.Duration `json:"setup_ns"`
	// RTT is the median round trip of a small message, and P99 the time within
	// which 99 % came back.
	RTT *time.Duration `json:"rtt_ns"`
	P99 *time.Duration `json:"p99_ns"`
	// Loss and Reordered are shares of the packets, 0 to 1. For TCP, Loss is
	// what was sent again, and nothing is ever reordered or missing.
	Loss      *float64 `json:"loss"`
	Reordered *float64 `json:"reordered"`
	// Throughput is in bytes a second. Capped says that the measurement held
	// itself back, and Limit at how many bytes a second: the path may carry more.
	Throughput *float64 `json:"throughput"`
	Capped     bool     `json:"capped,omitempty"`
	Limit      float64  `json:"limit,omitempty"`
	// CPUPerGB is the processor time, user and system, that this process took
	// for 10⁹ bytes that arrived. The far side's is not in it.
	CPUPerGB *time.Duration `json:"cpu_per_gb_ns"`
	// Problems are what could not be measured.
	Problems []string `json:"problems,omitempty"`
}

// Comparison is TCP beside UDP on one path.
type Comparison struct {
	Target string `json:"target"`
	TCP    Side   `json:"tcp"`
	UDP    Side   `json:"udp"`
	// Congestion is the congestion control of TCP here, if known.
	Congestion string `json:"congestion,omitempty"`
	// Advice are sentences on which suits what, drawn from the figures.
	Advice []string `json:"advice"`
}

// CompareConfig sets up [Compare]. The zero value is usable.
type CompareConfig struct {
	// Duration is how long each of the three long measurements takes; 0 means
	// 2 s.
	Duration time.Duration
	// Samples is the number of connections and of round trips; 0 means 10.
	Samples int
	// CPUTime returns the processor time of this process so far; nil means
	// getrusage(2), or what stands for it.
	CPUTime func() (time.Duration, error)
}

// Compare measures TCP and UDP through p and judges the figures. A measurement
// that fails is a problem in the result; the error is only for ctx that ended,
// or when nothing at all could be measured.
func Compare(ctx context.Context, target string, p Prober, cfg CompareConfig) (Comparison, error) {
	if cfg.Duration <= 0 {
		cfg.Duration = 2 * time.Second
	}
	if cfg.Samples <= 0 {
		cfg.Samples = 10
	}
	if cfg.CPUTime == nil {
		cfg.CPUTime = cpuTime
	}
	c := Comparison{Target: target}
	measures := []func() error{
		func() error { return c.connect(ctx, p, cfg) },
		func() error { return c.roundTrip(ctx, p, cfg) },
		func() error { return c.ping(ctx, p, cfg) },
		func() error { return throughput(ctx, &c.TCP, p.TCPThroughput, cfg) },
		func() error { return throughput(ctx, &c.UDP, p.UDPThroughput, cfg) },
	}
	var failed []error
	for _, measure := range measures {
		err := measure()
		if ctx.Err() != nil {
			return c, context.Cause(ctx)
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	c.Advice = advise(c)
	if len(failed) == len(measures) {
		return c, errors.Join(failed...)
	}
	return c, nil
}

func (c *Comparison) connect(ctx context.Context, p Prober, cfg CompareConfig) error {
	var all []time.Duration
	for range cfg.Samples {
		m, err := p.TCPConnect(ctx)
		if err != nil {
			return c.TCP.problem("connection set-up", err)
		}
		all = append(all, m.Elapsed)
		c.Congestion = m.Congestion
	}
	setup, _ := quantiles(all)
	c.TCP.Setup = &setup
	none := time.Duration(0) // UDP sends at once
	c.UDP.Setup = &none
	return nil
}

func (c *Comparison) roundTrip(ctx context.Context, p Prober, cfg CompareConfig) error {
	var all []time.Duration
	for range cfg.Samples {
		d, err := p.TCPRoundTrip(ctx)
		if err != nil {
			return c.TCP.problem("round trip", err)
		}
		all = append(all, d)
	}
	median, p99 := quantiles(all)
	c.TCP.RTT, c.TCP.P99 = &median, &p99
	return nil
}

func (c *Comparison) ping(ctx context.Context, p Prober, cfg CompareConfig) error {
	s, err := p.UDPPing(ctx, cfg.Duration)
	if err == nil && s.Received == 0 {
		err = errors.New("no ping was answered")
	}
	if err != nil {
		return c.UDP.problem("round trip", err)
	}
	loss, reordered := s.Loss(), float64(s.Reordered)/float64(s.Received)
	c.UDP.RTT, c.UDP.P99, c.UDP.Loss, c.UDP.Reordered = &s.MedianRTT, &s.P99RTT, &loss, &reordered
	return nil
}

// throughput runs one of the two long measurements with the processor's time
// beside it.
func throughput(ctx context.Context, side *Side, measure func(context.Context, time.Duration) (Throughput, error), cfg CompareConfig) error {
	before, cpuErr := cfg.CPUTime()
	t, err := measure(ctx, cfg.Duration)
	after, err2 := cfg.CPUTime()
	if err == nil && (t.Bytes <= 0 || t.Elapsed <= 0) {
		err = errors.New("no byte arrived")
	}
	if err != nil {
		return side.problem("throughput", err)
	}
	rate := float64(t.Bytes) / t.Elapsed.Seconds()
	side.Throughput, side.Capped, side.Limit = &rate, t.Capped > 0, t.Capped
	if t.Packets > 0 {
		// Bulk traffic finds losses that sparse pings miss.
		loss, reordered := float64(t.Lost)/float64(t.Packets), float64(t.Reordered)/float64(t.Packets)
		side.Loss, side.Reordered = atLeast(side.Loss, loss), atLeast(side.Reordered, reordered)
	}
	if err := errors.Join(cpuErr, err2); err != nil {
		side.Problems = append(side.Problems, "processor time: "+err.Error())
		return nil
	}
	cpu := time.Duration(float64(after-before) / float64(t.Bytes) * 1e9)
	side.CPUPerGB = &cpu
	return nil
}

func atLeast(old *float64, n float64) *float64 {
	if old != nil && *old > n {
		return old
	}
	return &n
}

func (s *Side) problem(what string, err error) error {
	s.Problems = append(s.Problems, what+": "+err.Error())
	return err
}

// quantiles returns the median and the 99th percentile by nearest rank.
func quantiles(all []time.Duration) (median, p99 time.Duration) {
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(len(all)-1, int(q*float64(len(all))))] }
	return at(0.5), at(0.99)
}
