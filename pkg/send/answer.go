package send

import (
	"github.com/e27efefb/sluice/pkg/transfer"
)

// answer turns an answer into work: what is not held goes to the lanes, what is
// held is hashed beside.
func (s *session) answer(part uint32, a *transfer.Answer, entries []transfer.Entry, last bool) error {
	if part == 0 && a.MaxLanes > 0 {
		if err := checkAnswer(a); err != nil {
			return err
		}
		s.startLanes(a)
	}
	w := work{s: s}
	if len(entries) > 0 {
		s.t.hashes.reserve(entries[0].Index + uint32(len(entries))) //nolint:gosec // at most partEntries
	}
	files := a.Files
	for i := range entries {
		e := &entries[i]
		for len(files) > 0 && files[0].Index < e.Index {
			files = files[1:]
		}
		fa := transfer.FileAnswer{Index: e.Index, ChunkSize: transfer.ChunkSizeFor(e.Size)}
		if len(files) > 0 && files[0].Index == e.Index {
			fa = files[0]
		}
		if err := w.file(e, &fa); err != nil {
			return err
		}
	}
	w.endRun()
	if _, _, pending, _, _, _ := s.q.look(); last && pending > 0 && s.epoch == 0 {
		return transfer.Errorf(transfer.Internal, "read the receiver's answer", "", "it allows no lanes, yet lacks data")
	}
	s.handHashing(w.hash, a.MaxLanes > 0 || last)
	return nil
}

// handHashing starts hashing what is held, but not before it is known that the
// transfer is not committed already: then there is no need.
func (s *session) handHashing(its []item, now bool) {
	if s.alg == transfer.None {
		return
	}
	s.wait = append(s.wait, its...)
	if now {
		s.hash(s.wait)
		s.wait = nil
	}
}

func checkAnswer(a *transfer.Answer) error {
	if a.Epoch == 0 || len(a.DataAddrs) == 0 || a.Token == (transfer.Token{}) {
		return transfer.Errorf(transfer.Internal, "read the receiver's answer", "", "it has no epoch, token or data address")
	}
	return nil
}

// work gathers the runs of small files of one part.
type work struct {
	s          *session
	first, end uint32
	files      int64
	octets     int64
	hash       []item
}

func (w *work) file(e *transfer.Entry, fa *transfer.FileAnswer) error {
	h := &w.s.t.hashes
	if e.Type != transfer.Regular {
		return nil
	}
	h.setSkip(e.Index, fa.Skip)
	switch {
	case fa.Skip:
		w.endRun()
		w.s.skipped.Add(e.Size)
		w.s.landing.files.Add(1)
		return nil
	case e.Size == 0:
		w.s.landing.files.Add(1)
		return nil
	case e.Size == transfer.UnknownSize:
		return w.stream(e, fa)
	}
	if !transfer.ValidChunkSize(fa.ChunkSize) {
		return transfer.Errorf(transfer.Internal, "read the receiver's answer", e.Path.String(), "chunk size %d", fa.ChunkSize)
	}
	chunks := transfer.Chunks(e.Size, fa.ChunkSize)
	if err := fa.Held.Validate(chunks); err != nil {
		return err
	}
	w.s.held.Add(fa.Held.Bytes(e.Size, fa.ChunkSize))
	if chunks > 1 {
		w.endRun()
		w.big(e, fa, chunks)
		return nil
	}
	if len(fa.Held) > 0 {
		w.endRun()
		w.s.landing.files.Add(1)
		if h.known(e.Index, 0) {
			return nil
		}
		if n := len(w.hash); n > 0 && w.hash[n-1].kind == smallItem && w.hash[n-1].end == e.Index {
			w.hash[n-1].end++ // neighbours are one item: a million held files cost nothing
			return nil
		}
		w.hash = append(w.hash, item{kind: smallItem, first: e.Index, end: e.Index + 1})
		return nil
	}
	if w.files == 0 {
		w.first = e.Index
	}
	w.end = e.Index + 1
	w.files++
	w.octets += e.Size
	return nil
}

// endRun queues the small files gathered so far. What lies between them has
// nothing to send and does no harm.
func (w *work) endRun() {
	if w.files > 0 {
		w.s.q.add(item{kind: smallItem, first: w.first, end: w.end}, w.files, w.octets)
	}
	w.files, w.octets = 0, 0
}

// big queues what a large file lacks, and hashes what is held.
func (w *work) big(e *transfer.Entry, fa *transfer.FileAnswer, chunks uint32) {
	h := &w.s.t.hashes
	left := int64(chunks) - int64(fa.Held.Count()) //nolint:gosec // validated
	h.addBig(e.Index, e.Size, fa.ChunkSize, left)
	if left == 0 {
		w.s.landing.files.Add(1)
	}
	next := uint32(0)
	send := func(end uint32) {
		if next < end {
			octets := min(e.Size, int64(end)*fa.ChunkSize) - int64(next)*fa.ChunkSize
			w.s.q.add(item{kind: spanItem, file: e.Index, first: next, end: end}, int64(end-next), octets)
		}
	}
	for _, r := range fa.Held {
		send(r.First)
		next = uint32(r.End()) //nolint:gosec // validated
		for c := r.First; uint64(c) < r.End(); c++ {
			if !h.known(e.Index, c) {
				w.hash = append(w.hash, item{kind: spanItem, file: e.Index, first: c, end: next})
				break
			}
		}
	}
	send(chunks)
}
