package recv_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/e27efefb/sluice/pkg/recv"
	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// sick wraps a store whose stages fail on demand.
type sick struct {
	store.Store

	write, checkpoint atomic.Pointer[transfer.Error]
	panics            atomic.Bool
}

type sickStage struct {
	store.Stage

	s *sick
}

func (s *sick) Create(ctx context.Context, spec store.Spec) (store.Stage, error) {
	st, err := s.Store.Create(ctx, spec)
	if err != nil {
		return nil, err
	}
	return &sickStage{st, s}, nil
}

func (s *sick) Open(ctx context.Context, id transfer.ID) (store.Stage, error) {
	st, err := s.Store.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	return &sickStage{st, s}, nil
}

func (s *sickStage) WriteChunk(ctx context.Context, file, chunk uint32, n int64, r io.Reader) error {
	if s.s.panics.Load() {
		panic("a defect")
	}
	if err := s.s.write.Load(); err != nil {
		return err
	}
	return s.Stage.WriteChunk(ctx, file, chunk, n, r)
}

func (s *sickStage) Checkpoint(ctx context.Context) (int64, error) {
	if err := s.s.checkpoint.Load(); err != nil {
		return 0, err
	}
	return s.Stage.Checkpoint(ctx)
}

func sickHouse(t *testing.T, change func(*house)) (*house, *sick) {
	s := &sick{}
	return newHouse(t, func(h *house) {
		h.wrap = func(d store.Store) store.Store {
			s.Store = d
			return s
		}
		if change != nil {
			change(h)
		}
	}), s
}

func TestDiskFull(t *testing.T) {
	h, s := sickHouse(t, nil)
	j, other := h.offer("file", 2*mib), h.offer("other", 2*mib)
	s.write.Store(transfer.Errorf(transfer.NoSpace, "write chunk", "file", "no space left on device"))
	l := j.lane()
	if err := l.Frame(0, 0, j.data); err != nil {
		t.Fatal(err)
	}
	expect(t, l, end(transfer.NoSpace))
	_ = l.Close()
	s.write.Store(nil) // room was made
	j.finish()
	other.finish()
}

func TestCheckpointFails(t *testing.T) {
	h, s := sickHouse(t, func(h *house) { h.cfg.Limits.CheckpointEvery = time.Millisecond })
	j := h.offer("file", 2*mib)
	s.checkpoint.Store(transfer.Errorf(transfer.Internal, "sync file", "file", "input/output error"))
	l := j.lane()
	if err := l.Frame(0, 0, j.data[:mib]); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(0, 1))
	expect(t, l, end(transfer.Internal))
	_, err := j.commit()
	kindOf(t, err, transfer.Internal)
	if i, err := h.as("alice").Get(testContext(t), j.id); err != nil || i.Kind != transfer.Internal || i.State != transfer.StateOpen {
		t.Errorf("%+v, %v", i, err)
	}
	s.checkpoint.Store(nil)
	j.session = transfer.NewSession() // a new session goes on
	if j.a, err = h.as("alice").Negotiate(testContext(t), offerPart(j.id, j.session, "file", 2*mib)); err != nil {
		t.Fatal(err)
	}
	j.finish()
}

func TestPanicsKillNobody(t *testing.T) {
	var hook atomic.Bool
	h, s := sickHouse(t, func(h *house) {
		h.cfg.OnVerified = func(context.Context, *recv.Verified) error {
			if hook.Load() {
				panic("a defect in the gate")
			}
			return nil
		}
		h.cfg.OnPublished = func(context.Context, *transfer.Receipt) { panic("a defect in the hook") }
	})
	j := h.offer("file", 2*mib)
	s.panics.Store(true)
	l := j.lane()
	if err := l.Frame(0, 0, j.data); err != nil {
		t.Fatal(err)
	}
	expect(t, l, end(transfer.Internal))
	_ = l.Close()
	s.panics.Store(false)
	l = j.lane()
	if err := l.Frame(0, 0, j.data); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(0, 1))
	expect(t, l, chunks(1, 1))
	hook.Store(true)
	_, err := j.commit()
	kindOf(t, err, transfer.Internal)
	hook.Store(false)
	if r, err := j.commit(); err != nil || r.Receipt == nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestRepair: one damaged chunk is found, forgotten, sent again.
