package send

import (
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

// take applies one acknowledgement. An error ends the lane.
func (l *lane) take(a wire.Ack) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch a.Type {
	case wire.AckHello:
		if !l.greeted {
			l.greeted = true
			l.rtt = time.Since(l.opened)
			l.cond.Broadcast()
			l.s.greeted(l)
		}
		return nil
	case wire.AckEnd:
		return laneEnd{kind: a.Kind, greeted: l.greeted}
	case wire.AckRefused:
		l.refused(a)
		return nil
	}
	return l.written(a)
}

// written takes chunks out of flight. Acknowledgements come in the order of the
// frames, so the first flight is nearly always the one.
func (l *lane) written(a wire.Ack) error {
	i := l.find(a.File, a.Chunk)
	if i < 0 || uint64(a.Chunk)+uint64(a.Count) > uint64(l.flights[i].end) {
		return transfer.Errorf(transfer.Invalid, "read acknowledgement", "", "the receiver acknowledged chunk %d of file %d, which was not sent on this lane", a.Chunk, a.File)
	}
	f := &l.flights[i]
	end := a.Chunk + a.Count
	switch {
	case a.Chunk == f.first && end == f.end:
		l.landed(f.left, int64(a.Count))
		l.s.complete(f, a.Count)
		if f.buf != nil {
			l.s.release(f.buf)
		}
		l.remove(i)
	case a.Chunk == f.first:
		octets := int64(a.Count) * f.chunkSize
		f.first, f.left = end, f.left-octets
		l.landed(octets, int64(a.Count))
		l.s.complete(f, a.Count)
	default: // out of order: what stands before it stays, what follows becomes a flight of its own
		before := int64(a.Chunk-f.first) * f.chunkSize
		octets := min(f.left-before, int64(a.Count)*f.chunkSize)
		after := *f
		after.first, after.left = end, f.left-before-octets
		f.end, f.left = a.Chunk, before
		if after.first < after.end {
			l.flights = append(l.flights, after)
		}
		l.landed(octets, int64(a.Count))
		l.s.complete(&after, a.Count)
	}
	return nil
}

// find returns the flight that carries a chunk, or -1.
func (l *lane) find(file, chunk uint32) int {
	for i := l.head; i < len(l.flights); i++ {
		if f := &l.flights[i]; f.file == file && chunk >= f.first && chunk < f.end {
			return i
		}
	}
	return -1
}

func (l *lane) remove(i int) {
	if i == l.head {
		l.flights[i] = flight{}
		l.head++
		return
	}
	l.flights = append(l.flights[:i], l.flights[i+1:]...)
}

// landed counts octets and chunks; flush hands them on.
func (l *lane) landed(octets, chunks int64) {
	l.inFlight -= octets
	l.total += octets
	l.s.landing.octets.Add(octets)
	l.landedChunks += chunks
	l.landedOctets += octets
}

// flush passes on what landed since the last time, once per read.
func (l *lane) flush() {
	l.mu.Lock()
	chunks, octets := l.landedChunks, l.landedOctets
	l.landedChunks, l.landedOctets = 0, 0
	if chunks > 0 {
		l.lastAck = time.Now()
		l.cond.Broadcast()
	}
	l.mu.Unlock()
	if chunks > 0 {
		l.s.landing.chunks.Add(chunks)
		l.s.t.stats.acked.Add(octets)
		l.s.t.moved.Add(octets)
		l.s.q.acked(chunks)
	}
}

// refused gives one chunk back to the queue; the lane goes on.
func (l *lane) refused(a wire.Ack) {
	i := l.find(a.File, a.Chunk)
	if i < 0 {
		return
	}
	f := l.flights[i]
	it := item{kind: spanItem, file: f.file, first: a.Chunk, end: a.Chunk + 1, buf: f.buf}
	switch {
	case f.buf != nil:
		it.kind = streamItem
	case f.small:
		it = item{kind: smallItem, first: f.file, end: f.file + 1}
	}
	var octets int64
	if f.small || f.end-f.first == 1 {
		octets = f.left
		l.remove(i)
	} else {
		before := int64(a.Chunk-f.first) * f.chunkSize
		octets = min(f.chunkSize, f.left-before)
		after := f
		after.first, after.left = a.Chunk+1, f.left-before-octets
		l.flights[i].end, l.flights[i].left = a.Chunk, before
		if l.flights[i].first == l.flights[i].end {
			l.remove(i)
		}
		if after.first < after.end {
			l.flights = append(l.flights, after)
		}
	}
	l.inFlight -= octets
	l.lastAck = time.Now()
	l.s.refused(it)
}

// complete counts a file when its last chunk landed.
func (s *session) complete(f *flight, chunks uint32) {
	if !f.small {
		b := s.t.hashes.bigOf(f.file)
		if b == nil || b.left.Add(-int64(chunks)) != 0 {
			return
		}
	}
	s.landing.files.Add(1)
}
