//go:build interop

package interop

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
)

// port is what tshark is told to decode.
const port = 7402

// pcap is a capture of raw IPv4 datagrams
// (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html).
type pcap []byte

func newCapture() pcap {
	b := binary.BigEndian.AppendUint32(nil, 0xa1b2c3d4) // microseconds
	b = append(b, 0, 2, 0, 4)                           // version 2.4
	b = append(b, make([]byte, 8)...)
	b = binary.BigEndian.AppendUint32(b, 65535)
	return binary.BigEndian.AppendUint32(b, 101) // LINKTYPE_RAW
}

func (p *pcap) udp(at time.Time, from, to uint16, payload []byte) {
	n := 20 + 8 + len(payload)
	b := binary.BigEndian.AppendUint32(*p, uint32(at.Unix()))
	b = binary.BigEndian.AppendUint32(b, uint32(at.Nanosecond()/1000))
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = append(b, 0x45, 0, byte(n>>8), byte(n), 0, 0, 0x40, 0, 255, 17, 0, 0) // IPv4, no checksum
	b = append(b, 192, 0, 2, 1, 192, 0, 2, 2)
	b = binary.BigEndian.AppendUint16(b, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	*p = append(append(b, 0, 0), payload...)
}

var fields = []string{
	"seq_number", "timestamp", "error_estimate", "mbz1", "receive_timestamp", "sender_seq_number",
	"sender_timestamp", "sender_error_estimate", "sender_ttl", "error_estimate.s", "error_estimate.z",
	"error_estimate.scale", "error_estimate.multiplier", "padding",
}

// decode returns the fields of each packet as tshark reads them.
func decode(t *testing.T, p pcap) []map[string]string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ping.pcap")
	if err := os.WriteFile(name, p, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-r", name, "-d", fmt.Sprintf("udp.port==%d,twamp.test", port), "-T", "fields", "-E", "occurrence=f"}
	for _, f := range fields {
		args = append(args, "-e", "twamp.test."+f)
	}
	args = append(args, "-e", "_ws.malformed")
	cmd := exec.CommandContext(within(t), "tshark", args...)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark (apt-get install tshark): %v\n%s", err, stderr(err))
	}
	var packets []map[string]string
	for line := range strings.Lines(string(out)) {
		m := map[string]string{}
		for i, v := range strings.Split(strings.TrimRight(line, "\n"), "\t") {
			if i == len(fields) {
				if v != "" {
					t.Errorf("tshark calls a packet malformed: %s", v)
				}
				continue
			}
			m[fields[i]] = v
		}
		packets = append(packets, m)
	}
	return packets
}

// TestTshark sends a request through our reflector and lets tshark decode both.
func TestTshark(t *testing.T) {
	at := time.Date(2026, 11, 27, 1, 2, 3, 456_789_000, time.UTC)
	request := stamp.AppendPadding(stamp.Sender{
		Seq: 0x01020304, T1: stamp.TimestampOf(at), Error: stamp.NewErrorEstimate(true, time.Millisecond), SSID: 0x1234,
	}.Append(nil), 20)
	conn, err := net.DialUDP("udp", nil, reflector(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	reply := make([]byte, 2000)
	n, err := conn.Read(reply)
	if err != nil {
		t.Fatal(err)
	}
	reply = reply[:n]
	ours, err := stamp.ParseReflected(reply)
	if err != nil {
		t.Fatal(err)
	}

	p := newCapture()
	p.udp(at, 40000, port, request)
	p.udp(at.Add(time.Millisecond), port, 40000, reply)
	packets := decode(t, p)
	if len(packets) != 2 {
		t.Fatalf("tshark saw %v", packets)
	}
	want := func(packet map[string]string, values map[string]string) {
		t.Helper()
		for f, v := range values {
			if !strings.HasPrefix(packet[f], v) {
				t.Errorf("%s is %q, want %q", f, packet[f], v)
			}
		}
	}
	// tshark cuts fractions of nanoseconds off.
	wantTime := func(packet map[string]string, field string, at time.Time) {
		t.Helper()
		got, err := time.Parse("Jan _2, 2006 15:04:05.999999999 MST", packet[field])
		if err != nil || got.Sub(at).Abs() > time.Nanosecond {
			t.Errorf("%s is %q (%v), want %v", field, packet[field], err, at.UTC())
		}
	}
	want(packets[0], map[string]string{
		"seq_number": "16909060", "error_estimate": "36740", // 8f84
		"error_estimate.s": "1", "error_estimate.z": "0", "error_estimate.scale": "15", "error_estimate.multiplier": "132",
	})
	now := time.Now()
	wantTime(packets[0], "timestamp", at)
	wantTime(packets[1], "timestamp", ours.T3.Time(now))
	wantTime(packets[1], "receive_timestamp", ours.T2.Time(now))
	wantTime(packets[1], "sender_timestamp", at)
	want(packets[1], map[string]string{
		"seq_number": "16909060", "sender_seq_number": "16909060", "sender_error_estimate": "36740", "sender_ttl": "64",
		"error_estimate.z": "0", "error_estimate.multiplier": fmt.Sprint(uint8(ours.Error)),
		"padding": hex.EncodeToString(reply[41:]), // TWAMP calls all after the TTL padding
	})
}
