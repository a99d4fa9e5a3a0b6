package send_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// receiver is the real engine over the real store, with lanes on loopback.
type receiver struct {
	view  *recv.View
	dir   string
	lanes string // where lanes go
	stop  func()
}

func serve(tb testing.TB, dir string) *receiver {
	tb.Helper()
	return serveOn(tb, dir, func(ln net.Listener) net.Listener { return ln })
}

// serveOn serves lanes on what wrap makes of the listener.
func serveOn(tb testing.TB, dir string, wrap func(net.Listener) net.Listener) *receiver {
	tb.Helper()
	st, err := store.Open(store.Config{Root: dir})
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	r, err := recv.New(recv.Config{Store: st, AllowNone: true, DataAddrs: func() []string { return []string{ln.Addr().String()} }})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.ServeLanes(ctx, wrap(ln)) })
	wg.Go(func() { _ = r.Run(ctx) })
	var once sync.Once
	stop := func() {
		once.Do(func() {
			dctx, dcancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer dcancel()
			_ = r.Drain(dctx)
			cancel()
			r.Close()
			wg.Wait()
			_ = st.Close()
		})
	}
	tb.Cleanup(stop)
	return &receiver{view: r.As(recv.Caller{Principal: "tester"}), dir: dir, lanes: ln.Addr().String(), stop: stop}
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

func scan(tb testing.TB, roots ...string) *source.Source {
	tb.Helper()
	s, err := source.Scan(context.Background(), source.Config{Roots: roots, Links: source.PreserveLinks})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func fill(tb testing.TB, path string, n int) {
	tb.Helper()
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i>>3 ^ n ^ i>>11)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o640); err != nil {
		tb.Fatal(err)
	}
}

func realTree(tb testing.TB) string {
	dir := filepath.Join(tb.TempDir(), "tree")
	for i := range 200 {
		fill(tb, filepath.Join(dir, fmt.Sprintf("s/%d/%03d", i%11, i)), i*17)
	}
	fill(tb, filepath.Join(dir, "big"), 9<<20+5)
	fill(tb, filepath.Join(dir, "one"), 1<<20)
	fill(tb, filepath.Join(dir, "empty"), 0)
	if err := os.MkdirAll(filepath.Join(dir, "hollow/deep"), 0o750); err != nil {
		tb.Fatal(err)
	}
	if err := os.Symlink("../one", filepath.Join(dir, "s/link")); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// same compares two trees: types, contents, modes and times.
func same(tb testing.TB, want, got string) {
	tb.Helper()
	n := 0
	err := filepath.WalkDir(want, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n++
		rel, _ := filepath.Rel(want, p)
		q := filepath.Join(got, rel)
		a, err := os.Lstat(p)
		if err != nil {
			return err
		}
		b, err := os.Lstat(q)
		if err != nil {
			tb.Errorf("%s did not arrive: %v", rel, err)
			return nil
		}
		switch {
		case a.Mode() != b.Mode():
			tb.Errorf("%s: mode %v, want %v", rel, b.Mode(), a.Mode())
		case d.Type() == fs.ModeSymlink:
			x, _ := os.Readlink(p)
			if y, _ := os.Readlink(q); x != y {
				tb.Errorf("%s: link to %s, want %s", rel, y, x)
			}
			return nil
		case !a.ModTime().Equal(b.ModTime()):
			tb.Errorf("%s: time %v, want %v", rel, b.ModTime(), a.ModTime())
		}
		if d.Type().IsRegular() {
			x, _ := os.ReadFile(p)
			if y, _ := os.ReadFile(q); !bytes.Equal(x, y) {
				tb.Errorf("%s: content differs", rel)
			}
		}
		return nil
	})
	if err != nil || n == 0 {
		tb.Fatalf("compared %d entries: %v", n, err)
	}
}

func limited(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	tb.Cleanup(cancel)
	return ctx
}

func TestRealReceiver(t *testing.T) {
	dir := realTree(t)
	for _, alg := range []transfer.Algorithm{transfer.BLAKE3, transfer.XXH3, transfer.None} {
		r := serve(t, t.TempDir())
		res, err := send.Send(limited(t), send.Config{
			Receiver: r.view, DialLane: dial, Source: scan(t, dir), Options: transfer.Options{Algorithm: alg},
		})
		if err != nil {
			t.Fatalf("%v: %v", alg, err)
		}
		same(t, dir, filepath.Join(r.dir, "tree"))
		if res.Receipt.Verified != (alg != transfer.None) || res.Receipt.Bytes == 0 || res.Partial() {
			t.Errorf("%v: got %+v", alg, res.Receipt)
		}
		r.stop()
	}
}

