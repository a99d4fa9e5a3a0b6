package send

import (
	"errors"
	"io"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// streamBuffers is how many chunks of a stream are in memory at once: waiting,
// or sent and not yet acknowledged.
const streamBuffers = 24

// stream starts reading a stream into the queue.
func (w *work) stream(e *transfer.Entry, fa *transfer.FileAnswer) error {
	s := w.s
	if fa.ChunkSize != transfer.MinChunkSize && fa.ChunkSize != 0 {
		return transfer.Errorf(transfer.Internal, "read the receiver's answer", e.Path.String(), "chunk size %d for an unknown size", fa.ChunkSize)
	}
	s.t.hashes.addStream(e.Index)
	s.pool = make(chan []byte, streamBuffers)
	for range streamBuffers {
		s.pool <- nil // made at first use
	}
	s.q.toHash(1) // holds drained back until the end of the stream is known
	s.tasks.Go(func() {
		if err := s.feed(e.Index); err != nil {
			s.fail(sourceError{err, e.Index})
		}
	})
	return nil
}

// feed reads chunks until the end.
func (s *session) feed(file uint32) error {
	r := s.t.cfg.Source.Stream()
	total := int64(0)
	for i := uint32(0); ; i++ {
		var buf []byte
		select {
		case buf = <-s.pool:
		case <-s.ctx.Done():
			return nil
		}
		if buf == nil {
			buf = make([]byte, transfer.MinChunkSize)
		}
		buf = buf[:transfer.MinChunkSize]
		n, err := io.ReadFull(r, buf)
		if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) { // ReadFull returns it bare
			return &transfer.Error{Kind: transfer.Internal, Op: "read standard input", Err: err}
		}
		total += int64(n)
		if n > 0 {
			s.t.moved.Add(1) // what was read cannot be read again
			s.q.add(item{kind: streamItem, file: file, first: i, end: i + 1, buf: buf[:n]}, 1, int64(n))
		}
		if err != nil {
			s.mu.Lock()
			s.size = total
			s.mu.Unlock()
			s.landing.files.Add(1)
			s.q.toHash(-1)
			return nil
		}
	}
}

// release gives a buffer back.
func (s *session) release(buf []byte) {
	select {
	case s.pool <- buf:
	default:
	}
}

func (s *session) streamSize() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// addStream notes a file of unknown size.
func (h *hashes) addStream(file uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.big[file] = &bigFile{size: transfer.UnknownSize, chunkSize: transfer.MinChunkSize}
}
