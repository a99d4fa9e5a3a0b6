package send

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/source"
	"github.com/e27efefb/sluice/pkg/transfer"
)

// hashHeld hashes, from the source, what the receiver held before this session.
func (s *session) hashHeld() {
	rd := s.t.cfg.Source.NewReader()
	defer rd.Close()
	hasher := digest.NewChunk(s.alg, 0, transfer.MinChunkSize, true)
	buf := make([]byte, pieceLen)
	var never atomic.Bool
	for {
		it, ok := s.hashq.pull(&never)
		if !ok {
			return
		}
		n, octets := s.hashq.measure(it)
		if err := s.hashItem(rd, hasher, buf, it); err != nil {
			s.fail(err)
			return
		}
		s.t.stats.hashed.Add(octets)
		s.q.toHash(-n)
	}
}

func (s *session) hashItem(rd *source.Reader, hasher *digest.ChunkHasher, buf []byte, it item) error {
	if it.kind == spanItem {
		size, cs := s.chunkOf(it.file)
		return s.hashChunks(rd, hasher, buf, it.file, it.first, it.end, size, cs)
	}
	for i := it.first; i < it.end; i++ {
		size := s.t.cfg.Source.Size(i)
		if size <= 0 {
			continue
		}
		if err := s.hashChunks(rd, hasher, buf, i, 0, 1, size, transfer.MinChunkSize); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) hashChunks(rd *source.Reader, hasher *digest.ChunkHasher, buf []byte, file, first, end uint32, size, cs int64) error {
	if err := rd.Open(file); err != nil {
		return s.unreadable(file, 0, err)
	}
	if size <= cs { // a file of one chunk, whatever the size of its chunks
		first, end = 0, 1
	}
	cs = max(cs, transfer.MinChunkSize)
	for c := first; c < end; c++ {
		hasher.Reset(s.alg, c, cs, transfer.Chunks(size, cs) == 1)
		off := int64(c) * cs
		for left := min(cs, size-off); left > 0; {
			n := min(int64(len(buf)), left)
			start := time.Now()
			if err := rd.ReadAt(buf[:n], off); err != nil {
				return s.unreadable(file, 0, err)
			}
			s.t.stats.reading.Add(int64(time.Since(start)))
			_, _ = hasher.Write(buf[:n])
			off, left = off+n, left-n
		}
		if !s.t.hashes.put(file, c, hasher.Sum(nil)) {
			return s.differs(file)
		}
	}
	if err := rd.Check(); err != nil {
		return s.unreadable(file, 0, err)
	}
	return nil
}

// maxRounds is how often damage is repaired before the transfer is given up.
const maxRounds = 3

// repair finds which chunks of the named files differ at the receiver, has them
// forgotten there and sends them again.
func (s *session) repair(files []uint32) error {
	if s.t.cfg.Source.Stream() != nil {
		return transfer.Errorf(transfer.Corrupt, "verify", s.t.cfg.Source.LocalPath(0), "what arrived differs from what was sent, and standard input cannot be read twice").
			WithHint("send it again, or save it to a file first")
	}
	found := false
	for _, file := range files {
		if file >= s.t.cfg.Source.Len() {
			return transfer.Errorf(transfer.Internal, "verify", "", "the receiver named file %d, which does not exist", file)
		}
		bad, err := s.damaged(file)
		if err != nil {
			return err
		}
		if len(bad) == 0 {
			continue
		}
		found = true
		if err := s.resend(file, bad); err != nil {
			return err
		}
	}
	if !found {
		return transfer.Errorf(transfer.Corrupt, "verify", s.t.cfg.Source.LocalPath(files[0]), "the digests of %d files differ, but no chunk does", len(files))
	}
	if !s.q.drained() {
		return s.cause()
	}
	s.restLanes()
	return nil
}

// damaged compares the receiver's chunk hashes of a file with ours.
func (s *session) damaged(file uint32) (bad transfer.Held, err error) {
	chunks := uint32(1)
	if b := s.t.hashes.bigOf(file); b != nil {
		chunks = transfer.Chunks(b.size, b.chunkSize)
	}
	n := uint32(s.t.hashes.n) //nolint:gosec // at most 32
	for first := uint32(0); first < chunks; {
		count := min(chunks-first, transfer.MaxChunkHashes)
		r, err := s.commitCall(&transfer.CommitPart{Query: &transfer.ChunkHashQuery{File: file, First: first, Count: count}})
		if err != nil {
			return nil, err
		}
		if r.Hashes == nil || uint32(len(r.Hashes.Hashes)) < n { //nolint:gosec // bounded by a message
			return nil, transfer.Errorf(transfer.Internal, "verify", s.t.cfg.Source.LocalPath(file), "the receiver gave no chunk hashes")
		}
		got := min(uint32(len(r.Hashes.Hashes))/n, count) //nolint:gosec // bounded by a message
		for i := range got {
			if !bytes.Equal(r.Hashes.Hashes[i*n:(i+1)*n], s.t.hashes.of(file, first+i)) {
				bad = bad.Add(first + i)
			}
		}
		first += got
	}
	return bad, nil
}

// resend has chunks forgotten at the receiver and queues them. A lane reads them
// from the source again, and finds out if they are not what they were.
func (s *session) resend(file uint32, bad transfer.Held) error {
	if _, err := s.commitCall(&transfer.CommitPart{Repair: &transfer.Repair{File: file, Chunks: bad}}); err != nil {
		return err
	}
	s.t.stats.repaired.Add(int64(bad.Count())) //nolint:gosec // chunks of one file
	b := s.t.hashes.bigOf(file)
	if b == nil {
		s.q.add(item{kind: smallItem, first: file, end: file + 1}, 1, s.t.cfg.Source.Size(file))
		return nil
	}
	for _, r := range bad {
		end := uint32(r.End()) //nolint:gosec // chunks of one file
		s.q.add(item{kind: spanItem, file: file, first: r.First, end: end}, int64(r.Count), int64(r.Count)*b.chunkSize)
	}
	return nil
}
