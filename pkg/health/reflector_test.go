package health

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/stamp"
	"github.com/e27efefb/sluice/pkg/transfer"
)

var (
	stranger  = netip.MustParseAddrPort("192.0.2.7:40000")
	neighbour = netip.MustParseAddrPort("127.0.0.1:40000")
)

func ask(buf []byte, from netip.AddrPort) *request {
	return &request{buf: buf, from: from, own: 7402, ttl: 64, at: time.Now()}
}

func plainRequest(seq uint32) []byte {
	return stamp.AppendStatusRequest(stamp.Sender{Seq: seq, T1: stamp.TimestampOf(time.Now()), Error: 1, SSID: 5}.Append(nil))
}

// TestNoAmplification builds a million replies: each is as long as its request,
// and exists only for requests of 44 octets and more.
func TestNoAmplification(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := NewReflector(ReflectorConfig{
		Open: true, LowPorts: true, SourceRate: 1e9, TotalRate: 1e9, SessionRate: 1e9,
		Status: func() stamp.Status { return servingStatus }, Now: func() time.Time { return now },
	})
	session, err := r.NewSession("alice")
	if err != nil {
		t.Fatal(err)
	}
	mac := stamp.NewMAC(session.Key[:])
	seed := rand.NewChaCha8([32]byte{1, 2})
	rnd := rand.New(seed)
	buf := make([]byte, 300)
	answered, sealed := 0, 0
	for i := range 1_000_000 {
		b := buf[:rnd.IntN(len(buf)+1)]
		_, _ = seed.Read(b)
		if i%8 == 0 && len(b) >= stamp.AuthLen { // reach what lies behind the HMAC
			clear(b[4:16])
			b[26], b[27] = byte(session.SSID>>8), byte(session.SSID)
			b[0], b[1], b[2], b[3] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
			clear(b[32:36])
			mac.Seal(b)
		}
		q := ask(b, stranger)
		if !r.answer(q) {
			continue
		}
		answered++
		if len(b) < stamp.BaseLen || len(q.buf) != len(b) {
			t.Fatalf("%d octets were answered with %d", len(b), len(q.buf))
		}
		if !stamp.LooksReflected(q.buf) {
			t.Fatalf("the reply %x does not look like one", q.buf)
		}
		if len(b) >= stamp.AuthLen && mac.Verify(b) {
			sealed++
		}
	}
	if answered < 500_000 || sealed < 50_000 {
		t.Errorf("only %d were answered, %d of them authenticated: the test reached little", answered, sealed)
	}
}

func TestGuards(t *testing.T) {
	reflected := func() []byte {
		b := plainRequest(1)
		stamp.Reflected{Seq: 1, T2: stamp.TimestampOf(time.Now()), T3: stamp.TimestampOf(time.Now())}.Put(b)
		return b
	}
	count := func(s ReflectorStats) [5]uint64 {
		return [5]uint64{s.Malformed, s.Refused, s.Loops, s.Denied, s.Limited}
	}
	for _, c := range []struct {
		name string
		cfg  ReflectorConfig
		q    func() *request
		want [5]uint64 // as count; all zero: answered
	}{
		{"loopback", ReflectorConfig{}, func() *request { return ask(plainRequest(1), neighbour) }, [5]uint64{}},
		{"loopback, IPv6", ReflectorConfig{}, func() *request { return ask(plainRequest(1), netip.MustParseAddrPort("[::1]:4000")) }, [5]uint64{}},
		{"loopback, mapped", ReflectorConfig{}, func() *request { return ask(plainRequest(1), netip.MustParseAddrPort("[::ffff:127.0.0.1]:4000")) }, [5]uint64{}},
		{"network", ReflectorConfig{}, func() *request { return ask(plainRequest(1), stranger) }, [5]uint64{3: 1}},
		{"network, open", ReflectorConfig{Open: true}, func() *request { return ask(plainRequest(1), stranger) }, [5]uint64{}},
		{"43 octets", ReflectorConfig{}, func() *request { return ask(plainRequest(1)[:43], neighbour) }, [5]uint64{1}},
		{"no octets", ReflectorConfig{}, func() *request { return ask(nil, neighbour) }, [5]uint64{1}},
		{"truncated", ReflectorConfig{}, func() *request { q := ask(plainRequest(1), neighbour); q.cut = true; return q }, [5]uint64{1}},
		{"stale", ReflectorConfig{}, func() *request { q := ask(plainRequest(1), neighbour); q.age = staleAfter + 1; return q }, [5]uint64{1}},
		{"to many", ReflectorConfig{}, func() *request { q := ask(plainRequest(1), neighbour); q.group = true; return q }, [5]uint64{1: 1}},
		{"port 0", ReflectorConfig{LowPorts: true}, func() *request { return ask(plainRequest(1), netip.MustParseAddrPort("127.0.0.1:0")) }, [5]uint64{1: 1}},
		{"our port", ReflectorConfig{}, func() *request { return ask(plainRequest(1), netip.MustParseAddrPort("127.0.0.1:7402")) }, [5]uint64{1: 1}},
		{"port 1023", ReflectorConfig{}, func() *request { return ask(plainRequest(1), netip.MustParseAddrPort("127.0.0.1:1023")) }, [5]uint64{1: 1}},
		{"port 1023, allowed", ReflectorConfig{LowPorts: true}, func() *request { return ask(plainRequest(1), netip.MustParseAddrPort("127.0.0.1:1023")) }, [5]uint64{}},
		{"port 1024", ReflectorConfig{}, func() *request { return ask(plainRequest(1), netip.MustParseAddrPort("127.0.0.1:1024")) }, [5]uint64{}},
		{"a reply", ReflectorConfig{Open: true}, func() *request { return ask(reflected(), stranger) }, [5]uint64{2: 1}},
		{"no session", ReflectorConfig{Open: true}, func() *request {
			return ask(stamp.Sender{Seq: 1, T1: 1, SSID: 9}.AppendAuth(nil), neighbour)
		}, [5]uint64{3: 1}},
	} {
		r := NewReflector(c.cfg)
		answered := r.answer(c.q())
		if got := count(r.Stats()); got != c.want || answered != (c.want == [5]uint64{}) {
			t.Errorf("%s: answered %v, counted %v, want %v", c.name, answered, got, c.want)
		}
	}
}

