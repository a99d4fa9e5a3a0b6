package source

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestDeepTree(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	deep := filepath.Join(dir, strings.Repeat("d/", 300))
	write(t, filepath.Join(deep, "f"), "deep")
	write(t, filepath.Join(dir, "e/f"), "flat")
	s := start(t, Config{Roots: []string{dir}})
	got, err := all(t, s, 1000)
	if err != nil || len(got) != 304 {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	r := s.NewReader()
	defer r.Close()
	b := make([]byte, 4)
	for _, i := range []uint32{301, 303, 301} {
		if err := r.ReadFile(i, b); err != nil {
			t.Fatal(err)
		}
		if n := len(r.dirs.open); n > maxOpenDirs {
			t.Fatalf("%d directories are open", n)
		}
	}
}

func TestRandomTrees(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n), "root")
		model := map[string]string{}
		for range rapid.IntRange(0, 12).Draw(rt, "files") {
			elems := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ä", "b b", ".x", "-", "a.", "\\"}), 1, 4).Draw(rt, "path")
			p := strings.Join(elems, "/")
			data := rapid.StringN(0, 50, 100).Draw(rt, "data")
			full := filepath.Join(dir, p)
			if os.MkdirAll(filepath.Dir(full), 0o755) != nil || os.WriteFile(full, []byte(data), 0o644) != nil {
				continue
			}
			model["root/"+p] = data
		}
		if os.MkdirAll(dir, 0o755) != nil {
			return
		}
		s := start(t, Config{Roots: []string{dir}})
		got, err := all(t, s, rapid.IntRange(1, 5).Draw(rt, "part"))
		if err != nil {
			rt.Fatal(err)
		}
		r := s.NewReader()
		defer r.Close()
		seen := map[transfer.Path]bool{}
		for _, e := range got {
			parent := transfer.Path(filepath.Dir(string(e.Path)))
			if parent != "." && !seen[parent] {
				rt.Fatalf("%s stands before its directory", e.Path)
			}
			seen[e.Path] = true
			if e.Type != transfer.Regular {
				continue
			}
			b := make([]byte, e.Size)
			if err := r.ReadFile(e.Index, b); err != nil || string(b) != model[string(e.Path)] {
				rt.Fatalf("%s: read %q, %v", e.Path, b, err)
			}
			delete(model, string(e.Path))
		}
		if len(model) > 0 {
			rt.Fatalf("missing: %v", model)
		}
		s.Close()
	})
}

// TestMemory holds the documented octets per entry.
func TestMemory(t *testing.T) {
	const n = 100_000
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	m := &manifest{dirs: []dirRecord{{root: &root{}, parent: noDir}}}
	for i := range n {
		m.add(record{size: int64(i)}, fmt.Sprintf("some-file-%09d", i)) // 19 octets
	}
	per := float64(heap()-before) / n
	if per > 72 {
		t.Errorf("%.1f octets an entry", per)
	}
	runtime.KeepAlive(m)
}
