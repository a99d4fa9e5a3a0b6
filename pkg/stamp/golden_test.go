package stamp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// unhex joins fields written as in the tables of doc.go.
func unhex(t testing.TB, fields ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(fields, ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func zeros(n int) string { return strings.Repeat("00", n) }

var (
	goldenSender    = Sender{Seq: 0x01020304, T1: 0x1112131415161718, Error: 0x2122, SSID: 0x3132}
	goldenReflected = Reflected{
		Seq: 0x41424344, T3: 0x5152535455565758, Error: 0x6162, SSID: 0x7172,
		T2: 0x8182838485868788, SenderSeq: 0x91929394, T1: 0xa1a2a3a4a5a6a7a8, SenderError: 0xb1b2, SenderTTL: 0xc1,
	}
	goldenKey = []byte("0123456789abcdef0123456789abcdef")
)

func goldenUnauth(t testing.TB) (sender, reflected []byte) {
	return unhex(t,
			"01020304", "1112131415161718", "2122", "3132", zeros(28)),
		unhex(t,
			"41424344", "5152535455565758", "6162", "7172",
			"8182838485868788", "91929394", "a1a2a3a4a5a6a7a8", "b1b2", zeros(2), "c1", zeros(3))
}

func goldenAuth(t testing.TB) (sender, reflected []byte) {
	return unhex(t,
			"01020304", zeros(12), "1112131415161718", "2122", "3132", zeros(68), zeros(16)),
		unhex(t,
			"41424344", zeros(12), "5152535455565758", "6162", "7172", zeros(4),
			"8182838485868788", zeros(8), "91929394", zeros(12), "a1a2a3a4a5a6a7a8", "b1b2", zeros(6), "c1", zeros(15), zeros(16))
}

func TestGoldenPackets(t *testing.T) {
	us, ur := goldenUnauth(t)
	as, ar := goldenAuth(t)
	dirty := func(n int) []byte { return bytes.Repeat([]byte{0xee}, n) }

	putU, putA := dirty(BaseLen+3), dirty(AuthLen+3)
	goldenReflected.Put(putU)
	goldenReflected.PutAuth(putA)
	for _, c := range []struct {
		name      string
		got, want []byte
	}{
		{"sender", goldenSender.Append(nil), us},
		{"sender, authenticated", goldenSender.AppendAuth(nil), as},
		{"reflected", putU, append(ur, 0xee, 0xee, 0xee)},
		{"reflected, authenticated", putA, append(ar, 0xee, 0xee, 0xee)},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, c.got, c.want)
		}
	}
	if p, err := ParseSender(us); err != nil || p != goldenSender {
		t.Errorf("ParseSender = %+v, %v", p, err)
	}
	if p, err := ParseSenderAuth(as); err != nil || p != goldenSender {
		t.Errorf("ParseSenderAuth = %+v, %v", p, err)
	}
	if p, err := ParseReflected(ur); err != nil || p != goldenReflected {
		t.Errorf("ParseReflected = %+v, %v", p, err)
	}
	if p, err := ParseReflectedAuth(ar); err != nil || p != goldenReflected {
		t.Errorf("ParseReflectedAuth = %+v, %v", p, err)
	}
	noTTL := goldenReflected
	noTTL.SenderTTL = TTLUnknown
	if p, err := ParseReflected(ur[:38]); err != nil || p != noTTL {
		t.Errorf("ParseReflected of 38 octets = %+v, %v", p, err)
	}
}

