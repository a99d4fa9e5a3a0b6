package control

import (
	"net/netip"
	"time"

	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

// ConnectionsFromProto is the inverse of [ConnectionsToProto]. The error is
// Invalid, for an address that is none.
func ConnectionsFromProto(list []*pb.Connection) ([]netdiag.Conn, error) {
	out := make([]netdiag.Conn, len(list))
	for i, m := range list {
		local, err1 := netip.ParseAddrPort(m.GetLocal())
		remote, err2 := netip.ParseAddrPort(m.GetRemote())
		if err1 != nil || err2 != nil {
			return nil, transfer.Errorf(transfer.Invalid, "read connection", "", "%q and %q are not both addresses", m.GetLocal(), m.GetRemote())
		}
		c := netdiag.Conn{
			Local: local, Remote: remote, State: netdiag.State(m.GetState()),
			RecvQueue: m.GetRecvQueue(), SendQueue: m.GetSendQueue(), Label: m.GetLabel(),
		}
		if t := m.GetTcpInfo(); t != nil {
			c.Info = &netdiag.TCPInfo{
				RTT: time.Duration(t.GetRttNs()), RTTVar: time.Duration(t.GetRttvarNs()), MinRTT: time.Duration(t.GetMinRttNs()), Congestion: t.GetCongestion(),
				Window: t.GetCwnd(), MSS: t.GetMss(), PeerWindow: t.GetPeerWindow(), Retransmits: t.GetRetransmits(), Segments: t.GetSegments(), Lost: t.GetLost(),
				DeliveryRate: t.GetDeliveryRate(), BytesAcked: t.GetBytesAcked(), BytesReceived: t.GetBytesReceived(),
			}
		}
		out[i] = c
	}
	return out, nil
}
