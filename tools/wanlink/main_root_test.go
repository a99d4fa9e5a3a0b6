//go:build root && linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestLinkCarriesAndCleansUp sends a datagram over the link, and sees its
// delay and that the namespaces are gone afterwards.
func TestLinkCarriesAndCleansUp(t *testing.T) {
	a, b := fmt.Sprintf("wan-a-%d", os.Getpid()), fmt.Sprintf("wan-b-%d", os.Getpid())
	out, in := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-rtt", "60ms", "-rate", "100", "-a", a, "-b", b}, in, os.Stderr)
		in.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("first line %q, want ready; run: %v", lines.Text(), <-ended)
	}

	from, to := udp(t, a, "10.99.0.1:0"), udp(t, b, "10.99.0.2:0")
	started := time.Now()
	if _, err := from.WriteTo([]byte("over the link"), to.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 100)
	n, peer, err := to.ReadFrom(got)
	if err != nil || string(got[:n]) != "over the link" || peer.String() != from.LocalAddr().String() {
		t.Errorf("received %q from %v, %v", got[:n], peer, err)
	}
	if took := time.Since(started); took < 30*time.Millisecond {
		t.Errorf("half a round trip of 60 ms took %v", took)
	}

	stop()
	var report strings.Builder
	for lines.Scan() {
		report.WriteString(lines.Text())
	}
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if !strings.Contains(report.String(), "a to b: carried") || strings.Contains(report.String(), "a to b: carried 0 ") {
		t.Errorf("the report says nothing of what was carried: %q", &report)
	}
	for _, ns := range []string{a, b} {
		if _, err := os.Stat(filepath.Join("/run/netns", ns)); !os.IsNotExist(err) {
			t.Errorf("namespace %s is still there: %v", ns, err)
		}
	}
}

// udp opens a UDP socket inside a namespace.
func udp(t *testing.T, ns, addr string) net.PacketConn {
	t.Helper()
	file, err := inNamespace(ns, func() (*os.File, error) {
		conn, err := net.ListenPacket("udp", addr)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return conn.(*net.UDPConn).File()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	conn, err := net.FilePacketConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}
