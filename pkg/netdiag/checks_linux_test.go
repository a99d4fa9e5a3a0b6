package netdiag_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/e27efefb/sluice/pkg/netdiag"
)

func TestSocketBuffers(t *testing.T) {
	b, err := netdiag.SocketBuffers()
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile("/proc/sys/net/ipv4/tcp_wmem")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(strings.TrimSpace(string(out)), "\t"+strconv.FormatInt(b.MaxWrite, 10)) || b.MaxRead <= 0 {
		t.Errorf("%+v, the file says %s", b, out)
	}
	measure := func(rtt time.Duration, bandwidth float64) netdiag.Result {
		return netdiag.CheckBuffers(1, func(context.Context) (time.Duration, float64, error) { return rtt, bandwidth, nil }).Run(t.Context())
	}
	if r := measure(time.Millisecond, 1e6); r.Status != netdiag.OK {
		t.Errorf("1 MB/s over 1 ms: %+v", r)
	}
	if r := measure(time.Second, 1e12); r.Status != netdiag.Warning || !strings.Contains(r.Do, "tcp_wmem") {
		t.Errorf("1 TB/s over 1 s: %+v", r)
	}
	if r := measure(time.Second, 0); r.Status != netdiag.OK {
		t.Errorf("nothing wanted: %+v", r)
	}
}

func TestPathMTULoopback(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	m, err := netdiag.PathMTU(t.Context(), pc.LocalAddr().String())
	if err != nil || m.Path != m.Link || m.Path < 1500 {
		t.Errorf("%+v, %v", m, err)
	}
	if r := netdiag.CheckMTU(pc.LocalAddr().String()).Run(t.Context()); r.Status != netdiag.OK {
		t.Errorf("%+v", r)
	}
}

// Three namespaces in a row: here ── router ── far, with a narrower second
// link. The kernel learns about it from the router's ICMP.
func TestPathMTUThroughANarrowLink(t *testing.T) {
	// The thread that enters a namespace must not be used by others.
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	defer func() {
		if err := netns.Set(home); err == nil {
			runtime.UnlockOSThread()
		}
	}()
	var spaces []netns.NsHandle
	for range 3 {
		ns, err := netns.New()
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		spaces = append(spaces, ns)
	}
	link := func(a, b netns.NsHandle, name, addrA, addrB string, mtu int) {
		t.Helper()
		must(t, netns.Set(a))
		must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name + "a", MTU: mtu}, PeerName: name + "b", PeerNamespace: netlink.NsFd(b)}))
		up(t, name+"a", addrA, mtu)
		must(t, netns.Set(b))
		up(t, name+"b", addrB, mtu)
	}
	here, router, far := spaces[0], spaces[1], spaces[2]
	link(here, router, "near", "10.1.0.1/24", "10.1.0.2/24", 1500)
	link(router, far, "wide", "10.2.0.1/24", "10.2.0.2/24", 1400)
	must(t, netns.Set(router))
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644))
	route := func(ns netns.NsHandle, dst, via string) {
		t.Helper()
		must(t, netns.Set(ns))
		_, to, err := net.ParseCIDR(dst)
		must(t, err)
		must(t, netlink.RouteAdd(&netlink.Route{Dst: to, Gw: net.ParseIP(via)}))
	}
	route(far, "10.1.0.0/24", "10.2.0.1")
	route(here, "10.2.0.0/24", "10.1.0.2")

	m, err := netdiag.PathMTU(t.Context(), "10.2.0.2:7402")
	if err != nil || m.Path != 1400 || m.Link != 1500 {
		t.Errorf("%+v, %v, want 1400 of 1500", m, err)
	}
	if r := netdiag.CheckMTU("10.2.0.2:7402").Run(t.Context()); r.Status != netdiag.Warning {
		t.Errorf("%+v", r)
	}
}

func up(t *testing.T, name, addr string, mtu int) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	a, err := netlink.ParseAddr(addr)
	must(t, err)
	must(t, errors.Join(netlink.AddrAdd(l, a), netlink.LinkSetMTU(l, mtu), netlink.LinkSetUp(l)))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
