package store

import (
	"errors"
	"io/fs"
	"os"
	"sync"
)

// Descriptors kept open per stage. RLIMIT_NOFILE is often 1,024 for a process,
// and a receiver serves several transfers.
const (
	maxOpenDirs  = 128
	maxOpenFiles = 64
)

// dirTree opens the directories of a tree of nodes below one base, each one
// relative to its parent, and keeps the latest open.
type dirTree struct {
	locate  func(nodeID) (parent nodeID, name string)
	created func(parent nodeID) // told after a directory was made in parent
	make    bool                // missing directories are made, 0700

	mu    sync.Mutex
	base  *handle
	open  map[nodeID]*handle
	clock uint64
}

type handle struct {
	*dir
	id   nodeID
	refs int
	used uint64
}

func newDirTree(locate func(nodeID) (nodeID, string), base *dir, makes bool) *dirTree {
	return &dirTree{
		locate: locate, created: func(nodeID) {},
		make: makes, base: &handle{dir: base, refs: 1}, open: map[nodeID]*handle{},
	}
}

// get opens the directory of a node; put gives it back.
func (t *dirTree) get(id nodeID) (*handle, error) { return t.lookup(id, t.make) }

// find is get without making anything.
func (t *dirTree) find(id nodeID) (*handle, error) { return t.lookup(id, false) }

func (t *dirTree) lookup(id nodeID, makes bool) (*handle, error) {
	if id == 0 {
		return t.base, nil
	}
	t.mu.Lock()
	if h := t.open[id]; h != nil {
		h.refs++
		t.clock++
		h.used = t.clock
		t.mu.Unlock()
		return h, nil
	}
	t.mu.Unlock()
	parent, name := t.locate(id)
	p, err := t.lookup(parent, makes)
	if err != nil {
		return nil, err
	}
	defer t.put(p)
	d, err := p.sub(name)
	if makes && errors.Is(err, fs.ErrNotExist) {
		if err = p.mkdir(name, 0o700); err == nil {
			t.created(parent)
		}
		if err == nil || errors.Is(err, fs.ErrExist) {
			d, err = p.sub(name)
		}
	}
	if err != nil {
		return nil, err
	}
	return t.keep(id, d), nil
}

func (t *dirTree) keep(id nodeID, d *dir) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clock++
	if h := t.open[id]; h != nil { // another lane was faster
		h.refs++
		_ = d.close()
		return h
	}
	if len(t.open) >= maxOpenDirs {
		t.evict()
	}
	h := &handle{dir: d, id: id, refs: 1, used: t.clock}
	t.open[id] = h
	return h
}

// evict closes the directory that nobody asked for the longest.
func (t *dirTree) evict() {
	var oldest *handle
	for _, h := range t.open {
		if h.refs == 0 && (oldest == nil || h.used < oldest.used) {
			oldest = h
		}
	}
	if oldest != nil {
		delete(t.open, oldest.id)
		_ = oldest.close()
	}
}

func (t *dirTree) put(h *handle) {
	if h == t.base {
		return
	}
	t.mu.Lock()
	h.refs--
	if h.refs == 0 && t.open[h.id] != h {
		_ = h.close()
	}
	t.mu.Unlock()
}

// drop forgets a directory that was moved or removed.
func (t *dirTree) drop(id nodeID) {
	t.mu.Lock()
	if h := t.open[id]; h != nil {
		delete(t.open, id)
		if h.refs == 0 {
			_ = h.close()
		}
	}
	t.mu.Unlock()
}

// dropAll forgets every directory but the base.
func (t *dirTree) dropAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, h := range t.open {
		delete(t.open, id)
		if h.refs == 0 {
			_ = h.close()
		}
	}
}

func (t *dirTree) closeAll() {
	t.dropAll()
	_ = t.base.close()
}

// openFiles keeps the latest large files of a stage open for writing.
type openFiles struct {
	mu    sync.Mutex
	open  map[nodeID]*openFile
	clock uint64
}

type openFile struct {
	*os.File
	id   nodeID
	refs int
	used uint64
}

// get returns the open file or opens it with fn, which is called by one caller
// at a time.
func (o *openFiles) get(id nodeID, fn func() (*os.File, error)) (*openFile, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clock++
	if f := o.open[id]; f != nil {
		f.refs++
		f.used = o.clock
		return f, nil
	}
	f, err := fn()
	if err != nil {
		return nil, err
	}
	if o.open == nil {
		o.open = map[nodeID]*openFile{}
	}
	if len(o.open) >= maxOpenFiles {
		o.evict()
	}
	of := &openFile{File: f, id: id, refs: 1, used: o.clock}
	o.open[id] = of
	return of, nil
}

func (o *openFiles) evict() {
	var oldest *openFile
	for _, f := range o.open {
		if f.refs == 0 && (oldest == nil || f.used < oldest.used) {
			oldest = f
		}
	}
	if oldest != nil {
		delete(o.open, oldest.id)
		_ = oldest.Close()
	}
}

func (o *openFiles) put(f *openFile) {
	o.mu.Lock()
	f.refs--
	if f.refs == 0 && o.open[f.id] != f {
		_ = f.Close()
	}
	o.mu.Unlock()
}

// drop closes a file as soon as nobody uses it.
func (o *openFiles) drop(id nodeID) {
	o.mu.Lock()
	if f := o.open[id]; f != nil {
		delete(o.open, id)
		if f.refs == 0 {
			_ = f.Close()
		}
	}
	o.mu.Unlock()
}

func (o *openFiles) closeAll() {
	o.mu.Lock()
	for id, f := range o.open {
		delete(o.open, id)
		if f.refs == 0 {
			_ = f.Close()
		}
	}
	o.mu.Unlock()
}
