package send

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
)

const mib = 1 << 20

func config(tb testing.TB, f *fake, roots ...string) Config {
	return Config{Receiver: f, DialLane: f.dial, Source: scan(tb, source.Config{Roots: roots})}
}

func tree(tb testing.TB) string {
	dir := filepath.Join(tb.TempDir(), "tree")
	for i := range 300 {
		write(tb, filepath.Join(dir, fmt.Sprintf("small/%d/f%03d", i%7, i)), junk(i*13))
	}
	write(tb, filepath.Join(dir, "big"), junk(5*mib+17))
	write(tb, filepath.Join(dir, "even"), junk(2*mib))
	write(tb, filepath.Join(dir, "one"), junk(mib))
	write(tb, filepath.Join(dir, "middle"), junk(mib/2))
	write(tb, filepath.Join(dir, "empty"), nil)
	write(tb, filepath.Join(dir, "ünïcode ☃/名"), junk(10))
	if err := os.MkdirAll(filepath.Join(dir, "hollow/deep"), 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func TestTreeArrives(t *testing.T) {
	dir := tree(t)
	for _, alg := range []transfer.Algorithm{transfer.BLAKE3, transfer.XXH3, transfer.None} {
		for _, lanes := range []int{0, 1, 3} {
			f := newFake(t)
			cfg := config(t, f, dir)
			cfg.Options.Algorithm, cfg.Lanes = alg, lanes
			res, err := Send(testCtx(t), cfg)
			if err != nil {
				t.Fatalf("%v with %d lanes: %v", alg, lanes, err)
			}
			f.expect(dir)
			if res.Receipt == nil || res.Stats.Sent == 0 || res.Stats.Resent != 0 || res.Stats.Sessions != 1 || res.Partial() {
				t.Errorf("%v with %d lanes: %+v", alg, lanes, res)
			}
			if f.kept["tree/hollow/deep"] == nil {
				t.Error("the empty directory was not offered")
			}
		}
	}
}

func TestSizesAroundBorders(t *testing.T) {
	for _, n := range []int{0, 1, mib - 1, mib, mib + 1, 2 * mib, 3*mib - 1, 9*mib + 5} {
		p := filepath.Join(t.TempDir(), "file")
		write(t, p, junk(n))
		f := newFake(t)
		if _, err := Send(testCtx(t), config(t, f, p)); err != nil {
			t.Fatalf("%d octets: %v", n, err)
		}
		if want, _ := os.ReadFile(p); !bytes.Equal(f.content("file"), want) {
			t.Errorf("%d octets: content differs", n)
		}
	}
}

func TestStream(t *testing.T) {
	for _, alg := range []transfer.Algorithm{transfer.BLAKE3, transfer.XXH3, transfer.None} {
		for _, n := range []int{0, 1, mib - 1, mib, mib + 1, 3 * mib, 40*mib + 3} {
			data := junk(n)
			src, err := source.Stream("in", transfer.Posix, bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			f := newFake(t)
			_, err = Send(testCtx(t), Config{Receiver: f, DialLane: f.dial, Source: src, Options: transfer.Options{Algorithm: alg}})
			if err != nil {
				t.Fatalf("%v %d octets: %v", alg, n, err)
			}
			if !bytes.Equal(f.content("in"), data) || f.digests[0].Size != int64(n) {
				t.Errorf("%v %d octets: content differs or size %d", alg, n, f.digests[0].Size)
			}
		}
	}
}

func TestStreamOverBrokenLanes(t *testing.T) {
	data := junk(30 * mib)
	src, _ := source.Stream("in", transfer.Posix, bytes.NewReader(data))
	f := newFake(t)
	var n atomic.Int64
	f.chunk = func(int, *fakeFile, uint32, []byte) bool { return n.Add(1)%7 != 0 }
	if _, err := Send(testCtx(t), Config{Receiver: f, DialLane: f.dial, Source: src}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.content("in"), data) {
		t.Error("content differs")
	}
}

func TestResumeSendsOnlyWhatIsMissing(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	ctx, cancel := context.WithCancel(testCtx(t))
	f.chunk = func(_ int, x *fakeFile, i uint32, _ []byte) bool {
		if x.e.Path == "tree/big" && i == 3 {
			cancel()
		}
		return true
	}
	cfg := config(t, f, dir)
	cfg.ID = transfer.NewID()
	_, err := Send(ctx, cfg)
	if transfer.KindOf(err) != transfer.Canceled {
		t.Fatalf("got %v, want canceled", err)
	}
	f.wgLanes(t)
	f.chunk = nil
	f.mu.Lock()
	before := f.received
	had := 0
	for _, x := range f.kept {
		had += len(x.chunks)
	}
	f.mu.Unlock()
	if had == 0 {
		t.Fatal("nothing arrived before the interruption")
	}
	res, err := Send(testCtx(t), Config{Receiver: f, DialLane: f.dial, Source: scan(t, source.Config{Roots: []string{dir}}), ID: cfg.ID})
	if err != nil {
		t.Fatal(err)
	}
	f.expect(dir)
	total, _ := cfg.Source.Counts()
	if got := f.received; res.Stats.Sent+res.Stats.Hashed != total.Bytes || got-before != res.Stats.Sent {
		t.Errorf("sent %d, hashed %d of %d; received %d", res.Stats.Sent, res.Stats.Hashed, total.Bytes, got-before)
	}
}

// wgLanes waits until no lane is served.
func (f *fake) wgLanes(t *testing.T) {
	until(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.conns) == 0
	})
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited too long")
		}
	}
}

