package control

import (
	"context"
	"net/netip"
	"slices"
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

// ListConnections satisfies pb.ReceiverServiceServer.
func (s *receiverServer) ListConnections(ctx context.Context, m *pb.ListConnectionsRequest) (*pb.ListConnectionsResponse, error) {
	p, policy, err := Caller(ctx)
	if err != nil {
		return nil, err
	}
	view, only := s.cfg.View(p, policy), ""
	switch {
	case s.cfg.Connections == nil:
		return nil, transfer.Errorf(transfer.NotFound, "list connections", "", "this receiver cannot see its connections")
	case m.GetTransferId() != "":
		id, err := idFromProto(m.GetTransferId())
		if err != nil {
			return nil, err
		}
		if _, err := view.Get(ctx, id); err != nil {
			return nil, err
		}
		only = id.String()
	}
	list, err := s.cfg.Connections(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case only != "":
		list = slices.DeleteFunc(list, func(c netdiag.Conn) bool { return c.Label != only })
	case !policy.Admin && !policy.ListOthers:
		list = ownConnections(ctx, view, list)
	}
	return &pb.ListConnectionsResponse{Connections: ConnectionsToProto(list)}, nil
}

// ownConnections leaves what tells a caller nothing of others: the listening
// sockets, and the lanes of its own transfers.
func ownConnections(ctx context.Context, view View, list []netdiag.Conn) []netdiag.Conn {
	own := map[string]bool{"": false} // by label
	return slices.DeleteFunc(list, func(c netdiag.Conn) bool {
		if c.State == netdiag.StateListen {
			return false
		}
		is, known := own[c.Label]
		if !known {
			id, err := transfer.ParseID(c.Label)
			if err == nil {
				_, err = view.Get(ctx, id)
			}
			is = err == nil
			own[c.Label] = is
		}
		return !is
	})
}
