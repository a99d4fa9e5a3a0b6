package store

import (
	"hash/maphash"
	"io/fs"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// nodeID names one path of a stage for its whole life, over all epochs: it is
// what the journal calls a slot. Node 0 is the root of the staged tree.
type nodeID uint32

const (
	pageBits  = 8 // 256 nodes, 12 KiB and 8 KiB of hashes: most transfers are small
	pageNodes = 1 << pageBits
	slabBits  = 20
	maxNodes  = 1 << 28
	noTime    = math.MinInt64
)

// flags of a node
const (
	flagSet     uint16 = 1 << iota // has attributes: was an entry once
	flagNow                        // is an entry of this epoch
	flagParent                     // has entries of this epoch below it
	flagUnknown                    // was offered with unknown size
	flagFinal                      // unknown size, now known
	flagSkip                       // identical file at the destination
	flagLook                       // destination was looked at in this epoch
	flagThere                      // … and is a directory there
	flagMeta                       // staged with another mode
	typeShift   = 9                // two bits: type by its attributes
	nowShift    = 11               // two bits: type in this epoch, before attributes are set
)

// states of a file of one chunk
const (
	absent uint32 = iota
	writing
	written
	held
)

// node is 40 octets; a million entries make 40 MB of them.
type node struct {
	size   int64
	mtime  int64 // nanoseconds since 1970, or noTime
	parent nodeID
	name   uint32 // place in the slab
	index  uint32 // in the manifest of this epoch
	state  atomic.Uint32
	mode   uint16
	flags  uint16
	length uint8 // of the name
}

func (n *node) typ() transfer.Type     { return transfer.Type(n.flags >> typeShift & 3) }
func (n *node) has(f uint16) bool      { return n.flags&f != 0 }
func (n *node) nowType() transfer.Type { return transfer.Type(n.flags >> nowShift & 3) }

// unknown reports whether the size is still unknown.
func (n *node) unknown() bool { return n.flags&(flagUnknown|flagFinal) == flagUnknown }

// chunkSize never changes for a node's content: unknown sizes stay at 1 MiB.
func (n *node) chunkSize() int64 {
	if n.has(flagUnknown) {
		return transfer.ChunkSizeFor(transfer.UnknownSize)
	}
	return transfer.ChunkSizeFor(n.size)
}

// large reports whether the file keeps a state per chunk.
func (n *node) large() bool {
	return n.typ() == transfer.Regular && (n.has(flagUnknown) || n.size > n.chunkSize())
}

// small reports a file of exactly one chunk.
func (n *node) small() bool {
	return n.typ() == transfer.Regular && !n.has(flagUnknown) && n.size > 0 && n.size <= n.chunkSize()
}

type page struct {
	nodes  [pageNodes]node
	hashes []byte // one per node, made when first needed
}

// table is the tree of all paths of a stage, packed.
type table struct {
	pages    []*page
	count    uint32
	cells    []nodeID // open addressing; 0 is empty
	seed     maphash.Seed
	slabs    [][]byte
	links    map[nodeID]string
	expected map[nodeID]transfer.Digest
}

func newTable() *table {
	t := &table{seed: maphash.MakeSeed(), cells: make([]nodeID, 64), links: map[nodeID]string{}, expected: map[nodeID]transfer.Digest{}}
	t.push(0, "")
	t.at(0).flags = flagSet | uint16(transfer.Directory)<<typeShift
	return t
}

func (t *table) at(id nodeID) *node {
	return &t.pages[id>>pageBits].nodes[id&(pageNodes-1)]
}

// hash returns the place of a one-chunk file's hash; size is its length.
func (t *table) hash(id nodeID, size int) []byte {
	if size == 0 {
		return nil
	}
	i := int(id&(pageNodes-1)) * size
	return t.pages[id>>pageBits].hashes[i : i+size : i+size]
}

// needHash makes room for hashes in the node's page.
func (t *table) needHash(id nodeID, size int) {
	if p := t.pages[id>>pageBits]; p.hashes == nil && size > 0 {
		p.hashes = make([]byte, pageNodes*size)
	}
}

func (t *table) name(id nodeID) string {
	n := t.at(id)
	s := t.slabs[n.name>>slabBits]
	o := n.name & (1<<slabBits - 1)
	return string(s[o : o+uint32(n.length)])
}

func (t *table) nameIs(n *node, name string) bool {
	if int(n.length) != len(name) {
		return false
	}
	s := t.slabs[n.name>>slabBits]
	o := n.name & (1<<slabBits - 1)
	return string(s[o:o+uint32(n.length)]) == name
}

// path joins the names from the root down.
func (t *table) path(id nodeID) string {
	total := -1
	for i := id; i != 0; i = t.at(i).parent {
		total += int(t.at(i).length) + 1
	}
	if total <= 0 {
		return ""
	}
	var few [256]byte // of most paths: only the string is allocated
	b := few[:min(total, len(few))]
	if total > len(few) {
		b = make([]byte, total)
	}
	for i := id; i != 0; {
		n := t.at(i)
		o := n.name & (1<<slabBits - 1)
		total -= copy(b[total-int(n.length):], t.slabs[n.name>>slabBits][o:o+uint32(n.length)])
		if total > 0 {
			total--
			b[total] = '/'
		}
		i = n.parent
	}
	return string(b)
}

func (t *table) cell(parent nodeID, name string) (int, nodeID) {
	h := maphash.String(t.seed, name) ^ uint64(parent)*0x9e3779b97f4a7c15
	mask := uint64(len(t.cells) - 1)
	for i := (h ^ h>>29) & mask; ; i = (i + 1) & mask {
		id := t.cells[i]
		if id == 0 {
			return int(i), 0 //nolint:gosec // below len
		}
		if n := t.at(id); n.parent == parent && t.nameIs(n, name) {
			return int(i), id //nolint:gosec // below len
		}
	}
}

// child finds a name below parent.
func (t *table) child(parent nodeID, name string) (nodeID, bool) {
	_, id := t.cell(parent, name)
	return id, id != 0
}

// intern finds or makes the node of a name below parent.
func (t *table) intern(parent nodeID, name string) nodeID {
	i, id := t.cell(parent, name)
	if id != 0 {
		return id
	}
	if int(t.count)*4 >= len(t.cells)*3 {
		t.rehash(len(t.cells) * 2)
		i, _ = t.cell(parent, name)
	}
	id = t.push(parent, name)
	t.cells[i] = id
	return id
}

func (t *table) push(parent nodeID, name string) nodeID {
	id := nodeID(t.count)
	if int(id>>pageBits) == len(t.pages) {
		t.pages = append(t.pages, &page{})
	}
	last := len(t.slabs) - 1
	if last < 0 || len(t.slabs[last])+len(name) > cap(t.slabs[last]) {
		size := 1 << slabBits
		if last < 0 {
			size = 4096 // a transfer of one file needs little
		}
		t.slabs = append(t.slabs, make([]byte, 0, size))
		last++
	}
	n := t.at(id)
	n.parent, n.length = parent, uint8(len(name))                //nolint:gosec // names are at most 255
	n.name = uint32(last)<<slabBits | uint32(len(t.slabs[last])) //nolint:gosec // bounded by maxNodes
	n.mtime = noTime
	t.slabs[last] = append(t.slabs[last], name...)
	t.count++
	return id
}

func (t *table) rehash(size int) {
	t.cells = make([]nodeID, size)
	for id := nodeID(1); id < nodeID(t.count); id++ {
		i, _ := t.cell(t.at(id).parent, t.name(id))
		t.cells[i] = id
	}
}

// truncate forgets the nodes from count on, the last ones interned.
func (t *table) truncate(count uint32) {
	if t.count == count {
		return
	}
	for id := nodeID(count); id < nodeID(t.count); id++ {
		*t.at(id) = node{} // nobody else knows these nodes yet
		delete(t.links, id)
		delete(t.expected, id)
	}
	t.count = count
	t.pages = t.pages[:(count+pageNodes-1)>>pageBits]
	t.rehash(len(t.cells))
}

// walk interns every element of a path and returns the node of the last.
func (t *table) walk(p transfer.Path) nodeID {
	id := nodeID(0)
	for rest := string(p); rest != ""; {
		elem, tail, _ := strings.Cut(rest, "/")
		id, rest = t.intern(id, elem), tail
	}
	return id
}

// find is walk without making anything.
func (t *table) find(p transfer.Path) (nodeID, bool) {
	id, ok := nodeID(0), true
	for rest := string(p); rest != "" && ok; {
		elem, tail, _ := strings.Cut(rest, "/")
		id, ok = t.child(id, elem)
		rest = tail
	}
	return id, ok
}

// nanos packs a time; what does not fit 64 bits of nanoseconds (before 1678,
// after 2262) is clamped, the zero time is noTime.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return noTime
	case t.Year() < 1678:
		return math.MinInt64 + 1
	case t.Year() >= 2262:
		return math.MaxInt64
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == noTime {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// same reports whether the node's attributes describe the entry's content.
func (t *table) same(id nodeID, e *transfer.Entry) bool {
	n := t.at(id)
	if !n.has(flagSet) || n.typ() != e.Type || n.mtime != nanos(e.ModTime) || t.links[id] != e.Link {
		return false
	}
	if n.has(flagUnknown) || e.Size < 0 {
		return false // standard input cannot be told from another
	}
	return n.size == e.Size
}

// set gives the node the entry's attributes.
func (t *table) set(id nodeID, e *transfer.Entry) {
	n := t.at(id)
	n.size, n.mtime, n.mode = e.Size, nanos(e.ModTime), uint16(e.Mode.Perm())
	n.flags = n.flags&^(3<<typeShift|flagUnknown|flagFinal) | uint16(e.Type)<<typeShift | flagSet
	if e.Type == transfer.Regular && e.Size < 0 {
		n.size = 0
		n.flags |= flagUnknown
	}
	if e.Link != "" {
		t.links[id] = e.Link
	} else {
		delete(t.links, id)
	}
	if !e.Expected.IsZero() {
		t.expected[id] = e.Expected
	} else {
		delete(t.expected, id)
	}
}

// entry is the inverse of set.
func (t *table) entry(id nodeID) transfer.Entry {
	n := t.at(id)
	e := transfer.Entry{
		Index: n.index, Path: transfer.Path(t.path(id)), Type: n.typ(), Size: n.size, Mode: fs.FileMode(n.mode),
		ModTime: fromNanos(n.mtime), Link: t.links[id], Expected: t.expected[id],
	}
	if n.unknown() {
		e.Size = transfer.UnknownSize
	}
	return e
}
