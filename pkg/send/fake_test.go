package send

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		_ = f.Value.Set("25") // each check is a transfer over real connections
	}
	goleak.VerifyTestMain(m)
}

// fakeFile is a file at the fake receiver.
type fakeFile struct {
	e      transfer.Entry
	cs     int64
	chunks map[uint32][]byte
	held   map[uint32]bool
}

// fake is a receiver in memory with real lanes on loopback. Hooks are set before
// it is used and called without its lock.
type fake struct {
	tb testing.TB
	ln net.Listener
	wg sync.WaitGroup

	mu       sync.Mutex
	kept     map[transfer.Path]*fakeFile // survive sessions
	files    []*fakeFile                 // by index, of this epoch
	session  transfer.Session
	seen     map[transfer.Session]bool
	epoch    transfer.Epoch
	token    transfer.Token
	alg      transfer.Algorithm
	digests  map[uint32]transfer.FileDigest
	receipt  *transfer.Receipt
	round    int
	conns    map[net.Conn]int
	lanes    int
	got      map[[2]uint32]int // how often a chunk arrived
	parts    int
	lost     bool // the session is not known to this run
	received int64

	maxLanes  int
	sums      bool // understands CommitPart.Sums
	offerErr  func(p *transfer.OfferPart) error
	commitErr func(p *transfer.CommitPart) error
	// chunk is called for each chunk before it is acknowledged; it may change
	// data. False closes the lane.
	chunk func(lane int, f *fakeFile, index uint32, data []byte) bool
	hello func(lane int) transfer.Kind
	ack   func(lane int) bool // false: no acknowledgement is written
	skip  func(e *transfer.Entry) bool
	// refuse answers a chunk with AckRefused instead.
	refuse func(f *fakeFile, index uint32) bool
}

func newFake(tb testing.TB) *fake {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	f := &fake{
		tb: tb, ln: ln, kept: map[transfer.Path]*fakeFile{}, seen: map[transfer.Session]bool{}, digests: map[uint32]transfer.FileDigest{},
		conns: map[net.Conn]int{}, got: map[[2]uint32]int{}, maxLanes: 8, sums: true,
	}
	f.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			n := f.lanes
			f.lanes++
			f.conns[c] = n
			f.mu.Unlock()
			f.wg.Go(func() { f.serve(c, n) })
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		f.cut()
		f.wg.Wait()
	})
	return f
}

func (f *fake) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		_ = c.Close()
	}
}

func (f *fake) committed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.receipt != nil
}

// restart forgets what is not held, the token and the session.
func (f *fake) restart() {
	f.cut()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost, f.token = true, transfer.NewToken()
	for _, x := range f.kept {
		for c := range x.chunks {
			if !x.held[c] {
				delete(x.chunks, c)
			}
		}
	}
}

func (f *fake) dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