func TestReceiverRestarts(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	var once atomic.Bool
	f.chunk = func(_ int, x *fakeFile, i uint32, _ []byte) bool {
		if x.e.Path == "tree/big" && i == 2 && !once.Swap(true) {
			f.restart()
			return false
		}
		return true
	}
	res, err := Send(testCtx(t), config(t, f, dir))
	if err != nil {
		t.Fatal(err)
	}
	f.expect(dir)
	if res.Stats.Sessions != 2 {
		t.Errorf("%d sessions, want 2", res.Stats.Sessions)
	}
}

func TestRestartBeforeCommit(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	var once atomic.Bool
	f.commitErr = func(*transfer.CommitPart) error {
		if !once.Swap(true) {
			f.restart()
		}
		return nil
	}
	if _, err := Send(testCtx(t), config(t, f, dir)); err != nil {
		t.Fatal(err)
	}
	f.expect(dir)
}

func TestFlippedBitCostsOneChunk(t *testing.T) {
	dir := tree(t)
	for _, path := range []transfer.Path{"tree/big", "tree/one", "tree/small/3/f010"} {
		f := newFake(t)
		var once atomic.Bool
		f.chunk = func(_ int, x *fakeFile, i uint32, data []byte) bool {
			if x.e.Path == path && (i == 4 || x.e.Size <= mib) && !once.Swap(true) {
				data[len(data)/2] ^= 4
			}
			return true
		}
		res, err := Send(testCtx(t), config(t, f, dir))
		if err != nil {
			t.Fatal(err)
		}
		f.expect(dir)
		if res.Stats.Repaired != 1 {
			t.Errorf("%s: repaired %d chunks, want 1", path, res.Stats.Repaired)
		}
	}
}

func TestDamageThatStays(t *testing.T) {
	p := filepath.Join(t.TempDir(), "file")
	write(t, p, junk(3*mib))
	f := newFake(t)
	f.chunk = func(_ int, _ *fakeFile, i uint32, data []byte) bool {
		if i == 1 {
			data[0] ^= 1
		}
		return true
	}
	res, err := Send(testCtx(t), config(t, f, p))
	if transfer.KindOf(err) != transfer.Corrupt || !strings.Contains(err.Error(), p) {
		t.Fatalf("got %v, want Corrupt naming the file", err)
	}
	if res.Stats.Repaired != maxRounds {
		t.Errorf("repaired %d, want %d", res.Stats.Repaired, maxRounds)
	}
}

func TestStreamCannotBeRepaired(t *testing.T) {
	src, _ := source.Stream("in", transfer.Posix, bytes.NewReader(junk(3*mib)))
	f := newFake(t)
	f.chunk = func(_ int, _ *fakeFile, i uint32, data []byte) bool { data[0] ^= 1; return true }
	_, err := Send(testCtx(t), Config{Receiver: f, DialLane: f.dial, Source: src})
	if transfer.KindOf(err) != transfer.Corrupt || transfer.HintOf(err) == "" {
		t.Fatalf("got %v", err)
	}
}

func TestRefusalIsFinal(t *testing.T) {
	dir := tree(t)
	for _, k := range []transfer.Kind{transfer.Invalid, transfer.Denied, transfer.Exists, transfer.Fenced, transfer.NotFound, transfer.NoSpace, transfer.Changed, transfer.Corrupt} {
		f := newFake(t)
		calls := 0
		f.offerErr = func(p *transfer.OfferPart) error {
			if p.Plan {
				return nil
			}
			calls++
			return transfer.Errorf(k, "offer", "", "no")
		}
		_, err := Send(testCtx(t), config(t, f, dir))
		if transfer.KindOf(err) != k || calls != 1 {
			t.Errorf("%v: got %v after %d calls", k, err, calls)
		}
	}
}