func TestRepair(t *testing.T) {
	h := newHouse(t, nil)
	j := h.offer("file", 3*mib+5)
	l := j.lane()
	damaged := append([]byte(nil), j.data...)
	damaged[mib+77] ^= 1
	if err := l.Frame(0, 0, damaged); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(4) {
		expect(t, l, chunks(i, 1))
	}
	r, err := j.commit()
	if err != nil || len(r.Mismatch) != 1 || r.Mismatch[0] != 0 || r.Round != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	me, ctx := h.as("alice"), testContext(t)
	q, err := me.Commit(ctx, &transfer.CommitPart{ID: j.id, Session: j.session, Query: &transfer.ChunkHashQuery{Count: 4}})
	if err != nil || len(q.Hashes.Hashes) != 4*32 {
		t.Fatalf("%+v, %v", q, err)
	}
	if _, err := me.Commit(ctx, &transfer.CommitPart{ID: j.id, Session: j.session, Repair: &transfer.Repair{Chunks: transfer.Held{{First: 1, Count: 1}}}}); err != nil {
		t.Fatal(err)
	}
	_, err = j.commit()
	kindOf(t, err, transfer.Invalid) // the chunk is lacking now
	if err := l.Frame(0, mib, j.data[mib:2*mib]); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(1, 1))
	r, err = j.commit()
	if err != nil || r.Receipt == nil || r.Receipt.Repairs != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if string(h.read("file")) != string(j.data) {
		t.Error("content differs")
	}
	for _, p := range []*transfer.CommitPart{
		{Query: &transfer.ChunkHashQuery{First: 3, Count: 2}},
		{Query: &transfer.ChunkHashQuery{File: 1, Count: 1}},
		{Query: &transfer.ChunkHashQuery{}},
		{Repair: &transfer.Repair{Chunks: transfer.Held{{First: 4, Count: 1}}}},
		{Repair: &transfer.Repair{Chunks: transfer.Held{{First: 2, Count: 1}, {First: 1, Count: 1}}}},
	} {
		k := h.offer("another", 3*mib+5)
		p.ID, p.Session = k.id, k.session
		_, err := me.Commit(ctx, p)
		kindOf(t, err, transfer.Invalid)
		if err := me.Abort(ctx, k.id, k.session, ""); err != nil {
			t.Error(err)
		}
	}
}

// TestOtherBytesAfterTheDigest: a digest that came and was right does not speak for
// chunks that were forgotten and sent again.
func TestOtherBytesAfterTheDigest(t *testing.T) {
	h := newHouse(t, nil)
	j := h.offer("file", 2*mib+5)
	l := j.lane()
	if err := l.Frame(0, 0, j.data); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(3) {
		expect(t, l, chunks(i, 1))
	}
	me, ctx := h.as("alice"), testContext(t)
	call := func(p transfer.CommitPart) (*transfer.CommitResult, error) {
		p.ID, p.Session = j.id, j.session
		return me.Commit(ctx, &p)
	}
	d := blake3.Sum256(j.data)
	right := []transfer.FileDigest{{Size: int64(len(j.data)), Digest: transfer.Digest{Algorithm: transfer.BLAKE3, Sum: d[:]}}}
	if _, err := call(transfer.CommitPart{Files: right}); err != nil {
		t.Fatal(err)
	}
	if _, err := call(transfer.CommitPart{Repair: &transfer.Repair{Chunks: transfer.Held{{First: 1, Count: 1}}}}); err != nil {
		t.Fatal(err)
	}
	other := append([]byte(nil), j.data[mib:2*mib]...)
	other[7] ^= 1
	if err := l.Frame(0, mib, other); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(1, 1))
	_, err := call(transfer.CommitPart{Part: 1, Last: true})
	kindOf(t, err, transfer.Invalid)
	r, err := call(transfer.CommitPart{Files: right, Last: true})
	if err != nil || len(r.Mismatch) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestCommitRunsOn: the call is cut, the commit is not; a repeated call joins it.
