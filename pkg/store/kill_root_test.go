//go:build linux && root

package store_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// TestPublishKilledAtEveryCall kills a publishing process at each of its calls
// to the filesystem (strace's injection) and looks at what is left: at every
// moment each name has its old content, its new content or does not exist, and
// the next start finishes what had begun.
func TestPublishKilledAtEveryCall(t *testing.T) {
	if root := os.Getenv("STORE_KILL_HELPER"); root != "" {
		killHelper(t, root, os.Getenv("STORE_KILL_SCENE"))
		return
	}
	calls := []string{"renameat2", "fsync", "fdatasync", "syncfs", "fchmod", "utimensat", "mkdirat", "unlinkat", "symlinkat", "openat2", "write"}
	for name, scene := range killScenes() {
		t.Run(name, func(t *testing.T) {
			prepared := filepath.Join(memoryDir(t), "prepared")
			scene.prepare(t, prepared)
			kills := 0
			for _, call := range calls {
				for n := 1; ; n++ {
					root := filepath.Join(memoryDir(t), "root")
					copyTree(t, prepared, root)
					killed := scene.run(t, root, name, call, n)
					scene.verify(t, root, fmt.Sprintf("%s %d", call, n))
					_ = os.RemoveAll(root)
					if !killed {
						break
					}
					kills++
				}
			}
			t.Logf("%d kills", kills)
			if kills < 20 {
				t.Errorf("only %d kills: is strace there?", kills)
			}
		})
	}
}

var killID = transfer.ID{0x01, 0x93, 0, 0, 0, 0, 0x70, 1, 0x80, 1, 2, 3, 4, 5, 6, 7}

type killScene struct {
	opts    transfer.Options
	entries []transfer.Entry
	there   map[string]string // content before
	after   map[string]string // content after
}

const killOld = "the older content"

func killScenes() map[string]*killScene {
	at := time.Unix(1_700_000_000, 0)
	content := func(e transfer.Entry) string { return string(bytes.Repeat([]byte{'n'}, int(e.Size))) }
	tree := []transfer.Entry{
		{Path: "t", Type: transfer.Directory, Mode: 0o750, ModTime: at},
		{Path: "t/a", Size: 100, ModTime: at, Mode: 0o640},
		{Path: "t/big", Size: 2<<20 + 1, ModTime: at, Mode: 0o600},
		{Path: "t/d", Type: transfer.Directory, Mode: 0o555, ModTime: at},
		{Path: "t/d/b", Size: 5, ModTime: at},
		{Path: "t/d/empty", ModTime: at},
		{Path: "t/l", Type: transfer.Symlink, Link: "a"},
	}
	all := map[string]string{}
	for i := range tree {
		tree[i].Index = uint32(i)
		if tree[i].Type == transfer.Regular {
			all[string(tree[i].Path)] = content(tree[i])
		}
	}
	merged := map[string]string{"t/a": killOld, "t/kept": killOld}
	for p, c := range all {
		if p != "t/a" {
			merged[p] = c
		}
	}
	renamed := map[string]string{"t/a": killOld, "t/a (1)": all["t/a"], "t/d/b": killOld, "t/d/b (1)": all["t/d/b"], "t/big": all["t/big"], "t/d/empty": ""}
	one := []transfer.Entry{{Path: "one", Size: 2<<20 + 1, ModTime: at, Mode: 0o644}}
	return map[string]*killScene{
		"tree":      {entries: tree, after: all},
		"merge":     {entries: tree, there: map[string]string{"t/a": killOld, "t/kept": killOld}, after: merged},
		"rename":    {entries: tree, there: map[string]string{"t/a": killOld, "t/d/b": killOld}, after: renamed, opts: transfer.Options{Conflict: transfer.Rename}},
		"overwrite": {entries: one, there: map[string]string{"one": killOld}, after: map[string]string{"one": content(one[0])}, opts: transfer.Options{Conflict: transfer.Overwrite}},
	}
}

func (k *killScene) options() transfer.Options {
	o := k.opts
	o.Algorithm = transfer.BLAKE3
	return o
}

