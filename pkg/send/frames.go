package send

import (
	"errors"
	"time"

	"github.com/e27efefb/sluice/pkg/digest"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

// room makes the buffer hold n octets, at most laneBuf. It grows with what passes:
// a sender of many transfers has one for each.
func (l *lane) room(n int) {
	if n > len(l.buf) {
		l.buf = make([]byte, min(laneBuf, max(n, 2*len(l.buf))))
	}
}

// sendSmall sends the files of one chunk in l.rest up to end: as many as fit the
// buffer are read, hashed and written at once.
func (l *lane) sendSmall(end uint32) error {
	src := l.s.t.cfg.Source
	need := 0
	for i := l.rest.first; i < end && need < laneBuf; i++ {
		if size := src.Size(i); size > 0 && size <= smallMax {
			need += wire.HeaderLen + int(size)
		}
	}
	l.room(min(need, laneBuf))
	for l.rest.first < end {
		buf, batch, octets := l.buf[:0], l.batch[:0], int64(0)
		start := time.Now()
		next := l.rest.first
		for ; next < end && len(batch) < batchFiles && len(buf) < batchBytes; next++ {
			size := src.Size(next)
			if size <= 0 {
				continue
			}
			if size > smallMax {
				break
			}
			at := len(buf)
			buf = wire.Header{File: next, Length: size}.Append(buf)
			buf = buf[:len(buf)+int(size)]
			if err := l.rd.ReadFile(next, buf[at+wire.HeaderLen:]); err != nil {
				buf = buf[:at]
				if err := l.s.unreadable(next, 1, err); err != nil {
					return err
				}
				continue
			}
			batch = append(batch, flight{file: next, end: 1, small: true, left: size, chunkSize: size})
			octets += size
		}
		l.batch = batch
		read := time.Now()
		l.s.t.stats.reading.Add(int64(read.Sub(start)))
		if len(batch) > 0 {
			if err := l.sendBatch(buf, octets, read); err != nil {
				return err
			}
		}
		l.rest.first = next
		if next < end && src.Size(next) > smallMax {
			size := src.Size(next)
			l.rest.first = next + 1
			if err := l.sendSpan(flight{file: next, end: 1, small: true, chunkSize: size}, size); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendBatch hashes the files in buf and writes it whole.
func (l *lane) sendBatch(buf []byte, octets int64, read time.Time) error {
	if l.s.alg != transfer.None {
		at := 0
		for i := range l.batch {
			f := &l.batch[i]
			at += wire.HeaderLen
			l.sums = digest.SumChunk(l.sums[:0], l.s.alg, 0, transfer.MinChunkSize, true, buf[at:at+int(f.left)])
			at += int(f.left)
			if !l.s.t.hashes.put(f.file, 0, l.sums) {
				return l.s.differs(f.file)
			}
		}
	}
	hashed := time.Now()
	l.s.t.stats.hashing.Add(int64(hashed.Sub(read)))
	if err := l.launch(octets, l.batch...); err != nil {
		return err
	}
	l.rest.first = l.batch[len(l.batch)-1].file + 1
	return l.write(buf, octets)
}

// write writes octets of content, with their headers, and counts.
func (l *lane) write(b []byte, octets int64) error {
	if err := l.s.t.pace.wait(l, len(b)); err != nil {
		return err
	}
	start := time.Now()
	_, err := l.conn.Write(b)
	l.s.t.stats.writing.Add(int64(time.Since(start)))
	if err == nil {
		l.s.t.stats.sent.Add(octets)
	}
	return err
}

// sendSpan sends one frame of a large file, piece by piece.
func (l *lane) sendSpan(f flight, size int64) error {
	l.room(wire.HeaderLen + pieceLen)
	start := time.Now()
	err := l.rd.Open(f.file)
	l.s.t.stats.reading.Add(int64(time.Since(start)))
	if err != nil {
		if !f.small {
			l.rest.first = l.rest.end
		}
		return l.s.unreadable(f.file, int64(f.end-f.first), err)
	}
	off := int64(f.first) * f.chunkSize
	f.left = min(int64(f.end)*f.chunkSize, size) - off
	if err := l.launch(f.left, f); err != nil {
		if f.small {
			l.rest.first = f.file
		}
		return err
	}
	if !f.small {
		l.rest.first = l.rest.end
	}
	l.s.q.toHash(1) // nothing is committed before the file was looked at once more
	defer l.s.q.toHash(-1)
	head := wire.Header{File: f.file, Offset: off, Length: f.left}.Append(l.buf[:0])
	if l.s.alg == transfer.None {
		err = l.sendRaw(f.file, head, off, f.left)
	} else {
		err = l.sendHashed(f, head, off, size)
	}
	if err == nil {
		if cerr := l.rd.Check(); cerr != nil {
			err = sourceError{cerr, f.file}
		}
	}
	var se sourceError
	if errors.As(err, &se) {
		l.s.sourceFailed(se)
	}
	return err
}

// sendRaw lets the kernel copy from the file to the connection.
func (l *lane) sendRaw(file uint32, head []byte, off, n int64) error {
	if err := l.write(head, 0); err != nil {
		return err
	}
	for n > 0 {
		step := n
		if !l.paced {
			step = min(n, pieceLen)
			if err := l.s.t.pace.wait(l, int(step)); err != nil {
				return err
			}
		}
		start := time.Now()
		done, err := l.rd.SendTo(l.conn, off, step)
		l.s.t.stats.writing.Add(int64(time.Since(start)))
		l.s.t.stats.sent.Add(done)
		if err != nil {
			var e *transfer.Error
			if errors.As(err, &e) {
				return sourceError{err, file}
			}
			return err
		}
		off, n = off+done, n-done
	}
	return nil
}

// sendHashed reads a piece, hashes it and writes it while it is hot.
func (l *lane) sendHashed(f flight, head []byte, off, size int64) error {
	chunks := transfer.Chunks(size, f.chunkSize)
	chunkSize := f.chunkSize
	if f.small {
		chunkSize = transfer.MinChunkSize
	}
	at := len(head) // the header travels with the first piece
	for c := f.first; c < f.end; c++ {
		l.hasher.Reset(l.s.alg, c, chunkSize, chunks == 1)
		for left := min(f.chunkSize, size-off); left > 0; {
			n := min(pieceLen, left)
			start := time.Now()
			piece := l.buf[at : at+int(n)]
			if err := l.rd.ReadAt(piece, off); err != nil {
				return sourceError{err, f.file}
			}
			read := time.Now()
			_, _ = l.hasher.Write(piece)
			l.s.t.stats.reading.Add(int64(read.Sub(start)))
			if n == left { // noted before the receiver can acknowledge it
				l.sums = l.hasher.Sum(l.sums[:0])
				if !l.s.t.hashes.put(f.file, c, l.sums) {
					return l.s.differs(f.file)
				}
			}
			l.s.t.stats.hashing.Add(int64(time.Since(read)))
			if err := l.write(l.buf[:at+int(n)], n); err != nil {
				return err
			}
			at, off, left = 0, off+n, left-n
		}
	}
	return nil
}

// sendStream sends a chunk of a stream, which is in memory.
func (l *lane) sendStream(it item) error {
	cs := int64(transfer.MinChunkSize)
	b := l.s.t.hashes.bigOf(it.file)
	l.hasher.Reset(l.s.alg, it.first, cs, false)
	_, _ = l.hasher.Write(it.buf)
	sum := l.hasher.Sum(nil)
	var only []byte
	if it.first == 0 {
		only = l.hasher.SumOnly(nil)
	}
	l.s.t.hashes.putStream(b, it.first, sum, only)
	n := int64(len(it.buf))
	if err := l.launch(n, flight{file: it.file, first: it.first, end: it.end, left: n, chunkSize: cs, buf: it.buf}); err != nil {
		return err
	}
	l.rest.first = l.rest.end
	head := wire.Header{File: it.file, Offset: int64(it.first) * cs, Length: n}.Append(nil)
	if err := l.write(head, 0); err != nil {
		return err
	}
	return l.write(it.buf, n)
}
