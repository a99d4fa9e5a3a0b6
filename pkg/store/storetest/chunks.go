package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing/iotest"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

const mib = 1 << 20

func sizes(w *world) {
	for _, a := range []transfer.Algorithm{transfer.BLAKE3, transfer.XXH3, transfer.None} {
		j := w.job()
		j.opts.Algorithm = a
		for _, n := range []int64{0, 1, 4096, 256<<10 - 1, 256 << 10, 256<<10 + 1, mib - 1, mib, mib + 1, 2 * mib, 3*mib - 1, 5*mib + 17} {
			j.add(file(fmt.Sprintf("%v/%d", a, n), n))
		}
		j.start()
		if m := j.st.Missing(0); len(m) != 0 {
			w.Errorf("%v: missing %v", a, m)
		}
		j.checkDigests()
		var total int64
		for _, d := range j.data {
			total += int64(len(d))
		}
		wrote, held := j.st.Progress()
		if wrote != total || held != 0 {
			w.Errorf("%v: progress %d, %d before the checkpoint, want %d, 0", a, wrote, held, total)
		}
		if n := j.checkpoint(); n != total {
			w.Errorf("%v: the checkpoint held %d, want %d", a, n, total)
		}
		if wrote, held = j.st.Progress(); wrote != total || held != total {
			w.Errorf("%v: progress %d, %d, want %d", a, wrote, held, total)
		}
		r := j.publish()
		if r.Bytes != total || r.FileCount != int64(len(j.entries)) || r.Counts["published"] != r.FileCount || r.Partial() {
			w.Errorf("%v: receipt %+v", a, r)
		}
		for i, e := range j.entries {
			w.wantFile(string(e.Path), j.data[e.Path])
			if f := r.Files[i]; f.Size != e.Size || !f.Digest.Equal(digestOf(a, j.data[e.Path])) || f.Path != string(e.Path) {
				w.Errorf("receipt of %s: %+v", e.Path, f)
			}
		}
	}
	w.wantLeft("blake3", "xxh3", "none")
}

// resume parks and kills in the middle: what is held stays, what is not does not
// count.
func resume(w *world) {
	for _, kill := range []bool{false, true} {
		j := w.job(file(fmt.Sprintf("big%v", kill), 4*mib+5), file(fmt.Sprintf("small%v", kill), 1000), file(fmt.Sprintf("later%v", kill), 2000))
		j.create()
		j.begin()
		j.writeChunk(0, 1)
		j.writeChunk(0, 4)
		j.writeChunk(1, 0)
		if n := j.checkpoint(); n != mib+5+1000 {
			w.Errorf("held %d", n)
		}
		j.writeChunk(0, 2)
		j.writeChunk(2, 0)
		if !kill {
			if err := j.st.Park(w.ctx); err != nil {
				w.Errorf("park: %v", err)
			}
		}
		w.reopen(kill)
		j.reload()
		if j.st.Epoch() != 1 || j.st.Spec().Principal != "p" {
			w.Errorf("epoch %d, spec %+v", j.st.Epoch(), j.st.Spec())
		}
		fs := j.begin()
		want := "[{1 1} {4 1}]"
		if !kill {
			want = "[{1 2} {4 1}]"
		}
		if got := fmt.Sprint(fs[0].Held); got != want {
			w.Errorf("kill %v: held %v, want %v", kill, got, want)
		}
		if fs[1].Held.Count() != 1 || (fs[2].Held.Count() == 1) == kill {
			w.Errorf("kill %v: small files %v, %v", kill, fs[1].Held, fs[2].Held)
		}
		j.writeAll()
		j.checkDigests()
		j.publish()
		for _, e := range j.entries {
			w.wantFile(string(e.Path), j.data[e.Path])
		}
	}
}

func epochs(w *world) {
	j := w.job(file("f", 10))
	j.create()
	if _, err := j.st.Add(w.ctx, j.entries); transfer.KindOf(err) != transfer.Invalid {
		w.Errorf("add without an epoch: %v", err)
	}
	j.begin()
	w.wantKind(j.st.Begin(w.ctx, 1, j.opts), transfer.Fenced)
	w.wantKind(j.st.Begin(w.ctx, 0, j.opts), transfer.Fenced)
	if _, err := j.st.Add(w.ctx, []transfer.Entry{{Index: 1, Path: "g"}}); transfer.KindOf(err) != transfer.Invalid {
		w.Errorf("add after seal: %v", err)
	}
	j.epoch = 6
	j.begin()
	if j.st.Epoch() != 7 {
		w.Errorf("epoch %d", j.st.Epoch())
	}
	if _, err := w.s.Create(w.ctx, j.spec); transfer.KindOf(err) != transfer.Exists {
		w.Errorf("create twice: %v", err)
	}
	if _, err := w.s.Open(w.ctx, j.id); transfer.KindOf(err) != transfer.Busy {
		w.Errorf("open an open stage: %v", err)
	}
	if _, err := w.s.Open(w.ctx, transfer.NewID()); transfer.KindOf(err) != transfer.NotFound {
		w.Errorf("open an unknown id: %v", err)
	}
	w.reopen(true)
	j.reload()
	if j.st.Epoch() != 7 {
		w.Errorf("epoch %d after a crash", j.st.Epoch())
	}
}