// TestEveryOctet changes one octet at a time and sees which field moves: no
// field may be read from a neighbour's place, and the must-be-zero octets must
// not be read at all.
func TestEveryOctet(t *testing.T) {
	fields := func(spans ...[2]int) map[int]bool {
		m := map[int]bool{}
		for _, s := range spans {
			for i := s[0]; i <= s[1]; i++ {
				m[i] = true
			}
		}
		return m
	}
	us, ur := goldenUnauth(t)
	as, ar := goldenAuth(t)
	for _, c := range []struct {
		name   string
		packet []byte
		used   map[int]bool
		parse  func([]byte) any
	}{
		{"sender", us, fields([2]int{0, 15}), func(b []byte) any { p, _ := ParseSender(b); return p }},
		{"sender, authenticated", as, fields([2]int{0, 3}, [2]int{16, 27}), func(b []byte) any { p, _ := ParseSenderAuth(b); return p }},
		{"reflected", ur, fields([2]int{0, 37}, [2]int{40, 40}), func(b []byte) any { p, _ := ParseReflected(b); return p }},
		{
			"reflected, authenticated", ar,
			fields([2]int{0, 3}, [2]int{16, 27}, [2]int{32, 39}, [2]int{48, 51}, [2]int{64, 73}, [2]int{80, 80}),
			func(b []byte) any { p, _ := ParseReflectedAuth(b); return p },
		},
	} {
		want := c.parse(c.packet)
		for i := range c.packet {
			b := bytes.Clone(c.packet)
			b[i] ^= 0xff
			if moved := c.parse(b) != want; moved != c.used[i] {
				t.Errorf("%s: octet %d read: %v, want %v", c.name, i, moved, c.used[i])
			}
		}
	}
}

func TestTooShort(t *testing.T) {
	b := make([]byte, AuthLen)
	if _, err := ParseSender(b[:BaseLen-1]); !errors.Is(err, ErrShort) {
		t.Error(err)
	}
	if _, err := ParseReflected(b[:37]); !errors.Is(err, ErrShort) {
		t.Error(err)
	}
	if _, err := ParseSenderAuth(b[:AuthLen-1]); !errors.Is(err, ErrShort) {
		t.Error(err)
	}
	if _, err := ParseReflectedAuth(b[:AuthLen-1]); !errors.Is(err, ErrShort) {
		t.Error(err)
	}
}

// TestGoldenHMAC holds the base HMAC against one computed by another
// implementation: Python's hmac.new(key, packet[:96], "sha256").digest()[:16].
func TestGoldenHMAC(t *testing.T) {
	mac := NewMAC(goldenKey)
	p := goldenSender.AppendAuth(nil)
	mac.Seal(p)
	if want := unhex(t, hmacBase); !bytes.Equal(p[96:], want) {
		t.Errorf("HMAC = %x, want %x", p[96:], want)
	}
	for i := range p {
		p[i] ^= 1
		if mac.Verify(p) {
			t.Errorf("a flipped bit in octet %d went unnoticed", i)
		}
		p[i] ^= 1
	}
	if !mac.Verify(p) {
		t.Error("the HMAC does not match itself")
	}
	if mac.Verify(p[:AuthLen-1]) {
		t.Error("a cut packet verified")
	}

	p = AppendHMAC(AppendTLV(p, 7, []byte{1, 2, 3, 4}), mac)
	if want := unhex(t, hmacTLV); !bytes.Equal(p[len(p)-16:], want) {
		t.Errorf("HMAC TLV = %x, want %x", p[len(p)-16:], want)
	}
}

func TestGoldenStatus(t *testing.T) {
	s := Status{
		Serving: ServingNo, Flags: Draining | DiskLow, Load: 0x70, Incarnation: 0x8182838485868788,
		Active: 0x9192, FreeSlots: 0xa1a2, FreeMiB: 0xb1b2b3b4, IdleMillis: 0xc1c2c3c4,
	}
	b := bytes.Repeat([]byte{0xee}, StatusLen)
	s.put(b)
	want := unhex(t, "534c5354", "01", "02", "05", "70", "8182838485868788", "9192", "a1a2", "b1b2b3b4", "c1c2c3c4", zeros(4))
	if !bytes.Equal(b, want) {
		t.Errorf("status\n got %x\nwant %x", b, want)
	}
	if got, ok := ParseStatus(b); !ok || got != s {
		t.Errorf("ParseStatus = %+v, %v", got, ok)
	}
	b[0]++
	if _, ok := ParseStatus(b); ok {
		t.Error("a foreign value was taken for a status")
	}
	if got := AppendStatusRequest(nil); !bytes.Equal(got, unhex(t, "80fb0020", zeros(32))) {
		t.Errorf("request %x", got)
	}
}

const (
	hmacBase = "8a4b19c699242e7ea85edebe07296ad8"
	hmacTLV  = "47e473ee9580829969df765848675cfb"
)
