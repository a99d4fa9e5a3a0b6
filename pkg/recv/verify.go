package recv

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"iter"
	"strings"
	"unicode"

	"github.com/zeebo/blake3"

	"github.com/e27efefb/sluice/pkg/store"
	"github.com/e27efefb/sluice/pkg/transfer"
)

const (
	maxMismatch = 1000 // files named in one result
	maxMissing  = 100  // files named in one error
	maxReason   = 512  // octets of a reason that somebody gave
	copyBuffer  = 256 << 10
)

// verify compares the digests with what was received and returns the files that
// differ. Then it compares expected digests and asks the gate.
func (m *movement) verify(ctx context.Context) ([]uint32, error) {
	for file, size := range m.digests.sizes {
		if err := m.stage.Finish(ctx, file, size); err != nil {
			return nil, err
		}
	}
	if lacking := m.stage.Missing(maxMissing); len(lacking) > 0 {
		return nil, m.lacking(lacking)
	}
	bad, err := m.compare(ctx)
	if err != nil || len(bad) > 0 {
		return bad, err
	}
	if err := m.checkExpected(ctx); err != nil {
		return nil, err
	}
	return nil, m.gate(ctx)
}

func (m *movement) lacking(files []uint32) error {
	problems := make([]transfer.Problem, 0, len(files))
	for _, f := range files {
		e, _, _ := m.stage.Entry(f)
		problems = append(problems, transfer.Problem{Path: string(e.Path), Kind: transfer.Invalid, Reason: "chunks are lacking"})
	}
	e := transfer.Errorf(transfer.Invalid, opCommit, problems[0].Path, "chunks are lacking").WithHint("send what was not acknowledged, then commit again from part 0")
	if len(files) > 1 {
		e = transfer.Errorf(transfer.Invalid, opCommit, "", "%d files lack chunks", len(files)).WithHint("%s", e.Hint)
	}
	e.Problems = problems
	return e
}

// compare looks for digests that are missing, and for files that differ.
func (m *movement) compare(ctx context.Context) (bad []uint32, err error) {
	if m.spec.Options.Algorithm == transfer.None {
		return nil, nil
	}
	for i := range m.stage.Entries() {
		if i%1024 == 0 && ctx.Err() != nil {
			return nil, interrupted(ctx)
		}
		if !m.digests.has(i) {
			if e, _ := m.stage.Shape(i); e.Type == transfer.Regular && !e.Skip && e.Size != 0 {
				return nil, transfer.Errorf(transfer.Invalid, opCommit, m.pathOf(i), "its digest is missing")
			}
			continue
		}
		said, open := m.digests.open[i]
		if !open {
			continue
		}
		got, err := m.stage.Digest(i)
		if err != nil {
			return nil, err
		}
		if !got.Equal(said) && len(bad) < maxMismatch {
			bad = append(bad, i)
		}
	}
	return bad, nil
}

// corrupt is the end of a transfer whose files still differ after the rounds.
func (m *movement) corrupt(files []uint32) *transfer.Error {
	e, _, _ := m.stage.Entry(files[0])
	return transfer.Errorf(transfer.Corrupt, "verify file", string(e.Path), "the digest still differs after %d rounds of repair", m.r.cfg.Limits.Rounds).WithHint("check memory and network of both machines, then send again")
}

// query answers with chunk hashes of one file.
func (m *movement) query(q *transfer.ChunkHashQuery) (*transfer.CommitResult, error) {
	if err := m.inFile(q.File, transfer.ChunkRange{First: q.First, Count: q.Count}); err != nil {
		return nil, err
	}
	if q.Count > transfer.MaxChunkHashes {
		return nil, transfer.Errorf(transfer.Invalid, "query hashes", "", "%d hashes were asked for, at most %d are given", q.Count, transfer.MaxChunkHashes)
	}
	b, err := m.stage.ChunkHashes(q.File, q.First, q.Count)
	if err != nil {
		return nil, err
	}
	return &transfer.CommitResult{Hashes: &transfer.ChunkHashes{File: q.File, First: q.First, Hashes: b}}, nil
}

// repair un-journals chunks durably, so that they can come again.
func (m *movement) repair(ctx context.Context, p *transfer.Repair) (*transfer.CommitResult, error) {
	for _, c := range p.Chunks {
		if err := m.inFile(p.File, c); err != nil {
			return nil, err
		}
	}
	if err := p.Chunks.Validate(1<<32 - 1); err != nil {
		return nil, err
	}
	m.digests.forget(p.File)
	if err := m.stage.Forget(ctx, p.File, p.Chunks); err != nil {
		return nil, err
	}
	m.repairs.Add(int64(p.Chunks.Count())) //nolint:gosec // below 2^32 a file
	return &transfer.CommitResult{}, nil
}

