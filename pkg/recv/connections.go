package recv

import (
	"net"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// EachLane calls fn with the addresses and the transfer of each lane that is open
// now. Whoever lists the machine's connections labels them by it.
func (r *Receiver) EachLane(fn func(local, remote net.Addr, id transfer.ID)) {
	for _, m := range r.movements() {
		m.mu.Lock()
		for l := range m.lanes {
			fn(l.conn.LocalAddr(), l.conn.RemoteAddr(), m.id)
		}
		m.mu.Unlock()
	}
}
