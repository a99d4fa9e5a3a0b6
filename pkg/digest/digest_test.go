package digest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	zeebo "github.com/zeebo/blake3"
	"github.com/zeebo/xxh3"
	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"github.com/e27efefb/sluice/pkg/transfer"
)

const mib = 1 << 20

func random(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, uint64(n))) //nolint:gosec // test data
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// fileDigest cuts data and hashes it once by SumChunk and once in pieces.
func fileDigest(t testing.TB, a transfer.Algorithm, data []byte, chunkSize int64, piece int) transfer.Digest {
	size := int64(len(data))
	n := transfer.Chunks(size, chunkSize)
	var hashes []byte
	h := NewChunk(a, 0, chunkSize, n == 1)
	for i := range n {
		c := data[int64(i)*chunkSize:][:transfer.ChunkLen(size, chunkSize, i)]
		whole := SumChunk(nil, a, i, chunkSize, n == 1, c)
		h.Reset(a, i, chunkSize, n == 1)
		for rest := c; len(rest) > 0; {
			m := min(piece, len(rest))
			_, _ = h.Write(rest[:m])
			rest = rest[m:]
		}
		if got := h.Sum(nil); !bytes.Equal(got, whole) || len(got) != HashSize(a) {
			t.Errorf("%v chunk %d in pieces of %d: %x, want %x", a, i, piece, got, whole)
		}
		hashes = append(hashes, whole...)
	}
	return Root(a, size, chunkSize, hashes)
}

func TestBLAKE3IsTheFilesDigest(t *testing.T) {
	sizes := []int{0, 1, 63, 64, 65, 1023, 1024, 1025, 2048, 4096, 16383, 16384, 16385, 32768, 32769, 49152, mib - 1, mib, mib + 1, 2*mib - 1, 2 * mib, 2*mib + 1, 3 * mib, 5*mib + 7, 8 * mib}
	data := random(8 * mib)
	for _, n := range sizes {
		want := blake3.Sum256(data[:n])
		if other := zeebo.Sum256(data[:n]); other != want {
			t.Fatalf("the two libraries differ at %d octets", n)
		}
		for _, chunk := range []int64{mib, 2 * mib, 4 * mib, 16 * mib} {
			for _, piece := range []int{1000, 65536} {
				if d := fileDigest(t, transfer.BLAKE3, data[:n], chunk, piece); !bytes.Equal(d.Sum, want[:]) || d.Algorithm != transfer.BLAKE3 {
					t.Errorf("%d octets, chunks of %d, pieces of %d: %v, want %x", n, chunk, piece, d, want)
				}
			}
		}
	}
}

// TestSmallFilesByEitherLibrary holds for machines with and without AVX-512.
func TestSmallFilesByEitherLibrary(t *testing.T) {
	was := wide
	defer func() { wide = was }()
	data := random(mib)
	for _, n := range []int{0, 1, 63, 64, 65, 1023, 1024, 1025, 4096, 16383, 16384, 16385, mib - 1, mib} {
		want := blake3.Sum256(data[:n])
		for _, wide = range []bool{false, true} {
			if got := SumChunk(nil, transfer.BLAKE3, 0, mib, true, data[:n]); !bytes.Equal(got, want[:]) {
				t.Errorf("%d octets, wide %v: %x, want %x", n, wide, got, want)
			}
		}
	}
}

func BenchmarkSmall(b *testing.B) {
	was := wide
	defer func() { wide = was }()
	for _, n := range []int{100, 1024, 4096, 16384, 65536, mib} { // up to 8 KiB both are zeebo
		data := random(n)
		for _, wide = range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/wide=%v", n, wide), func(b *testing.B) {
				b.SetBytes(int64(n))
				var sum []byte
				for b.Loop() {
					sum = SumChunk(sum[:0], transfer.BLAKE3, 0, mib, true, data)
				}
			})
		}
	}
}

func TestXXH3(t *testing.T) {
	data := random(3*mib + 5)
	one := xxh3.Hash128(data[:mib]).Bytes()
	if d := fileDigest(t, transfer.XXH3, data[:mib], mib, 1000); !bytes.Equal(d.Sum, one[:]) {
		t.Errorf("one chunk: %v, want %x", d, one)
	}
	var hashes []byte
	for off := 0; off < len(data); off += mib {
		s := xxh3.Hash128(data[off:min(off+mib, len(data))]).Bytes()
		hashes = append(hashes, s[:]...)
	}
	want := xxh3.Hash128(hashes).Bytes()
	if d := fileDigest(t, transfer.XXH3, data, mib, 4096); !bytes.Equal(d.Sum, want[:]) {
		t.Errorf("four chunks: %v, want %x", d, want)
	}
	empty := xxh3.Hash128(nil).Bytes()
	if d := Root(transfer.XXH3, 0, mib, nil); !bytes.Equal(d.Sum, empty[:]) {
		t.Errorf("empty: %v, want %x", d, empty)
	}
}