// resumeChanged drops what changed and keeps what did not.
func resumeChanged(w *world) {
	j := w.job(file("same", 2*mib), file("time", 2*mib), file("size", 2*mib), file("gone", 2*mib), file("mode", 500))
	j.start()
	j.checkpoint()
	before := j.st.ManifestHash()
	w.reopen(true)
	j.reload()
	j.entries = append(j.entries[:3], j.entries[4])
	j.entries[1].ModTime = moment.Add(1)
	j.entries[2].Size = 2*mib + 1
	j.data["size"] = random(2*mib+1, 99)
	j.entries[3].Index, j.entries[3].Mode = 3, 0o600
	fs := j.begin()
	if fs[0].Held.Count() != 2 || len(fs[1].Held) != 0 || len(fs[2].Held) != 0 || fs[3].Held.Count() != 1 {
		w.Errorf("held %v", fs)
	}
	if j.st.ManifestHash() == before {
		w.Error("another manifest has the same hash")
	}
	j.writeAll()
	j.checkDigests()
	j.publish()
	for _, e := range j.entries {
		w.wantFile(string(e.Path), j.data[e.Path])
	}
	w.wantMode("mode", 0o600)
	w.wantLeft("same", "time", "size", "mode")
}

// shifted finds files again when others came before them.
func shifted(w *world) {
	j := w.job(file("d/a", 10), file("d/b", 2*mib), file("d/c", 30))
	j.start()
	j.checkpoint()
	w.reopen(false)
	j.reload()
	old := j.entries
	j.entries = nil
	j.add(file("aaa", 5))
	for _, e := range []transfer.Entry{old[2], old[1], old[0]} {
		e.Index = uint32(len(j.entries)) //nolint:gosec // few
		j.entries = append(j.entries, e)
	}
	fs := j.begin()
	if len(fs[0].Held) != 0 || fs[1].Held.Count() != 1 || fs[2].Held.Count() != 2 || fs[3].Held.Count() != 1 {
		w.Errorf("held %v", fs)
	}
	j.writeAll()
	j.checkDigests()
	j.publish()
	for _, e := range j.entries {
		w.wantFile(string(e.Path), j.data[e.Path])
	}
}

// kindChanges puts a file in the place of a staged directory and the reverse,
// over a crash each.
func kindChanges(w *world) {
	j := w.job(file("x/y/z", 100), file("x/y/w", 100), file("f", 100))
	first := j.entries
	j.start()
	j.checkpoint()
	j.entries = nil
	j.add(file("x", 7), file("f/g", 8))
	fs := j.begin()
	if len(fs[0].Held)+len(fs[1].Held) != 0 {
		w.Errorf("held %v", fs)
	}
	j.writeAll()
	j.checkpoint()
	w.reopen(true)
	j.reload()
	j.entries = first
	fs = j.begin()
	for i := range fs {
		if len(fs[i].Held) != 0 {
			w.Errorf("%s is held, but was dropped", j.entries[i].Path)
		}
	}
	j.writeAll()
	j.publish()
	for _, e := range j.entries {
		w.wantFile(string(e.Path), j.data[e.Path])
	}
	w.wantLeft("x", "f")
}

