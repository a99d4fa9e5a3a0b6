package stamp

import "testing"

func BenchmarkReflect(b *testing.B) {
	status := someStatus
	req := AppendStatusRequest(goldenSender.Append(nil))
	buf := make([]byte, 512)
	b.ReportAllocs()
	for b.Loop() {
		r := buf[:copy(buf, req)]
		s, _ := ParseSender(r)
		Reflected{Seq: s.Seq, T1: s.T1, SSID: s.SSID}.Put(r)
		ReflectTLVs(r, BaseLen, s.Seq, nil, &status)
	}
}

func BenchmarkReflectAuth(b *testing.B) {
	status, mac := someStatus, NewMAC(goldenKey)
	req := AppendHMAC(AppendStatusRequest(goldenSender.AppendAuth(nil)), mac)
	mac.Seal(req)
	buf := make([]byte, 512)
	b.ReportAllocs()
	for b.Loop() {
		r := buf[:copy(buf, req)]
		if !mac.Verify(r) {
			b.Fatal("HMAC")
		}
		s, _ := ParseSenderAuth(r)
		Reflected{Seq: s.Seq, T1: s.T1, SSID: s.SSID}.PutAuth(r)
		ReflectTLVs(r, AuthLen, s.Seq, mac, &status)
		mac.Seal(r)
	}
}

func BenchmarkSeal(b *testing.B) {
	mac := NewMAC(goldenKey)
	p := goldenSender.AppendAuth(nil)
	b.ReportAllocs()
	for b.Loop() {
		mac.Seal(p)
	}
}
