//go:build interop

package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/pkg/health"
	"github.com/e27efefb/sluice/pkg/stamp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// python is the interpreter that Debian's python3-scapy is installed for.
	python = "/usr/bin/python3"
	// patience is how long a test waits for what must happen.
	patience = 60 * time.Second
)

var status = stamp.Status{
	Serving: stamp.ServingYes, Flags: stamp.DiskLow, Load: 33, Incarnation: 0x0102030405060708,
	Active: 2, FreeSlots: 9, FreeMiB: 4096, IdleMillis: 17,
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// reflector runs ours on loopback until the test ends, and returns its address.
func reflector(t *testing.T) *net.UDPAddr {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := health.NewReflector(health.ReflectorConfig{Status: func() stamp.Status { return status }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	addr := conn.LocalAddr().(*net.UDPAddr)
	go func() { done <- r.Serve(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return addr
}

// scapyReply is a line of testdata/sender.py.
type scapyReply struct {
	Sent, Got, Seq, SSID, S, Z, Multiplier int
	TS                                     uint64
	TSRx                                   uint64 `json:"ts_rx"`
	SeqSender                              int    `json:"seq_sender"`
	TSSender                               uint64 `json:"ts_sender"`
	ErrSender                              string `json:"err_sender"`
	MBZ                                    [2]int
	TTLSender                              int `json:"ttl_sender"`
	TLVs                                   []struct {
		Flags, Type int
		Value       string
	}
}

// TestScapySender lets scapy ping our reflector and dissect the replies.
func TestScapySender(t *testing.T) {
	const count = 5
	addr := reflector(t)
	cmd := exec.CommandContext(within(t), python, "testdata/sender.py", strconv.Itoa(addr.Port), strconv.Itoa(count))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("scapy as sender (apt-get install python3-scapy): %v\n%s", err, stderr(err))
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != count {
		t.Fatalf("%d replies, want %d:\n%s", len(lines), count, out)
	}
	now := stamp.TimestampOf(time.Now())
	for i, line := range lines {
		var r scapyReply
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Got != r.Sent || r.Seq != i || r.SeqSender != i || r.SSID != 4660+i || r.TTLSender != 64 {
			t.Errorf("%+v", r)
		}
		if want := uint64(3_900_000_000+i)<<32 | 0x12345678; r.TSSender != want || r.ErrSender != "0307" {
			t.Errorf("the sender's timestamp %#x and estimate %s came back wrong", r.TSSender, r.ErrSender)
		}
		if r.TS < r.TSRx || uint64(now)-r.TS > 60<<32 || r.Z != 0 || r.Multiplier == 0 || r.MBZ != [2]int{} {
			t.Errorf("timestamps and estimate of ours: %+v", r)
		}
		if len(r.TLVs) != 3 {
			t.Fatalf("TLVs %+v", r.TLVs)
		}
		for j, want := range []struct{ flags, typ int }{{0, 1}, {0x80, 77}, {0, 251}} {
			if r.TLVs[j].Flags != want.flags || r.TLVs[j].Type != want.typ {
				t.Errorf("TLV %d: %+v, want %+v", j, r.TLVs[j], want)
			}
		}
		if r.TLVs[0].Value != "0102030405" || r.TLVs[1].Value != "616263" ||
			r.TLVs[2].Value != "534c5354"+"01010421"+"0102030405060708"+"00020009"+"00001000"+"00000011"+"00000000" {
			t.Errorf("values %+v", r.TLVs)
		}
	}
}

// TestScapyReflector pings reflectors that scapy plays.
func TestScapyReflector(t *testing.T) {
	for _, mode := range []string{"rfc8972", "rfc8762", "short"} {
		t.Run(mode, func(t *testing.T) {
			ctx, cancel := context.WithCancel(within(t))
			cmd := exec.CommandContext(ctx, python, "testdata/reflector.py", mode)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var complaint strings.Builder
			cmd.Stderr = &complaint
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				cancel()
				_, _ = io.Copy(io.Discard, out)
				_ = cmd.Wait()
			}()
			port, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatalf("scapy as reflector (apt-get install python3-scapy): %v\n%s", err, complaint.String())
			}
			s, err := health.Measure(ctx, health.PingerConfig{
				Addr: "127.0.0.1:" + strings.TrimSpace(port), Interval: 20 * time.Millisecond, Timeout: patience / 2, Size: 200,
			}, 10)
			if err != nil || s.Received != 10 || s.Lost+s.Rejected+s.Duplicates != 0 || s.Status != nil {
				t.Errorf("%+v, %v\n%s", s, err, complaint.String())
			}
			if s.Min <= 0 || s.ResidenceMean <= 0 || s.Directional || s.HopsForward != 0 || s.HopsBack < 0 && s.HopsBack != -1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func stderr(err error) string {
	if e, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns it bare
		return string(e.Stderr)
	}
	return ""
}
