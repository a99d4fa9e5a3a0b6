package send

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// TestAnyFailures sends random files over lanes that break, refuse and damage.
func TestAnyFailures(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n), "tree")
		sizes := rapid.SliceOfN(rapid.OneOf(
			rapid.IntRange(0, 4096),
			rapid.SampledFrom([]int{1, mib/4 - 1, mib / 4, mib/4 + 1, mib - 1, mib, mib + 1, 2 * mib, 2*mib + 1}),
		), 1, 12).Draw(rt, "sizes")
		for i, s := range sizes {
			write(t, filepath.Join(dir, fmt.Sprintf("%02d", i)), junk(s))
		}
		f := newFake(t)
		f.sums = rapid.Bool().Draw(rt, "sums")
		breakEvery := int64(rapid.IntRange(3, 40).Draw(rt, "break every"))
		flip := int64(rapid.IntRange(1, 20).Draw(rt, "flip"))
		restart := int64(rapid.IntRange(1, 30).Draw(rt, "restart"))
		var chunks, resets atomic.Int64
		f.chunk = func(_ int, _ *fakeFile, _ uint32, data []byte) bool {
			k := chunks.Add(1)
			if k == flip {
				data[0] ^= 0x80
			}
			if k == restart && !f.committed() { // a starved lane may come after it
				resets.Add(1)
				f.restart()
				return false
			}
			return k%breakEvery != 0
		}
		alg := rapid.SampledFrom([]transfer.Algorithm{transfer.BLAKE3, transfer.XXH3}).Draw(rt, "algorithm")
		src := scan(t, source.Config{Roots: []string{dir}})
		res, err := Send(testCtx(t), Config{
			Receiver: f, DialLane: f.dial, Source: src, Clock: quickClock{}, Lanes: rapid.IntRange(0, 5).Draw(rt, "lanes"),
			Options: transfer.Options{Algorithm: alg},
		})
		if err != nil {
			rt.Fatal(err)
		}
		f.expect(dir)
		if t.Failed() {
			rt.Fatal("differs")
		}
		if res.Stats.Sessions != 1+int(resets.Load()) {
			rt.Fatalf("%d sessions after %d restarts", res.Stats.Sessions, resets.Load())
		}
	})
}

// quickClock sleeps a twentieth of what is asked.
type quickClock struct{ systemClock }

func (quickClock) Sleep(ctx context.Context, d time.Duration) error {
	return systemClock{}.Sleep(ctx, d/20)
}
