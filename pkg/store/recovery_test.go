package store_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// interrupted is a store that was killed while it published a transfer: all names
// are renamed and the receipt is being written.
func interrupted(t *testing.T, root string, opts transfer.Options, entries []transfer.Entry, data map[transfer.Path][]byte) transfer.ID {
	t.Helper()
	d, err := store.Open(store.Config{Root: root})
	must(t, err)
	ctx, id := t.Context(), transfer.NewID()
	st, err := d.Create(ctx, store.Spec{ID: id, Options: opts})
	must(t, err)
	must(t, st.Begin(ctx, 1, opts))
	for i := range entries {
		entries[i].Index = uint32(i) //nolint:gosec // few
	}
	states, err := st.Add(ctx, entries)
	must(t, err)
	must(t, st.Seal(ctx))
	for i, e := range entries {
		if !states[i].Skip && e.Size > 0 {
			must(t, st.WriteSmall(ctx, e.Index, data[e.Path]))
		}
	}
	if _, cut, err := publish(ctx, st, id, true); !cut {
		t.Fatalf("it was published: %v", err)
	}
	d.Crash()
	return id
}

// recovered opens the store and has it finish what was interrupted.
func recovered(t *testing.T, root string, change func()) (*store.Disk, []store.Partial) {
	t.Helper()
	d, err := store.Open(store.Config{Root: root, Logger: logger(t)})
	must(t, err)
	change()
	var list []store.Partial
	done := make(chan error, 1)
	go func() {
		var err error
		list, err = d.Unfinished(t.Context())
		done <- err
	}()
	select {
	case err := <-done:
		must(t, err)
	case <-time.After(time.Minute):
		t.Fatal("recovery hangs")
	}
	t.Cleanup(func() { _ = d.Close() })
	return d, list
}

// TestSkippedOverACrash: what was identical at the offer was never staged, and is
// no loss when a publishing that was cut is finished: not a file, an empty one, a
// link, nor what is below a directory of which nothing else is sent.
func TestSkippedOverACrash(t *testing.T) {
	root, when := t.TempDir(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, content := range map[string]string{"t/same": "same", "t/empty": "", "t/below/same": "as well"} {
		full := filepath.Join(root, name)
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		must(t, os.WriteFile(full, []byte(content), 0o600))
		must(t, os.Chtimes(full, when, when))
	}
	must(t, os.Symlink("same", filepath.Join(root, "t", "link")))
	data := map[transfer.Path][]byte{"t/new": []byte("new"), "t/other": []byte("other")}
	id := interrupted(t, root, transfer.Options{Algorithm: transfer.BLAKE3, Conflict: transfer.SkipIdentical}, []transfer.Entry{
		{Path: "t/same", Size: 4, ModTime: when, Mode: 0o600},
		{Path: "t/empty", ModTime: when, Mode: 0o600},
		{Path: "t/link", Type: transfer.Symlink, Link: "same"},
		{Path: "t/below/same", Size: 7, ModTime: when, Mode: 0o600},
		{Path: "t/new", Size: 3, ModTime: when, Mode: 0o600},
		{Path: "t/other", Size: 5, ModTime: when, Mode: 0o600},
	}, data)
	d, list := recovered(t, root, func() {})
	if len(list) > 0 {
		t.Errorf("unfinished: %+v", list)
	}
	tomb, err := d.Tombstone(t.Context(), id)
	must(t, err)
	if r := tomb.Info.Receipt; tomb.Info.State != transfer.StateCommitted || r.Counts["skipped"] != 4 || r.Counts["published"] != 2 || r.Partial() {
		t.Errorf("%+v", r)
	}
	for name, want := range map[string]string{"t/same": "same", "t/empty": "", "t/below/same": "as well", "t/new": "new", "t/other": "other"} {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestRecoveryThatFails: a store whose disk fails while it finishes a publishing
// says so, lists the transfer and goes on; the next start finishes it.
func TestRecoveryThatFails(t *testing.T) {
	root := t.TempDir()
	id := interrupted(t, root, transfer.Options{Algorithm: transfer.BLAKE3}, []transfer.Entry{{Path: "new", Size: 3}}, map[transfer.Path][]byte{"new": []byte("new")})
	graves := filepath.Join(root, transfer.StageDir, "done")
	d, list := recovered(t, root, func() { must(t, os.Remove(graves)) }) // no tombstone can be left
	if len(list) != 1 || list[0].ID != id {
		t.Errorf("%+v", list)
	}
	if _, err := d.Create(t.Context(), store.Spec{ID: transfer.NewID(), Options: transfer.Options{Algorithm: transfer.BLAKE3}}); err != nil {
		t.Errorf("it serves no others: %v", err)
	}
	must(t, d.Close())
	d, list = recovered(t, root, func() {})
	if tomb, err := d.Tombstone(t.Context(), id); err != nil || tomb.Info.State != transfer.StateCommitted {
		t.Errorf("%+v, %+v, %v", tomb.Info, list, err)
	}
}