func TestReply(t *testing.T) {
	r := NewReflector(ReflectorConfig{Status: func() stamp.Status { return servingStatus }})
	req := plainRequest(77)
	sender, _ := stamp.ParseSender(req)
	q := ask(bytes.Clone(req), neighbour)
	if !r.answer(q) {
		t.Fatal("no answer")
	}
	p, _ := stamp.ParseReflected(q.buf)
	if p.Seq != 77 || p.SenderSeq != 77 || p.T1 != sender.T1 || p.SenderError != sender.Error || p.SSID != 5 || p.SenderTTL != 64 ||
		p.T2 != stamp.TimestampOf(q.at) || p.T3 < p.T2 || !p.Error.Valid() {
		t.Errorf("%+v for %+v", p, sender)
	}
	if s, ok := stamp.FindStatus(q.buf[stamp.BaseLen:]); !ok || s != servingStatus {
		t.Errorf("status %+v, %v", s, ok)
	}
}

func TestRates(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := NewReflector(ReflectorConfig{Open: true, SourceRate: 100, TotalRate: 200, SessionRate: 100, Now: func() time.Time { return now }})
	from := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 40000)
	}
	burst := func(from netip.AddrPort) (n int) {
		for range 50 {
			if r.answer(ask(plainRequest(1), from)) {
				n++
			}
		}
		return n
	}
	if n := burst(from(1)); n != 10 {
		t.Errorf("one source got %d answers at once, want 10", n)
	}
	if n := burst(from(2)); n != 10 {
		t.Errorf("the second source got %d answers, want 10", n)
	}
	if n := burst(from(3)); n != 0 {
		t.Errorf("all together got %d answers more than allowed", n)
	}
	// The bucket for all is empty; a session has its own.
	session, err := r.NewSession("alice")
	if err != nil {
		t.Fatal(err)
	}
	mac := stamp.NewMAC(session.Key[:])
	n := 0
	for i := range 50 {
		b := stamp.Sender{Seq: uint32(i), T1: 1 << 40, SSID: session.SSID}.AppendAuth(nil)
		mac.Seal(b)
		if r.answer(ask(b, from(4))) {
			n++
		}
	}
	if n != 10 {
		t.Errorf("a session got %d answers at once, want 10", n)
	}
	now = now.Add(time.Second)
	if n := burst(from(1)); n != 10 {
		t.Errorf("a second later: %d answers, want 10", n)
	}
	// A /64 is one source; so is an address and its mapped form.
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:2")
	if sourceKey(a) != sourceKey(b) || sourceKey(a) == sourceKey(netip.MustParseAddr("2001:db8:0:1::1")) {
		t.Error("IPv6 sources are not told apart by /64")
	}
	if sourceKey(netip.MustParseAddr("192.0.2.1")) != sourceKey(netip.MustParseAddr("::ffff:192.0.2.1")) {
		t.Error("a mapped address is another source")
	}
}