func unknownSize(w *world) {
	for _, n := range []int{0, 1, 1000, mib - 1, mib, mib + 1, 3*mib + 5} {
		name := fmt.Sprintf("in%d", n)
		j := w.job(file(name, transfer.UnknownSize))
		data := random(n, 5)
		j.create()
		fs := j.begin()
		if fs[0].ChunkSize != mib {
			w.Errorf("chunk size %d", fs[0].ChunkSize)
		}
		if m := j.st.Missing(0); len(m) != 1 {
			w.Errorf("missing %v before the end", m)
		}
		for c := 0; c*mib < n; c++ {
			p := data[c*mib : min(n, (c+1)*mib)]
			if err := j.st.WriteChunk(w.ctx, 0, uint32(c), int64(len(p)), bytes.NewReader(p)); err != nil { //nolint:gosec // few
				w.Fatalf("write: %v", err)
			}
		}
		w.wantKind(j.st.Finish(w.ctx, 0, int64(n)+1), transfer.Invalid)
		if n > 0 {
			w.wantKind(j.st.Finish(w.ctx, 0, int64(n)-1), transfer.Invalid)
		}
		for range 2 { // idempotent
			if err := j.st.Finish(w.ctx, 0, int64(n)); err != nil {
				w.Fatalf("finish at %d: %v", n, err)
			}
		}
		if got, err := j.st.Digest(0); err != nil || !got.Equal(digestOf(transfer.BLAKE3, data)) {
			w.Errorf("%d octets: digest %v, %v", n, got, err)
		}
		if e, _, _ := j.st.Entry(0); e.Size != int64(n) {
			w.Errorf("size %d, want %d", e.Size, n)
		}
		if r := j.publish(); r.Bytes != int64(n) {
			w.Errorf("receipt %+v", r)
		}
		w.wantFile(name, data)
	}
	j := w.job(file("again", transfer.UnknownSize))
	j.create()
	j.begin()
	if err := j.st.WriteChunk(w.ctx, 0, 0, mib, bytes.NewReader(random(mib, 1))); err != nil {
		w.Error(err)
	}
	j.checkpoint()
	if fs := j.begin(); len(fs[0].Held) != 0 {
		w.Errorf("standard input was resumed: %v", fs)
	}
}

func unknownBounded(w *world) {
	j := w.job(file("f", transfer.UnknownSize))
	j.opts.MaxBytes = 2 * mib
	j.create()
	j.begin()
	for c := range uint32(3) {
		err := j.st.WriteChunk(w.ctx, 0, c, mib, bytes.NewReader(make([]byte, mib)))
		if want := map[bool]transfer.Kind{true: transfer.NoSpace, false: transfer.OK}[c == 2]; transfer.KindOf(err) != want {
			w.Errorf("chunk %d: %v, want %v", c, err, want)
		}
	}
	w.wantKind(j.st.WriteChunk(w.ctx, 0, 5, mib+1, bytes.NewReader(make([]byte, mib+1))), transfer.Invalid)
}

func forget(w *world) {
	j := w.job(file("big", 3*mib), file("small", 77))
	j.start()
	j.checkpoint()
	hashes, err := j.st.ChunkHashes(0, 0, 3)
	var want []byte
	for c := range uint32(3) {
		want = digest.SumChunk(want, transfer.BLAKE3, c, mib, false, j.data["big"][int(c)*mib:][:mib])
	}
	if err != nil || !bytes.Equal(hashes, want) {
		w.Errorf("hashes %x, %v, want %x", hashes, err, want)
	}
	if err := errors.Join(j.st.Forget(w.ctx, 0, transfer.Held{{First: 1, Count: 1}}), j.st.Forget(w.ctx, 1, transfer.Held{{First: 0, Count: 1}})); err != nil {
		w.Fatal(err)
	}
	if m := j.st.Missing(0); len(m) != 2 || j.st.Written(0, 1) || !j.st.Written(0, 2) {
		w.Errorf("missing %v", m)
	}
	clear(want[32:64])
	if hashes, err = j.st.ChunkHashes(0, 0, 3); err != nil || !bytes.Equal(hashes, want) {
		w.Errorf("hashes %x, %v, want %x", hashes, err, want)
	}
	w.wantKind(j.st.Forget(w.ctx, 0, transfer.Held{{First: 2, Count: 2}}), transfer.Invalid)
	if _, err := j.st.ChunkHashes(0, 2, 2); transfer.KindOf(err) != transfer.Invalid {
		w.Errorf("hashes out of range: %v", err)
	}
	w.reopen(true)
	j.reload()
	fs := j.begin()
	if fmt.Sprint(fs[0].Held) != "[{0 1} {2 1}]" || len(fs[1].Held) != 0 {
		w.Errorf("held %v after a crash", fs)
	}
	// Other content of the same size, as when the first was damaged on its way.
	copy(j.data["big"][mib:], random(mib, 50))
	copy(j.data["small"], random(77, 51))
	j.writeAll()
	j.checkDigests()
	j.publish()
	w.wantFile("big", j.data["big"])
	w.wantFile("small", j.data["small"])
}

