package storetest

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// Harness is the implementation under test.
type Harness struct {
	// Open opens a store; Config.Root exists.
	Open func(store.Config) (store.Store, error)
	// Crash ends a store as a kill would: nothing is synced or tidied up, and
	// the directory can be opened again.
	Crash func(store.Store)
}

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	for _, tt := range []struct {
		name string
		fn   func(*world)
	}{
		{"sizes", sizes},
		{"resume", resume},
		{"epochs", epochs},
		{"resume changed", resumeChanged},
		{"shifted order", shifted},
		{"kind changes between epochs", kindChanges},
		{"refused entries", refused},
		{"nothing of a refused part stays", nothingStays},
		{"unknown size", unknownSize},
		{"unknown size is bounded", unknownBounded},
		{"forget", forget},
		{"reader fails", readerFails},
		{"lanes", lanes},
		{"misplaced", misplaced},
		{"quota", quota},
		{"space comes back", spaceBack},
		{"policies for a file", filePolicies},
		{"policies for a tree", treePolicies},
		{"taken root", takenRoot},
		{"hundred senders", hundred},
		{"skip identical", skipIdentical},
		{"modes and times", modes},
		{"links", links},
		{"into", into},
		{"check", check},
		{"tombstones", tombstones},
		{"receipt pages", receiptPages},
		{"discard", discard},
		{"unfinished", unfinished},
		{"peek", peek},
		{"crash", crash},
		{"one receiver per directory", oneReceiver},
		{"closed", closed},
		{"names", names},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.fn(newWorld(t, h))
		})
	}
}

// world is one store in a directory of its own.
type world struct {
	*testing.T
	h    Harness
	cfg  store.Config
	s    store.Store
	ctx  context.Context //nolint:containedctx // one per test
	root string
}

func newWorld(t *testing.T, h Harness) *world {
	w := &world{T: t, h: h, root: t.TempDir(), ctx: t.Context()}
	w.cfg = store.Config{Root: w.root}
	w.open()
	t.Cleanup(func() { _ = w.s.Close() })
	return w
}

func (w *world) open() {
	w.Helper()
	s, err := w.h.Open(w.cfg)
	if err != nil {
		w.Fatalf("open: %v", err)
	}
	w.s = s
}

// reopen closes the store properly, or kills it, and opens it again.
func (w *world) reopen(kill bool) {
	w.Helper()
	if kill {
		w.h.Crash(w.s)
	} else if err := w.s.Close(); err != nil {
		w.Fatalf("close: %v", err)
	}
	w.open()
}

// job is one transfer with content.
type job struct {
	w       *world
	st      store.Stage
	id      transfer.ID
	opts    transfer.Options
	entries []transfer.Entry
	data    map[transfer.Path][]byte
	epoch   transfer.Epoch
	spec    store.Spec
}

var moment = time.Unix(1_700_000_000, 123_456_789) //nolint:gochecknoglobals // a constant

func (w *world) job(entries ...transfer.Entry) *job {
	j := &job{w: w, id: transfer.NewID(), opts: transfer.Options{Algorithm: transfer.BLAKE3}, data: map[transfer.Path][]byte{}}
	j.add(entries...)
	return j
}

// add appends entries and makes content for them.
func (j *job) add(entries ...transfer.Entry) {
	for _, e := range entries {
		e.Index = uint32(len(j.entries)) //nolint:gosec // few
		if e.ModTime.IsZero() && e.Type == transfer.Regular && e.Size >= 0 {
			e.ModTime = moment
		}
		if e.Type == transfer.Regular && e.Size > 0 {
			j.data[e.Path] = random(int(e.Size), len(j.entries))
		}
		j.entries = append(j.entries, e)
	}
}

