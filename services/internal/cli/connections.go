package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Connections asks a receiver for its TCP connections, those of one transfer or,
// for the zero id, all.
func (f *Far) Connections(ctx context.Context, id transfer.ID) ([]netdiag.Conn, error) {
	list, err := f.Control.Connections(ctx, id)
	if err != nil {
		return nil, err
	}
	return control.ConnectionsFromProto(list)
}

// ListenPorts are the local ports of the listening sockets among conns.
func ListenPorts(conns []netdiag.Conn) []uint16 {
	var out []uint16
	for _, c := range conns {
		if c.State == netdiag.StateListen {
			out = append(out, c.Local.Port())
		}
	}
	return out
}

// connectionLine is one line of --json; the fields of Conn or Change follow.
type connectionLine struct {
	Event string `json:"event"` // "connection"
	netdiag.Conn
}

type changeLine struct {
	Event string `json:"event"` // "change"
	netdiag.Change
}

// WriteConnections prints a table or, as JSON, an object a line.
func WriteConnections(w io.Writer, conns []netdiag.Conn, asJSON bool) error {
	if asJSON {
		for _, c := range conns {
			if err := JSONLine(w, connectionLine{"connection", c}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(conns) == 0 {
		_, err := fmt.Fprintln(w, "no connections")
		return err
	}
	return netdiag.WriteTable(w, conns, Width(w))
}

// WatchConnections prints each change of state until ctx ends; keep, where not
// nil, chooses among what q finds.
func WatchConnections(ctx context.Context, w io.Writer, q netdiag.Query, interval time.Duration, keep func(netdiag.Conn) bool, asJSON bool) error {
	start := time.Now()
	return netdiag.Watch(ctx, q, interval, func(c netdiag.Change) error {
		switch {
		case keep != nil && !keep(c.Conn):
			return nil
		case asJSON:
			return JSONLine(w, changeLine{"change", c})
		default:
			return netdiag.WriteChange(w, start, c)
		}
	})
}

// Labels names connections by what a receiver says of them. The zero value names
// none; it is safe for concurrent use.
type Labels struct {
	mu   sync.Mutex
	ends map[[2]netip.AddrPort]string
}

// Set takes over a receiver's list.
func (l *Labels) Set(conns []netdiag.Conn) {
	ends := map[[2]netip.AddrPort]string{}
	for _, c := range conns {
		if c.Label != "" {
			ends[[2]netip.AddrPort{c.Local, c.Remote}] = c.Label
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = ends
}

// Here is the label of a connection as the receiver's machine sees it.
func (l *Labels) Here(local, remote netip.AddrPort) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ends[[2]netip.AddrPort{local, remote}]
}

// There is the label of a connection as the sender's machine sees it. Behind an
// address translation nothing fits, and the label is empty.
func (l *Labels) There(local, remote netip.AddrPort) string { return l.Here(remote, local) }

// labelsEvery is how often Follow asks: a lane lives longer, or nobody sees it.
const labelsEvery = 100 * time.Millisecond

// Follow keeps the labels fresh until the returned function is called. A
// receiver that does not answer leaves the old ones.
func (l *Labels) Follow(ctx context.Context, f *Far) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(labelsEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if conns, err := f.Connections(ctx, transfer.ID{}); err == nil {
				l.Set(conns)
			}
		}
	}()
	return func() { cancel(); <-done }
}
