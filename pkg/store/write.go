package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// unknownStep is how much space a file of unknown size reserves at a time.
const unknownStep = 64 << 20

// readError is an error of the reader of a chunk, which is passed on as it is.
type readError struct{ error }

// WriteChunk reads n octets from r and writes them to their place.
func (s *stage) WriteChunk(ctx context.Context, file, chunk uint32, n int64, r io.Reader) error {
	if err := s.poisoned(); err != nil {
		return err
	}
	id, nd, l, err := s.lookup(file)
	if err != nil {
		return err
	}
	sc := s.d.pool.Get().(*scratch) //nolint:forcetypeassert // the pool holds nothing else
	defer s.d.pool.Put(sc)
	if l != nil {
		return s.writeLarge(ctx, sc, l, chunk, n, r)
	}
	if !nd.small() || chunk != 0 || n != nd.size {
		return s.misplaced(id, chunk, n)
	}
	return s.streamSmall(ctx, sc, id, nd, n, r)
}

func (s *stage) misplaced(id nodeID, chunk uint32, n int64) error {
	return transfer.Errorf(transfer.Invalid, "write chunk", s.path(id), "chunk %d with %d octets is no part of the file", chunk, n)
}

func (s *stage) writeLarge(ctx context.Context, sc *scratch, l *large, chunk uint32, n int64, r io.Reader) error {
	first, refused := s.claim(l, chunk, n)
	if refused != nil {
		refused.Path = s.path(l.id)
		return refused
	}
	if first >= written {
		return discard(ctx, sc, n, r)
	}
	err := s.copyChunk(ctx, sc, l, chunk, n, r)
	l.mu.Lock()
	if err != nil {
		l.setState(chunk, absent)
		l.claimed -= n
		if l.shortLen > 0 && l.short == chunk {
			l.shortLen = 0
		}
		l.mu.Unlock()
		return s.writeError(l.id, err)
	}
	copy(l.hashOf(chunk), sc.sum[:l.hashSize])
	l.setState(chunk, written)
	l.octets += n
	clean := l.addDirty(chunk)
	switch {
	case l.allocated:
		s.acct.move(0, -n, n)
	default:
		s.acct.move(-n, 0, n)
	}
	l.mu.Unlock()
	s.written.Add(n)
	if clean {
		s.markLarge(l)
	}
	return nil
}

// claim makes the caller the only writer of a chunk, or tells that it is
// written. The error lacks the path, because mu is never taken under l.mu.
func (s *stage) claim(l *large, chunk uint32, n int64) (uint32, *transfer.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fits := n > 0 && n <= l.chunkSize
	if l.size >= 0 {
		fits = chunk < transfer.Chunks(l.size, l.chunkSize) && n == l.length(chunk)
	} else if fits && int64(chunk) >= transfer.MaxFileSize/l.chunkSize {
		fits = false
	}
	if !fits {
		return 0, transfer.Errorf(transfer.Invalid, "write chunk", "", "chunk %d with %d octets is no part of the file", chunk, n)
	}
	switch st := l.stateOf(chunk); st {
	case writing:
		return 0, transfer.Errorf(transfer.Busy, "write chunk", "", "another lane is writing chunk %d", chunk)
	case written, held:
		return st, nil
	}
	if l.size < 0 {
		if err := s.grow(l, chunk, n); err != nil {
			return 0, err
		}
	}
	l.setState(chunk, writing)
	return absent, nil
}

// grow reserves space for a file of unknown size and notes its short chunk. The
// caller holds l.mu.
func (s *stage) grow(l *large, chunk uint32, n int64) *transfer.Error {
	if n < l.chunkSize && l.shortLen > 0 && l.short != chunk {
		return transfer.Errorf(transfer.Invalid, "write chunk", "", "chunks %d and %d are both short, but only the last may be", l.short, chunk)
	}
	if l.most > 0 && l.claimed+n > l.most {
		return transfer.Errorf(transfer.NoSpace, "write chunk", "", "it grew beyond the %s that it may have", octets(l.most)).
			WithHint("raise --max-transfer at the receiver, or the size that the sender promised")
	}
	if need := l.claimed + n - l.granted; need > 0 {
		step := max(need, l.step())
		err := s.d.reserve(&s.acct, step, 0)
		if err != nil && step > need {
			step = need
			err = s.d.reserve(&s.acct, step, 0)
		}
		if err != nil {
			var t *transfer.Error
			errors.As(err, &t)
			return t
		}
		l.granted += step
	}
	if n < l.chunkSize {
		l.short, l.shortLen = chunk, n
	}
	l.claimed += n
	return nil
}