func TestTableIsBounded(t *testing.T) {
	l := newLimiter(100, 1e9, 64)
	now := time.Unix(1_800_000_000, 0)
	allocs := testing.AllocsPerRun(1, func() {
		for i := range 100_000 {
			now = now.Add(time.Microsecond)
			l.allow(now, netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}))
		}
	})
	if allocs != 0 || len(l.slots) != 64 {
		t.Errorf("%v allocations, %d places", allocs, len(l.slots))
	}
}

func TestSessions(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := NewReflector(ReflectorConfig{Sessions: 3, PrincipalSessions: 2, Lifetime: time.Minute, Now: func() time.Time { return now }})
	first, err := r.NewSession("alice")
	if err != nil || first.SSID == 0 || !first.Expires.Equal(now.Add(time.Minute)) || first.Key == (SessionKey{}) {
		t.Fatalf("%+v, %v", first, err)
	}
	second, _ := r.NewSession("alice")
	if _, err := r.NewSession("alice"); transfer.KindOf(err) != transfer.Busy || transfer.HintOf(err) == "" {
		t.Errorf("a third session of one principal: %v", err)
	}
	if _, err := r.NewSession("bob"); err != nil {
		t.Error(err)
	}
	if _, err := r.NewSession("carol"); transfer.KindOf(err) != transfer.Busy {
		t.Errorf("a fourth session: %v", err)
	}
	ping := func(s Session, seq uint32) bool {
		b := stamp.Sender{Seq: seq, T1: 1 << 40, SSID: s.SSID}.AppendAuth(nil)
		stamp.NewMAC(s.Key[:]).Seal(b)
		return r.answer(ask(b, stranger))
	}
	now = now.Add(40 * time.Second)
	if !ping(first, 1) {
		t.Error("a session got no answer")
	}
	now = now.Add(40 * time.Second) // first lives on by its ping, second expired
	if !ping(first, 2) || ping(second, 1) {
		t.Error("expiry is not put off by use, or does not happen without")
	}
	if _, err := r.NewSession("carol"); err != nil {
		t.Errorf("expired sessions take up room: %v", err)
	}
}

func TestWindow(t *testing.T) {
	var w window
	for _, c := range []struct {
		seq  uint32
		want bool
	}{
		{10, true},
		{10, false},
		{9, true},
		{9, false},
		{12, true},
		{11, true},
		{11, false},
		{75, true},
		{12, false},
		{11, false},
		{13, true},
		{1000, true},
		{937, true},
		{936, false},
		{1000 + 1<<31 - 1, true},
		{1000, false},
		{1<<31 + 999 + 5, true},
		{1<<31 + 999 + 5, false},
	} {
		if got := w.take(c.seq); got != c.want {
			t.Errorf("sequence %d: %v, want %v", c.seq, got, c.want)
		}
	}
	w = window{}
	if !w.take(0xffffffff) || !w.take(0) || w.take(0xffffffff) || !w.take(0xfffffffe) {
		t.Error("sequences do not wrap around")
	}
}

// TestTwoReflectors forges one packet from each reflector to the other. At most
// one packet may cross.
func TestTwoReflectors(t *testing.T) {
	a, b := NewReflector(ReflectorConfig{Open: true}), NewReflector(ReflectorConfig{Open: true})
	auth := stamp.Sender{Seq: 1, T1: stamp.TimestampOf(time.Now()), SSID: 1}.AppendAuth(nil)
	for name, packet := range map[string][]byte{
		"plain": plainRequest(1), "zero": make([]byte, 44), "long zero": make([]byte, 500), "authenticated": auth,
	} {
		crossed, to, other := 0, a, b
		for q := ask(bytes.Clone(packet), stranger); to.answer(q); to, other = other, to {
			if crossed++; crossed > 1 {
				t.Errorf("%s: the reply was answered", name)
				break
			}
			q = ask(q.buf, stranger)
		}
	}
}

// TestTwoReflectorsOnSockets does the same on loopback. The forged source is the
// other reflector's address; a relay stands between them and counts.
func TestTwoReflectorsOnSockets(t *testing.T) {
	ra, where, _ := serve(t, ReflectorConfig{}, "127.0.0.1:0")
	rb, whereB, _ := serve(t, ReflectorConfig{}, "127.0.0.1:0")
	relay := listen(t, "127.0.0.1:0")
	a, b := netip.MustParseAddrPort(where), netip.MustParseAddrPort(whereB)
	if _, err := relay.WriteToUDPAddrPort(plainRequest(1), a); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	_ = relay.SetReadDeadline(time.Now().Add(patience))
	n, _, err := relay.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := relay.WriteToUDPAddrPort(buf[:n], b); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the drop of the reply", func() bool { return rb.Stats().Loops == 1 })
	if got := ra.Stats().Answered + rb.Stats().Answered; got != 1 {
		t.Errorf("%d packets crossed", got)
	}
}

