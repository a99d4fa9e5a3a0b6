package digest

import (
	"encoding/binary"
	"math/bits"
	"sync"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/cpu"
	"lukechampine.com/blake3/guts"
)

// wide says that guts hashes 16 pieces at once. Where it does not, and for files
// that fill only half of that, zeebo/blake3 is the faster one for whole files
// (see the package comment).
var wide = cpu.X86.HasAVX512F || !cpu.X86.HasAVX2 //nolint:gochecknoglobals // of the machine

// group is how many octets go through the vector unit at once: 16 BLAKE3 chunks
// of 1,024 octets.
const group = guts.MaxSIMD * guts.ChunkSize

// hashers are kept because one is 10 KiB that Sum256 would clear for each file:
// a tenth of the time for 4 KiB.
var hashers = sync.Pool{New: func() any { return blake3.New() }} //nolint:gochecknoglobals // stateless

type cv = [8]uint32

// tree joins chaining values of equal, aligned pieces from left to right.
type tree struct {
	first  uint64 // counter of the first BLAKE3 chunk
	pieces uint64 // pieces pushed so far
	stack  [40]cv // one per set bit of pieces, the oldest first
	depth  int
}

func (t *tree) push(b *[group]byte) {
	n := guts.CompressBuffer(b, group, &guts.IV, t.first+t.pieces*guts.MaxSIMD, 0)
	t.pushCV(guts.ChainingValue(n))
}

func (t *tree) pushCV(v cv) {
	t.pieces++
	for i := bits.TrailingZeros64(t.pieces); i > 0; i-- {
		t.depth--
		v = guts.ChainingValue(guts.ParentNode(t.stack[t.depth], v, &guts.IV, 0))
	}
	t.stack[t.depth] = v
	t.depth++
}

// finish joins the last group, n octets of b, with the stack.
func (t *tree) finish(dst []byte, b *[group]byte, n int, only bool) []byte {
	node := guts.CompressBuffer(b, n, &guts.IV, t.first+t.pieces*guts.MaxSIMD, 0)
	for i := t.depth - 1; i >= 0; i-- {
		node = guts.ParentNode(t.stack[i], guts.ChainingValue(node), &guts.IV, 0)
	}
	if only {
		node.Flags |= guts.FlagRoot
	}
	return appendCV(dst, guts.ChainingValue(node))
}

// subtree computes the BLAKE3 tree over one aligned chunk (BLAKE3 paper,
// section 2.1: a complete subtree starts at a multiple of its size).
type subtree struct {
	tree
	n   int // octets in buf
	buf [group]byte
}

func (t *subtree) reset(index uint32, chunkSize int64) {
	t.first = firstCounter(index, chunkSize)
	t.pieces, t.depth, t.n = 0, 0, 0
}

func firstCounter(index uint32, chunkSize int64) uint64 {
	return uint64(index) * uint64(chunkSize) / guts.ChunkSize //nolint:gosec // chunk sizes are positive
}

// write keeps the last group, full or not, back in buf: only sum knows whether
// it is the root.
func (t *subtree) write(p []byte) {
	if len(p) == 0 {
		return
	}
	if t.n > 0 {
		c := copy(t.buf[t.n:], p)
		t.n += c
		if p = p[c:]; len(p) == 0 {
			return
		}
		t.push(&t.buf)
	}
	for len(p) > group {
		t.push((*[group]byte)(p))
		p = p[group:]
	}
	t.n = copy(t.buf[:], p)
}

func (t *subtree) sum(dst []byte, only bool) []byte {
	return t.finish(dst, &t.buf, t.n, only)
}

// sumBLAKE3 reads whole groups where they lie and copies only the rest.
func sumBLAKE3(dst []byte, index uint32, chunkSize int64, only bool, data []byte) []byte {
	if only && (!wide || len(data) <= group/2) {
		h := hashers.Get().(*blake3.Hasher) //nolint:forcetypeassert // see New
		defer hashers.Put(h)
		h.Reset()
		_, _ = h.Write(data) // never fails
		return h.Sum(dst)
	}
	var t tree
	t.first = firstCounter(index, chunkSize)
	for len(data) > group {
		t.push((*[group]byte)(data))
		data = data[group:]
	}
	if len(data) == group {
		return t.finish(dst, (*[group]byte)(data), group, only)
	}
	var rest [group]byte
	return t.finish(dst, &rest, copy(rest[:], data), only)
}

// rootBLAKE3 joins the chaining values of at least two chunks.
func rootBLAKE3(hashes []byte) []byte {
	var t tree
	last := len(hashes) - 32
	for i := 0; i < last; i += 32 {
		t.pushCV(readCV(hashes[i:]))
	}
	v := readCV(hashes[last:])
	for ; t.depth > 1; t.depth-- {
		v = guts.ChainingValue(guts.ParentNode(t.stack[t.depth-1], v, &guts.IV, 0))
	}
	return appendCV(nil, guts.ChainingValue(guts.ParentNode(t.stack[0], v, &guts.IV, guts.FlagRoot)))
}

func appendCV(dst []byte, v cv) []byte {
	for _, w := range v {
		dst = binary.LittleEndian.AppendUint32(dst, w)
	}
	return dst
}

func readCV(b []byte) (v cv) {
	for i := range v {
		v[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return v
}
