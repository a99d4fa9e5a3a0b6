package recv_test

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/e27efefb/sluice/pkg/recv/recvtest"
	"github.com/e27efefb/sluice/pkg/transfer"
	"github.com/e27efefb/sluice/pkg/wire"
)

// BenchmarkLane writes frames of 8 MiB from memory through one lane, over loopback
// into the store, without publishing.
func BenchmarkLane(b *testing.B) {
	const size = 128 * mib
	data := make([]byte, 8*mib)
	_, _ = rand.Read(data)
	for _, a := range []transfer.Algorithm{transfer.None, transfer.XXH3, transfer.BLAKE3} {
		b.Run(a.String(), func(b *testing.B) {
			h := benchHouse(b)
			b.SetBytes(size)
			for b.Loop() {
				j := benchOffer(b, h, a, size, 1)
				l := j.lane()
				go func() {
					for off := int64(0); off < size; off += int64(len(data)) {
						_ = l.Frame(0, off, data)
					}
					_ = l.Conn.(*net.TCPConn).CloseWrite()
				}()
				drainAcks(b, l, size/mib)
				_ = h.as("alice").Abort(b.Context(), j.id, j.session, "")
			}
		})
	}
}

// BenchmarkSmallFiles writes 10,000 files of 4 KiB through one lane.
func BenchmarkSmallFiles(b *testing.B) {
	const files, size = 10000, 4096
	h := benchHouse(b)
	data := make([]byte, size)
	for b.Loop() {
		j := benchOffer(b, h, transfer.BLAKE3, size, files)
		l := j.lane()
		go func() {
			buf := make([]byte, 0, 300*(size+wire.HeaderLen))
			for i := range files {
				buf = wire.Header{File: uint32(i), Length: size}.Append(buf)
				buf = append(buf, data...)
				if len(buf) > 1<<20 || i == files-1 {
					_, _ = l.Write(buf)
					buf = buf[:0]
				}
			}
			_ = l.Conn.(*net.TCPConn).CloseWrite()
		}()
		drainAcks(b, l, files)
		_ = h.as("alice").Abort(b.Context(), j.id, j.session, "")
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/files, "µs/file")
}

// benchHouse serves from memory where there is such a filesystem, so that the
// engine is measured and not the disk.
func benchHouse(b *testing.B) *house {
	b.Helper()
	root, err := os.MkdirTemp("/dev/shm", "recv-bench-")
	if err != nil {
		root = b.TempDir()
	}
	b.Cleanup(func() { _ = os.RemoveAll(root) })
	return newHouse(b, func(h *house) { h.root = root })
}

func benchOffer(b *testing.B, h *house, a transfer.Algorithm, size int64, files int) *job {
	j := &job{t: h.t, h: h, id: transfer.NewID(), session: transfer.NewSession()}
	p := offerPart(j.id, j.session, "file", size)
	p.Options.Algorithm = a
	p.Entries = p.Entries[:0]
	for i := range files {
		p.Entries = append(p.Entries, transfer.Entry{Index: uint32(i), Path: transfer.Path(fmt.Sprintf("dir/%05d", i)), Size: size})
	}
	var err error
	if j.a, err = h.as("alice").Negotiate(b.Context(), p); err != nil {
		b.Fatal(err)
	}
	return j
}

func drainAcks(b *testing.B, l *recvtest.Lane, want int) {
	for got := 0; got < want; {
		a, err := l.Ack()
		if err != nil || a.Type != wire.AckWritten {
			b.Fatalf("record %+v, %v", a, err)
		}
		got += int(a.Count)
	}
	_ = l.Close()
}
