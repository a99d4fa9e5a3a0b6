package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/health"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/services/internal/cli"
)

const pingPort = "7402"

func jitter() float64 { return rand.Float64() } //nolint:gosec // spreads retries, guards nothing

// fleet is the configured receivers, each with its connection and its ping.
type fleet struct {
	s       *service
	members map[string]*member
	groups  map[string][]string
	order   []string
	lanes   laneList
}

// member is one receiver.
type member struct {
	name, addr, ping string
	far              *cli.Far
	monitor          *health.Monitor // nil: no ping

	mu    sync.Mutex
	since time.Time
	note  string
}

// newFleet reads --receiver and --group and connects lazily.
func newFleet(s *service) (*fleet, error) {
	f := &fleet{s: s, members: map[string]*member{}, groups: map[string][]string{}}
	for _, text := range s.cfg.Receiver {
		name, addr, ok := strings.Cut(text, "=")
		addr, ping, _ := strings.Cut(addr, "/")
		addr = cli.WithPort(addr, controlPort)
		host, _, err := net.SplitHostPort(addr)
		if !ok || name == "" || err != nil || host == "" {
			return nil, fmt.Errorf("--receiver %s: want NAME=HOST:PORT or NAME=HOST:PORT/PINGPORT", text)
		}
		if f.members[name] != nil {
			return nil, fmt.Errorf("--receiver %s: the name is given twice", name)
		}
		m := &member{name: name, addr: addr, since: s.started}
		if ping == "" {
			ping = pingPort
		}
		if ping != cli.Off {
			m.ping = net.JoinHostPort(host, ping)
		}
		f.members[name] = m
		f.order = append(f.order, name)
	}
	for _, text := range s.cfg.Group {
		name, list, ok := strings.Cut(text, "=")
		members := strings.Split(list, "+")
		if !ok || name == "" || f.members[name] != nil || f.groups[name] != nil {
			return nil, fmt.Errorf("--group %s: want NAME=RECEIVER+RECEIVER with a name of its own", text)
		}
		for _, m := range members {
			if f.members[m] == nil {
				return nil, fmt.Errorf("--group %s: receiver %q is not configured", name, m)
			}
		}
		f.groups[name] = members
	}
	group := new(health.Group)
	for _, m := range f.members {
		if err := f.connect(m, group); err != nil {
			f.close()
			return nil, err
		}
	}
	return f, nil
}

func (f *fleet) connect(m *member, group *health.Group) (err error) {
	m.far, err = cli.DialWith(m.addr, cli.Credentials{TLS: f.s.farTLS, Token: f.s.farToken, NoTLS: f.s.cfg.ReceiverNoTLS})
	if err != nil || m.ping == "" {
		return err
	}
	ping := health.PingerConfig{Addr: m.ping}
	if !cli.Loopback(m.addr) {
		ping.Open = func(ctx context.Context) (health.Session, error) {
			s, err := m.far.Control.PingSession(ctx)
			if err != nil {
				return health.Session{}, err
			}
			out := health.Session{SSID: s.SSID, Expires: s.Expires}
			copy(out.Key[:], s.Key)
			return out, nil
		}
	}
	m.monitor, err = health.NewMonitor(health.MonitorConfig{
		ID: m.name, Ping: ping, Group: group, HealthCheck: m.far.Alive,
		OnEvent: func(e health.MonitorEvent) { f.changed(m, e) },
	})
	return err
}

// changed notes and logs what the detector says.
func (f *fleet) changed(m *member, e health.MonitorEvent) {
	m.mu.Lock()
	m.since, m.note = e.At, e.Reason
	m.mu.Unlock()
	f.s.metrics.receiverState(m.name, e.To)
	f.s.log.Info("receiver", "name", m.name, "from", e.From, "to", e.To, "restarted", e.Restarted, "reason", e.Reason, "silence", e.Silence)
}

// run pings every receiver until ctx ends.
func (f *fleet) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, m := range f.members {
		if m.monitor == nil {
			continue
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := m.monitor.Run(ctx); err != nil && ctx.Err() == nil {
					f.s.log.Warn("ping of receiver ended", "name", m.name, "err", err)
					select {
					case <-ctx.Done():
					case <-time.After(time.Second):
					}
				}
			}
		})
	}
	<-ctx.Done()
	wg.Wait()
	return nil
}

func (f *fleet) close() {
	for _, m := range f.members {
		if m.far != nil {
			_ = m.far.Close()
		}
	}
}

func (f *fleet) known(name string) bool { return f.members[name] != nil || f.groups[name] != nil }

func (f *fleet) names() string {
	list := slices.Clone(f.order)
	for g := range f.groups {
		list = append(list, g)
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// choose picks the receiver for an attempt: the named one, or of a group the
// healthiest.
func (f *fleet) choose(target, current string) (*member, error) {
	if m := f.members[target]; m != nil {
		return m, nil
	}
	list := f.groups[target]
	if len(list) == 0 {
		return nil, transfer.Errorf(transfer.NotFound, "find receiver", "", "%s is not configured any more", transfer.Quote(target))
	}
	candidates := make([]health.Candidate, len(list))
	for i, name := range list {
		candidates[i] = health.Candidate{ID: name}
		if mon := f.members[name].monitor; mon != nil {
			candidates[i] = mon.Candidate()
			candidates[i].ID = name
		}
	}
	i, ok := health.Choose(candidates, current, rand.IntN)
	if !ok {
		e := transfer.Errorf(transfer.Unavailable, "choose receiver", "", "no receiver of the group %s is alive and serving", transfer.Quote(target))
		e.RetryAfter = time.Second
		return nil, e
	}
	return f.members[list[i]], nil
}

// receivers tells what is known of each.
func (f *fleet) receivers() []control.FarReceiver {
	var out []control.FarReceiver
	for _, name := range f.order {
		m := f.members[name]
		r := control.FarReceiver{Name: name, Address: m.addr}
		for g, list := range f.groups {
			if slices.Contains(list, name) {
				r.Groups = append(r.Groups, g)
			}
		}
		slices.Sort(r.Groups)
		m.mu.Lock()
		r.Since, r.Note = m.since, m.note
		m.mu.Unlock()
		if m.monitor != nil {
			r.Watched, r.State, r.Summary = true, m.monitor.State(), m.monitor.Summary()
		}
		out = append(out, r)
	}
	return out
}