func (f *fake) Negotiate(_ context.Context, p *transfer.OfferPart) (*transfer.Answer, error) {
	if f.offerErr != nil {
		if err := f.offerErr(p); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a := &transfer.Answer{DataAddrs: []string{f.ln.Addr().String()}, MaxLanes: f.maxLanes, FreeBytes: 1 << 40, Sums: f.sums}
	if f.receipt != nil {
		return &transfer.Answer{Committed: f.receipt}, nil
	}
	if !p.Plan && p.Session != f.session {
		if p.Part != 0 {
			return nil, transfer.Errorf(transfer.Unavailable, "negotiate", "", "session is not known to this run")
		}
		f.session, f.lost = p.Session, false
		f.epoch++
		f.token, f.alg = transfer.NewToken(), p.Options.Algorithm
		f.files = nil
		for c := range f.conns {
			_ = c.Close()
		}
	}
	f.parts++
	for _, e := range p.Entries {
		k := f.kept[e.Path]
		if k == nil || !k.e.Same(&e) {
			k = &fakeFile{e: e, cs: transfer.ChunkSizeFor(e.Size), chunks: map[uint32][]byte{}, held: map[uint32]bool{}}
		}
		k.e.Index = e.Index
		if !p.Plan {
			if int(e.Index) != len(f.files) {
				return nil, transfer.Errorf(transfer.Invalid, "negotiate", "", "index %d, want %d", e.Index, len(f.files))
			}
			f.kept[e.Path] = k
			f.files = append(f.files, k)
		}
		fa := transfer.FileAnswer{Index: e.Index, ChunkSize: k.cs}
		if f.skip != nil && f.skip(&e) {
			fa.Skip = true
		}
		for c := range e.Chunks(k.cs) {
			if k.chunks[c] != nil {
				k.held[c] = true
				fa.Held = fa.Held.Add(c)
			}
		}
		a.Files = append(a.Files, fa)
	}
	a.Epoch, a.Token = f.epoch, f.token
	return a, nil
}

func (f *fake) serve(c net.Conn, lane int) {
	defer func() {
		_ = c.Close()
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
	}()
	r := bufio.NewReaderSize(c, 256<<10)
	h, err := wire.ReadHello(r)
	if err != nil {
		return
	}
	f.mu.Lock()
	ok := h.Verify(f.token) && h.Epoch == f.epoch
	f.mu.Unlock()
	kind := transfer.OK
	if !ok {
		kind = transfer.Denied
	}
	if f.hello != nil && ok {
		kind = f.hello(lane)
	}
	if kind != transfer.OK {
		_, _ = c.Write(wire.Ack{Type: wire.AckEnd, Kind: kind}.Append(nil))
		_ = c.(*net.TCPConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, r)
		return
	}
	_, _ = c.Write(wire.Ack{Type: wire.AckHello}.Append(nil))
	var hdr [wire.HeaderLen]byte
	for {
		if _, err := io.ReadFull(r, hdr[:]); err != nil {
			return
		}
		h, err := wire.ParseHeader(hdr[:])
		if err != nil || !f.frame(c, r, lane, h) {
			return
		}
	}
}

func (f *fake) frame(c net.Conn, r io.Reader, lane int, h wire.Header) bool {
	f.mu.Lock()
	if int(h.File) >= len(f.files) {
		f.mu.Unlock()
		f.tb.Errorf("frame for file %d of %d", h.File, len(f.files))
		return false
	}
	x := f.files[h.File]
	f.mu.Unlock()
	rng, err := h.Check(x.e.Size, x.cs)
	if err != nil {
		f.tb.Errorf("frame %+v: %v", h, err)
		return false
	}
	left := h.Length
	for i := rng.First; uint64(i) < rng.End(); i++ {
		data := make([]byte, min(left, x.cs))
		if _, err := io.ReadFull(r, data); err != nil {
			return false
		}
		left -= int64(len(data))
		if f.chunk != nil && !f.chunk(lane, x, i, data) {
			return false
		}
		if f.refuse != nil && f.refuse(x, i) {
			if _, err := c.Write(wire.Ack{Type: wire.AckRefused, Kind: transfer.Busy, File: h.File, Chunk: i}.Append(nil)); err != nil {
				return false
			}
			continue
		}
		f.mu.Lock()
		x.chunks[i] = data
		f.got[[2]uint32{h.File, i}]++
		f.received += int64(len(data))
		f.mu.Unlock()
		if f.ack == nil || f.ack(lane) {
			if _, err := c.Write(wire.Ack{Type: wire.AckWritten, File: h.File, Chunk: i, Count: 1}.Append(nil)); err != nil {
				return false
			}
		}
	}
	return true
}

func (f *fake) hashes(x *fakeFile, size int64) []byte {
	n := transfer.Chunks(size, x.cs)
	var out []byte
	for i := range n {
		if x.chunks[i] == nil {
			out = append(out, make([]byte, digest.HashSize(f.alg))...)
			continue
		}
		out = digest.SumChunk(out, f.alg, i, x.cs, n == 1, x.chunks[i])
	}
	return out
}

func (f *fake) Commit(_ context.Context, p *transfer.CommitPart) (*transfer.CommitResult, error) {
	if f.commitErr != nil {
		if err := f.commitErr(p); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.Session != f.session || f.lost {
		return nil, transfer.Errorf(transfer.Unavailable, "commit", "", "session is not known to this run; negotiate again")
	}
	switch {
	case p.Query != nil:
		x := f.files[p.Query.File]
		h := f.hashes(x, x.e.Size)
		n := digest.HashSize(f.alg)
		return &transfer.CommitResult{Hashes: &transfer.ChunkHashes{Hashes: h[int(p.Query.First)*n : int(p.Query.First+p.Query.Count)*n]}}, nil
	case p.Repair != nil:
		for _, r := range p.Repair.Chunks {
			for c := r.First; uint64(c) < r.End(); c++ {
				delete(f.files[p.Repair.File].chunks, c)
			}
		}
		return &transfer.CommitResult{}, nil
	}
	if p.Part == 0 {
		f.digests = map[uint32]transfer.FileDigest{}
	}
	for _, d := range p.Files {
		f.digests[d.Index] = d
	}
	f.takeSums(p.Sums)
	if !p.Last {
		return &transfer.CommitResult{}, nil
	}
	res := &transfer.CommitResult{Round: f.round + 1}
	for _, x := range f.files {
		if x.e.Type != transfer.Regular || (f.skip != nil && f.skip(&x.e)) {
			continue
		}
		d, ok := f.digests[x.e.Index]
		if !ok {
			return nil, transfer.Errorf(transfer.Invalid, "commit", x.e.Path.String(), "no digest")
		}
		for c := range transfer.Chunks(d.Size, x.cs) {
			if x.chunks[c] == nil {
				return nil, transfer.Errorf(transfer.Invalid, "commit", x.e.Path.String(), "chunk %d is missing", c)
			}
		}
		if !digest.Root(f.alg, d.Size, x.cs, f.hashes(x, d.Size)).Equal(d.Digest) {
			res.Mismatch = append(res.Mismatch, x.e.Index)
		}
	}
	if len(res.Mismatch) > 0 {
		f.round++
		return res, nil
	}
	f.receipt = &transfer.Receipt{ID: p.ID, FileCount: int64(len(f.files)), Counts: map[string]int64{"published": int64(len(f.files))}}
	res.Receipt = f.receipt
	return res, nil
}

// takeSums takes the digests of the next files that have chunks and were not skipped.
func (f *fake) takeSums(sums []byte) {
	if len(sums) > 0 && !f.sums {
		f.tb.Error("sums came, and they are not understood")
		return
	}
	n := digest.HashSize(f.alg)
	for _, x := range f.files {
		if _, known := f.digests[x.e.Index]; known || x.e.Type != transfer.Regular || f.skip != nil && f.skip(&x.e) {
			continue
		}
		d := transfer.FileDigest{Index: x.e.Index, Size: x.e.Size, Digest: digest.Root(f.alg, 0, x.cs, nil)}
		if x.e.Size > 0 && n > 0 {
			if len(sums) < n {
				return
			}
			d.Digest = transfer.Digest{Algorithm: f.alg, Sum: sums[:n:n]}
			sums = sums[n:]
		}
		f.digests[x.e.Index] = d
	}
	if len(sums) > 0 {
		f.tb.Errorf("%d octets of sums are left", len(sums))
	}
}

func (f *fake) Abort(context.Context, transfer.ID, transfer.Session, string) error { return nil }

// content returns what arrived at a path.
func (f *fake) content(p string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.kept[transfer.Path(p)]
	if x == nil {
		return nil
	}
	out := []byte{}
	for c := uint32(0); x.chunks[c] != nil; c++ {
		out = append(out, x.chunks[c]...)
	}
	return out
}

// expect compares everything below dir, offered as base(dir), with what arrived.
func (f *fake) expect(dir string) {
	f.tb.Helper()
	n := 0
	err := filepath.Walk(dir, func(p string, fi os.FileInfo, err error) error {
		if err != nil || !fi.Mode().IsRegular() {
			return err
		}
		want, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(filepath.Dir(dir), p)
		if got := f.content(rel); !bytes.Equal(got, want) {
			f.tb.Errorf("%s: %d octets arrived, want %d, or they differ", rel, len(got), len(want))
		}
		n++
		return nil
	})
	if err != nil || n == 0 {
		f.tb.Fatalf("compared %d files: %v", n, err)
	}
}

// junk returns n octets that do not repeat.
func junk(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func write(tb testing.TB, path string, data []byte) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		tb.Fatal(err)
	}
}

func scan(tb testing.TB, cfg source.Config) *source.Source {
	tb.Helper()
	s, err := source.Scan(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	return s
}

func testCtx(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	tb.Cleanup(cancel)
	return ctx
}
