package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// refused lists every bad entry of a part at once.
func refused(w *world) {
	bad := []transfer.Entry{
		file("", 1), file("/abs", 1), file("../up", 1), file("a/../b", 1), file("a//b", 1), file(".sluice/x", 1), file("nul\x00", 1), file("esc\x1b", 1), file("\xff", 1),
		file(strings.Repeat("x", 256), 1), file("neg", -2), file("huge", transfer.MaxFileSize+1),
		{Path: "type", Type: 7},
		{Path: "dirsize", Type: transfer.Directory, Size: 1},
		{Path: "filelink", Link: "x"},
		{Path: "sum", Expected: transfer.Digest{Algorithm: transfer.BLAKE3, Sum: []byte{1}}},
		file("twice", 1), file("twice", 1), file("fd", 1), file("fd/below", 1), file("df/below", 1), file("df", 1),
		{Path: "l", Type: transfer.Symlink, Link: "x"},
		file("l/below", 1),
	}
	fine := map[int]bool{16: true, 18: true, 20: true, 22: true}
	j := w.job()
	for i, e := range bad {
		e.Index = uint32(i) //nolint:gosec // few
		j.entries = append(j.entries, e)
	}
	j.create()
	_ = j.st.Begin(w.ctx, 1, j.opts)
	_, err := j.st.Add(w.ctx, j.entries)
	var e *transfer.Error
	if !errors.As(err, &e) || e.Kind != transfer.Invalid || len(e.Problems) != len(bad)-len(fine) {
		w.Fatalf("%v, problems %d, want %d", err, len(e.Problems), len(bad)-len(fine))
	}
	k := 0
	for i := range bad {
		if fine[i] {
			continue
		}
		if p := e.Problems[k]; p.Path != string(bad[i].Path) || p.Kind != transfer.Invalid || p.Reason == "" {
			w.Errorf("problem %d: %+v, want one for %q", k, p, bad[i].Path)
		}
		k++
	}
	if strings.ContainsAny(err.Error(), "\x00\x1b") {
		w.Errorf("the error carries control characters: %q", err)
	}
	many := make([]transfer.Entry, 5000)
	for i := range many {
		many[i] = transfer.Entry{Index: uint32(i), Path: "../x"} //nolint:gosec // few
	}
	if _, err = j.st.Add(w.ctx, many); !errors.As(err, &e) || len(e.Problems) > 1000 || !strings.Contains(err.Error(), "4999 more") {
		w.Errorf("%d problems, %.200v", len(e.Problems), err)
	}
	j.opts.Names = transfer.Portable
	_ = j.st.Begin(w.ctx, 2, j.opts)
	_, err = j.st.Add(w.ctx, []transfer.Entry{{Path: "CON"}})
	w.wantKind(err, transfer.Invalid)
}

// nothingStays: after a refusal the same indexes and paths can be used.
func nothingStays(w *world) {
	j := w.job()
	j.create()
	_ = j.st.Begin(w.ctx, 1, j.opts)
	a := file("a/b/c", 10)
	b := file("a/b", 10)
	b.Index = 1
	if _, err := j.st.Add(w.ctx, []transfer.Entry{a, b}); transfer.KindOf(err) != transfer.Invalid {
		w.Fatal(err)
	}
	if j.st.Entries() != 0 {
		w.Errorf("%d entries", j.st.Entries())
	}
	if u, _ := w.s.Usage(w.ctx); u.Reserved != 0 {
		w.Errorf("reserved %d", u.Reserved)
	}
	// "a/b" as a file is possible only if nothing of the refused part stayed.
	b.Index = 0
	if _, err := j.st.Add(w.ctx, []transfer.Entry{b}); err != nil {
		w.Fatal(err)
	}
	// In parts, and against parts that came before.
	c := file("a/b/c", 1)
	c.Index = 1
	_, err := j.st.Add(w.ctx, []transfer.Entry{c})
	w.wantKind(err, transfer.Invalid)
	c = file("other", 1)
	c.Index = 5
	_, err = j.st.Add(w.ctx, []transfer.Entry{c})
	w.wantKind(err, transfer.Invalid)
	c.Index = 1
	if _, err := j.st.Add(w.ctx, []transfer.Entry{c}); err != nil {
		w.Error(err)
	}
	w.reopen(true)
	j.reload()
	j.epoch = 1
	j.add(b, c)
	j.begin()
	j.writeAll()
	j.publish()
	w.wantLeft("a", "other")
}