// prepare stages everything and parks it.
func (k *killScene) prepare(t *testing.T, root string) {
	for p, c := range k.there {
		full := filepath.Join(root, p)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(c), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	d, err := store.Open(store.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	st, err := d.Create(ctx, store.Spec{ID: killID, Options: k.options()})
	if err == nil {
		err = k.begin(st)
	}
	for i, e := range k.entries {
		for c := uint32(0); err == nil && e.Type == transfer.Regular && c < e.Chunks(1<<20); c++ {
			n := transfer.ChunkLen(e.Size, 1<<20, c)
			err = st.WriteChunk(ctx, uint32(i), c, n, bytes.NewReader(bytes.Repeat([]byte{'n'}, int(n))))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func (k *killScene) begin(st store.Stage) error {
	ctx := context.Background()
	err := st.Begin(ctx, st.Epoch()+1, k.options())
	if err == nil {
		_, err = st.Add(ctx, k.entries)
	}
	if err == nil {
		err = st.Seal(ctx)
	}
	return err
}

// run publishes in a child that is killed at call number n; false means that it
// lived.
func (k *killScene) run(t *testing.T, root, name, call string, n int) bool {
	cmd := exec.CommandContext(t.Context(), "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), os.Args[0], "-test.run=^TestPublishKilledAtEveryCall$")
	cmd.Env = append(os.Environ(), "STORE_KILL_HELPER="+root, "STORE_KILL_SCENE="+name, "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if strings.Contains(string(out), "FAIL") {
		t.Errorf("%s %d: the child failed and was not killed:\n%s", call, n, out)
		return false
	}
	return true
}

// killHelper is the child. It stays on one thread, because strace counts calls
// per thread.
func killHelper(t *testing.T, root, scene string) {
	runtime.LockOSThread()
	ctx := context.Background()
	k := killScenes()[scene]
	d, err := store.Open(store.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() // the child ends
	st, err := d.Open(ctx, killID)
	if err == nil {
		err = k.begin(st)
	}
	if err == nil {
		_, err = st.Publish(ctx, transfer.Receipt{ID: killID}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// verify looks before and after recovery.
func (k *killScene) verify(t *testing.T, root, when string) {
	t.Helper()
	k.look(t, root, when+", before recovery", false)
	ctx := context.Background()
	d, err := store.Open(store.Config{Root: root, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() // a test
	list, err := d.Unfinished(ctx)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if len(list) == 1 {
		st, err := d.Open(ctx, killID)
		if err == nil {
			err = k.begin(st)
		}
		if err == nil && len(st.Missing(1)) > 0 {
			t.Errorf("%s: what was held is gone", when)
		}
		if err == nil {
			_, err = st.Publish(ctx, transfer.Receipt{ID: killID}, nil)
		}
		if err != nil {
			t.Fatalf("%s: publish again: %v", when, err)
		}
	}
	tomb, err := d.Tombstone(ctx, killID)
	if err != nil || tomb.Info.Receipt == nil || tomb.Info.Receipt.Counts["failed"] > 0 || tomb.Info.Receipt.FileCount != int64(len(k.entries)) {
		t.Fatalf("%s: tombstone %+v, %v", when, tomb, err)
	}
	k.look(t, root, when+", after recovery", true)
	if k.there == nil {
		for _, e := range k.entries {
			if st, err := os.Lstat(filepath.Join(root, string(e.Path))); err != nil || (e.Mode != 0 && st.Mode().Perm() != e.Mode) || (!e.ModTime.IsZero() && !st.ModTime().Equal(e.ModTime)) {
				t.Errorf("%s: %s is %v %v, %v", when, e.Path, st.Mode(), st.ModTime(), err)
			}
		}
	}
}

func (k *killScene) look(t *testing.T, root, when string, final bool) {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(root, func(p string, de os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if de.Name() == transfer.StageDir {
			return filepath.SkipDir
		}
		rel, _ := filepath.Rel(root, p)
		if de.Type().IsRegular() {
			b, err := os.ReadFile(p)
			got[rel] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for p, c := range got {
		old, was := k.there[p]
		want, will := k.after[p]
		if !(was && c == old) && !(will && c == want) {
			t.Errorf("%s: %s has %d octets that are neither old nor new", when, p, len(c))
		}
	}
	for p := range k.there {
		if _, ok := got[p]; !ok {
			t.Errorf("%s: %s is gone", when, p)
		}
	}
	if final {
		for p, c := range k.after {
			if got[p] != c {
				t.Errorf("%s: %s has %d octets, want %d", when, p, len(got[p]), len(c))
			}
		}
	}
}

// copyTree copies files with their modes and times, so that what is prepared
// once can be published many times.
func copyTree(t *testing.T, from, to string) {
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