// copyChunk moves a chunk from r to its place and leaves its hash in sc.sum.
func (s *stage) copyChunk(ctx context.Context, sc *scratch, l *large, chunk uint32, n int64, r io.Reader) error {
	f, err := s.openLarge(l)
	if err != nil {
		return err
	}
	defer s.files.put(f)
	off := int64(chunk) * l.chunkSize
	a := s.algorithm()
	if conn, ok := r.(*net.TCPConn); ok && digest.HashSize(a) == 0 {
		return splice(f.File, off, &l.writer, conn, n)
	}
	size := l.known()
	sc.hash.Reset(a, chunk, l.chunkSize, size >= 0 && size <= l.chunkSize)
	if err := pour(ctx, sc, f.File, off, n, r, &l.writer); err != nil {
		return err
	}
	sc.hash.Sum(sc.sum[:0])
	return nil
}

// pour moves n octets from r to f at off through the scratch buffer and its
// hasher. Lock is held while it writes.
func pour(ctx context.Context, sc *scratch, f *os.File, off, n int64, r io.Reader, lock sync.Locker) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return readError{err}
		}
		p := sc.buf[:min(n, pieceSize)]
		if _, err := io.ReadFull(r, p); err != nil {
			return readError{err}
		}
		_, _ = sc.hash.Write(p)
		lock.Lock()
		_, err := f.WriteAt(p, off)
		lock.Unlock()
		if err != nil {
			return err
		}
		off += int64(len(p))
		n -= int64(len(p))
	}
	return nil
}

// noLock serves files that have one writer.
type noLock struct{}

func (noLock) Lock()   {}
func (noLock) Unlock() {}

func (l *large) known() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

func (s *stage) algorithm() transfer.Algorithm {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.spec.Options.Algorithm
}

// openLarge opens the staged file of l and preallocates it once.
func (s *stage) openLarge(l *large) (*openFile, error) {
	return s.files.get(l.id, func() (*os.File, error) {
		parent := s.parent(l.id)
		h, err := s.tree.get(parent)
		if err != nil {
			return nil, err
		}
		defer s.tree.put(h)
		name := s.name(l.id)
		f, err := h.file(name, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			if f, err = h.file(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
				s.newName(parent)
			}
		}
		if err != nil {
			return nil, err
		}
		if err := s.preallocate(l, f); err != nil {
			_ = f.Close()
			return nil, err
		}
		return f, nil
	})
}

func (s *stage) preallocate(l *large, f *os.File) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.looked || l.size < 0 || s.d.memory {
		return nil
	}
	l.looked = true
	ok, err := allocate(f, l.size)
	if err != nil {
		return err
	}
	if ok {
		l.allocated = true
		rest := l.size - l.octets
		s.acct.move(-rest, rest, 0)
	}
	return nil
}

// discard reads a chunk that is there already.
func discard(ctx context.Context, sc *scratch, n int64, r io.Reader) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := io.ReadFull(r, sc.buf[:min(n, pieceSize)])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// writeError tells apart who failed: the reader, whose error passes as it is, a
// full disk, which loses nothing, and a broken one, which poisons the stage.
func (s *stage) writeError(id nodeID, err error) error {
	var re readError
	var te *transfer.Error
	switch {
	case errors.As(err, &re):
		return re.error
	case errors.As(err, &te):
		return err
	case isFull(err):
		return transfer.Errorf(transfer.NoSpace, "write chunk", s.path(id), "%w", err).WithHint("make room on the receiver's disk, then resume the transfer")
	}
	return s.fault("write chunk", s.path(id), err)
}

