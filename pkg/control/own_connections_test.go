package control

import (
	"context"
	"net/netip"
	"testing"

	"github.com/e27efefb/sluice/pkg/netdiag"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// A caller that may not list the transfers of others sees its own lanes and the
// ports that listen, and nobody's address.
func TestConnectionsOfOthersAreHidden(t *testing.T) {
	mine, other := transfer.NewID(), transfer.NewID()
	conn := func(port uint16, state netdiag.State, label string) netdiag.Conn {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
		return netdiag.Conn{Local: addr, Remote: addr, State: state, Label: label}
	}
	rc := viewOf(&fakeView{get: func(id transfer.ID) (transfer.Info, error) {
		if id != mine {
			return transfer.Info{}, transfer.Errorf(transfer.NotFound, "find transfer", "", "not yours")
		}
		return transfer.Info{ID: id}, nil
	}})
	rc.Connections = func(context.Context) ([]netdiag.Conn, error) {
		return []netdiag.Conn{
			conn(1, netdiag.StateListen, ""), conn(2, netdiag.StateEstablished, mine.String()), conn(3, netdiag.StateEstablished, other.String()),
			conn(4, netdiag.StateEstablished, ""), conn(5, netdiag.StateCloseWait, mine.String()),
		}, nil
	}
	s := serveBoth(t, rc)
	c := s.dial(ClientConfig{})
	for _, tt := range []struct {
		token string
		id    transfer.ID
		want  []string
	}{
		{"good", transfer.ID{}, []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:5"}},
		{"good", mine, []string{"127.0.0.1:2", "127.0.0.1:5"}},
		{"root", transfer.ID{}, []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5"}},
	} {
		list, err := c.Connections(withToken(within(t), tt.token), tt.id)
		if err != nil || len(list) != len(tt.want) {
			t.Errorf("%s, %v: %v, %v", tt.token, tt.id, list, err)
			continue
		}
		for i, m := range list {
			if m.GetLocal() != tt.want[i] {
				t.Errorf("%s, %v: place %d is %s, want %s", tt.token, tt.id, i, m.GetLocal(), tt.want[i])
			}
		}
	}
	if _, err := c.Connections(withToken(within(t), "good"), other); transfer.KindOf(err) != transfer.NotFound {
		t.Errorf("the lanes of another's transfer: %v", err)
	}
}
