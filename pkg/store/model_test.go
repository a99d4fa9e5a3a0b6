package store_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

var modelTime = time.Unix(1_600_000_000, 5)

// thing is one file or directory of the model.
type thing struct {
	dir  bool
	data string
}

// model says what a transfer comes to, by rules written a second time.
type model struct {
	there  map[string]thing
	offer  []transfer.Entry
	data   map[string]string
	policy transfer.Conflict
}

func drawTree(t *rapid.T, label string) map[string]thing {
	tree := map[string]thing{}
	n := rapid.IntRange(0, 8).Draw(t, label)
	for i := range n {
		depth := rapid.IntRange(1, 3).Draw(t, fmt.Sprintf("%s depth %d", label, i))
		var parts []string
		for k := range depth {
			parts = append(parts, rapid.SampledFrom([]string{"a", "b", "c.x"}).Draw(t, fmt.Sprintf("%s %d/%d", label, i, k)))
		}
		p := strings.Join(parts, "/")
		isDir := rapid.Bool().Draw(t, fmt.Sprintf("%s dir %d", label, i))
		if _, ok := tree[p]; ok || clash(tree, p, isDir) {
			continue
		}
		for q := path.Dir(p); q != "."; q = path.Dir(q) {
			tree[q] = thing{dir: true}
		}
		tree[p] = thing{dir: isDir, data: fmt.Sprintf("%s %s %d", label, p, rapid.IntRange(0, 1).Draw(t, "content"))}
	}
	return tree
}

// clash reports a file above p, or something below it when it is a file.
func clash(tree map[string]thing, p string, isDir bool) bool {
	for q := path.Dir(p); q != "."; q = path.Dir(q) {
		if x, ok := tree[q]; ok && !x.dir {
			return true
		}
	}
	if isDir {
		return false
	}
	for q := range tree {
		if strings.HasPrefix(q, p+"/") {
			return true
		}
	}
	return false
}

// refuses reports whether Add must refuse: kinds clash and no other name is
// allowed, or the one file is taken.
func (m *model) refuses() bool {
	for _, e := range m.offer {
		x, ok := m.there[string(e.Path)]
		if ok && m.policy != transfer.Rename && x.dir != (e.Type == transfer.Directory) {
			return true
		}
		for q := path.Dir(string(e.Path)); q != "."; q = path.Dir(q) {
			if y, ok := m.there[q]; ok && !y.dir && m.policy != transfer.Rename {
				return true
			}
		}
		if ok && len(m.offer) == 1 && !x.dir && (m.policy == transfer.Fail || m.policy == transfer.SkipIdentical && x.data != m.data[string(e.Path)]) {
			return true
		}
	}
	return false
}

// outcome is what an entry comes to, and the path that it has afterwards.
func (m *model) outcome(e *transfer.Entry) (transfer.Outcome, string) {
	// The topmost directory on the way that is not there moves as a whole.
	parts := strings.Split(string(e.Path), "/")
	for i := 1; i < len(parts); i++ {
		p := strings.Join(parts[:i], "/")
		x, ok := m.there[p]
		switch {
		case !ok:
			return transfer.Published, string(e.Path)
		case !x.dir:
			return transfer.Renamed, m.free(p, true) + "/" + strings.Join(parts[i:], "/")
		}
	}
	p := string(e.Path)
	x, ok := m.there[p]
	isDir := e.Type == transfer.Directory
	switch {
	case !ok:
		return transfer.Published, p
	case isDir && x.dir:
		return transfer.DirExisted, p
	case m.policy == transfer.Rename:
		return transfer.Renamed, m.free(p, isDir)
	case m.policy == transfer.Overwrite:
		return transfer.Overwrote, p
	case m.policy == transfer.SkipIdentical && x.data == m.data[p]:
		return transfer.Skipped, p
	default:
		return transfer.Conflicted, p
	}
}

func (m *model) free(p string, isDir bool) string {
	ext := ""
	if !isDir {
		ext = path.Ext(p)
	}
	return strings.TrimSuffix(p, ext) + " (1)" + ext
}

// memoryDir is a directory on tmpfs where there is one: the model opens hundreds
// of stores, and each syncs.
func memoryDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "store")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestModel(t *testing.T) {
	base := memoryDir(t)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		root := filepath.Join(base, fmt.Sprint(run))
		m := &model{there: drawTree(t, "there before"), data: map[string]string{}, policy: transfer.Conflict(rapid.IntRange(0, 3).Draw(t, "policy"))}
		same := rapid.Bool().Draw(t, "same")
		offered := drawTree(t, "offer")
		for p, x := range offered {
			if y, ok := m.there[p]; ok && same && !x.dir && !y.dir {
				offered[p] = thing{data: y.data} // identical by size and time
			}
		}
		paths := make([]string, 0, len(offered))
		for p := range offered {
			paths = append(paths, p)
		}
		slices.Sort(paths)
		for _, p := range paths {
			x := offered[p]
			e := transfer.Entry{Index: uint32(len(m.offer)), Path: transfer.Path(p), ModTime: modelTime, Mode: 0o644}
			if x.dir {
				if rapid.IntRange(0, 2).Draw(t, "implicit") == 0 && hasBelow(offered, p) {
					continue
				}
				e.Type, e.Mode = transfer.Directory, 0o755
			} else {
				e.Size = int64(len(x.data))
				m.data[p] = x.data
			}
			m.offer = append(m.offer, e)
		}
		for p, x := range m.there {
			full := filepath.Join(root, p)
			if x.dir {
				must(t, os.MkdirAll(full, 0o755))
				continue
			}
			must(t, os.MkdirAll(filepath.Dir(full), 0o755))
			must(t, os.WriteFile(full, []byte(x.data), 0o600))
			must(t, os.Chtimes(full, modelTime, modelTime))
		}
		m.play(t, root)
		must(t, os.RemoveAll(root))
	})
}

