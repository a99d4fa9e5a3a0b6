package cmdtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

var treeSeed = flag.Uint64("tree-seed", 0, "play only this round of TestTreesUnderKills; 0: as many as fit its time")

// treeTime is how long rounds are begun; each takes a second or two.
const treeTime = 25 * time.Second

// treeWorld is one round: what is there, what is sent over it, and what must come
// of it, by rules written a second time. Keys are paths below the receiver's
// directory. That kinds clash is tried by pkg/store's model, without processes.
type treeWorld struct {
	*world

	rng    *rand.Rand
	policy string
	there  map[string][]byte
	offer  map[string][]byte
	dirs   map[string]bool // offered
	same   map[string]bool // identical, by size and time
	want   map[string][]byte
	counts map[string]int64
	kills  map[string]int
}

var treePolicies = []string{"fail", "overwrite", "rename", "skip-identical"}

// TestTreesUnderKills sends random trees under each policy, over random trees that
// are there, while sender and receiver are killed by SIGKILL at random moments.
// At each kill every name has its old or its new content, and in the end the
// directory and the receipt are what the model says, as if nobody had been killed.
func TestTreesUnderKills(t *testing.T) {
	t.Parallel()
	kills := map[string]int{}
	rounds := 0
	for end := time.Now().Add(treeTime); rounds == 0 || (*treeSeed == 0 && time.Now().Before(end) && !t.Failed()); rounds++ {
		seed := *treeSeed
		if seed == 0 {
			seed = rand.Uint64()>>2<<2 | uint64(rounds%len(treePolicies)) //nolint:gosec // its last bits are the policy
		}
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { treeRound(t, seed, kills) })
	}
	t.Logf("%d rounds, kills: %v", rounds, kills)
}

func treeRound(t *testing.T, seed uint64, kills map[string]int) {
	t.Logf("again by -run TestTreesUnderKills -tree-seed %d", seed)
	tmp := t.TempDir()
	w := &treeWorld{
		world: &world{t: t, dir: filepath.Join(tmp, "inbox"), file: filepath.Join(tmp, "src", "t")},
		rng:   rand.New(rand.NewPCG(seed, 11)), policy: treePolicies[seed%uint64(len(treePolicies))], kills: kills, //nolint:gosec // repeatable
		there: map[string][]byte{}, offer: map[string][]byte{}, dirs: map[string]bool{}, same: map[string]bool{}, counts: map[string]int64{},
	}
	w.env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(tmp, "state"))
	w.make(filepath.Join(tmp, "src"))
	w.judge()
	w.restart()
	t.Cleanup(func() { w.recv.kill() })
	w.play()
}

// content is random but for its beginning, which says whose it is.
func (w *treeWorld) content(whose, name string, n int) []byte {
	b := append([]byte(whose+" "+name+" "), make([]byte, n)...)
	for i := len(b) - n; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], w.rng.Uint64())
	}
	return b
}

// make draws both trees and writes them.
func (w *treeWorld) make(src string) {
	w.t.Helper()
	old := w.rng.IntN(4) // 0: the tree is new, and appears by one rename
	for i := range 20 + w.rng.IntN(60) {
		name := path.Join("t", []string{"", "a", "b", "b/c", "ü"}[w.rng.IntN(5)], fmt.Sprintf("f%d.x", i))
		n := w.rng.IntN(20_000)
		if w.rng.IntN(12) == 0 {
			n = w.rng.IntN(3 << 20) // several chunks
		}
		w.offer[name] = w.content("new", name, n)
		if w.rng.IntN(20) == 0 {
			w.offer[name] = []byte{}
		}
		switch {
		case old == 0 || w.rng.IntN(3) == 0:
		case w.rng.IntN(3) == 0:
			w.there[name], w.same[name] = w.offer[name], true
		default:
			w.there[name] = append(w.content("old", name, w.rng.IntN(3000)), w.offer[name][:min(10, len(w.offer[name]))]...)
		}
		if old > 0 && w.rng.IntN(10) == 0 {
			other := name + ".kept"
			w.there[other] = w.content("old", other, 100)
		}
	}
	moment := time.Unix(1_700_000_000, 123_456_789)
	for name, b := range w.offer {
		w.write(filepath.Join(src, name), b, moment)
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			w.dirs[d] = true
		}
	}
	for name, b := range w.there {
		at := moment
		if !w.same[name] {
			at = at.Add(time.Hour)
		}
		w.write(filepath.Join(w.dir, name), b, at)
	}
}

