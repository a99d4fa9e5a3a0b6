package netdiag_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/netdiag"
)

func TestDoctorRunsInOrderAndJudges(t *testing.T) {
	var order []string
	check := func(name string, r netdiag.Result) netdiag.Check {
		return netdiag.Check{Name: name, Run: func(context.Context) netdiag.Result {
			order = append(order, name)
			return r
		}}
	}
	var seen []string
	r := netdiag.Doctor(t.Context(), "host:7400", []netdiag.Check{
		check("one", netdiag.Okay("fine, %d", 1)),
		check("two", netdiag.Warn("do this", "hm")),
		check("three", netdiag.Okay("fine")),
	}, func(l netdiag.Line) { seen = append(seen, l.Name) })
	if got := strings.Join(order, " "); got != "one two three" || strings.Join(seen, " ") != got {
		t.Errorf("order %q, seen %q", order, seen)
	}
	if r.Status != netdiag.Warning || r.ExitCode() != 0 || r.Lines[0].Detail != "fine, 1" {
		t.Errorf("report %+v", r)
	}
	r = netdiag.Doctor(t.Context(), "host:7400", []netdiag.Check{
		check("bad", netdiag.Fail("mend it", "broken")),
		check("good", netdiag.Okay("fine")),
	}, nil)
	if r.Status != netdiag.Failure || r.ExitCode() != 1 {
		t.Errorf("report %+v", r)
	}
	var text, js bytes.Buffer
	if err := errors.Join(netdiag.WriteReport(&text, r), netdiag.WriteJSON(&js, r)); err != nil {
		t.Fatal(err)
	}
	const want = `failure  bad              broken
                          → mend it
ok       good             fine
host:7400: failure of 2 checks; warnings: 0, failures: 1
`
	if text.String() != want {
		t.Errorf("text:\n%s\nwant:\n%s", text.String(), want)
	}
	var back netdiag.Report
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || back.Lines[0].Do != "mend it" || back.Status != netdiag.Failure {
		t.Errorf("JSON %v:\n%s", err, js.String())
	}
}

func TestDoctorTimeLimit(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	slow := netdiag.Check{Name: "slow", Timeout: time.Millisecond, Run: func(ctx context.Context) netdiag.Result {
		<-ctx.Done()
		return netdiag.Fail("wait", "gave up")
	}}
	last := netdiag.Check{Name: "last", Run: func(context.Context) netdiag.Result {
		t.Error("a check ran after the context ended")
		return netdiag.Okay("")
	}}
	r := netdiag.Doctor(ctx, "x", []netdiag.Check{slow, last}, func(netdiag.Line) { cancel() })
	if d := r.Lines[0].Detail; d != "gave up (no result within 1ms)" {
		t.Errorf("slow: %q", d)
	}
	if l := r.Lines[1]; l.Status != netdiag.Failure || !strings.Contains(l.Detail, "not examined") {
		t.Errorf("last: %+v", l)
	}
}

func TestChecks(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := ln.Addr().String()
	ln2, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shut := ln2.Addr().String()
	_ = ln2.Close()
	defer ln.Close()

	ping := func(p netdiag.PingStats, err error) netdiag.Check {
		return netdiag.CheckPing(func(context.Context) (netdiag.PingStats, error) { return p, err })
	}
	clock := func(off, unc time.Duration) netdiag.Check {
		return netdiag.CheckClock(func(context.Context) (time.Duration, time.Duration, error) { return off, unc, nil })
	}
	disk := func(free, total int64) netdiag.Check {
		return netdiag.CheckDisk("disk", func(context.Context) (int64, int64, error) { return free, total, nil })
	}
	version := func(v string, err error) netdiag.Check {
		return netdiag.CheckVersions("1.2.0", func(context.Context) (string, error) { return v, err })
	}
	down := errors.New("no route")
	for _, tc := range []struct {
		check  netdiag.Check
		status netdiag.Status
		detail string
	}{
		{netdiag.CheckTCP("control port", open, "start it"), netdiag.OK, "connected in"},
		{netdiag.CheckTCP("control port", shut, "start it"), netdiag.Failure, "nothing listens on the port"},
		{netdiag.CheckTCP("control port", "no port", "start it"), netdiag.Failure, "read the address"},
		{ping(netdiag.PingStats{Sent: 100, Received: 100, MedianRTT: 1234 * time.Microsecond}, nil), netdiag.OK, "round trip 1.23ms"},
		{ping(netdiag.PingStats{Sent: 100, Received: 98}, nil), netdiag.Warning, "2.0 % of 100 pings lost"},
		{ping(netdiag.PingStats{Sent: 5}, nil), netdiag.Warning, "UDP is blocked"},
		{ping(netdiag.PingStats{}, down), netdiag.Warning, "no route"},
		{clock(-20*time.Millisecond, time.Millisecond), netdiag.OK, "20ms behind"},
		{clock(3*time.Second, time.Millisecond), netdiag.Warning, "3s ahead"},
		{clock(-time.Hour, time.Millisecond), netdiag.Failure, "1h0m0s behind"},
		{clock(3*time.Second, 4*time.Second), netdiag.OK, "to within 4s"}, // may be nothing
		{disk(50, 100), netdiag.OK, "50 B of 100 B free"},
		{disk(9, 100), netdiag.Warning, ""},
		{disk(0, 100), netdiag.Failure, ""},
		{version("1.2.0", nil), netdiag.OK, "both 1.2.0"},
		{version("1.1.9", nil), netdiag.Warning, "receiver 1.1.9"},
		{version("", down), netdiag.Warning, "no route"},
	} {
		r := tc.check.Run(t.Context())
		if r.Status != tc.status || !strings.Contains(r.Detail, tc.detail) || (r.Status == netdiag.OK) != (r.Do == "") {
			t.Errorf("%s: %+v, want %s with %q", tc.check.Name, r, tc.status, tc.detail)
		}
	}
}

func TestMeasureConnect(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	m, err := netdiag.MeasureConnect(t.Context(), ln.Addr().String())
	if err != nil || m.Elapsed <= 0 {
		t.Errorf("%+v, %v", m, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := netdiag.MeasureConnect(ctx, ln.Addr().String()); err == nil {
		t.Error("a cancelled context was ignored")
	}
}