// WriteSmall writes a whole one-chunk file.
func (s *stage) WriteSmall(ctx context.Context, file uint32, data []byte) error {
	if err := s.poisoned(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	id, n, l, err := s.lookup(file)
	switch {
	case err != nil:
		return err
	case l != nil || !n.small() || int64(len(data)) != n.size:
		return s.misplaced(id, 0, int64(len(data)))
	}
	return s.putSmall(id, n, data)
}

// streamSmall reads a one-chunk file, into memory when it is short and piece by
// piece into its place when it is not.
func (s *stage) streamSmall(ctx context.Context, sc *scratch, id nodeID, nd *node, n int64, r io.Reader) error {
	conn, _ := r.(*net.TCPConn)
	if conn != nil && digest.HashSize(s.algorithm()) > 0 {
		conn = nil
	}
	if n <= pieceSize && conn == nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.ReadFull(r, sc.buf[:n]); err != nil {
			return err
		}
		return s.putSmall(id, nd, sc.buf[:n])
	}
	mine, err := s.claimSmall(id, nd)
	if err != nil {
		return err
	}
	if !mine {
		return discard(ctx, sc, n, r)
	}
	parent, name, sum, a := s.smallPlace(id, nd)
	err = s.streamInto(parent, name, nd, func(f *os.File) error {
		if conn != nil {
			return splice(f, 0, noLock{}, conn, n)
		}
		sc.hash.Reset(a, 0, transfer.MinChunkSize, true)
		return pour(ctx, sc, f, 0, n, r, noLock{})
	})
	if err != nil {
		nd.state.Store(absent)
		return s.writeError(id, err)
	}
	if conn == nil {
		sc.hash.Sum(sum[:0])
	}
	s.wroteSmall(id, nd, parent)
	return nil
}

// streamInto makes a staged file and lets fill write it.
func (s *stage) streamInto(parent nodeID, name string, n *node, fill func(*os.File) error) error {
	h, err := s.tree.get(parent)
	if err != nil {
		return err
	}
	defer s.tree.put(h)
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := h.file(name, flags, 0o600)
	if errors.Is(err, fs.ErrExist) { // left by a crash or by a file that was dropped
		if err = h.removeAll(name); err == nil {
			f, err = h.file(name, flags, 0o600)
		}
	}
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		perm, _ := s.perm(n)
		err = setMeta(f, perm, n.mtime)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = h.unlink(name)
	}
	return err
}

// claimSmall makes the caller the only writer of a file; false means that it is
// written already.
func (s *stage) claimSmall(id nodeID, n *node) (bool, error) {
	if n.state.CompareAndSwap(absent, writing) {
		return true, nil
	}
	if n.state.Load() == writing {
		return false, transfer.Errorf(transfer.Busy, "write file", s.path(id), "another lane is writing it")
	}
	return false, nil
}

// smallPlace tells where a file and its hash go.
func (s *stage) smallPlace(id nodeID, n *node) (parent nodeID, name string, sum []byte, a transfer.Algorithm) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return n.parent, s.t.name(id), s.t.hash(id, s.hashSize), s.spec.Options.Algorithm
}

func (s *stage) wroteSmall(id nodeID, n *node, parent nodeID) {
	n.state.Store(written)
	s.acct.move(-n.size, 0, n.size)
	s.written.Add(n.size)
	s.markSmall(id, parent)
}

func (s *stage) putSmall(id nodeID, n *node, data []byte) error {
	mine, err := s.claimSmall(id, n)
	if !mine {
		return err
	}
	parent, name, sum, a := s.smallPlace(id, n)
	digest.SumChunk(sum[:0], a, 0, transfer.MinChunkSize, true, data)
	if err := s.createSmall(parent, name, n, data); err != nil {
		n.state.Store(absent)
		return s.writeError(id, err)
	}
	s.wroteSmall(id, n, parent)
	return nil
}

func (s *stage) createSmall(parent nodeID, name string, n *node, data []byte) error {
	h, err := s.tree.get(parent)
	if err != nil {
		return err
	}
	defer s.tree.put(h)
	perm, chmod := s.perm(n)
	err = h.writeNew(name, perm, chmod, n.mtime, data)
	if errors.Is(err, fs.ErrExist) {
		// Left by a crash or by a file that was dropped: it is nobody's.
		if err = h.removeAll(name); err == nil {
			err = h.writeNew(name, perm, chmod, n.mtime, data)
		}
	}
	if err != nil {
		_ = h.unlink(name)
	}
	return err
}

// perm returns a file's permission bits and whether the umask would strip some.
func (s *stage) perm(n *node) (fs.FileMode, bool) {
	if n.mode == 0 {
		return 0o666 &^ s.d.umask, false
	}
	p := fs.FileMode(n.mode).Perm()
	return p, p&s.d.umask != 0
}
