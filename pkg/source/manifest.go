package source

import (
	"io/fs"
	"unsafe"

	"github.com/e27efefb/sluice/pkg/transfer"
)

const (
	slabLen  = 256     // records a slab: 12 KiB at once, never copied, and little for one file
	arenaLen = 1 << 16 // octets of names a block, at most
	arenaMin = 1 << 10 // of the first: a sender of many small jobs has one for each
	noDir    = ^uint32(0)
)

// record is one entry, 48 octets.
type record struct {
	size, mtime, ctime int64
	inode              uint64
	name               uint32 // where its name begins in the arena
	dir                uint32 // index of the directory that holds it
	perm               uint16
	device             uint16 // index into manifest.devices
	nameLen            uint8
	typ                transfer.Type
}

// dirRecord is one directory. A root's has parent noDir and root set.
type dirRecord struct {
	root    *root
	inode   uint64
	parent  uint32
	name    uint32
	device  uint16
	nameLen uint8
}

// root is a directory from which paths are opened: a root that was given, or the
// directory of files that were given.
type root struct {
	path    string // where it is on this machine, as given
	offered string // the first element of its paths; "" for the directory of given files
	as      string // offered name of the one given file, when it differs from its own
}

// manifest is every entry found so far, packed.
type manifest struct {
	expected transfer.Digest // of entry 0, if that is a file
	slabs    []*[slabLen]record
	n        uint32
	dirs     []dirRecord
	devices  []uint64
	arena    [][]byte
	used     int // of the last block
	links    map[uint32]string
}

// addName copies a name of at most 255 octets into the arena.
func (m *manifest) addName(s string) (off uint32, ok bool) {
	last := len(m.arena) - 1
	if last < 0 || m.used+len(s) > len(m.arena[last]) {
		size := arenaLen
		if last++; last == 0 {
			size = arenaMin
		}
		if last == 1<<32/arenaLen {
			return 0, false
		}
		m.arena = append(m.arena, make([]byte, size))
		m.used = 0
	}
	copy(m.arena[last][m.used:], s)
	off = uint32(last*arenaLen + m.used) //nolint:gosec // bounded above
	m.used += len(s)
	return off, true
}

func (m *manifest) text(off uint32, n uint8) string {
	if n == 0 {
		return ""
	}
	return unsafe.String(&m.arena[off/arenaLen][off%arenaLen], int(n)) // written once, before it is published
}

func (m *manifest) addDevice(dev uint64) uint16 {
	for i, d := range m.devices {
		if d == dev {
			return uint16(i) //nolint:gosec // bounded below
		}
	}
	if len(m.devices) == 1<<16-1 {
		return 1<<16 - 1 // more filesystems than that share one number
	}
	m.devices = append(m.devices, dev)
	return uint16(len(m.devices) - 1) //nolint:gosec // bounded above
}

func (m *manifest) at(i uint32) *record { return &m.slabs[i/slabLen][i%slabLen] }

// add appends an entry; false when the arena or the indexes are exhausted.
func (m *manifest) add(r record, name string) bool {
	off, ok := m.addName(name)
	if !ok || m.n == noDir {
		return false
	}
	r.name, r.nameLen = off, uint8(len(name)) //nolint:gosec // at most 255
	if m.n%slabLen == 0 {
		m.slabs = append(m.slabs, new([slabLen]record))
	}
	*m.at(m.n) = r
	m.n++
	return true
}

func (m *manifest) stamp(r *record) Stamp {
	return Stamp{Size: r.size, MTime: r.mtime, CTime: r.ctime, Inode: r.inode, Device: m.devices[r.device]}
}

// dirPath returns the path of a directory: offered, or on this machine.
func (m *manifest) dirPath(d uint32, local bool) string {
	rec := &m.dirs[d]
	if rec.parent == noDir {
		if local {
			return rec.root.path
		}
		return rec.root.offered
	}
	return join(m.dirPath(rec.parent, local), m.text(rec.name, rec.nameLen))
}

func join(dir, name string) string {
	switch {
	case dir == "":
		return name
	case name == "":
		return dir
	case dir[len(dir)-1] == '/':
		return dir + name
	}
	return dir + "/" + name
}

// path returns the offered path of an entry whose directory has the given one.
func (m *manifest) path(r *record, dirPath string) string {
	if rt := m.dirs[r.dir].root; rt != nil && rt.as != "" {
		return rt.as
	}
	return join(dirPath, m.text(r.name, r.nameLen))
}

func (m *manifest) entry(i uint32, r *record, dirPath string) transfer.Entry {
	e := transfer.Entry{
		Index: i, Path: transfer.Path(m.path(r, dirPath)), Type: r.typ, Size: r.size,
		Mode: fs.FileMode(r.perm), ModTime: Stamp{MTime: r.mtime}.modTime(),
	}
	if r.typ == transfer.Symlink {
		e.Link = m.links[i]
	}
	if i == 0 && r.typ == transfer.Regular {
		e.Expected = m.expected
	}
	return e
}

// without returns a copy that lacks the entries of drop.
func (m *manifest) without(drop map[uint32]bool) manifest {
	out := *m
	out.slabs, out.n, out.links = nil, 0, nil
	for i := range m.n {
		if drop[i] {
			continue
		}
		if out.n%slabLen == 0 {
			out.slabs = append(out.slabs, new([slabLen]record))
		}
		if l, ok := m.links[i]; ok {
			out.link(out.n, l)
		}
		*out.at(out.n) = *m.at(i)
		out.n++
	}
	return out
}

func (m *manifest) link(i uint32, target string) {
	if m.links == nil {
		m.links = make(map[uint32]string)
	}
	m.links[i] = target
}
