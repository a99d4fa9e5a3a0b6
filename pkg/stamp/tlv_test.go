package stamp

import (
	"bytes"
	"testing"
)

var someStatus = Status{Serving: ServingYes, Load: 25, Incarnation: 7, FreeSlots: 3}

func statusHex(t *testing.T) string {
	t.Helper()
	return "534c5354" + "01" + "01" + "00" + "19" + "0000000000000007" + "0000" + "0003" + zeros(12)
}

func TestReflectUnauthenticated(t *testing.T) {
	for _, c := range []struct{ name, in, out string }{
		{"none", "", ""},
		{"padding", "80010003 aabbcc", "00010003 aabbcc"},
		{"unknown is copied", "80070002 0102 80010000", "80070002 0102 00010000"},
		{"status", "80fb0020" + zeros(32), "00fb0020" + statusHex(t)},
		{"status of another vendor", "80fb0020 01" + zeros(31), "80fb0020 01" + zeros(31)},
		{"status of another length", "80fb0004" + zeros(4), "80fb0004" + zeros(4)},
		{"HMAC without a session", "80080010" + zeros(16), "80080010" + zeros(16)},
		{"return address is never followed", "800a0004 7f000001", "800a0004 7f000001"},
		{"too long: marked, the rest copied", "80010001 aa 80010009 aabb 80", "00010001 aa c0010009 aabb 80"},
		{"cut in the header", "80010000 8001", "00010000 c001"},
		{"one octet", "80", "c0"},
		{"padding of TWAMP-Light", "00010003 aabbcc", "00010003 aabbcc"},
		{"zero padding", zeros(9), zeros(9)},
	} {
		reply := append(bytes.Repeat([]byte{0xee}, BaseLen), unhex(t, c.in)...)
		ReflectTLVs(reply, BaseLen, 1, nil, &someStatus)
		if want := unhex(t, c.out); !bytes.Equal(reply[BaseLen:], want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, reply[BaseLen:], want)
		}
	}
	reply := append(make([]byte, BaseLen), AppendStatusRequest(nil)...)
	ReflectTLVs(reply, BaseLen, 1, nil, nil)
	if reply[BaseLen] != FlagUnrecognized {
		t.Error("without a status the request must stay unrecognised")
	}
}

// authRequest is a sealed packet with the TLVs that extend appends.
func authRequest(mac *MAC, extend func([]byte) []byte) []byte {
	p := extend(goldenSender.AppendAuth(nil))
	mac.Seal(p)
	return p
}

func reflectAuth(p []byte, mac *MAC) []byte {
	reply := bytes.Clone(p)
	Reflected{Seq: 99, SenderSeq: goldenSender.Seq}.PutAuth(reply)
	ReflectTLVs(reply, AuthLen, goldenSender.Seq, mac, &someStatus)
	mac.Seal(reply)
	return reply
}

func TestReflectAuthenticated(t *testing.T) {
	mac := NewMAC(goldenKey)
	p := authRequest(mac, func(b []byte) []byte {
		return AppendPadding(AppendHMAC(AppendTLV(AppendStatusRequest(b), 7, []byte{9}), mac), 8)
	})
	if !mac.Verify(p) || !VerifyTLVs(p, mac) {
		t.Fatal("a good request does not verify")
	}
	reply := reflectAuth(p, mac)
	if len(reply) != len(p) || !mac.Verify(reply) || !VerifyTLVs(reply, mac) {
		t.Fatal("the reply does not verify")
	}
	if s, ok := FindStatus(reply[AuthLen:]); !ok || s != someStatus {
		t.Errorf("status %+v, %v", s, ok)
	}
	var flags []byte
	for t, rest, ok := NextTLV(reply[AuthLen:]); ok; t, rest, ok = NextTLV(rest) {
		flags = append(flags, t.Flags)
	}
	if want := []byte{0, FlagUnrecognized, 0, 0}; !bytes.Equal(flags, want) {
		t.Errorf("flags %x, want %x", flags, want)
	}
}

