package source

import (
	"bytes"
	"slices"
	"unsafe"
)

// names holds many names in one slice, 4 octets of overhead each instead of a
// string's 16 and its own allocation.
type names struct {
	buf []byte
	off []uint32 // where each name begins in buf; it ends before a NUL
}

func (n *names) add(s string) {
	n.off = append(n.off, uint32(len(n.buf))) //nolint:gosec // a directory's names stay under 4 GiB
	n.buf = append(append(n.buf, s...), 0)
}

func (n *names) bytes(i int) []byte {
	b := n.buf[n.off[i]:]
	return b[:bytes.IndexByte(b, 0)]
}

// at returns name i without a copy; it stays good as long as n.
func (n *names) at(i int) string {
	b := n.bytes(i)
	return unsafe.String(unsafe.SliceData(b), len(b)) // buf is never written again
}

func (n *names) sort() {
	slices.SortFunc(n.off, func(a, b uint32) int {
		x, y := n.buf[a:], n.buf[b:]
		return bytes.Compare(x[:bytes.IndexByte(x, 0)], y[:bytes.IndexByte(y, 0)])
	})
}
