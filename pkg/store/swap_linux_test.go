package store_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// leastSwaps is how many swaps TestSymlinkSwaps goes on for; make soak-links asks
// for a million.
var leastSwaps = flag.Int64("swaps", 1000, "go on until the directory was swapped so often")

// TestSymlinkSwaps publishes into a directory that another process swaps for a
// symbolic link to the outside all the time. Whatever each transfer comes to,
// nothing outside changes.
func TestSymlinkSwaps(t *testing.T) {
	base := memoryDir(t)
	root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
	for _, d := range []string{filepath.Join(root, "d/sub"), filepath.Join(outside, "sub")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	canary := map[string]string{"f": "canary f", "sub/g": "canary g"}
	for name, content := range canary {
		if err := os.WriteFile(filepath.Join(outside, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	real, link := filepath.Join(root, "d"), filepath.Join(root, "link")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	d, err := store.Open(store.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() // a test
	var stop atomic.Bool
	var swaps atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			if err := unix.Renameat2(unix.AT_FDCWD, real, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil {
				t.Errorf("swap: %v", err)
				return
			}
			swaps.Add(1)
		}
	})
	outcomes := map[string]int{}
	transfers := 0
	for ; transfers < 200 || swaps.Load() < *leastSwaps; transfers++ {
		outcomes[swapOnce(t, d, transfers)]++
		if t.Failed() {
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d swaps during %d transfers, outcomes %v", swaps.Load(), transfers, outcomes)
	var names []string
	if err := filepath.WalkDir(outside, func(p string, _ os.DirEntry, err error) error {
		rel, _ := filepath.Rel(outside, p)
		names = append(names, rel)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(names) != "[. f sub sub/g]" {
		t.Errorf("outside has %v", names)
	}
	for name, content := range canary {
		if got, err := os.ReadFile(filepath.Join(outside, name)); err != nil || string(got) != content {
			t.Errorf("outside %s: %q, %v", name, got, err)
		}
	}
}

func swapOnce(t *testing.T, d *store.Disk, i int) string {
	ctx := t.Context()
	opts := transfer.Options{Algorithm: transfer.BLAKE3, Conflict: transfer.Conflict(i % 4)}
	st, err := d.Create(ctx, store.Spec{ID: transfer.NewID(), Options: opts})
	if err != nil {
		t.Fatal(err)
	}
	err = st.Begin(ctx, 1, opts)
	if err == nil {
		_, err = st.Add(ctx, []transfer.Entry{{Path: "d/f", Size: 1}, {Index: 1, Path: "d/sub/g", Size: 1}, {Index: 2, Path: transfer.Path(fmt.Sprintf("d/new%d", i)), Size: 1}})
	}
	for f := uint32(0); err == nil && f < 3; f++ {
		err = st.WriteSmall(ctx, f, []byte{'x'})
	}
	if err == nil {
		err = st.Seal(ctx)
	}
	var r *transfer.Receipt
	if err == nil {
		r, err = st.Publish(ctx, transfer.Receipt{}, nil)
	}
	if err != nil {
		var e *transfer.Error
		if !errors.As(err, &e) || e.Kind == transfer.Internal {
			t.Errorf("publish: %v", err)
		}
		if err := st.Discard(ctx, transfer.StateAborted, err); err != nil {
			t.Errorf("discard: %v", err)
		}
		return e.Kind.String()
	}
	return fmt.Sprint(r.Counts)
}
