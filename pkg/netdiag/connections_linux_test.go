package netdiag_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/pkg/netdiag"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// tcpPair returns the two ends of a connection over host.
func tcpPair(t *testing.T, host string) (client, server *net.TCPConn, port uint16) {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	c, err := net.DialTimeout("tcp", ln.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn), uint16(ln.Addr().(*net.TCPAddr).Port)
}

func TestConnections(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		client, server, port := tcpPair(t, host)
		if _, err := client.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		label := func(local, _ netip.AddrPort) string {
			if local.Port() == port {
				return "ours"
			}
			return ""
		}
		got, err := netdiag.Connections(netdiag.Query{LocalPorts: []uint16{port}, RemotePorts: []uint16{port}, Label: label})
		if err != nil {
			t.Fatal(err)
		}
		// The port may have been another's at another address.
		got = slices.DeleteFunc(got, func(c netdiag.Conn) bool { return c.Local.Addr().String() != host })
		if len(got) != 3 || got[0].State != netdiag.StateListen || got[0].Info != nil {
			t.Fatalf("%s: %+v, want a listener and two ends", host, got)
		}
		ends := map[string]netdiag.Conn{}
		for _, c := range got[1:] {
			if c.State != netdiag.StateEstablished || c.Info == nil {
				t.Fatalf("%s: %+v", host, c)
			}
			ends[c.Local.String()] = c
		}
		c, s := ends[client.LocalAddr().String()], ends[server.LocalAddr().String()]
		if c.Remote.String() != server.LocalAddr().String() || s.Label != "ours" || c.Label != "" {
			t.Errorf("%s: client %+v, server %+v", host, c, s)
		}
		if s.RecvQueue != 900 || s.Info.BytesReceived != 1000 {
			t.Errorf("%s: the server has %d bytes waiting of %d, want 900 of 1000", host, s.RecvQueue, s.Info.BytesReceived)
		}
		if c.Info.Congestion == "" || c.Info.RTT <= 0 || c.Info.Window == 0 || c.Info.MSS == 0 || c.Info.PeerWindow == 0 {
			t.Errorf("%s: TCP_INFO %+v", host, *c.Info)
		}
		if want := congestionOf(t, client); c.Info.Congestion != want {
			t.Errorf("%s: congestion control %q, the socket says %q", host, c.Info.Congestion, want)
		}
		var table, js bytes.Buffer
		if err := errors.Join(netdiag.WriteTable(&table, got, 0), netdiag.WriteJSON(&js, got)); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Split(table.String(), "\n"); len(lines) != 5 || !strings.Contains(lines[1], "LISTEN") || !strings.Contains(table.String(), "ESTABLISHED") {
			t.Errorf("table:\n%s", table.String())
		}
		var back []netdiag.Conn
		if err := json.Unmarshal(js.Bytes(), &back); err != nil || len(back) != 3 || back[1].Info.RTT != got[1].Info.RTT {
			t.Errorf("JSON: %v\n%s", err, js.String())
		}
	}
}

func TestConnectionsOfAnotherPort(t *testing.T) {
	_, _, port := tcpPair(t, "127.0.0.1")
	_, _, other := tcpPair(t, "127.0.0.1")
	got, err := netdiag.Connections(netdiag.Query{LocalPorts: []uint16{port}})
	if err != nil || len(got) != 2 {
		t.Errorf("%+v, %v, want a listener and the server's end", got, err)
	}
	for _, c := range got {
		if c.Local.Port() == other {
			t.Errorf("a connection of another port: %+v", c)
		}
	}
	if all, err := netdiag.Connections(netdiag.Query{}); err != nil || len(all) < 6 {
		t.Errorf("%d connections in all, %v", len(all), err)
	}
}

func TestWatchStopsOnError(t *testing.T) {
	_, _, port := tcpPair(t, "127.0.0.1")
	full := errors.New("full")
	err := netdiag.Watch(t.Context(), netdiag.Query{LocalPorts: []uint16{port}}, 0, func(netdiag.Change) error { return full })
	if !errors.Is(err, full) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = netdiag.Watch(ctx, netdiag.Query{LocalPorts: []uint16{port}}, 0, func(netdiag.Change) error { cancel(); return nil })
	if err != nil {
		t.Error(err)
	}
}
