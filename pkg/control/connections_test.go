package control_test

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/control"
	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
	pb "github.com/e27efefb/sluice/proto/sluice/v1"
)

func TestConnectionsThereAndBack(t *testing.T) {
	want := []netdiag.Conn{
		{Local: netip.MustParseAddrPort("0.0.0.0:7400"), Remote: netip.MustParseAddrPort("0.0.0.0:0"), State: netdiag.StateListen, SendQueue: 128},
		{
			Local: netip.MustParseAddrPort("[::1]:7401"), Remote: netip.MustParseAddrPort("[::1]:40000"), State: netdiag.StateFinWait2, RecvQueue: 7, Label: "x",
			Info: &netdiag.TCPInfo{
				RTT: time.Millisecond, RTTVar: 2, MinRTT: 3, Congestion: "bbr", Window: 4, MSS: 5, PeerWindow: 6, Retransmits: 7, Segments: 8, Lost: 9,
				DeliveryRate: 10, BytesAcked: 11, BytesReceived: 12,
			},
		},
	}
	got, err := control.ConnectionsFromProto(control.ConnectionsToProto(want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if _, err := control.ConnectionsFromProto([]*pb.Connection{{Local: "here", Remote: "there"}}); transfer.KindOf(err) != transfer.Invalid {
		t.Errorf("bad addresses: %v", err)
	}
}