func TestCommitRunsOn(t *testing.T) {
	entered, free := make(chan struct{}), make(chan struct{})
	h := newHouse(t, func(h *house) {
		h.cfg.OnVerified = func(context.Context, *recv.Verified) error {
			close(entered)
			<-free
			return nil
		}
	})
	j := h.offer("file", mib)
	l := j.lane()
	if err := l.Frame(0, 0, j.data); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(0, 1))
	ctx, cancel := context.WithCancel(testContext(t))
	d := blake3.Sum256(j.data)
	part := &transfer.CommitPart{ID: j.id, Session: j.session, Last: true, Files: []transfer.FileDigest{{Size: mib, Digest: transfer.Digest{Algorithm: transfer.BLAKE3, Sum: d[:]}}}}
	cut := make(chan error, 1)
	go func() {
		_, err := h.as("alice").Commit(ctx, part)
		cut <- err
	}()
	<-entered
	cancel()
	kindOf(t, <-cut, transfer.Canceled)
	if len(h.visible()) != 0 {
		t.Errorf("%v is visible before the gate opened", h.visible())
	}
	close(free)
	first, err := j.commit()
	if err != nil || first.Receipt == nil {
		t.Fatalf("%+v, %v", first, err)
	}
	h.restart()
	again, err := j.commit()
	if err != nil || !again.Receipt.Committed.Equal(first.Receipt.Committed) {
		t.Errorf("asked again: %+v, %v", again, err)
	}
}

func TestExpectedDigests(t *testing.T) {
	h := newHouse(t, nil)
	data := []byte("what its maker made")
	good3, good2 := blake3.Sum256(data), sha256.Sum256(data)
	for _, tt := range []struct {
		name      string
		algorithm transfer.Algorithm
		expected  transfer.Digest
		want      transfer.Kind
	}{
		{"blake3", transfer.BLAKE3, transfer.Digest{Algorithm: transfer.BLAKE3, Sum: good3[:]}, transfer.OK},
		{"sha256", transfer.BLAKE3, transfer.Digest{Algorithm: transfer.SHA256, Sum: good2[:]}, transfer.OK},
		{"blake3-beside-xxh3", transfer.XXH3, transfer.Digest{Algorithm: transfer.BLAKE3, Sum: good3[:]}, transfer.OK},
		{"blake3-wrong", transfer.BLAKE3, transfer.Digest{Algorithm: transfer.BLAKE3, Sum: good2[:]}, transfer.Corrupt},
		{"sha256-wrong", transfer.None, transfer.Digest{Algorithm: transfer.SHA256, Sum: good3[:]}, transfer.Corrupt},
	} {
		j := &job{t: t, h: h, id: transfer.NewID(), session: transfer.NewSession(), data: data}
		p := offerPart(j.id, j.session, tt.name, int64(len(data)))
		p.Options.Algorithm = transfer.None // verified by what is expected alone
		p.Entries[0].Expected = tt.expected
		var err error
		if j.a, err = h.as("alice").Negotiate(testContext(t), p); err != nil {
			t.Fatal(err)
		}
		l := j.lane()
		if err := l.Frame(0, 0, data); err != nil {
			t.Fatal(err)
		}
		expect(t, l, chunks(0, 1))
		_, err = h.as("alice").Commit(testContext(t), &transfer.CommitPart{ID: j.id, Session: j.session, Last: true})
		if transfer.KindOf(err) != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if tt.want == transfer.Corrupt {
			if !strings.Contains(err.Error(), tt.name) {
				t.Errorf("%v does not name the file", err)
			}
			if _, err := os.Stat(h.root + "/" + tt.name); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s was published: %v", tt.name, err)
			}
			if i, _ := h.as("alice").Get(testContext(t), j.id); i.State != transfer.StateFailed || i.Kind != transfer.Corrupt {
				t.Errorf("%s: %+v", tt.name, i)
			}
		}
	}
}