func TestRealReceiverRestarts(t *testing.T) {
	dir := realTree(t)
	root := t.TempDir()
	r := serve(t, root)
	id := transfer.NewID()
	ctx, cancel := context.WithCancel(limited(t))
	cfg := send.Config{Receiver: r.view, DialLane: dial, Source: scan(t, dir), ID: id, Limit: 8 << 20}
	cfg.Observer = &stopper{at: 3 << 20, stop: cancel}
	if _, err := send.Send(ctx, cfg); transfer.KindOf(err) != transfer.Canceled {
		t.Fatalf("got %v", err)
	}
	r.stop()
	r = serve(t, root)
	res, err := send.Send(limited(t), send.Config{Receiver: r.view, DialLane: dial, Source: scan(t, dir), ID: id})
	if err != nil {
		t.Fatal(err)
	}
	if res.Stats.Hashed == 0 {
		t.Error("nothing was held")
	}
	same(t, dir, filepath.Join(root, "tree"))
	again, err := send.Send(limited(t), send.Config{Receiver: r.view, DialLane: dial, Source: scan(t, dir), ID: id})
	if err != nil || again.Stats.Sent != 0 || !again.Receipt.Committed.Equal(res.Receipt.Committed) {
		t.Errorf("asked again: %+v, %v", again, err)
	}
}

func TestRealStream(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 20, 1<<20 + 1, 3 << 20} {
		r := serve(t, t.TempDir())
		data := bytes.Repeat([]byte{7}, n)
		src, err := source.Stream("in", transfer.Posix, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := send.Send(limited(t), send.Config{Receiver: r.view, DialLane: dial, Source: src}); err != nil {
			t.Fatalf("%d octets: %v", n, err)
		}
		if got, err := os.ReadFile(filepath.Join(r.dir, "in")); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d octets: got %d, %v", n, len(got), err)
		}
		r.stop()
	}
}

// stopper calls stop when enough was acknowledged.
type stopper struct {
	at   int64
	stop func()
}

func (s *stopper) Offer(*transfer.OfferPart)       {}
func (s *stopper) Answer(uint32, *transfer.Answer) {}
func (s *stopper) Lane(send.LaneState)             {}
func (s *stopper) Receipt(*transfer.Receipt)       {}
func (s *stopper) Progress(p send.Progress) {
	if p.Acked >= s.at {
		s.stop()
	}
}

func benchmark(b *testing.B, alg transfer.Algorithm, lanes int, make func(dir string) int64) {
	base, err := os.MkdirTemp(os.Getenv("SLUICE_BENCH_DIR"), "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(base) }()
	dir := filepath.Join(base, "src")
	b.SetBytes(make(dir))
	i := 0
	var stats send.Stats
	for b.Loop() {
		i++
		b.StopTimer()
		root := filepath.Join(base, fmt.Sprint(i))
		r := serve(b, root)
		b.StartTimer()
		res, err := send.Send(limited(b), send.Config{
			Receiver: r.view, DialLane: dial, Source: scan(b, dir), Options: transfer.Options{Algorithm: alg}, Lanes: lanes,
		})
		if err != nil {
			b.Fatal(err)
		}
		stats = res.Stats
		b.StopTimer()
		r.stop()
		_ = os.RemoveAll(root)
		b.StartTimer()
	}
	b.Logf("%+v", stats)
}

func oneBig(b *testing.B) func(string) int64 {
	return func(dir string) int64 {
		fill(b, filepath.Join(dir, "big"), 1<<30)
		return 1 << 30
	}
}

func manySmall(b *testing.B) func(string) int64 {
	return func(dir string) int64 {
		for i := range 20_000 {
			fill(b, filepath.Join(dir, fmt.Sprintf("%03d/%05d", i/200, i)), 4096)
		}
		return 20_000 * 4096
	}
}

// BenchmarkBig and BenchmarkSmall run both engines in one process. Set
// SLUICE_BENCH_DIR to a directory in memory.
func BenchmarkBig(b *testing.B) {
	for _, alg := range []transfer.Algorithm{transfer.None, transfer.XXH3, transfer.BLAKE3} {
		for _, lanes := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("%v/%d", alg, lanes), func(b *testing.B) { benchmark(b, alg, lanes, oneBig(b)) })
		}
	}
}

// BenchmarkSmall sends 20,000 files of 4 KiB.
func BenchmarkSmall(b *testing.B) {
	for _, lanes := range []int{1, 2, 3} {
		b.Run(fmt.Sprint(lanes), func(b *testing.B) { benchmark(b, transfer.BLAKE3, lanes, manySmall(b)) })
	}
}