// TestAskedAddress asks a wildcard socket at 127.0.0.2 and wants the answer from
// there.
func TestAskedAddress(t *testing.T) {
	for _, wildcard := range []string{"0.0.0.0:0", "[::]:0"} {
		_, where, _ := serve(t, ReflectorConfig{}, wildcard)
		port := netip.MustParseAddrPort(where).Port()
		asked := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port)
		conn := listen(t, "127.0.0.1:0")
		if _, err := conn.WriteToUDPAddrPort(plainRequest(1), asked); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1500)
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil || from != asked {
			t.Errorf("%s: asked %v, answered by %v, %v", wildcard, asked, from, err)
		}
		if p, err := stamp.ParseReflected(buf[:n]); err != nil || p.SenderTTL != 64 {
			t.Errorf("%s: TTL %d, %v; the default of this system is 64", wildcard, p.SenderTTL, err)
		}
	}
}

// TestOddDatagrams sends what is empty, short and too long; an honest request
// after them must be answered.
func TestOddDatagrams(t *testing.T) {
	r, where, _ := serve(t, ReflectorConfig{}, "127.0.0.1:0")
	conn, err := net.Dial("udp", where)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	odd := [][]byte{{}, {1}, make([]byte, 43), make([]byte, bufferSize), make([]byte, 60_000)}
	for _, b := range odd {
		if len(b) > 44 {
			copy(b, plainRequest(1))
		}
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the count of odd datagrams", func() bool { return r.Stats().Malformed == uint64(len(odd)) })
	if _, err := conn.Write(plainRequest(1)); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 100)); err != nil || n != len(plainRequest(1)) {
		t.Errorf("answer of %d octets, %v", n, err)
	}
}

func TestAnswerAllocatesNothing(t *testing.T) {
	r := NewReflector(ReflectorConfig{Open: true, SourceRate: 1e9, TotalRate: 1e9, Status: func() stamp.Status { return servingStatus }})
	req := plainRequest(1)
	q := ask(make([]byte, len(req)), stranger)
	if n := testing.AllocsPerRun(100, func() {
		copy(q.buf, req)
		if !r.answer(q) {
			t.Error("no answer")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestBatch floods a reflector that reads by batch, on sockets of each kind, and
// wants each request answered from the address that was asked.
func TestBatch(t *testing.T) {
	for _, c := range []struct{ listen, ask string }{
		{"127.0.0.1:0", "127.0.0.1"}, {"0.0.0.0:0", "127.0.0.2"}, {"[::]:0", "127.0.0.2"}, {"[::1]:0", "::1"},
	} {
		r := NewReflector(ReflectorConfig{Status: func() stamp.Status { return servingStatus }, TotalRate: 1e9})
		r.busy = alwaysBatch
		conn := listen(t, c.listen)
		port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		stop := run0(t, func(ctx context.Context) error { return r.Serve(ctx, conn) })
		asked := netip.AddrPortFrom(netip.MustParseAddr(c.ask), port)
		client, err := net.Dial("udp", asked.String()) // hears only what comes from there
		if err != nil {
			t.Fatal(err)
		}
		got, buf := 0, make([]byte, 1500)
		for seq := uint32(0); got < 4*paceWindow; {
			for range 32 {
				if _, err := client.Write(plainRequest(seq)); err != nil {
					t.Fatal(err)
				}
				seq++
			}
			for range 32 {
				_ = client.SetReadDeadline(time.Now().Add(patience))
				n, err := client.Read(buf)
				if err != nil {
					t.Fatalf("%s, after %d: %v", c.listen, got, err)
				}
				if p, err := stamp.ParseReflected(buf[:n]); err != nil || p.SenderTTL != 64 || p.SenderSeq != uint32(got) {
					t.Fatalf("%s: reply %d: %+v, %v", c.listen, got, p, err)
				}
				got++
			}
		}
		_ = client.Close()
		stop()
		if st := r.Stats(); st.Answered != uint64(got) || st.Received != uint64(got) {
			t.Errorf("%s: %+v for %d", c.listen, st, got)
		}
	}
}

func TestPace(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := pace{rate: 1000, from: now}
	for round, c := range []struct {
		apart time.Duration
		want  bool
	}{{2 * time.Millisecond, false}, {time.Millisecond / 2, true}, {2 * time.Millisecond, false}} {
		fast := false
		for range paceWindow {
			now = now.Add(c.apart)
			fast = p.fast(now) || fast
		}
		if fast != c.want {
			t.Errorf("round %d: fast %v", round, fast)
		}
	}
}