func TestIntegrityFails(t *testing.T) {
	mac, other := NewMAC(goldenKey), NewMAC([]byte("another key of thirty-two octets"))
	for _, c := range []struct {
		name   string
		extend func([]byte) []byte
		good   bool
	}{
		{"no TLV", func(b []byte) []byte { return b }, true},
		{"padding alone", func(b []byte) []byte { return AppendPadding(b, 9) }, true},
		{"padding twice", func(b []byte) []byte { return AppendPadding(AppendPadding(b, 9), 9) }, false},
		{"status without HMAC", AppendStatusRequest, false},
		{"other key", func(b []byte) []byte { return AppendHMAC(AppendStatusRequest(b), other) }, false},
		{"HMAC not last", func(b []byte) []byte { return AppendTLV(AppendHMAC(b, mac), 7, nil) }, false},
		{"HMAC twice", func(b []byte) []byte { return AppendHMAC(AppendHMAC(b, mac), mac) }, false},
		{"HMAC of 15", func(b []byte) []byte { return AppendTLV(b, TypeHMAC, make([]byte, 15)) }, false},
		{"cut", func(b []byte) []byte { b = AppendHMAC(AppendStatusRequest(b), mac); return b[:len(b)-1] }, false},
		{"tail", func(b []byte) []byte { return append(AppendHMAC(AppendStatusRequest(b), mac), 0x80) }, false},
	} {
		p := authRequest(mac, c.extend)
		if VerifyTLVs(p, mac) != c.good {
			t.Errorf("%s: VerifyTLVs = %v", c.name, !c.good)
		}
		reply := reflectAuth(p, mac)
		rest, in := reply[AuthLen:], p[AuthLen:]
		for {
			tlv, more, ok := NextTLV(rest)
			if !ok {
				break
			}
			if !c.good {
				was, _, _ := NextTLV(in[len(in)-len(rest):])
				if tlv.Flags != FlagUnrecognized|FlagIntegrity || !bytes.Equal(tlv.Value, was.Value) {
					t.Errorf("%s: TLV %d has flags %x, value %x", c.name, tlv.Type, tlv.Flags, tlv.Value)
				}
			} else if tlv.Flags != 0 {
				t.Errorf("%s: flags %x", c.name, tlv.Flags)
			}
			rest = more
		}
		if _, ok := FindStatus(reply[AuthLen:]); ok && !c.good {
			t.Errorf("%s: a status was told", c.name)
		}
	}
}

func TestLooksReflected(t *testing.T) {
	us, _ := goldenUnauth(t)
	as, _ := goldenAuth(t)
	if LooksReflected(us) || LooksReflected(as) {
		t.Error("a sender's packet was taken for a reflected one")
	}
	if LooksAuth(us) || !LooksAuth(as) || LooksAuth(as[:AuthLen-1]) {
		t.Error("LooksAuth")
	}
	for _, c := range []struct {
		apart uint32
		want  bool
	}{{0, true}, {10, true}, {11, false}, {0xffffffff - 9, true}, {0xffffffff - 10, false}, {0x80000000, false}} {
		p := goldenReflected
		p.T2 = p.T3 - Timestamp(c.apart)<<32
		u, a := make([]byte, BaseLen), make([]byte, AuthLen)
		p.Put(u)
		p.PutAuth(a)
		if LooksReflected(u) != c.want || LooksReflected(a) != c.want {
			t.Errorf("%d s apart: %v, %v", int32(c.apart), LooksReflected(u), LooksReflected(a))
		}
	}
}

func TestPaddingFills(t *testing.T) {
	for n := range 300 {
		got := len(AppendPadding(nil, n))
		if want := n; n >= TLVHeader && got != want || n < TLVHeader && got != 0 {
			t.Errorf("AppendPadding of %d gave %d octets", n, got)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	mac := NewMAC(goldenKey)
	buf := make([]byte, 0, 512)
	reply := make([]byte, 512)
	status := someStatus
	mac.Seal(goldenSender.AppendAuth(buf)) // the hash keeps its state from here on
	n := testing.AllocsPerRun(100, func() {
		p := goldenSender.Append(buf)
		p = AppendPadding(AppendStatusRequest(p), 100)
		s, _ := ParseSender(p)
		r := reply[:copy(reply, p)]
		Reflected{Seq: s.Seq, T1: s.T1}.Put(r)
		ReflectTLVs(r, BaseLen, s.Seq, nil, &status)
		_, _ = ParseReflected(r)
		if _, ok := FindStatus(r[BaseLen:]); !ok {
			t.Error("no status")
		}
	})
	if n != 0 {
		t.Errorf("unauthenticated: %v allocations", n)
	}
	n = testing.AllocsPerRun(100, func() {
		p := goldenSender.AppendAuth(buf)
		p = AppendPadding(AppendHMAC(AppendStatusRequest(p), mac), 100)
		mac.Seal(p)
		r := reply[:copy(reply, p)]
		if !mac.Verify(r) {
			t.Error("HMAC")
		}
		s, _ := ParseSenderAuth(r)
		Reflected{Seq: s.Seq, T1: s.T1}.PutAuth(r)
		ReflectTLVs(r, AuthLen, s.Seq, mac, &status)
		mac.Seal(r)
		if !VerifyTLVs(r, mac) {
			t.Error("TLVs")
		}
	})
	if n != 0 {
		t.Errorf("authenticated: %v allocations", n)
	}
}