func check(w *world) {
	w.put("taken", "x")
	spec := store.Spec{ID: transfer.NewID(), Options: transfer.Options{TotalFiles: 1, Algorithm: transfer.BLAKE3}}
	for path, want := range map[string]transfer.Kind{"free": transfer.OK, "taken": transfer.Exists, "../x": transfer.Invalid, "taken/below": transfer.Exists} {
		problems, err := w.s.Check(w.ctx, spec, []transfer.Entry{file(path, 10)})
		if err != nil || (want == transfer.OK) != (len(problems) == 0) || (len(problems) > 0 && problems[0].Kind != want) {
			w.Errorf("%q: %+v, %v, want %v", path, problems, err, want)
		}
	}
	later := file("second part", 10)
	later.Index = 700
	if problems, err := w.s.Check(w.ctx, spec, []transfer.Entry{later}); err != nil || len(problems) > 0 {
		w.Errorf("a later part: %v, %v", problems, err)
	}
	_, err := w.s.Check(w.ctx, spec, []transfer.Entry{file("large", 1<<54)})
	w.wantKind(err, transfer.NoSpace)
	if u, err := w.s.Usage(w.ctx); err != nil || u.Reserved != 0 {
		w.Errorf("usage %+v, %v", u, err)
	}
	w.wantLeft("taken")
}

func tombstones(w *world) {
	var ids []transfer.ID
	clock := moment
	w.cfg.Now = func() time.Time { clock = clock.Add(time.Hour); return clock }
	w.cfg.KeepReceipts = -1
	w.reopen(false)
	for i := range 7 {
		j := w.job(file(fmt.Sprintf("f%d", i), 5))
		j.start()
		base := transfer.Receipt{ID: j.id, Principal: "p", Repairs: 3, Verified: true, Started: moment}
		r, err := j.st.Publish(w.ctx, base, func(r *transfer.Receipt) error { r.Envelope = fmt.Appendf(nil, "signed %d", r.FileCount); return nil })
		if err != nil || r.Repairs != 3 || !r.Verified || string(r.Envelope) != "signed 1" || !r.Started.Equal(moment) {
			w.Fatalf("%+v, %v", r, err)
		}
		ids = append(ids, j.id)
	}
	for _, again := range []bool{false, true} {
		if again {
			w.reopen(true)
		}
		token, got := "", []transfer.ID(nil)
		for {
			list, next, err := w.s.Tombstones(w.ctx, token, 3)
			if err != nil || len(list) > 3 {
				w.Fatalf("%d tombstones, %v", len(list), err)
			}
			for _, t := range list {
				got = append(got, t.Spec.ID)
				if t.Info.State != transfer.StateCommitted || t.Info.Receipt == nil || t.Info.Receipt.Repairs != 3 || t.Spec.Principal != "p" || t.Info.Epoch != 1 || t.Info.Files != 1 || t.Info.Bytes != 5 {
					w.Errorf("tombstone %+v", t)
				}
			}
			if token = next; token == "" {
				break
			}
		}
		for i := range ids {
			if len(got) != len(ids) || got[i] != ids[len(ids)-1-i] {
				w.Fatalf("order %v, want %v from the last", got, ids)
			}
		}
	}
	t, err := w.s.Tombstone(w.ctx, ids[3])
	if err != nil {
		w.Fatal(err)
	}
	if err := w.s.Clean(w.ctx, t.Finished); err != nil {
		w.Fatal(err)
	}
	for i, id := range ids {
		_, err := w.s.Tombstone(w.ctx, id)
		if want := map[bool]transfer.Kind{true: transfer.NotFound, false: transfer.OK}[i < 3]; transfer.KindOf(err) != want {
			w.Errorf("%d: %v, want %v", i, err, want)
		}
	}
	if _, err := w.s.Create(w.ctx, store.Spec{ID: ids[5]}); transfer.KindOf(err) != transfer.Exists {
		w.Errorf("create a committed id: %v", err)
	}
	if _, err := w.s.Open(w.ctx, ids[5]); transfer.KindOf(err) != transfer.NotFound {
		w.Errorf("open a committed id: %v", err)
	}
	if _, _, err := w.s.Tombstones(w.ctx, "nonsense", 3); transfer.KindOf(err) != transfer.Invalid {
		w.Errorf("a bad token: %v", err)
	}
}