func hasBelow(tree map[string]thing, p string) bool {
	for q := range tree {
		if strings.HasPrefix(q, p+"/") {
			return true
		}
	}
	return false
}

func must(t interface {
	Helper()
	Fatal(args ...any)
}, err error,
) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// play sends the offer, with crashes at random moments, and compares.
func (m *model) play(t *rapid.T, root string) {
	ctx := context.Background()
	d, err := store.Open(store.Config{Root: root})
	must(t, err)
	defer func() { must(t, d.Close()) }()
	opts := transfer.Options{Algorithm: transfer.BLAKE3, Conflict: m.policy, TotalFiles: int64(len(m.offer))}
	id := transfer.NewID()
	st, err := d.Create(ctx, store.Spec{ID: id, Options: opts})
	must(t, err)
	durable := map[uint32]bool{}
	for epoch := transfer.Epoch(1); ; epoch++ {
		must(t, st.Begin(ctx, epoch, opts))
		states, err := st.Add(ctx, m.offer)
		if m.refuses() {
			if transfer.KindOf(err) != transfer.Exists {
				t.Fatalf("add: %v, want exists", err)
			}
			must(t, st.Discard(ctx, transfer.StateAborted, err))
			m.compare(t, root, nil)
			return
		}
		must(t, err)
		for i, s := range states {
			if durable[uint32(i)] && s.Held.Count() != 1 {
				t.Fatalf("%s was held before the crash", m.offer[i].Path)
			}
		}
		must(t, st.Seal(ctx))
		if m.write(t, st, states, durable) {
			break
		}
		d.Crash()
		d, err = store.Open(store.Config{Root: root})
		must(t, err)
		got, err := d.Open(ctx, id)
		must(t, err)
		st = got
	}
	r, cut, err := publish(ctx, st, id, rapid.Bool().Draw(t, "killed while publishing"))
	if cut { // the next start finishes it
		d.Crash()
		d, err = store.Open(store.Config{Root: root})
		must(t, err)
		_, err = d.Unfinished(ctx)
		must(t, err)
		var tomb store.Tombstone
		tomb, err = d.Tombstone(ctx, id)
		r = tomb.Info.Receipt
	}
	must(t, err)
	m.compare(t, root, r)
}

// publish publishes; with kill it ends when all names are renamed and the receipt
// is to be signed, as a kill would end it.
func publish(ctx context.Context, st store.Stage, id transfer.ID, kill bool) (r *transfer.Receipt, cut bool, err error) {
	type killed struct{}
	defer func() {
		if p := recover(); p != nil {
			if _, cut = p.(killed); !cut {
				panic(p)
			}
		}
	}()
	r, err = st.Publish(ctx, transfer.Receipt{ID: id}, func(*transfer.Receipt) error {
		if kill {
			panic(killed{})
		}
		return nil
	})
	return r, false, err
}

// write writes in random order with random checkpoints; false means crash now.
func (m *model) write(t *rapid.T, st store.Stage, states []store.FileState, durable map[uint32]bool) bool {
	order := rapid.Permutation(m.offer).Draw(t, "order")
	var wrote []uint32
	for _, e := range order {
		if e.Size == 0 || states[e.Index].Skip {
			continue
		}
		switch rapid.IntRange(0, 6).Draw(t, "step") {
		case 0:
			return false
		case 1:
			_, err := st.Checkpoint(context.Background())
			must(t, err)
			for _, i := range wrote {
				durable[i] = true
			}
		}
		must(t, st.WriteChunk(context.Background(), e.Index, 0, e.Size, strings.NewReader(m.data[string(e.Path)])))
		wrote = append(wrote, e.Index)
	}
	return true
}

// compare checks receipt and directory against the model.
func (m *model) compare(t *rapid.T, root string, r *transfer.Receipt) {
	want := map[string]thing{}
	for p, x := range m.there {
		want[p] = x
	}
	for i := range m.offer {
		if r == nil {
			break
		}
		e := &m.offer[i]
		o, final := m.outcome(e)
		f := r.Files[i]
		if f.Outcome != o || (f.Published != "" && f.Published != final) || (f.Published == "" && final != string(e.Path)) {
			t.Fatalf("%s (%v): outcome %v as %q, want %v as %q", e.Path, m.policy, f.Outcome, f.Published, o, final)
		}
		if o == transfer.Conflicted || o == transfer.Skipped || o == transfer.DirExisted {
			continue
		}
		want[final] = thing{dir: e.Type == transfer.Directory, data: m.data[string(e.Path)]}
		for q := path.Dir(final); q != "."; q = path.Dir(q) {
			want[q] = thing{dir: true}
		}
	}
	got := map[string]thing{}
	must(t, filepath.WalkDir(root, func(p string, de os.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, p)
		switch {
		case err != nil || rel == ".":
			return err
		case rel == transfer.StageDir:
			return filepath.SkipDir
		case de.IsDir():
			got[rel] = thing{dir: true}
			return nil
		}
		b, err := os.ReadFile(p)
		got[rel] = thing{data: string(bytes.Clone(b))}
		return err
	}))
	for p, x := range want {
		if y, ok := got[p]; !ok || y.dir != x.dir || (!x.dir && y.data != x.data) {
			t.Fatalf("%s: %+v (there: %v), want %+v", p, y, ok, x)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("the directory has %v, want %v", got, want)
	}
}