func random(n, seed int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

// create makes the stage; begin starts an epoch with all entries.
func (j *job) create() {
	j.w.Helper()
	j.spec.ID, j.spec.Principal, j.spec.Options, j.spec.Created = j.id, "p", j.opts, moment
	st, err := j.w.s.Create(j.w.ctx, j.spec)
	if err != nil {
		j.w.Fatalf("create: %v", err)
	}
	j.st = st
}

func (j *job) begin() []store.FileState {
	j.w.Helper()
	j.epoch++
	if err := j.st.Begin(j.w.ctx, j.epoch, j.opts); err != nil {
		j.w.Fatalf("begin: %v", err)
	}
	fs, err := j.st.Add(j.w.ctx, j.entries)
	if err != nil {
		j.w.Fatalf("add: %v", err)
	}
	if err := j.st.Seal(j.w.ctx); err != nil {
		j.w.Fatalf("seal: %v", err)
	}
	return fs
}

// start is create, begin and write.
func (j *job) start() {
	j.w.Helper()
	j.create()
	j.begin()
	j.writeAll()
}

// reload opens the stage again after its store was reopened.
func (j *job) reload() {
	j.w.Helper()
	st, err := j.w.s.Open(j.w.ctx, j.id)
	if err != nil {
		j.w.Fatalf("open stage: %v", err)
	}
	j.st = st
}

func (j *job) writeAll() {
	j.w.Helper()
	for i := range j.entries {
		j.writeFile(uint32(i)) //nolint:gosec // few
	}
}

// writeFile writes what is missing of one file, chunks backwards.
func (j *job) writeFile(i uint32) {
	j.w.Helper()
	e, fs, ok := j.st.Entry(i)
	if !ok {
		j.w.Fatalf("no entry %d", i)
	}
	if sh, ok := j.st.Shape(i); !ok || sh.Type != e.Type || sh.Size != e.Size || sh.ChunkSize != fs.ChunkSize || sh.Skip != fs.Skip || !sh.Expected.Equal(e.Expected) {
		j.w.Errorf("shape of entry %d is %+v, but it is %+v, %+v", i, sh, e, fs)
	}
	if fs.Skip || e.Type != transfer.Regular || e.Size <= 0 {
		return
	}
	for c := e.Chunks(fs.ChunkSize); c > 0; c-- {
		if !j.st.Written(i, c-1) {
			j.writeChunk(i, c-1)
		}
	}
}

func (j *job) writeChunk(i, c uint32) {
	j.w.Helper()
	e, fs, _ := j.st.Entry(i)
	n := transfer.ChunkLen(e.Size, fs.ChunkSize, c)
	data := j.data[e.Path][int64(c)*fs.ChunkSize:][:n]
	var err error
	if int64(len(j.data[e.Path])) == n && i%2 == 0 {
		err = j.st.WriteSmall(j.w.ctx, i, data)
	} else {
		err = j.st.WriteChunk(j.w.ctx, i, c, n, io.MultiReader(bytes.NewReader(data), failing{j.w.T}))
	}
	if err != nil {
		j.w.Fatalf("write chunk %d of %s: %v", c, e.Path, err)
	}
}

// failing is behind every chunk: nobody may read on.
type failing struct{ t *testing.T }

func (f failing) Read([]byte) (int, error) {
	f.t.Error("the store read more than the chunk")
	return 0, io.EOF
}

func (j *job) checkpoint() int64 {
	j.w.Helper()
	n, err := j.st.Checkpoint(j.w.ctx)
	if err != nil {
		j.w.Fatalf("checkpoint: %v", err)
	}
	return n
}

func (j *job) publish() *transfer.Receipt {
	j.w.Helper()
	r, err := j.st.Publish(j.w.ctx, transfer.Receipt{ID: j.id, Principal: "p"}, nil)
	if err != nil {
		j.w.Fatalf("publish: %v", err)
	}
	return r
}

// checkDigests compares every file's digest with that of its content.
func (j *job) checkDigests() {
	j.w.Helper()
	for i, e := range j.entries {
		if e.Type != transfer.Regular {
			continue
		}
		data := j.data[e.Path]
		want := digestOf(j.opts.Algorithm, data)
		if got, err := j.st.Digest(uint32(i)); err != nil || !got.Equal(want) { //nolint:gosec // few
			j.w.Errorf("digest of %s: %v, %v, want %v", e.Path, got, err, want)
		}
	}
}

func digestOf(a transfer.Algorithm, data []byte) transfer.Digest {
	cs := transfer.ChunkSizeFor(int64(len(data)))
	n := transfer.Chunks(int64(len(data)), cs)
	var hashes []byte
	for i := range n {
		c := data[int64(i)*cs:][:transfer.ChunkLen(int64(len(data)), cs, i)]
		hashes = digest.SumChunk(hashes, a, i, cs, n == 1, c)
	}
	return digest.Root(a, int64(len(data)), cs, hashes)
}

// wantFile compares a published file.
func (w *world) wantFile(path string, data []byte) {
	w.Helper()
	got, err := os.ReadFile(filepath.Join(w.root, path))
	if err != nil || !bytes.Equal(got, data) {
		w.Errorf("%s: %d octets, %v; want %d octets", path, len(got), err, len(data))
	}
}

// put makes a file at the destination.
func (w *world) put(path, content string) {
	w.Helper()
	full := filepath.Join(w.root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		w.Fatal(err)
	}
}

func (w *world) wantKind(err error, k transfer.Kind) {
	w.Helper()
	if transfer.KindOf(err) != k {
		w.Errorf("error %v (%v), want %v", err, transfer.KindOf(err), k)
	}
}

// wantLeft checks that nothing but the listed names is at the destination, and
// that no stage is left.
func (w *world) wantLeft(want ...string) {
	w.Helper()
	list, err := os.ReadDir(w.root)
	if err != nil {
		w.Fatal(err)
	}
	var got []string
	for _, e := range list {
		if e.Name() != transfer.StageDir {
			got = append(got, e.Name())
		}
	}
	if len(got) != len(want) {
		w.Errorf("the directory has %q, want %q", got, want)
	}
	stages, err := w.s.Unfinished(w.ctx)
	if err != nil || len(stages) > 0 {
		w.Errorf("unfinished: %v, %v", stages, err)
	}
}

func file(path string, size int64) transfer.Entry {
	return transfer.Entry{Path: transfer.Path(path), Size: size, Mode: 0o644}
}

func directory(path string) transfer.Entry {
	return transfer.Entry{Path: transfer.Path(path), Type: transfer.Directory, Mode: 0o755, ModTime: moment}
}