// TestWorkedExample holds the values that the package comment prints.
func TestWorkedExample(t *testing.T) {
	for in, want := range map[string]string{
		"":    "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
		"abc": "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
	} {
		if got := fileDigest(t, transfer.BLAKE3, []byte(in), mib, 1).String(); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	if got := hex.EncodeToString(SumChunk(nil, transfer.XXH3, 0, mib, true, nil)); got != "99aa06d3014798d86001c324468d497f" {
		t.Errorf("XXH3-128 of nothing: %s", got)
	}
}

// TestUnknownSize is the rule for sizes that nobody knows in advance: chunk 0 is
// hashed as one of several, and again as the only one if nothing follows.
func TestUnknownSize(t *testing.T) {
	data := random(mib)
	h := NewChunk(transfer.BLAKE3, 0, mib, false)
	_, _ = h.Write(data)
	want := blake3.Sum256(data)
	if several := h.Sum(nil); bytes.Equal(several, want[:]) {
		t.Error("a chunk of several is the root")
	}
	if got := h.SumOnly(nil); !bytes.Equal(got, want[:]) {
		t.Errorf("SumOnly %x, want %x", got, want)
	}
	_, _ = h.Write([]byte("more"))
	long := blake3.Sum256(append(data, "more"...))
	if got := h.SumOnly(nil); !bytes.Equal(got, long[:]) {
		t.Error("Sum changed the state")
	}
}

func TestNoneAndBadCounts(t *testing.T) {
	if d := Root(transfer.None, 5*mib, mib, nil); d.String() != "none" {
		t.Errorf("none: %v", d)
	}
	h := NewChunk(transfer.None, 0, mib, true)
	if n, err := h.Write([]byte("x")); n != 1 || err != nil || len(h.Sum(nil)) != 0 {
		t.Error("none has a hash")
	}
	for _, d := range []transfer.Digest{
		Root(transfer.BLAKE3, 2*mib, mib, make([]byte, 32)),
		Root(transfer.BLAKE3, mib, mib, nil),
		Root(transfer.XXH3, mib, mib, make([]byte, 32)),
		Root(transfer.NoAlgorithm, 0, mib, nil),
	} {
		if !d.IsZero() {
			t.Errorf("digest %v from a wrong number of hashes", d)
		}
	}
}

func TestAnyCut(t *testing.T) {
	data := random(6*mib + 3)
	rapid.Check(t, func(t *rapid.T) {
		border := rapid.SampledFrom([]int{0, 1024, 16384, 65536, mib, 2 * mib, 3 * mib, 4 * mib, 6 * mib}).Draw(t, "border")
		n := max(0, min(len(data), border+rapid.IntRange(-3, 3).Draw(t, "off")))
		chunk := int64(mib) << rapid.IntRange(0, 2).Draw(t, "shift")
		piece := rapid.IntRange(500, 100000).Draw(t, "piece")
		h := NewChunk(transfer.BLAKE3, 0, chunk, false)
		var hashes []byte
		count := transfer.Chunks(int64(n), chunk)
		for i := range count {
			h.Reset(transfer.BLAKE3, i, chunk, count == 1)
			c := data[int64(i)*chunk : min(int64(n), int64(i+1)*chunk)]
			for len(c) > 0 {
				m := min(piece, len(c))
				_, _ = h.Write(c[:m])
				c = c[m:]
			}
			hashes = h.Sum(hashes)
		}
		want := zeebo.Sum256(data[:n])
		if d := Root(transfer.BLAKE3, int64(n), chunk, hashes); !bytes.Equal(d.Sum, want[:]) {
			t.Fatalf("%d octets: %v, want %x", n, d, want)
		}
	})
}

func TestNothingIsAllocated(t *testing.T) {
	data := random(mib + 100)
	for _, a := range []transfer.Algorithm{transfer.BLAKE3, transfer.XXH3, transfer.None} {
		h := NewChunk(a, 0, mib, false)
		dst := make([]byte, 0, 64)
		if n := testing.AllocsPerRun(10, func() {
			h.Reset(a, 1, mib, false)
			_, _ = h.Write(data[:70000])
			_, _ = h.Write(data[70000:mib])
			dst = h.Sum(dst[:0])
			dst = SumChunk(dst[:0], a, 2, mib, true, data[:5000])
			dst = SumChunk(dst[:0], a, 2, mib, false, data[:mib])
		}); n != 0 {
			t.Errorf("%v: %v allocations a chunk", a, n)
		}
	}
}

func BenchmarkChunk(b *testing.B) {
	data := random(mib)
	for _, a := range []transfer.Algorithm{transfer.BLAKE3, transfer.XXH3} {
		b.Run(a.String(), func(b *testing.B) {
			h := NewChunk(a, 0, mib, false)
			dst := make([]byte, 0, 64)
			b.SetBytes(mib)
			for i := 0; b.Loop(); i++ {
				h.Reset(a, uint32(i), mib, false)
				for off := 0; off < mib; off += 256 << 10 {
					_, _ = h.Write(data[off : off+256<<10])
				}
				dst = h.Sum(dst[:0])
			}
		})
	}
}

func BenchmarkRoot(b *testing.B) {
	hashes := random(32 * 2048)
	b.SetBytes(2048 * mib)
	for b.Loop() {
		Root(transfer.BLAKE3, 2048*mib, mib, hashes)
	}
}