func TestBusyAndUnavailableAreTriedAgain(t *testing.T) {
	p := filepath.Join(t.TempDir(), "file")
	write(t, p, junk(100))
	f := newFake(t)
	calls := 0
	f.offerErr = func(*transfer.OfferPart) error {
		switch calls++; calls {
		case 1:
			return transfer.Errorf(transfer.Unavailable, "offer", "", "starting")
		case 2:
			return &transfer.Error{Kind: transfer.Busy, Remote: true, RetryAfter: 7 * time.Second}
		}
		return nil
	}
	cfg := config(t, f, p)
	clk := &fakeClock{}
	cfg.Clock, cfg.Timeout = clk, time.Minute
	if _, err := Send(testCtx(t), cfg); err != nil {
		t.Fatal(err)
	}
	if len(clk.slept) != 2 || clk.slept[1] != 7*time.Second {
		t.Errorf("slept %v, want the second for the 7 s that the receiver asked", clk.slept)
	}
}

type fakeClock struct {
	now   time.Time
	slept []time.Duration
}

func (c *fakeClock) Now() time.Time { return c.now }

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	c.slept = append(c.slept, d)
	c.now = c.now.Add(d)
	return context.Cause(ctx)
}

func TestPatienceEnds(t *testing.T) {
	p := filepath.Join(t.TempDir(), "file")
	write(t, p, junk(100))
	f := newFake(t)
	f.offerErr = func(*transfer.OfferPart) error {
		return transfer.Errorf(transfer.Unavailable, "offer", "", "down").WithHint("start it")
	}
	cfg := config(t, f, p)
	clk := &fakeClock{}
	cfg.Clock = clk
	_, err := Send(testCtx(t), cfg)
	if transfer.KindOf(err) != transfer.Unavailable || clk.now.Sub(time.Time{}) > firstTimeout || len(clk.slept) < 3 {
		t.Errorf("got %v after %v", err, clk.slept)
	}
	var e *transfer.Error
	if !errors.As(err, &e) || !strings.Contains(e.Hint, "; start it; run the same command again to resume") {
		t.Errorf("%v, want the hint of the call and that it resumes", e)
	}
	cfg.Retries, clk.slept = 2, nil
	if _, err := Send(testCtx(t), cfg); err == nil || len(clk.slept) != 2 {
		t.Errorf("slept %d times with 2 retries: %v", len(clk.slept), err)
	}
}

func TestLanesThatNeverWork(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	f.hello = func(int) transfer.Kind { return transfer.Denied }
	cfg := config(t, f, dir)
	cfg.Retries = 1
	_, err := Send(testCtx(t), cfg)
	if transfer.KindOf(err) != transfer.Unavailable || !strings.Contains(err.Error(), f.ln.Addr().String()) {
		t.Errorf("got %v, want Unavailable naming the address", err)
	}
}

func TestLaneEndKinds(t *testing.T) {
	dir := tree(t)
	for _, k := range []transfer.Kind{transfer.NoSpace, transfer.Fenced, transfer.Invalid} {
		f := newFake(t)
		f.hello = func(int) transfer.Kind { return k }
		_, err := Send(testCtx(t), config(t, f, dir))
		if transfer.KindOf(err) != k {
			t.Errorf("%v: got %v", k, err)
		}
	}
}

func TestBusyLanesAreDoneWithout(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	f.hello = func(lane int) transfer.Kind {
		if lane > 0 {
			return transfer.Busy
		}
		return transfer.OK
	}
	cfg := config(t, f, dir)
	cfg.Lanes = 4
	if _, err := Send(testCtx(t), cfg); err != nil {
		t.Fatal(err)
	}
	f.expect(dir)
}

func TestStalledLaneDoesNotHoldTheEnd(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	f.ack = func(lane int) bool { return lane != 0 } // reads everything, acknowledges nothing
	cfg := config(t, f, dir)
	cfg.Lanes = 2
	ctx := testCtx(t)
	if _, err := Send(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	f.expect(dir)
}

func TestPlanLeavesNothing(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	cfg := config(t, f, dir)
	cfg.Plan, cfg.DialLane = true, nil
	res, err := Send(testCtx(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := cfg.Source.Counts()
	if p := res.Plan; p == nil || p.ToSend != c.Bytes || p.Files != c.Files || p.Reason != nil || res.Receipt != nil {
		t.Errorf("got %+v", res.Plan)
	}
	if f.epoch != 0 || len(f.kept) != 0 || f.lanes != 0 {
		t.Error("the plan left state")
	}
	f.offerErr = func(*transfer.OfferPart) error {
		return &transfer.Error{Kind: transfer.Exists, Problems: []transfer.Problem{{Path: "tree", Kind: transfer.Exists}}}
	}
	res, err = Send(testCtx(t), cfg)
	if err != nil || len(res.Plan.Refused) != 1 || res.Plan.Reason == nil {
		t.Errorf("got %+v, %v", res.Plan, err)
	}
}
