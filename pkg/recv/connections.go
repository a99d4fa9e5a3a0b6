package recv

import (
	"net/netip"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Ends are the two addresses of a TCP connection as this machine sees them.
// IPv4 over an IPv6 socket is IPv4.
type Ends struct{ Local, Remote netip.AddrPort }

// LaneConns returns the transfer of each lane that is open now, by the lane's
// addresses. Whoever lists the machine's connections labels them by it.
func (r *Receiver) LaneConns() map[Ends]transfer.ID {
	out := map[Ends]transfer.ID{}
	for _, m := range r.movements() {
		m.mu.Lock()
		for l := range m.lanes {
			local, err1 := netip.ParseAddrPort(l.conn.LocalAddr().String())
			remote, err2 := netip.ParseAddrPort(l.conn.RemoteAddr().String())
			if err1 == nil && err2 == nil {
				out[Ends{Local: unmap(local), Remote: unmap(remote)}] = m.id
			}
		}
		m.mu.Unlock()
	}
	return out
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