func TestGateCommand(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // the programs below are a POSIX shell's
	}
	var gate recv.Command
	published := make(chan string, 1)
	out := t.TempDir() + "/published"
	hook := recv.Command{Argv: []string{"/bin/sh", "-c", `cat > "$0"; echo "$SLUICE_EVENT $SLUICE_PATH $SLUICE_SIZE $SLUICE_DIGEST" >> "$0"`, out}}
	h := newHouse(t, func(h *house) {
		h.cfg.OnVerified = gate.Verified
		h.cfg.OnPublished = func(ctx context.Context, r *transfer.Receipt) {
			hook.Published(ctx, r)
			published <- r.ID.String()
		}
	})
	send := func(name string) (*job, error) {
		j := h.offer(name, 1000)
		l := j.lane()
		if err := l.Frame(0, 0, j.data); err != nil {
			t.Fatal(err)
		}
		expect(t, l, chunks(0, 1))
		_, err := j.commit()
		return j, err
	}
	sh := func(script string) recv.Command {
		return recv.Command{Argv: []string{"/bin/sh", "-c", script}, Timeout: 20 * time.Second}
	}
	gate = sh(`printf 'no \033[31mviruses\nplease' >&2; exit 3`)
	j, err := send("refused")
	kindOf(t, err, transfer.Denied)
	if err == nil || !strings.Contains(err.Error(), "no [31mviruses please") {
		t.Errorf("%q does not carry the reason, cleaned", err)
	}
	if i, _ := h.as("alice").Get(testContext(t), j.id); i.State != transfer.StateFailed || i.Kind != transfer.Denied {
		t.Errorf("%+v", i)
	}
	if u, err := h.disk.Usage(testContext(t)); err != nil || u.Staged != 0 || u.Reserved != 0 {
		t.Errorf("space is not given back: %+v, %v", u, err)
	}

	gate = recv.Command{Argv: []string{"/does/not/exist"}}
	j, err = send("later")
	kindOf(t, err, transfer.Unavailable)
	gate = recv.Command{Argv: []string{"/bin/sh", "-c", "exec sleep 60"}, Timeout: 20 * time.Millisecond}
	_, err = j.commit()
	kindOf(t, err, transfer.Unavailable)
	gate = sh(`test "$SLUICE_EVENT" = verified && test "$SLUICE_PATH" = later && test "$SLUICE_SIZE" = 1000 && test "$SLUICE_PRINCIPAL" = alice &&
		test "$(wc -c < "$SLUICE_STAGED")" -eq 1000 && test ! -e "` + h.root + `/later" && case $SLUICE_DIGEST in blake3:*) ;; *) exit 9;; esac; yes | head -c 100000`)
	r, err := j.commit()
	if err != nil || r.Receipt == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if id := <-published; id != j.id.String() {
		t.Errorf("published %s, want %s", id, j.id)
	}
	b, err := os.ReadFile(out)
	if err != nil || !strings.Contains(string(b), `"id":"`+j.id.String()) || !strings.Contains(string(b), "published later 1000 blake3:") {
		t.Errorf("the hook saw %s, %v", b, err)
	}
}

func TestExistsKeepsWhatIsThere(t *testing.T) {
	h := newHouse(t, nil)
	h.offer("name", 100).finish()
	me, ctx := h.as("alice"), testContext(t)
	j := &job{t: t, h: h, id: transfer.NewID(), session: transfer.NewSession(), data: []byte("other content")}
	p := offerPart(j.id, j.session, "name2", int64(len(j.data)))
	var err error
	if j.a, err = me.Negotiate(ctx, p); err != nil {
		t.Fatal(err)
	}
	l := j.lane()
	if err := l.Frame(0, 0, j.data); err != nil {
		t.Fatal(err)
	}
	expect(t, l, chunks(0, 1))
	if err := os.WriteFile(h.root+"/name2", []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = j.commit()
	kindOf(t, err, transfer.Exists)
	j.session, p.Options.Conflict = transfer.NewSession(), transfer.Overwrite
	p.Session = j.session
	if j.a, err = me.Negotiate(ctx, p); err != nil {
		t.Fatal(err)
	}
	if j.a.Files[0].Held.Count() != 1 {
		t.Errorf("held %v after exists, want all", j.a.Files[0].Held)
	}
	r, err := j.commit()
	if err != nil || r.Receipt == nil || r.Receipt.Files[0].Outcome != transfer.Overwrote {
		t.Fatalf("%+v, %v", r, err)
	}
	if string(h.read("name2")) != string(j.data) {
		t.Error("content differs")
	}
}
