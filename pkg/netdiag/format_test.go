package netdiag_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/netdiag"
)

// TestWriteTable: what does not fit one line goes into a second, whole, whatever
// the ends of the connections are.
func TestWriteTable(t *testing.T) {
	const id = "01a21b07-fa95-78ec-836f-073041d32551"
	local, far := netip.MustParseAddrPort("192.168.100.101:65535"), netip.MustParseAddrPort("203.100.113.101:65534")
	conns := []netdiag.Conn{
		{Local: local, State: netdiag.StateListen, SendQueue: 4096},
		{Local: local, Remote: far, State: netdiag.StateEstablished, RecvQueue: 123456, Label: id, Info: &netdiag.TCPInfo{
			RTT: 1234 * time.Millisecond, Congestion: "cubic", Window: 10000, Retransmits: 54321, DeliveryRate: 118e6,
		}},
		{Local: local, Remote: far, State: netdiag.StateCloseWait, Label: "control"},
	}
	const narrow = `LOCAL                  REMOTE                 STATE        RECV-Q  SEND-Q
192.168.100.101:65535  *                      LISTEN       0       4096
192.168.100.101:65535  203.100.113.101:65534  ESTABLISHED  123456  0
    01a21b07-fa95-78ec-836f-073041d32551  rtt 1.23s  cubic  cwnd 10000
    retrans 54321  118 MB/s
192.168.100.101:65535  203.100.113.101:65534  CLOSE_WAIT   0       0
    control
`
	const wide = `LOCAL                  REMOTE                 STATE        RECV-Q  SEND-Q  RTT    CONGESTION  CWND   RETRANS  RATE      TRANSFER
192.168.100.101:65535  *                      LISTEN       0       4096    -      -           -      -        -         -
192.168.100.101:65535  203.100.113.101:65534  ESTABLISHED  123456  0       1.23s  cubic       10000  54321    118 MB/s  01a21b07-fa95-78ec-836f-073041d32551
192.168.100.101:65535  203.100.113.101:65534  CLOSE_WAIT   0       0       -      -           -      -        -         control
`
	// The wide table takes 156 columns.
	for width, want := range map[int]string{80: narrow, 155: strings.Replace(narrow, "\n    retrans", "  retrans", 1), 156: wide, 0: wide} {
		var b strings.Builder
		if err := netdiag.WriteTable(&b, conns, width); err != nil || b.String() != want {
			t.Errorf("%d columns: %v\n%s\nwant\n%s", width, err, b.String(), want)
		}
	}
}
