package main

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// laneList knows the lanes of the attempts that run. It keeps a lane's addresses
// until its attempt ends, so that a lane in TIME_WAIT still has its name then. The
// lanes themselves stay as they are: a wrapper would hide the socket from the
// engine. The zero value is empty.
type laneList struct {
	mu   sync.Mutex
	jobs map[netdiag.Ends]transfer.ID
}

// dialer returns dial for the lanes of one attempt; forget ends the attempt.
func (l *laneList) dialer(id transfer.ID, dial func(ctx context.Context, addr string) (net.Conn, error)) (dialer func(ctx context.Context, addr string) (net.Conn, error), forget func()) {
	var mine []netdiag.Ends
	dialer = func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		if e, ok := netdiag.EndsOf(c.LocalAddr(), c.RemoteAddr()); ok {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.jobs == nil {
				l.jobs = map[netdiag.Ends]transfer.ID{}
			}
			l.jobs[e] = id
			mine = append(mine, e)
		}
		return c, nil
	}
	return dialer, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, e := range mine {
			if l.jobs[e] == id { // the port may serve another attempt by now
				delete(l.jobs, e)
			}
		}
	}
}

// labels names the connections to receivers: lanes by their job, and "control".
func (f *fleet) labels() map[netdiag.Ends]string {
	out := map[netdiag.Ends]string{}
	for _, m := range f.members {
		for _, e := range m.far.Control.Ends() {
			out[e] = "control"
		}
	}
	f.lanes.mu.Lock()
	defer f.lanes.mu.Unlock()
	for e, id := range f.lanes.jobs {
		out[e] = id.String()
	}
	return out
}

// connections lists the TCP connections of our own API, and those to receivers:
// the lanes of jobs and the control connections.
func (s *service) connections(context.Context) ([]netdiag.Conn, error) {
	labels := s.fleet.labels()
	var own uint16
	if a, ok := s.control.Addr().(*net.TCPAddr); ok {
		own = uint16(a.Port) //nolint:gosec // a port
	}
	q := netdiag.Query{
		LocalPorts: []uint16{own},
		Label:      func(local, remote netip.AddrPort) string { return labels[netdiag.Ends{Local: local, Remote: remote}] },
	}
	for e := range labels {
		q.LocalPorts = append(q.LocalPorts, e.Local.Port())
	}
	list, err := netdiag.Connections(q)
	out := list[:0]
	for _, c := range list {
		if c.Label != "" || c.Local.Port() == own { // a port may be in use to several places at once
			out = append(out, c)
		}
	}
	return out, err
}