func (w *treeWorld) write(file string, b []byte, at time.Time) {
	w.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, b, 0o600), os.Chtimes(file, at, at)); err != nil {
		w.t.Fatal(err)
	}
}

// judge says what must come of it.
func (w *treeWorld) judge() {
	w.want = maps.Clone(w.there)
	for d := range w.dirs {
		if st, err := os.Stat(filepath.Join(w.dir, d)); err == nil && st.IsDir() {
			w.counts[transfer.DirExisted.String()]++
		} else {
			w.counts[transfer.Published.String()]++
		}
	}
	for name, b := range w.offer {
		_, taken := w.there[name]
		switch {
		case !taken:
			w.counts[transfer.Published.String()]++
			w.want[name] = b
		case w.policy == "overwrite":
			w.counts[transfer.Overwrote.String()]++
			w.want[name] = b
		case w.policy == "rename":
			w.counts[transfer.Renamed.String()]++
			w.want[second(name)] = b
		case w.policy == "skip-identical" && w.same[name]:
			w.counts[transfer.Skipped.String()]++
		default:
			w.counts[transfer.Conflicted.String()]++
		}
	}
}

// second is the name that a file gets beside one that is there.
func second(name string) string { return strings.TrimSuffix(name, ".x") + " (1).x" }

// play sends, kills and compares.
func (w *treeWorld) play() {
	args := []string{"--on-conflict", w.policy, "--id", transfer.NewID().String(), "--limit", "16MiB"}
	r := w.send(args...)
	for range 1 + w.rng.IntN(4) {
		w.moment(r)
		if r.over() {
			w.kills["too late"]++
			break
		}
		victim := w.rng.IntN(3)
		w.kills[[]string{"sender", "receiver", "both"}[victim]]++
		if victim != 1 {
			r.kill()
		}
		if victim != 0 {
			w.recv.kill()
			w.look(false)
			w.restart()
		}
		if victim != 1 {
			r = w.send(args...) // also when the receipt was out: the id gets it again
		}
	}
	last, err := r.end()
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	wantCode := 0
	if w.counts[transfer.Conflicted.String()] > 0 {
		wantCode = 7
	}
	if r.receipt == nil || code != wantCode {
		w.t.Errorf("%s ended with %+v, exit code %d, want %d", w.policy, last, code, wantCode)
	} else if !maps.Equal(r.receipt, w.counts) {
		w.t.Errorf("%s: the receipt counts %v, want %v", w.policy, r.receipt, w.counts)
	}
	w.look(true)
	if w.t.Failed() {
		w.t.Logf("receiver's log:\n%s", w.recv.log)
	}
}

// moment waits for a random one: half of them anywhere, half while the receiver
// verifies and publishes.
func (w *treeWorld) moment(r *sendRun) {
	span := 400 * time.Millisecond
	if w.rng.IntN(2) == 0 {
		span = 30 * time.Millisecond
		for !strings.Contains(w.recv.log.String(), `msg="transfer is committing"`) && !r.over() {
			time.Sleep(time.Millisecond)
		}
	}
	time.Sleep(time.Duration(w.rng.Int64N(int64(span)))) // not for anything to happen
}

// over reports whether the sender has printed its last event.
func (r *sendRun) over() bool {
	for {
		select {
		case e, open := <-r.events:
			if !open {
				return true
			}
			r.note(e)
		default:
			return false
		}
	}
}

// look compares what is published with the trees; in the end it must be all.
func (w *treeWorld) look(end bool) {
	w.t.Helper()
	got := map[string][]byte{}
	err := filepath.WalkDir(w.dir, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(w.dir, p)
		switch {
		case err != nil:
			return err
		case rel == transfer.StageDir:
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		got[filepath.ToSlash(rel)], err = os.ReadFile(p)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for name, b := range got {
		before, was := w.there[name]
		after, will := w.want[name]
		if !(was && bytes.Equal(b, before) && !end) && !(will && bytes.Equal(b, after)) {
			w.t.Errorf("%s: %s has %d octets, neither the old nor the new ones (in the end: %t)", w.policy, name, len(b), end)
		}
	}
	for name := range w.there {
		if _, ok := got[name]; !ok {
			w.t.Errorf("%s: %s was there and is gone", w.policy, name)
		}
	}
	if end && len(got) != len(w.want) {
		w.t.Errorf("%s: %d files are there, want %d", w.policy, len(got), len(w.want))
	}
	if n := len(got) - len(w.there); len(w.there) == 0 && n != 0 && n != len(w.offer) {
		w.t.Errorf("%d of %d files of a new tree are there: it must appear as a whole", n, len(w.offer))
	}
}