// inFile checks that chunks belong to a file of the manifest.
func (m *movement) inFile(file uint32, c transfer.ChunkRange) error {
	e, ok := m.stage.Shape(file)
	if !ok || e.Type != transfer.Regular || e.Skip || c.Count == 0 || c.End() > 1<<32-1 || e.Size >= 0 && c.End() > uint64(transfer.Chunks(e.Size, e.ChunkSize)) {
		return transfer.Errorf(transfer.Invalid, "find chunks", "", "file %d has no chunks %d to %d", file, c.First, c.End())
	}
	return nil
}

// checkExpected compares what the makers of files said. A blake3 that was just
// verified costs nothing; anything else one sequential read.
func (m *movement) checkExpected(ctx context.Context) error {
	for i := range m.stage.Entries() {
		e, _ := m.stage.Shape(i)
		if e.Expected.IsZero() || e.Skip {
			continue
		}
		got, err := m.digestOf(ctx, i, e.Expected.Algorithm)
		if err != nil {
			return err
		}
		if !got.Equal(e.Expected) {
			return transfer.Errorf(transfer.Corrupt, "verify file", m.pathOf(i), "it is %v, its maker expected %v", got, e.Expected).WithHint("nothing was published; get the file from its maker again")
		}
	}
	return nil
}

func (m *movement) digestOf(ctx context.Context, file uint32, a transfer.Algorithm) (transfer.Digest, error) {
	if a == m.spec.Options.Algorithm {
		return m.stage.Digest(file)
	}
	h := sha256.New()
	if a == transfer.BLAKE3 {
		h = blake3.New()
	}
	f, _, err := m.stage.OpenStaged(file)
	if err != nil {
		return transfer.Digest{}, err
	}
	defer func() { _ = f.Close() }()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, readerUntil{ctx, f}, make([]byte, copyBuffer)); err != nil {
		return transfer.Digest{}, transfer.Errorf(transfer.Internal, "read staged file", "", "%w", err)
	}
	return transfer.Digest{Algorithm: a, Sum: h.Sum(nil)}, nil
}

// readerUntil reads until a context ends.
type readerUntil struct {
	ctx context.Context //nolint:containedctx // of one copy
	r   io.Reader
}

func (r readerUntil) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, interrupted(r.ctx)
	}
	return r.r.Read(p)
}

// Verified is a transfer whose digests are right, before it is published.
type Verified struct {
	ID        transfer.ID
	Principal string
	Options   transfer.Options
	stage     store.Stage
}

// StagedFile is one verified file.
type StagedFile struct {
	Index  uint32
	Path   transfer.Path // as offered, below Options.Into
	Staged string        // where its octets are now; read-only for a gate
	Size   int64
	Digest transfer.Digest
	Entry  transfer.Entry
}

// Files goes through the regular files in order of index. After an error nothing
// more comes.
func (v *Verified) Files() iter.Seq2[StagedFile, error] {
	return func(yield func(StagedFile, error) bool) {
		for i := range v.stage.Entries() {
			e, fs, ok := v.stage.Entry(i)
			if !ok || e.Type != transfer.Regular || fs.Skip {
				continue
			}
			f, err := v.file(i, e)
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

func (v *Verified) file(i uint32, e transfer.Entry) (StagedFile, error) {
	f := StagedFile{Index: i, Path: e.Path, Size: e.Size, Entry: e}
	var err error
	if f.Digest, err = v.stage.Digest(i); err != nil {
		return f, err
	}
	rc, name, err := v.stage.OpenStaged(i)
	if err != nil {
		return f, err
	}
	f.Staged = name
	return f, rc.Close()
}

// Open opens a staged file for reading.
func (v *Verified) Open(index uint32) (io.ReadCloser, error) {
	rc, _, err := v.stage.OpenStaged(index)
	return rc, err
}

// gate asks Config.OnVerified.
func (m *movement) gate(ctx context.Context) error {
	if m.r.cfg.OnVerified == nil {
		return nil
	}
	err := m.r.cfg.OnVerified(ctx, &Verified{ID: m.id, Principal: m.spec.Principal, Options: m.spec.Options, stage: m.stage})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return interrupted(ctx)
	case transfer.KindOf(err) == transfer.Denied:
		e := *asTransferError(err)
		e.Msg, e.Op = clean(e.Msg), "pass the receiver's gate"
		return &e
	}
	return transfer.Errorf(transfer.Unavailable, "pass the receiver's gate", "", "the gate failed: %w", err).WithHint("the data is kept; commit again when the gate works")
}

// asTransferError returns the first *transfer.Error in err's chain.
func asTransferError(err error) *transfer.Error {
	var e *transfer.Error
	if errors.As(err, &e) {
		return e
	}
	return transfer.Errorf(transfer.Internal, opCommit, "", "%w", err)
}

// clean makes a text of others fit for answers, lists and logs.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.TrimSpace(s)
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}
