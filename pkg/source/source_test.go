package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ctx(tb testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	tb.Cleanup(cancel)
	return c
}

func write(tb testing.TB, path, data string) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		tb.Fatal(err)
	}
}

func start(tb testing.TB, cfg Config) *Source {
	tb.Helper()
	s, err := Scan(ctx(tb), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

// all reads the manifest in parts of the given size.
func all(tb testing.TB, s *Source, limit int) ([]transfer.Entry, error) {
	tb.Helper()
	var out []transfer.Entry
	for {
		part, last, err := s.Entries(ctx(tb), uint32(len(out)), limit, 1<<20)
		if err != nil {
			return out, err
		}
		out = append(out, part...)
		if last {
			return out, nil
		}
		if len(part) == 0 {
			tb.Fatal("an empty part that is not the last")
		}
	}
}

func paths(entries []transfer.Entry) (out []string) {
	for i, e := range entries {
		s := string(e.Path)
		switch e.Type {
		case transfer.Directory:
			s += "/"
		case transfer.Symlink:
			s += " -> " + e.Link
		}
		if int(e.Index) != i {
			s += " (wrong index)"
		}
		out = append(out, s)
	}
	return out
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func sample(tb testing.TB) string {
	dir := filepath.Join(tb.TempDir(), "root")
	write(tb, filepath.Join(dir, "b.txt"), "bb")
	write(tb, filepath.Join(dir, "a/x/deep.o"), "o")
	write(tb, filepath.Join(dir, "a/file.o"), "o")
	write(tb, filepath.Join(dir, "z.o"), "zzz")
	write(tb, filepath.Join(dir, "c/build/out"), "")
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o700); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func TestOrder(t *testing.T) {
	dir := sample(t)
	for _, limit := range []int{1, 2, 100} {
		got, err := all(t, start(t, Config{Roots: []string{dir}}), limit)
		if err != nil {
			t.Fatal(err)
		}
		want(t, paths(got), "root/", "root/b.txt", "root/z.o", "root/a/", "root/a/file.o", "root/a/x/", "root/a/x/deep.o", "root/c/", "root/c/build/", "root/c/build/out", "root/empty/")
	}
	s := start(t, Config{Roots: []string{dir}})
	got, _ := all(t, s, 100)
	fi, _ := os.Stat(filepath.Join(dir, "b.txt"))
	if e := got[1]; e.Size != 2 || e.Mode != 0o644 || !e.ModTime.Equal(fi.ModTime()) {
		t.Errorf("got %+v", e)
	}
	if e := got[10]; e.Mode != 0o700 {
		t.Errorf("got %+v", e)
	}
	if c, done := s.Counts(); !done || c.Files != 5 || c.Dirs != 6 || c.Bytes != 7 {
		t.Errorf("got %+v", c)
	}
	if p := s.LocalPath(6); p != filepath.Join(dir, "a/x/deep.o") {
		t.Errorf("got %q", p)
	}
	if e := s.Entry(6); e.Path != "root/a/x/deep.o" || e.Index != 6 {
		t.Errorf("got %+v", e)
	}
}

func TestRoots(t *testing.T) {
	dir := sample(t)
	t.Chdir(dir)
	for _, c := range []struct {
		roots []string
		as    string
		want  []string
	}{
		{[]string{"b.txt"}, "", []string{"b.txt"}},
		{[]string{"b.txt"}, "other", []string{"other"}},
		{[]string{"z.o", "./b.txt", "empty/"}, "", []string{"b.txt", "empty/", "z.o"}},
		{[]string{"a/x"}, "y", []string{"y/", "y/deep.o"}},
		{[]string{"."}, "", []string{"root/", "root/b.txt", "root/z.o", "root/a/", "root/a/file.o", "root/a/x/", "root/a/x/deep.o", "root/c/", "root/c/build/", "root/c/build/out", "root/empty/"}},
		{[]string{"a/.."}, "q", nil},
	} {
		got, err := all(t, start(t, Config{Roots: c.roots, As: c.as}), 100)
		if err != nil {
			t.Fatal(err)
		}
		if c.want != nil {
			want(t, paths(got), c.want...)
		}
	}
}

func TestRootThatIsALink(t *testing.T) {
	dir := sample(t)
	for name, target := range map[string]string{"toDir": "a", "toFile": "b.txt"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := all(t, start(t, Config{Roots: []string{filepath.Join(dir, "toDir")}}), 9)
	if err != nil {
		t.Fatal(err)
	}
	want(t, paths(got), "toDir/", "toDir/file.o", "toDir/x/", "toDir/x/deep.o")
	s := start(t, Config{Roots: []string{filepath.Join(dir, "toFile")}})
	got, err = all(t, s, 9)
	if err != nil {
		t.Fatal(err)
	}
	want(t, paths(got), "toFile")
	r := s.NewReader()
	defer r.Close()
	b := make([]byte, 2)
	if err := r.ReadFile(0, b); err != nil || string(b) != "bb" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestBadRoots(t *testing.T) {
	dir := sample(t)
	for _, c := range []struct {
		cfg  Config
		kind transfer.Kind
		text string
	}{
		{Config{}, transfer.Invalid, "nothing"},
		{Config{Roots: []string{dir, dir + "/b.txt"}, As: "x"}, transfer.Invalid, "2 files"},
		{Config{Roots: []string{dir}, As: "x/y"}, transfer.Invalid, "slash"},
		{Config{Roots: []string{dir + "/missing"}}, transfer.NotFound, "missing"},
		{Config{Roots: []string{dir + "/b.txt", dir + "/../root/b.txt"}}, transfer.Invalid, "same name"},
		{Config{Roots: []string{"/"}}, transfer.Invalid, "--as"},
		{Config{Roots: []string{"/dev/null"}}, transfer.Invalid, "neither a file"},
		{Config{Roots: []string{dir}, Exclude: []string{"["}}, transfer.Invalid, "pattern"},
		{Config{Roots: []string{dir}, As: ".sluice"}, transfer.Invalid, "reserved"},
	} {
		_, err := Scan(ctx(t), c.cfg)
		if transfer.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: got %v", c.cfg, err)
		}
	}
}

func TestPatterns(t *testing.T) {
	dir := sample(t)
	for _, c := range []struct {
		exclude, include, want []string
	}{
		{[]string{"*.o"}, nil, []string{"root/", "root/b.txt", "root/a/", "root/a/x/", "root/c/", "root/c/build/", "root/c/build/out", "root/empty/"}},
		{[]string{"*.o"}, []string{"/z.o"}, []string{"root/", "root/b.txt", "root/z.o", "root/a/", "root/a/x/", "root/c/", "root/c/build/", "root/c/build/out", "root/empty/"}},
		{[]string{"/a", "build/", "z.o/"}, nil, []string{"root/", "root/b.txt", "root/z.o", "root/c/", "root/empty/"}},
		{[]string{"a/**/*.o"}, nil, []string{"root/", "root/b.txt", "root/z.o", "root/a/", "root/a/x/", "root/c/", "root/c/build/", "root/c/build/out", "root/empty/"}},
		{[]string{"*"}, []string{"*/", "*.txt"}, []string{"root/", "root/b.txt", "root/a/", "root/a/x/", "root/c/", "root/c/build/", "root/empty/"}},
	} {
		got, err := all(t, start(t, Config{Roots: []string{dir}, Exclude: c.exclude, Include: c.include}), 100)
		if err != nil {
			t.Fatal(err)
		}
		want(t, paths(got), c.want...)
	}
}

func TestLinks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	write(t, filepath.Join(dir, "d/f"), "x")
	for name, target := range map[string]string{"d/up": "../d/f", "d/same": "f", "self": "self"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, Config{Roots: []string{dir}})
	got, err := all(t, s, 100)
	if err != nil {
		t.Fatal(err)
	}
	want(t, paths(got), "root/", "root/d/", "root/d/f")
	if c, _ := s.Counts(); c.SkippedLinks != 3 {
		t.Errorf("got %+v", c)
	}
	got, err = all(t, start(t, Config{Roots: []string{dir}, Links: PreserveLinks}), 100)
	if err != nil {
		t.Fatal(err)
	}
	want(t, paths(got), "root/", "root/self -> self", "root/d/", "root/d/f", "root/d/same -> f", "root/d/up -> ../d/f")
	for _, bad := range []string{"/etc/passwd", "../../x", "../d/../../root/d/f"} {
		p := filepath.Join(dir, "d/bad")
		if err := os.Symlink(bad, p); err != nil {
			t.Fatal(err)
		}
		_, err = all(t, start(t, Config{Roots: []string{dir}, Links: PreserveLinks}), 100)
		if transfer.KindOf(err) != transfer.Invalid || !strings.Contains(err.Error(), p) {
			t.Errorf("link to %s: got %v", bad, err)
		}
		_ = os.Remove(p)
	}
}

func TestProblemsAreNamedBounded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	for i := range 150 {
		write(t, filepath.Join(dir, fmt.Sprintf("d%d/bad\nname%d", i%3, i)), "x")
	}
	write(t, filepath.Join(dir, "good"), "x")
	_, err := all(t, start(t, Config{Roots: []string{dir}}), 100)
	var e *transfer.Error
	if !errors.As(err, &e) || e.Kind != transfer.Invalid || len(e.Problems) != 150 || e.Hint == "" {
		t.Fatalf("got %v", err)
	}
	if n := strings.Count(err.Error(), "\n"); n != MaxShown+1 || !strings.Contains(err.Error(), "150 files") || !strings.Contains(err.Error(), "and 130 more") {
		t.Errorf("%d lines: %v", n, err)
	}
	s := start(t, Config{Roots: []string{dir}, KeepGoing: true})
	got, err := all(t, s, 100)
	if err != nil {
		t.Fatal(err)
	}
	want(t, paths(got), "root/", "root/good", "root/d0/", "root/d1/", "root/d2/")
	if list, n := s.Problems(); n != 150 || len(list) != 150 {
		t.Errorf("%d problems", n)
	}
}

func TestPortableNames(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	for _, n := range []string{"CON", "a:b", "Readme", "README", "x."} {
		write(t, filepath.Join(dir, n), "")
	}
	s := start(t, Config{Roots: []string{dir}, Names: transfer.Portable, KeepGoing: true})
	got, err := all(t, s, 100)
	if err != nil {
		t.Fatal(err)
	}
	want(t, paths(got), "root/", "root/README")
	if _, n := s.Problems(); n != 4 {
		t.Errorf("%d problems", n)
	}
}

func TestSocketsArePutAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	write(t, filepath.Join(dir, "f"), "")
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, err = all(t, start(t, Config{Roots: []string{dir}}), 100)
	if transfer.KindOf(err) != transfer.Invalid || !strings.Contains(err.Error(), "a socket") {
		t.Errorf("got %v", err)
	}
	s := start(t, Config{Roots: []string{dir}, SkipSpecial: true})
	if got, err := all(t, s, 100); err != nil || len(got) != 2 {
		t.Errorf("got %v, %v", paths(got), err)
	}
	if c, _ := s.Counts(); c.SkippedSpecial != 1 {
		t.Errorf("got %+v", c)
	}
}

func TestReadAndChange(t *testing.T) {
	for name, change := range map[string]func(p string) error{
		"same":     func(string) error { return nil },
		"shrank":   func(p string) error { return os.Truncate(p, 1) },
		"grew":     func(p string) error { return os.Truncate(p, 100) },
		"gone":     os.Remove,
		"replaced": func(p string) error { _ = os.WriteFile(p+"x", []byte("zzz"), 0o644); return os.Rename(p+"x", p) },
		"in place": func(p string) error { return os.WriteFile(p, []byte("ooz"), 0o644) },
	} {
		dir := sample(t)
		p := filepath.Join(dir, "z.o")
		s := start(t, Config{Roots: []string{dir}})
		if _, err := all(t, s, 100); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // times of files tick with the kernel's clock, up to 10 ms
		if err := change(p); err != nil {
			t.Fatal(err)
		}
		r := s.NewReader()
		b := make([]byte, 3)
		err1 := r.ReadFile(2, b)
		err2 := r.Open(2)
		if err2 == nil {
			err2 = r.ReadAt(b, 0)
		}
		r.Close()
		for _, err := range []error{err1, err2} {
			if name == "same" {
				if err != nil || string(b) != "zzz" {
					t.Errorf("%s: read %q, %v", name, b, err)
				}
			} else if transfer.KindOf(err) != transfer.Changed || !strings.Contains(err.Error(), p) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
}

func TestSendTo(t *testing.T) {
	p := filepath.Join(t.TempDir(), "f")
	write(t, p, "0123456789")
	s := start(t, Config{Roots: []string{p}})
	if _, err := all(t, s, 1); err != nil {
		t.Fatal(err)
	}
	r := s.NewReader()
	defer r.Close()
	if err := r.Open(0); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if n, err := r.SendTo(&b, 3, 4); n != 4 || err != nil || b.String() != "3456" {
		t.Errorf("got %d, %q, %v", n, b.String(), err)
	}
	if _, err := r.SendTo(&b, 8, 4); transfer.KindOf(err) != transfer.Changed {
		t.Errorf("got %v", err)
	}
}

func TestStream(t *testing.T) {
	s, err := Stream("dump.sql", transfer.Posix, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := all(t, s, 10)
	if err != nil || len(got) != 1 || got[0].Path != "dump.sql" || got[0].Size != transfer.UnknownSize {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "../x", "/x"} {
		if _, err := Stream(bad, transfer.Posix, nil); transfer.KindOf(err) != transfer.Invalid {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func TestLeaveOut(t *testing.T) {
	dir := sample(t)
	s := start(t, Config{Roots: []string{dir}, KeepGoing: true})
	if _, err := all(t, s, 100); err != nil {
		t.Fatal(err)
	}
	s.LeaveOut(map[uint32]transfer.Problem{2: {Path: "z.o", Kind: transfer.Changed}, 6: {Path: "deep.o"}})
	got, err := all(t, s, 100)
	if err != nil {
		t.Fatal(err)
	}
	want(t, paths(got), "root/", "root/b.txt", "root/a/", "root/a/file.o", "root/a/x/", "root/c/", "root/c/build/", "root/c/build/out", "root/empty/")
	if c, _ := s.Counts(); c.Files != 3 || c.Bytes != 3 || c.Problems != 2 {
		t.Errorf("got %+v", c)
	}
	r := s.NewReader()
	defer r.Close()
	b := make([]byte, 1)
	if err := r.ReadFile(3, b); err != nil || string(b) != "o" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestCut(t *testing.T) {
	dir := sample(t)
	s := start(t, Config{Roots: []string{dir}})
	if _, err := all(t, s, 100); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		first, end, stop uint32
		maxFiles         int
		maxBytes         int64
		files            int
		octets           int64
	}{
		{0, 11, 11, 10, 100, 4, 7},
		{0, 11, 4, 2, 100, 2, 5},
		{0, 11, 2, 10, 1, 1, 2},
		{3, 11, 6, 10, 1, 1, 1},
	} {
		if stop, files, octets := s.Cut(c.first, c.end, c.maxFiles, c.maxBytes); stop != c.stop || files != c.files || octets != c.octets {
			t.Errorf("%+v: got %d, %d, %d", c, stop, files, octets)
		}
	}
}

func TestScanIsCancelled(t *testing.T) {
	c, cancel := context.WithCancel(context.Background())
	cancel()
	s, err := Scan(c, Config{Roots: []string{sample(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := all(t, s, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
