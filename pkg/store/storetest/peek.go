package storetest

import (
	"os"
	"path/filepath"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// peek looks at a transfer that is on disk only: what is held, what the manifest
// was, and when it last made progress, which looking at it does not change.
func peek(w *world) {
	j := w.job(file("big", 3*mib), file("s1", 100), file("s2", 70))
	j.create()
	j.begin()
	j.writeChunk(0, 1)
	j.writeChunk(1, 0)
	j.checkpoint()
	j.writeChunk(0, 0) // not held: no checkpoint follows
	w.h.Crash(w.s)
	then := moment.Add(time.Hour)
	if err := os.Chtimes(filepath.Join(w.root, transfer.StageDir, j.id.String(), "journal"), then, then); err != nil {
		w.Fatal(err)
	}
	w.open()
	for range 2 {
		p, err := w.s.Peek(w.ctx, j.id)
		if err != nil || p.ID != j.id || p.Epoch != 1 || p.Held != mib+100 || p.First != "big" || p.Files != 3 || p.Bytes != 3*mib+170 || !p.Updated.Equal(then) {
			w.Errorf("%+v, %v", p, err)
		}
		list, err := w.s.Unfinished(w.ctx)
		if err != nil || len(list) != 1 || list[0].ID != j.id || !list[0].Updated.Equal(then) {
			w.Errorf("%+v, %v", list, err)
		}
		if u, err := w.s.Usage(w.ctx); err != nil || u.Staged != 0 {
			w.Errorf("peeking opened it: %+v, %v", u, err)
		}
		st, err := w.s.Open(w.ctx, j.id)
		if err != nil {
			w.Fatal(err)
		}
		if wrote, held := st.Progress(); wrote != mib+100 || held != mib+100 {
			w.Errorf("opened: %d written, %d held", wrote, held)
		}
		if err := st.Park(w.ctx); err != nil {
			w.Fatal(err)
		}
	}
	_, err := w.s.Peek(w.ctx, transfer.NewID())
	w.wantKind(err, transfer.NotFound)
}
