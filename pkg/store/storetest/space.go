package storetest

import (
	"fmt"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

func quota(w *world) {
	w.cfg.MaxTotal, w.cfg.MaxTransfer = 10*mib, 8*mib
	w.reopen(false)
	add := func(limit int64, sizes ...int64) (store.Stage, error) {
		j := w.job()
		j.spec.Limit = limit
		for i, n := range sizes {
			j.entries = append(j.entries, transfer.Entry{Index: uint32(i), Path: transfer.Path(fmt.Sprintf("f%d", i)), Size: n}) //nolint:gosec // few
		}
		j.create()
		if err := j.st.Begin(w.ctx, 1, j.opts); err != nil {
			w.Fatal(err)
		}
		_, err := j.st.Add(w.ctx, j.entries)
		return j.st, err
	}
	for _, tt := range []struct {
		limit int64
		sizes []int64
	}{{0, []int64{9 * mib}}, {0, []int64{5 * mib, 4 * mib}}, {mib, []int64{mib + 1}}, {0, []int64{transfer.MaxFileSize, transfer.MaxFileSize}}} {
		_, err := add(tt.limit, tt.sizes...)
		if k := transfer.KindOf(err); k != transfer.NoSpace && k != transfer.Invalid {
			w.Errorf("%v: %v, want a refusal", tt, err)
		}
		if transfer.HintOf(err) == "" && transfer.KindOf(err) == transfer.NoSpace {
			w.Errorf("%v: no hint in %v", tt, err)
		}
	}
	if st, err := add(0, transfer.UnknownSize); err != nil {
		w.Errorf("an unknown size within the quota: %v", err)
	} else if err := st.Discard(w.ctx, transfer.StateAborted, nil); err != nil {
		w.Error(err)
	}
	first, err := add(0, 6*mib)
	if err != nil {
		w.Fatal(err)
	}
	if _, err := add(0, 6*mib); transfer.KindOf(err) != transfer.NoSpace {
		w.Errorf("over the quota: %v", err)
	}
	if u, err := w.s.Usage(w.ctx); err != nil || u.Reserved != 6*mib || u.Quota != 10*mib || u.Free > 4*mib {
		w.Errorf("usage %+v, %v", u, err)
	}
	if err := first.Discard(w.ctx, transfer.StateAborted, nil); err != nil {
		w.Fatal(err)
	}
	if _, err := add(0, 6*mib); err != nil {
		w.Errorf("after the space was given back: %v", err)
	}
}

// spaceBack counts over a whole life: nothing stays reserved.
func spaceBack(w *world) {
	before, err := w.s.Usage(w.ctx)
	if err != nil {
		w.Fatal(err)
	}
	j := w.job(file("a", 3*mib), file("b", 100), file("c", transfer.UnknownSize))
	j.create()
	j.begin()
	j.writeChunk(0, 0)
	j.writeChunk(1, 0)
	if u, _ := w.s.Usage(w.ctx); u.Staged != mib+100 {
		w.Errorf("usage %+v", u)
	}
	j.checkpoint()
	w.reopen(true)
	j.reload()
	if u, _ := w.s.Usage(w.ctx); u.Staged != mib+100 || u.Reserved != 0 {
		w.Errorf("usage %+v after a crash", u)
	}
	j.begin()
	if u, _ := w.s.Usage(w.ctx); u.Staged != mib+100 || u.Reserved != 2*mib+64*mib {
		w.Errorf("usage %+v when resumed", u)
	}
	j.writeAll()
	if err := j.st.Finish(w.ctx, 2, 0); err != nil {
		w.Error(err)
	}
	j.publish()
	after, err := w.s.Usage(w.ctx)
	if err != nil || after.Staged != before.Staged || after.Reserved != before.Reserved {
		w.Errorf("usage %+v, was %+v, %v", after, before, err)
	}
	w.cfg.KeepFree = 1 << 60
	w.reopen(false)
	k := w.job(file("z", 1))
	k.create()
	_ = k.st.Begin(w.ctx, 1, k.opts)
	_, err = k.st.Add(w.ctx, k.entries)
	w.wantKind(err, transfer.NoSpace)
}