func receiptPages(w *world) {
	j := w.job(directory("d"))
	for i := range 150 {
		j.add(file(fmt.Sprintf("d/%03d", i), int64(i)))
	}
	j.start()
	hash := j.st.ManifestHash()
	r := j.publish()
	if len(r.Files) != 0 || r.FileCount != 151 {
		w.Errorf("%d files inline of %d", len(r.Files), r.FileCount)
	}
	w.reopen(true)
	token, next := "", uint32(0)
	for {
		p, err := w.s.ReceiptFiles(w.ctx, j.id, token, 40)
		if err != nil || len(p.Files) > 40 {
			w.Fatalf("%d files, %v", len(p.Files), err)
		}
		for _, f := range p.Files {
			e := j.entries[next]
			if f.Index != next || f.Path != string(e.Path) || f.Size != e.Size || f.Type != e.Type.String() || f.Outcome != transfer.Published {
				w.Errorf("file %d: %+v", next, f)
			}
			if e.Type == transfer.Regular && !f.Digest.Equal(digestOf(transfer.BLAKE3, j.data[e.Path])) {
				w.Errorf("digest of %s: %v", f.Path, f.Digest)
			}
			next++
		}
		if token = p.Next; token == "" {
			break
		}
	}
	if next != 151 {
		w.Errorf("%d files in all", next)
	}
	h := store.NewManifestHasher()
	for i := range j.entries {
		e := j.entries[i]
		e.Mode = 0o123 // does not count
		h.Add(&e)
	}
	if t, err := w.s.Tombstone(w.ctx, j.id); err != nil || t.ManifestHash != hash || hash != h.Sum() {
		w.Errorf("manifest hash %x, %x, want %x, %v", t.ManifestHash, hash, h.Sum(), err)
	}
	if _, err := w.s.ReceiptFiles(w.ctx, j.id, "x", 5); transfer.KindOf(err) != transfer.Invalid {
		w.Errorf("a bad token: %v", err)
	}
	if _, err := w.s.ReceiptFiles(w.ctx, transfer.NewID(), "", 5); transfer.KindOf(err) != transfer.NotFound {
		w.Errorf("an unknown id: %v", err)
	}
}

func discard(w *world) {
	j := w.job(file("d/f", 2*mib))
	j.start()
	cause := transfer.Errorf(transfer.Corrupt, "verify", "d/f", "it differs")
	w.wantKind(j.st.Discard(w.ctx, transfer.StateCommitted, cause), transfer.Invalid)
	if err := j.st.Discard(w.ctx, transfer.StateFailed, cause); err != nil {
		w.Fatal(err)
	}
	t, err := w.s.Tombstone(w.ctx, j.id)
	if err != nil || t.Info.State != transfer.StateFailed || t.Info.Kind != transfer.Corrupt || !strings.Contains(t.Info.Reason, "it differs") || t.Info.First != "d/f" {
		w.Errorf("tombstone %+v, %v", t, err)
	}
	w.wantLeft()
	if _, err := j.st.Checkpoint(w.ctx); err == nil {
		w.Log("a checkpoint of nothing after discard is allowed")
	}
	w.wantKind(j.st.Seal(w.ctx), transfer.Unavailable)
	// The same id starts afresh, after which the tombstone is gone.
	j.epoch = t.Info.Epoch
	j.create()
	if fs := j.begin(); len(fs[0].Held) != 0 || j.st.Epoch() != t.Info.Epoch+1 {
		w.Errorf("held %v, epoch %d", fs, j.st.Epoch())
	}
	if _, err := w.s.Tombstone(w.ctx, j.id); transfer.KindOf(err) != transfer.NotFound {
		w.Errorf("the tombstone stayed: %v", err)
	}
	w.reopen(true)
	j.reload()
	j.begin()
	j.writeAll()
	j.publish()
	w.wantLeft("d")
}

func unfinished(w *world) {
	var want []transfer.ID
	for i := range 3 {
		j := w.job(file(fmt.Sprintf("f%d", i), 10))
		j.spec.ID, j.spec.Created, j.spec.Principal = j.id, moment.Add(time.Duration(3-i)*time.Hour), "alice"
		if _, err := w.s.Create(w.ctx, j.spec); err != nil {
			w.Fatal(err)
		}
		want = append([]transfer.ID{j.id}, want...)
	}
	for _, again := range []bool{false, true} {
		if again {
			w.reopen(true)
		}
		list, err := w.s.Unfinished(w.ctx)
		if err != nil || len(list) != 3 {
			w.Fatalf("%v, %v", list, err)
		}
		for i := range list {
			if list[i].ID != want[i] || list[i].Principal != "alice" {
				w.Errorf("place %d: %+v", i, list[i])
			}
		}
	}
}

