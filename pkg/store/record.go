package store

import (
	"encoding/binary"
	"io/fs"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// reader takes fields from a payload; after the first bad one ok is false and
// every further field is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) more() bool { return !r.bad && len(r.b) > 0 }

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uint()
	if v > 1<<32-1 {
		r.bad = true
		return 0
	}
	return uint32(v)
}

// bytes returns n octets of the payload itself.
func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) string() string { return string(r.bytes(r.uint())) }

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// appendEntry writes what names and describes a node.
func appendEntry(b []byte, t *table, id nodeID, e *transfer.Entry) []byte {
	b = binary.AppendUvarint(b, uint64(id))
	b = binary.AppendUvarint(b, uint64(t.at(id).parent))
	b = appendString(b, t.name(id))
	return appendAttributes(b, e)
}

func appendAttributes(b []byte, e *transfer.Entry) []byte {
	b = append(b, byte(e.Type))
	b = binary.AppendVarint(b, e.Size)
	b = binary.AppendUvarint(b, uint64(e.Mode.Perm()))
	b = binary.AppendVarint(b, nanos(e.ModTime))
	b = appendString(b, e.Link)
	b = append(b, byte(e.Expected.Algorithm))
	return appendString(b, string(e.Expected.Sum))
}

// implicit marks in a record a directory that is no entry of its own.
const implicit = 0xff

func appendImplicit(b []byte, t *table, id nodeID) []byte {
	b = binary.AppendUvarint(b, uint64(id))
	b = binary.AppendUvarint(b, uint64(t.at(id).parent))
	b = appendString(b, t.name(id))
	return append(b, implicit)
}

type nodeRecord struct {
	id, parent uint32
	name       string
	implicit   bool
	entry      transfer.Entry
}

func (r *reader) node() (n nodeRecord) {
	n.id, n.parent, n.name = r.uint32(), r.uint32(), r.string()
	typ := r.bytes(1)
	if r.bad {
		return n
	}
	if typ[0] == implicit {
		n.implicit = true
		return n
	}
	e := &n.entry
	e.Type = transfer.Type(typ[0])
	e.Size = r.int()
	e.Mode = fs.FileMode(r.uint32()).Perm()
	e.ModTime = fromNanos(r.int())
	e.Link = r.string()
	if a := r.bytes(1); len(a) == 1 {
		e.Expected.Algorithm = transfer.Algorithm(a[0])
	}
	if sum := r.string(); sum != "" {
		e.Expected.Sum = []byte(sum)
	}
	if e.Type > transfer.Symlink || e.Size < transfer.UnknownSize || e.Size > transfer.MaxFileSize {
		r.bad = true
	}
	return n
}

func appendRanges(b []byte, h transfer.Held) []byte {
	b = binary.AppendUvarint(b, uint64(len(h)))
	for _, r := range h {
		b = binary.AppendUvarint(b, uint64(r.First))
		b = binary.AppendUvarint(b, uint64(r.Count))
	}
	return b
}

func (r *reader) ranges() transfer.Held {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	h := make(transfer.Held, 0, n)
	for range n {
		h = append(h, transfer.ChunkRange{First: r.uint32(), Count: r.uint32()})
	}
	if r.bad {
		return nil
	}
	return h
}
