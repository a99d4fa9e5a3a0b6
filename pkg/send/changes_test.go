package send

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
)

func TestSourceChanges(t *testing.T) {
	for name, change := range map[string]func(p string) error{
		"truncated": func(p string) error { return os.Truncate(p, 4*mib+1) },
		"grown":     func(p string) error { return os.Truncate(p, 9*mib) },
		"gone":      os.Remove,
		"replaced": func(p string) error {
			if err := os.WriteFile(p+".new", make([]byte, 8*mib), 0o600); err != nil {
				return err
			}
			return os.Rename(p+".new", p)
		},
		"touched": func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "file")
			write(t, p, junk(8*mib))
			src := scan(t, source.Config{Roots: []string{p}})
			if _, _, err := src.Entries(testCtx(t), 0, 10, mib); err != nil {
				t.Fatal(err)
			}
			if err := change(p); err != nil {
				t.Fatal(err)
			}
			f := newFake(t)
			_, err := Send(testCtx(t), Config{Receiver: f, DialLane: f.dial, Source: src})
			if transfer.KindOf(err) != transfer.Changed || !strings.Contains(err.Error(), p) {
				t.Errorf("got %v, want Changed naming the file", err)
			}
			if f.receipt != nil {
				t.Error("it was committed")
			}
		})
	}
}

func TestChangeAfterPartWasSent(t *testing.T) {
	p := filepath.Join(t.TempDir(), "file")
	write(t, p, junk(40*mib))
	f := newFake(t)
	var once atomic.Bool
	f.chunk = func(_ int, _ *fakeFile, i uint32, _ []byte) bool {
		if !once.Swap(true) {
			fd, _ := os.OpenFile(p, os.O_WRONLY, 0)
			_, _ = fd.WriteAt([]byte("x"), 3)
			_ = fd.Close()
		}
		return true
	}
	_, err := Send(testCtx(t), config(t, f, p))
	if transfer.KindOf(err) != transfer.Changed {
		t.Errorf("got %v, want Changed", err)
	}
}

func TestKeepGoingLeavesOutWhatVanished(t *testing.T) {
	dir := tree(t)
	src := scan(t, source.Config{Roots: []string{dir}, KeepGoing: true})
	if _, _, err := src.Entries(testCtx(t), 0, 1000, mib); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"big", "small/3/f010", "one"} {
		if err := os.Remove(filepath.Join(dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	f := newFake(t)
	res, err := Send(testCtx(t), Config{Receiver: f, DialLane: f.dial, Source: src})
	if err != nil {
		t.Fatal(err)
	}
	if !res.Partial() || res.Left != 3 || len(res.Problems) != 3 {
		t.Errorf("left out %d: %+v", res.Left, res.Problems)
	}
	f.expect(dir)
}

func TestSkippedFilesAreNotSent(t *testing.T) {
	dir := tree(t)
	f := newFake(t)
	f.skip = func(e *transfer.Entry) bool {
		return strings.HasPrefix(string(e.Path), "tree/small/") || e.Path == "tree/big"
	}
	if _, err := Send(testCtx(t), config(t, f, dir)); err != nil {
		t.Fatal(err)
	}
	if f.content("tree/big") == nil || len(f.content("tree/big")) != 0 || len(f.content("tree/even")) != 2*mib {
		t.Error("skipped files were sent, or others not")
	}
}