// crash damages what a crash may leave and reads it again.
func crash(w *world) {
	j := w.job(file("big", 5*mib), file("s1", 100), file("s2", 100))
	j.create()
	j.begin()
	for c := range uint32(5) {
		j.writeChunk(0, c)
		j.checkpoint()
	}
	j.writeChunk(1, 0)
	j.checkpoint()
	w.h.Crash(w.s)
	journal := filepath.Join(w.root, transfer.StageDir, j.id.String(), "journal")
	b, err := os.ReadFile(journal)
	if err != nil {
		w.Fatal(err)
	}
	last := uint64(99)
	for cut := len(b); cut > len(b)-300; cut -= 13 {
		damaged := bytes.Clone(b[:cut])
		if cut%2 == 0 {
			damaged = append(damaged, "garbage of a page that was never written"...)
		}
		if err := os.WriteFile(journal, damaged, 0o600); err != nil {
			w.Fatal(err)
		}
		w.open()
		st, err := w.s.Open(w.ctx, j.id)
		if err != nil {
			w.Fatalf("cut at %d: %v", cut, err)
		}
		j.st, j.epoch = st, st.Epoch()
		fs := j.begin()
		n := fs[0].Held.Count() + fs[1].Held.Count()
		if n > last {
			w.Errorf("a shorter journal holds more: %d after %d", n, last)
		}
		last = n
		j.writeAll()
		j.checkDigests()
		w.h.Crash(w.s)
	}
	w.open()
	j.reload()
	j.epoch = j.st.Epoch()
	j.begin()
	j.writeAll()
	j.publish()
	w.wantFile("big", j.data["big"])
}

func oneReceiver(w *world) {
	_, err := w.h.Open(w.cfg)
	w.wantKind(err, transfer.Busy)
	if transfer.HintOf(err) == "" {
		w.Error("no hint")
	}
	w.reopen(false)
	if _, err := w.h.Open(store.Config{}); transfer.KindOf(err) != transfer.Invalid {
		w.Errorf("no root: %v", err)
	}
}

func closed(w *world) {
	j := w.job(file("f", 10))
	j.start()
	if err := w.s.Close(); err != nil {
		w.Fatal(err)
	}
	if err := w.s.Close(); err != nil {
		w.Errorf("close twice: %v", err)
	}
	_, err := w.s.Create(w.ctx, store.Spec{ID: transfer.NewID()})
	w.wantKind(err, transfer.Unavailable)
	_, err = w.s.Open(w.ctx, j.id)
	w.wantKind(err, transfer.Unavailable)
	w.wantKind(j.st.Begin(w.ctx, 9, j.opts), transfer.Unavailable)
	if err := j.st.Park(w.ctx); err != nil {
		w.Errorf("park after close: %v", err)
	}
	w.open()
	j.reload()
	if fs := j.begin(); fs[0].Held.Count() != 1 {
		w.Errorf("closing did not hold what was written: %v", fs)
	}
}

// names publishes what Linux allows and people use.
func names(w *world) {
	j := w.job()
	for _, n := range []string{"-rf", "a b", "日本/ファイル", "back\\slash", "CON", "x.", " lead", "...", "ünï", "😀", strings.Repeat("é", 127), "a/.sluice", "'\"$`", "%s%n", "A", "a/A"} {
		j.add(file("t/"+n, 3))
	}
	j.start()
	j.publish()
	for _, e := range j.entries {
		w.wantFile(string(e.Path), j.data[e.Path])
	}
	k := w.job(file(strings.Repeat("x", 251)+".txt", 3), file(strings.Repeat("日", 85), 3))
	k.opts.Conflict = transfer.Rename
	for _, e := range k.entries {
		w.put(string(e.Path), "old")
	}
	k.start()
	for _, f := range k.publish().Files {
		if len(f.Published) > 255 || f.Outcome != transfer.Renamed {
			w.Errorf("%+v", f)
		}
		w.wantFile(f.Published, k.data[transfer.Path(f.Path)])
	}
}
