package recvtest

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/send"
	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
)

const mib = 1 << 20

// junk returns n octets that depend on the seed.
func junk(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // content of a test
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func writeFile(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Send sends roots with pkg/send's engine; change may alter its configuration.
func Send(ctx context.Context, t *testing.T, fx *Fixture, change func(*send.Config), roots ...string) (*send.Result, error) {
	t.Helper()
	src, err := source.Scan(ctx, source.Config{Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	cfg := send.Config{
		Receiver: fx.As(owner), Source: src,
		DialLane: func(ctx context.Context, _ string) (net.Conn, error) { return fx.Dial(ctx) },
	}
	if change != nil {
		change(&cfg)
	}
	return send.Send(ctx, cfg)
}

// sameTree compares a published tree or file with its source.
func sameTree(t *testing.T, want, got string) {
	t.Helper()
	err := filepath.WalkDir(want, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(want, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if st, err := os.Stat(filepath.Join(got, rel)); err != nil || !st.IsDir() {
				t.Errorf("directory %s: %v", rel, err)
			}
			return nil
		}
		a, errA := os.ReadFile(p) //nolint:gosec // of the test
		b, errB := os.ReadFile(filepath.Join(got, rel))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs: %v, %v, %d and %d octets", rel, errA, errB, len(a), len(b))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// makeTree makes a directory with files of many sizes.
func makeTree(t *testing.T, small int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	for i := range small {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("small/%d/f%04d", i%5, i)), junk(i*29%9000, uint64(i))) //nolint:gosec // small
	}
	for name, n := range map[string]int{"big": 5*mib + 17, "even": 2 * mib, "one": mib, "middle": mib / 2, "quarter": mib / 4, "empty": 0} {
		writeFile(t, filepath.Join(dir, name), junk(n, 7))
	}
	if err := os.MkdirAll(filepath.Join(dir, "hollow/deep"), 0o750); err != nil {
		t.Fatal(err)
	}
	return dir
}

func suiteContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*Patience)
	t.Cleanup(cancel)
	return ctx
}

// sizes sends single files around the borders of chunks.
func sizes(t *testing.T, fx *Fixture) {
	ctx := suiteContext(t)
	for i, n := range []int{0, 1, mib/4 + 1, mib - 1, mib, mib + 1, 2 * mib, 9*mib + 5} {
		name := filepath.Join(t.TempDir(), fmt.Sprintf("size-%d", n))
		b := junk(n, 3)
		writeFile(t, name, b)
		algorithm := []transfer.Algorithm{transfer.BLAKE3, transfer.XXH3, transfer.None}[i%3]
		for _, a := range []transfer.Algorithm{transfer.BLAKE3, algorithm} {
			into := fmt.Sprintf("%v-%d", a, i)
			res, err := Send(ctx, t, fx, func(c *send.Config) {
				c.Options.Algorithm, c.Options.Into, c.Options.Conflict = a, into, transfer.Overwrite
			}, name)
			if err != nil {
				t.Fatalf("%d octets, %v: %v", n, a, err)
			}
			r := res.Receipt
			if r == nil || r.Bytes != int64(n) || len(r.Files) != 1 || r.Verified != (a != transfer.None) || a == transfer.BLAKE3 && !r.Files[0].Digest.Equal(sum(b)) {
				t.Errorf("%d octets, %v: receipt %+v", n, a, r)
			}
			sameTree(t, name, filepath.Join(fx.Root, into, filepath.Base(name)))
		}
	}
}

// trees sends a tree with several numbers of lanes.
func trees(t *testing.T, fx *Fixture) {
	ctx := suiteContext(t)
	dir := makeTree(t, 700)
	for _, lanes := range []int{1, 4} {
		into := fmt.Sprintf("lanes-%d", lanes)
		res, err := Send(ctx, t, fx, func(c *send.Config) { c.Lanes, c.Options.Into = lanes, into }, dir)
		if err != nil {
			t.Fatalf("%d lanes: %v", lanes, err)
		}
		if res.Stats.Resent != 0 || res.Stats.Sessions != 1 {
			t.Errorf("%d lanes: %+v", lanes, res.Stats)
		}
		sameTree(t, dir, filepath.Join(fx.Root, into, "tree"))
	}
}

// streams sends input of unknown length.
func streams(t *testing.T, fx *Fixture) {
	ctx := suiteContext(t)
	for _, n := range []int{0, 5, mib, 3*mib + 1} {
		b := junk(n, 11)
		name := fmt.Sprintf("stream-%d", n)
		src, err := source.Stream(name, transfer.Posix, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		res, err := send.Send(ctx, send.Config{
			Receiver: fx.As(owner), Source: src, Lanes: 2,
			DialLane: func(ctx context.Context, _ string) (net.Conn, error) { return fx.Dial(ctx) },
		})
		src.Close()
		if err != nil {
			t.Fatalf("%d octets: %v", n, err)
		}
		if f := res.Receipt.Files; len(f) != 1 || f[0].Size != int64(n) || !f[0].Digest.Equal(sum(b)) {
			t.Errorf("%d octets: receipt %+v", n, f)
		}
		if got, err := os.ReadFile(filepath.Join(fx.Root, name)); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%d octets: content differs: %v", n, err)
		}
	}
}

// faults sends while lanes break and octets are damaged, by chance.
func faults(t *testing.T, fx *Fixture) {
	ctx := suiteContext(t)
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // repeatable by its seed
	cut, flipped := 0, 0
	for i := range 6 {
		dir := filepath.Join(t.TempDir(), "tree")
		for j := range 1 + r.IntN(3) {
			writeFile(t, filepath.Join(dir, fmt.Sprint("large", j)), junk(mib*r.IntN(5)+r.IntN(3)-1+mib, r.Uint64()))
		}
		for j := range r.IntN(60) {
			writeFile(t, filepath.Join(dir, fmt.Sprint("small", j)), junk(r.IntN(20000), r.Uint64()))
		}
		f := NewFaults(r.Uint64(), 1+r.IntN(5), r.IntN(4))
		into := fmt.Sprintf("faults-%d", i)
		res, err := Send(ctx, t, fx, func(c *send.Config) {
			c.Options.Into, c.Lanes = into, 1+r.IntN(4)
			c.Options.Algorithm = []transfer.Algorithm{transfer.BLAKE3, transfer.XXH3}[i%2]
			c.DialLane = func(ctx context.Context, _ string) (net.Conn, error) {
				conn, err := fx.Dial(ctx)
				if err != nil {
					return nil, err
				}
				return f.Break(conn), nil
			}
		}, dir)
		if err != nil {
			t.Fatalf("transfer %d with %d cuts and %d flips: %v", i, f.Cut, f.Flip, err)
		}
		if f.Flip == 0 && res.Stats.Repaired > 0 {
			t.Errorf("transfer %d: %d chunks repaired, none was damaged", i, res.Stats.Repaired)
		}
		sameTree(t, dir, filepath.Join(fx.Root, into, "tree"))
		cut, flipped = cut+f.Cut, flipped+f.Flip
	}
	t.Logf("%d cuts, %d flips", cut, flipped)
}

// resume stops a transfer half-way, restarts the receiver and goes on: what is
// held is not sent again.
func resume(t *testing.T, fx *Fixture) {
	ctx := suiteContext(t)
	name := filepath.Join(t.TempDir(), "resumed")
	const total = 24 * mib
	writeFile(t, name, junk(total, 5))
	id := transfer.NewID()
	half, stop := context.WithCancel(ctx)
	defer stop()
	var sent atomic.Int64
	_, err := Send(half, t, fx, func(c *send.Config) {
		c.ID, c.Lanes = id, 2
		c.DialLane = func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := fx.Dial(ctx)
			return &counted{Conn: conn, n: &sent, limit: total / 2, full: stop}, err
		}
	}, name)
	if transfer.KindOf(err) != transfer.Canceled {
		t.Fatalf("the first half ended with %v", err)
	}
	fx.Restart(t)
	info, err := fx.As(owner).Get(ctx, id)
	if err != nil || info.State != transfer.StateOffering {
		t.Fatalf("after the restart: %+v, %v", info, err)
	}
	held := &heldCounter{Receiver: fx.As(owner)}
	res, err := Send(ctx, t, fx, func(c *send.Config) { c.ID, c.Lanes, c.Receiver = id, 2, held }, name)
	if err != nil {
		t.Fatal(err)
	}
	if held.octets == 0 || held.octets > sent.Load() || res.Stats.Sent+held.octets != total {
		t.Errorf("sent %d with %d held, want %d together", res.Stats.Sent, held.octets, total)
	}
	sameTree(t, name, filepath.Join(fx.Root, "resumed"))
	again, err := Send(ctx, t, fx, func(c *send.Config) { c.ID = id }, name)
	if err != nil || again.Stats.Sent != 0 || !again.Receipt.Committed.Equal(res.Receipt.Committed) {
		t.Errorf("the same command again: %+v, %v", again, err)
	}
}

// heldCounter adds up what the answers of one file say is held.
type heldCounter struct {
	send.Receiver

	octets int64
}

func (h *heldCounter) Negotiate(ctx context.Context, p *transfer.OfferPart) (*transfer.Answer, error) {
	a, err := h.Receiver.Negotiate(ctx, p)
	if err == nil && len(a.Files) == 1 {
		h.octets += a.Files[0].Held.Bytes(p.Entries[0].Size, a.Files[0].ChunkSize)
	}
	return a, err
}

// counted calls full when n octets were written by all, and fails from then on.
type counted struct {
	net.Conn

	n     *atomic.Int64
	limit int64
	full  func()
	goOn  bool // fail nothing
}

func (c *counted) Write(p []byte) (int, error) {
	if c.n.Add(int64(len(p))) > c.limit {
		c.full()
		if !c.goOn {
			return 0, errCut
		}
	}
	return c.Conn.Write(p)
}

// aborted gives a transfer up while it is sent: its sender ends for good and does
// not begin anew.
func aborted(t *testing.T, fx *Fixture) {
	ctx := suiteContext(t)
	name := filepath.Join(t.TempDir(), "given-up")
	writeFile(t, name, junk(8*mib, 1))
	id := transfer.NewID()
	var sent atomic.Int64
	var once sync.Once
	_, err := Send(ctx, t, fx, func(c *send.Config) {
		c.ID = id
		c.DialLane = func(ctx context.Context, _ string) (net.Conn, error) {
			conn, err := fx.Dial(ctx)
			return &counted{Conn: conn, n: &sent, limit: 2 * mib, full: func() {
				once.Do(func() {
					if err := fx.As(owner).Abort(ctx, id, transfer.Session{}, "by a person"); err != nil {
						t.Errorf("abort: %v", err)
					}
				})
			}, goOn: true}, err
		}
	}, name)
	if transfer.KindOf(err) != transfer.Canceled {
		t.Errorf("the sender ended with %v, want canceled", err)
	}
	if i, err := fx.As(owner).Get(ctx, id); err != nil || i.State != transfer.StateAborted || i.Reason == "" {
		t.Errorf("then: %+v, %v", i, err)
	}
}

// sameName lets many senders publish one name: one wins, all others hear Exists.
func sameName(t *testing.T, fx *Fixture) {
	ctx := suiteContext(t)
	const senders = 100
	name := filepath.Join(t.TempDir(), "wanted")
	writeFile(t, name, content)
	var won, exists atomic.Int64
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			_, err := Send(ctx, t, fx, func(c *send.Config) { c.Lanes = 1 }, name)
			switch transfer.KindOf(err) {
			case transfer.OK:
				won.Add(1)
			case transfer.Exists:
				exists.Add(1)
			default:
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || exists.Load() != senders-1 {
		t.Errorf("%d won and %d heard exists, want 1 and %d", won.Load(), exists.Load(), senders-1)
	}
	sameTree(t, name, filepath.Join(fx.Root, "wanted"))
}