func readerFails(w *world) {
	j := w.job(file("big", 3*mib), file("small", 1000), file("middle", 900_000))
	j.create()
	j.begin()
	boom := errors.New("boom")
	for i, n := range []int64{mib, 1000, 900_000} {
		for _, got := range []int64{0, n / 2, n - 1} {
			r := io.MultiReader(bytes.NewReader(make([]byte, got)), iotest.ErrReader(boom))
			if err := j.st.WriteChunk(w.ctx, uint32(i), 0, n, r); !errors.Is(err, boom) { //nolint:gosec // few
				w.Errorf("file %d cut after %d: %v, want the reader's error", i, got, err)
			}
			if j.st.Written(uint32(i), 0) { //nolint:gosec // few
				w.Error("a chunk that was cut counts")
			}
		}
	}
	if wrote, _ := j.st.Progress(); wrote != 0 || j.checkpoint() != 0 {
		w.Errorf("progress %d", wrote)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	if err := j.st.WriteChunk(ctx, 0, 0, mib, bytes.NewReader(make([]byte, mib))); !errors.Is(err, context.Canceled) {
		w.Errorf("cancelled: %v", err)
	}
	j.writeAll()
	j.checkDigests()
	j.publish()
	w.wantFile("middle", j.data["middle"])
}

// lanes writes everything at once from many goroutines, with checkpoints beside.
func lanes(w *world) {
	j := w.job(file("big", 16*mib+3))
	for i := range 60 {
		j.add(file(fmt.Sprintf("d%d/f%d", i%7, i), int64(1+i*700)))
	}
	j.create()
	j.begin()
	type task struct{ file, chunk uint32 }
	tasks := make(chan task, 100)
	for c := range uint32(17) {
		tasks <- task{0, c}
	}
	for i := range uint32(60) {
		tasks <- task{i + 1, 0}
	}
	close(tasks)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for t := range tasks {
				j.writeChunk(t.file, t.chunk)
				if t.chunk%5 == 0 {
					if _, err := j.st.Checkpoint(w.ctx); err != nil {
						w.Errorf("checkpoint: %v", err)
					}
				}
				j.st.Entry(t.file)
				j.st.Missing(3)
			}
		})
	}
	wg.Wait()
	j.checkDigests()
	j.checkpoint()
	wrote, held := j.st.Progress()
	if wrote != held {
		w.Errorf("progress %d, %d", wrote, held)
	}
	j.publish()
	for _, e := range j.entries {
		w.wantFile(string(e.Path), j.data[e.Path])
	}
}

func misplaced(w *world) {
	j := w.job(file("big", 2*mib+9), file("small", 100), directory("d"), file("empty", 0))
	j.create()
	j.begin()
	for _, tt := range []struct {
		file, chunk uint32
		n           int64
	}{{0, 3, 9}, {0, 2, 8}, {0, 2, 10}, {0, 0, mib - 1}, {0, 0, 0}, {0, 0, -1}, {1, 1, 100}, {1, 0, 99}, {2, 0, 1}, {3, 0, 1}, {3, 0, 0}, {4, 0, 1}, {1<<32 - 1, 0, 1}} {
		err := j.st.WriteChunk(w.ctx, tt.file, tt.chunk, tt.n, failing{w.T})
		if transfer.KindOf(err) != transfer.Invalid {
			w.Errorf("%+v: %v, want invalid", tt, err)
		}
	}
	w.wantKind(j.st.WriteSmall(w.ctx, 1, make([]byte, 99)), transfer.Invalid)
	w.wantKind(j.st.WriteSmall(w.ctx, 0, make([]byte, 99)), transfer.Invalid)
	if _, _, ok := j.st.Entry(4); ok || j.st.Entries() != 4 {
		w.Error("an entry beyond the manifest")
	}
	// A chunk that is there already is read and not written.
	j.writeChunk(0, 0)
	other := bytes.NewReader(make([]byte, mib))
	if err := j.st.WriteChunk(w.ctx, 0, 0, mib, other); err != nil || other.Len() != 0 {
		w.Errorf("written twice: %v, %d octets not read", err, other.Len())
	}
	if _, _, err := j.st.OpenStaged(0); transfer.KindOf(err) != transfer.Invalid {
		w.Errorf("open an incomplete file: %v", err)
	}
	if _, err := j.st.Publish(w.ctx, transfer.Receipt{}, nil); transfer.KindOf(err) != transfer.Invalid {
		w.Errorf("publish an incomplete file: %v", err)
	}
	j.writeAll()
	r, path, err := j.st.OpenStaged(0)
	if err != nil || path != "big" {
		w.Fatalf("open staged: %v", err)
	}
	got, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, j.data["big"]) {
		w.Errorf("the staged file differs, %v", err)
	}
	j.publish()
}
