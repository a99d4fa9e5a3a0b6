package store_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

type rig struct {
	*testing.T
	d    *store.Disk
	root string
	st   store.Stage
	id   transfer.ID
	opts transfer.Options
	data []byte
}

// newRig stages one file of three chunks and one of a single chunk, all held.
func newRig(t *testing.T) *rig {
	r := &rig{T: t, root: t.TempDir(), id: transfer.NewID(), opts: transfer.Options{Algorithm: transfer.BLAKE3}, data: random(3 << 20)}
	r.open()
	st, err := r.d.Create(t.Context(), store.Spec{ID: r.id, Options: r.opts})
	if err != nil {
		t.Fatal(err)
	}
	r.st = st
	r.begin(1)
	for c := range uint32(3) {
		r.write(c)
	}
	if err := r.st.WriteSmall(t.Context(), 1, r.data[:100]); err != nil {
		t.Fatal(err)
	}
	if _, err := r.st.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.d.Close() })
	return r
}

func (r *rig) open() {
	d, err := store.Open(store.Config{Root: r.root, Logger: logger(r.T)})
	if err != nil {
		r.Fatal(err)
	}
	r.d = d
}

func (r *rig) begin(epoch transfer.Epoch) []store.FileState {
	r.Helper()
	if err := r.st.Begin(context.Background(), epoch, r.opts); err != nil {
		r.Fatal(err)
	}
	fs, err := r.st.Add(context.Background(), []transfer.Entry{{Path: "big", Size: 3 << 20}, {Index: 1, Path: "small", Size: 100}})
	if err != nil {
		r.Fatal(err)
	}
	if err := r.st.Seal(context.Background()); err != nil {
		r.Fatal(err)
	}
	return fs
}

func (r *rig) write(c uint32) {
	r.Helper()
	if err := r.st.WriteChunk(context.Background(), 0, c, 1<<20, bytes.NewReader(r.data[int(c)<<20:])); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) reload() {
	r.Helper()
	st, err := r.d.Open(context.Background(), r.id)
	if err != nil {
		r.Fatal(err)
	}
	r.st = st
}

// tamper changes the staged files behind the store's back.
func (r *rig) tamper() {
	for name, off := range map[string]int64{"big": 1<<20 + 7, "small": 3} {
		f, err := os.OpenFile(filepath.Join(r.root, transfer.StageDir, r.id.String(), "tree", name), os.O_WRONLY, 0)
		if err != nil {
			r.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("tampered"), off); err != nil {
			r.Fatal(err)
		}
		if err := f.Close(); err != nil {
			r.Fatal(err)
		}
	}
}

// A failed sync is final for the stage: nothing more is held, and what was is
// hashed again before it is believed.
func TestFailedSyncPoisons(t *testing.T) {
	r := newRig(t)
	if err := r.st.Forget(t.Context(), 0, transfer.Held{{First: 2, Count: 1}}); err != nil {
		t.Fatal(err)
	}
	r.write(2)
	store.BreakJournal(r.st)
	for range 2 {
		if n, err := r.st.Checkpoint(t.Context()); n != 0 || transfer.KindOf(err) != transfer.Internal || transfer.HintOf(err) == "" {
			t.Errorf("%d, %v", n, err)
		}
	}
	if err := r.st.WriteSmall(t.Context(), 1, r.data[:100]); transfer.KindOf(err) != transfer.Internal {
		t.Errorf("write: %v", err)
	}
	if _, err := r.st.Publish(t.Context(), transfer.Receipt{}, nil); transfer.KindOf(err) != transfer.Internal {
		t.Errorf("publish: %v", err)
	}
	_ = r.st.Park(t.Context())
	r.tamper()
	r.reload()
	fs := r.begin(2)
	if len(fs[0].Held) != 1 || fs[0].Held[0] != (transfer.ChunkRange{First: 0, Count: 1}) || len(fs[1].Held) != 0 {
		t.Errorf("held %v after poison", fs)
	}
}

// After a crash of the machine the journal alone proves nothing.
func TestAnotherBootHashesAgain(t *testing.T) {
	r := newRig(t)
	r.d.Crash()
	r.tamper()
	r.open()
	store.SetBoot(r.d, "another boot")
	r.reload()
	fs := r.begin(2)
	if fs[0].Held.Count() != 2 || fs[0].Held.Has(1) || len(fs[1].Held) != 0 {
		t.Errorf("held %v after another boot", fs)
	}
	r.write(1)
	if err := r.st.WriteSmall(t.Context(), 1, r.data[:100]); err != nil {
		t.Fatal(err)
	}
	if _, err := r.st.Publish(t.Context(), transfer.Receipt{}, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(r.root, "big")); err != nil || !bytes.Equal(got, r.data) {
		t.Errorf("published content differs, %v", err)
	}
}

// Within one boot the page cache is what was written, so nothing is read again.
func TestSameBootTrusts(t *testing.T) {
	r := newRig(t)
	r.d.Crash()
	r.tamper()
	r.open()
	r.reload()
	if fs := r.begin(2); fs[0].Held.Count() != 3 {
		t.Errorf("held %v", fs)
	}
}

// What a store notes when it opens a stage after another boot is no progress.
func TestOpeningIsNoProgress(t *testing.T) {
	r := newRig(t)
	r.d.Crash()
	r.tamper()
	then := time.Now().Add(-20 * time.Hour).Truncate(time.Second)
	if err := os.Chtimes(filepath.Join(r.root, transfer.StageDir, r.id.String(), "journal"), then, then); err != nil {
		t.Fatal(err)
	}
	r.open()
	store.SetBoot(r.d, "another boot")
	r.reload()
	if err := r.st.Park(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := r.d.Peek(t.Context(), r.id)
	if err != nil || !p.Updated.Equal(then) || p.Held != 2<<20 {
		t.Errorf("%+v, %v; want the progress of %v", p, err, then)
	}
}
