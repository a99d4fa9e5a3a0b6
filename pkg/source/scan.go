package source

import (
	"context"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Scan looks at the roots and walks them in the background until Close or the
// end of ctx. The error is Invalid or NotFound when the configuration or a root
// itself is at fault.
func Scan(ctx context.Context, cfg Config) (*Source, error) {
	f, err := newFilter(cfg.Exclude, cfg.Include)
	if err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, filter: f, done: make(chan struct{}), wake: make(chan struct{})}
	roots, err := s.findRoots()
	if err != nil {
		return nil, err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	w := &walk{s: s}
	go func() {
		defer close(s.done)
		err := w.run(ctx, roots)
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case err != nil:
			s.scanErr = err
		case s.problems.total > 0 && !cfg.KeepGoing:
			s.scanErr = s.problems.err()
		default:
			s.scanErr = io.EOF
		}
		s.announce()
	}()
	return s, nil
}

// givenRoot is a root after it was looked at.
type givenRoot struct {
	given   string // as it was given
	offered string
	isDir   bool
}

func (s *Source) findRoots() ([]givenRoot, error) {
	cfg := &s.cfg
	switch {
	case len(cfg.Roots) == 0:
		return nil, transfer.Errorf(transfer.Invalid, "scan the source", "", "nothing to send was named")
	case cfg.As != "" && len(cfg.Roots) > 1:
		return nil, transfer.Errorf(transfer.Invalid, "scan the source", "", "one name (%s) was given for %d files", transfer.Quote(cfg.As), len(cfg.Roots)).
			WithHint("--as serves for one file or directory; use --into for a directory")
	case strings.Contains(cfg.As, "/"):
		return nil, transfer.Errorf(transfer.Invalid, "scan the source", "", "the name %s has a slash", transfer.Quote(cfg.As)).
			WithHint("use --into for a directory")
	}
	roots := make([]givenRoot, 0, len(cfg.Roots))
	seen := make(map[string]string, len(cfg.Roots))
	for _, given := range cfg.Roots {
		r, p := s.lookAt(given)
		if p == nil {
			key := r.offered
			if cfg.Names == transfer.Portable {
				key = transfer.FoldKey(transfer.Path(key))
			}
			if other, taken := seen[key]; taken {
				p = &transfer.Problem{Path: given, Kind: transfer.Invalid, Reason: "it would have the same name as " + transfer.Quote(other)}
			}
			seen[key] = given
		}
		if p != nil {
			s.problems.add(*p)
			continue
		}
		roots = append(roots, r)
	}
	if s.problems.total > 0 && (!cfg.KeepGoing || len(roots) == 0) {
		err := s.problems.err()
		return nil, err
	}
	if !cfg.Expected.IsZero() {
		if len(roots) != 1 || roots[0].isDir {
			return nil, transfer.Errorf(transfer.Invalid, "scan the source", "", "an expected digest serves for one file only")
		}
		s.m.expected = cfg.Expected
	}
	slices.SortFunc(roots, func(a, b givenRoot) int { return strings.Compare(a.offered, b.offered) })
	return roots, nil
}

func (s *Source) lookAt(given string) (givenRoot, *transfer.Problem) {
	problem := func(k transfer.Kind, why string) (givenRoot, *transfer.Problem) {
		return givenRoot{}, &transfer.Problem{Path: given, Kind: k, Reason: why}
	}
	fi, err := os.Stat(given)
	if err != nil {
		return problem(reason(err))
	}
	r := givenRoot{given: given, offered: s.cfg.As, isDir: fi.IsDir()}
	if !fi.IsDir() && !fi.Mode().IsRegular() {
		return problem(transfer.Invalid, "it is neither a file nor a directory; send what it gives with: sender send - --as NAME")
	}
	if r.offered == "" {
		abs, err := filepath.Abs(given)
		if err != nil {
			return problem(transfer.Internal, err.Error())
		}
		r.offered = filepath.Base(abs)
	}
	if _, err := transfer.ParsePath(r.offered, s.cfg.Names); err != nil {
		return problem(transfer.Invalid, ProblemOf(err).Reason+"; choose another with --as")
	}
	return r, nil
}

// walk is the state of a scan.
type walk struct {
	s     *Source
	dirs  dirStack
	stack []uint32 // directories to visit, the next one last
	batch []found
	files map[string]uint32 // directories of given files
}

// found is an entry on its way into the manifest.
type found struct {
	name string
	in   info
	typ  transfer.Type
	link string
}

func (w *walk) run(ctx context.Context, roots []givenRoot) error {
	defer w.dirs.truncate(0)
	w.files = make(map[string]uint32)
	for _, r := range roots {
		if r.isDir {
			w.stack = append(w.stack, w.addDir(dirRecord{root: &root{path: filepath.Clean(r.given), offered: r.offered}, parent: noDir}))
		} else if err := w.givenFile(r); err != nil {
			return err
		}
		for len(w.stack) > 0 {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			d := w.stack[len(w.stack)-1]
			w.stack = w.stack[:len(w.stack)-1]
			if err := w.visit(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) addDir(d dirRecord) uint32 {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.m.dirs = append(w.s.m.dirs, d)
	return uint32(len(w.s.m.dirs) - 1) //nolint:gosec // fewer than entries
}

// givenFile adds a root that is a file.
func (w *walk) givenFile(r givenRoot) error {
	at := filepath.Clean(r.given)
	if real, err := filepath.EvalSymlinks(at); err == nil && real != at && filepath.Base(real) != filepath.Base(at) {
		at = real // a link given by name is followed
	} else if fi, err := os.Lstat(at); err == nil && fi.Mode().Type() != 0 {
		at = real
	}
	dirPath, name := filepath.Split(at)
	if dirPath == "" {
		dirPath = "."
	}
	rt := &root{path: filepath.Clean(dirPath)}
	idx, known := w.files[rt.path]
	if name != r.offered {
		rt.as, known = r.offered, false
	}
	if !known {
		idx = w.addDir(dirRecord{root: rt, parent: noDir})
		if rt.as == "" {
			w.files[rt.path] = idx
		}
	}
	d, err := w.openDir(idx)
	if err == nil {
		var in info
		if in, err = d.lstat(name); err == nil && in.kind == kindFile {
			if k, why := w.file(d, name, in); why != "" {
				w.problem(r.given, k, why)
			}
			return w.flush(idx)
		}
	}
	if err == nil {
		w.problem(r.given, transfer.Changed, "it was replaced while the source was scanned")
		return nil
	}
	k, why := reason(err)
	w.problem(r.given, k, why)
	return nil
}

func (w *walk) openDir(d uint32) (dir, error) {
	w.s.mu.RLock()
	hops := w.dirs.path(&w.s.m, d)
	w.s.mu.RUnlock()
	if hops == nil {
		return w.dirs.top(), nil
	}
	return w.dirs.walk(hops)
}

func (w *walk) problem(localPath string, k transfer.Kind, why string) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.problems.add(transfer.Problem{Path: localPath, Kind: k, Reason: why})
}

// visit lists directory d: itself, its files, and its directories for later.
func (w *walk) visit(ctx context.Context, idx uint32) error {
	w.s.mu.RLock()
	rec := w.s.m.dirs[idx]
	localPath, offered := w.s.m.dirPath(idx, true), w.s.m.dirPath(idx, false)
	w.s.mu.RUnlock()
	d, err := w.openDir(idx)
	var in info
	if err == nil {
		in, err = d.stat()
	}
	var list *names
	if err == nil {
		list, err = d.list()
	}
	if err != nil {
		k, why := reason(err)
		w.problem(localPath, k, why)
		return nil
	}
	if w.loops(idx, in) {
		w.problem(localPath, transfer.Invalid, "the directory contains itself (a loop of mounts)")
		return nil
	}
	if err := w.enter(idx, rec, in); err != nil {
		return err
	}
	list.sort()
	_, rel, _ := strings.Cut(offered, "/")
	return w.content(ctx, d, idx, list, place{localPath, offered, rel})
}

// place is a directory in the three ways of naming it.
type place struct {
	local, offered string
	rel            string // below the root, for patterns
}

// enter adds the directory's own entry, in its parent's name.
func (w *walk) enter(idx uint32, rec dirRecord, in info) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	m := &w.s.m
	dev := m.addDevice(in.Device)
	m.dirs[idx].inode, m.dirs[idx].device = in.Inode, dev
	r := record{mtime: in.MTime, ctime: in.CTime, inode: in.Inode, device: dev, perm: in.perm, typ: transfer.Directory, dir: rec.parent}
	if rec.parent == noDir {
		r.dir = idx // its directory's path is its own
	}
	if !m.add(r, m.text(rec.name, rec.nameLen)) {
		return tooMany()
	}
	w.s.counts.Dirs++
	return nil
}

func tooMany() error {
	return transfer.Errorf(transfer.Invalid, "scan the source", "", "it has more entries than one transfer can name (2^32 entries, 4 GiB of names)").
		WithHint("send it in several transfers")
}

// loops reports whether a directory is one of its own ancestors.
func (w *walk) loops(idx uint32, in info) bool {
	w.s.mu.RLock()
	defer w.s.mu.RUnlock()
	m := &w.s.m
	for p := m.dirs[idx].parent; p != noDir; p = m.dirs[p].parent {
		if m.dirs[p].inode == in.Inode && m.devices[m.dirs[p].device] == in.Device && in.Inode != 0 {
			return true
		}
	}
	return false
}

// content adds what a directory holds.
func (w *walk) content(ctx context.Context, d dir, idx uint32, list *names, at place) error {
	var subdirs []int
	folded := map[string]string{}
	for i := range list.off {
		if i%1024 == 1023 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name := list.at(i)
		in, err := d.lstat(name)
		if err != nil {
			if k, why := reason(err); k != transfer.NotFound { // gone since it was listed: never seen
				w.problem(join(at.local, name), k, why)
			}
			continue
		}
		if !w.s.filter.empty() && w.s.filter.out(join(at.rel, name), name, in.kind == kindDir) {
			w.s.mu.Lock()
			w.s.counts.Excluded++
			w.s.mu.Unlock()
			continue
		}
		if !w.nameOK(name, at, folded) {
			continue
		}
		switch in.kind {
		case kindDir:
			subdirs = append(subdirs, i)
		case kindFile:
			if k, why := w.file(d, name, in); why != "" {
				w.problem(join(at.local, name), k, why)
			}
		case kindLink:
			w.link(d, name, at, in)
		default:
			w.special(join(at.local, name), in.kind)
		}
		if len(w.batch) >= 512 {
			if err := w.flush(idx); err != nil {
				return err
			}
		}
	}
	if err := w.flush(idx); err != nil {
		return err
	}
	return w.later(idx, list, subdirs)
}

func (w *walk) later(idx uint32, list *names, subdirs []int) error {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	m := &w.s.m
	for k := len(subdirs) - 1; k >= 0; k-- {
		name := list.at(subdirs[k])
		off, ok := m.addName(name)
		if !ok {
			return tooMany()
		}
		m.dirs = append(m.dirs, dirRecord{parent: idx, name: off, nameLen: uint8(len(name))}) //nolint:gosec // checked by nameOK
		w.stack = append(w.stack, uint32(len(m.dirs)-1))                                      //nolint:gosec // fewer than names
	}
	return nil
}

// nameOK judges a name; a refused one is a problem.
func (w *walk) nameOK(name string, at place, folded map[string]string) bool {
	// What is above was judged before; the path is joined only when it is not plain.
	if at.offered == "" || len(at.offered)+1+len(name) > transfer.MaxPath || !transfer.ValidElement(name, w.s.cfg.Names) {
		if _, err := transfer.ParsePath(join(at.offered, name), w.s.cfg.Names); err != nil {
			w.problem(join(at.local, name), transfer.Invalid, ProblemOf(err).Reason)
			return false
		}
	}
	if w.s.cfg.Names == transfer.Portable {
		key := transfer.FoldKey(transfer.Path(name))
		if other, taken := folded[key]; taken {
			w.problem(join(at.local, name), transfer.Invalid, "its name and "+transfer.Quote(other)+" are the same where case does not count")
			return false
		}
		folded[key] = name
	}
	return true
}

func (w *walk) file(d dir, name string, in info) (transfer.Kind, string) {
	if !privileged() {
		if err := d.readable(name); err != nil {
			return reason(err)
		}
	}
	if in.Size > transfer.MaxFileSize {
		return transfer.Invalid, "it is larger than any transfer can be"
	}
	w.batch = append(w.batch, found{name: name, in: in})
	return transfer.OK, ""
}

func (w *walk) special(localPath string, k kind) {
	if !w.s.cfg.SkipSpecial {
		w.problem(localPath, transfer.Invalid, "it is "+k.special()+"; --skip-special leaves such things out")
		return
	}
	w.s.mu.Lock()
	w.s.counts.SkippedSpecial++
	w.s.mu.Unlock()
}

func (w *walk) link(d dir, name string, at place, in info) {
	if w.s.cfg.Links != PreserveLinks {
		w.s.mu.Lock()
		w.s.counts.SkippedLinks++
		w.s.mu.Unlock()
		return
	}
	target, err := d.readlink(name)
	if err != nil {
		k, why := reason(err)
		w.problem(join(at.local, name), k, why)
		return
	}
	if !inside(at.rel, target) {
		w.problem(join(at.local, name), transfer.Invalid, "the link leaves the tree; only relative links that stay inside can be preserved")
		return
	}
	in.Size = 0
	w.batch = append(w.batch, found{name: name, in: in, typ: transfer.Symlink, link: target})
}

// inside reports whether target, read in the directory rel below the root, stays
// below the root at every step.
func inside(rel, target string) bool {
	if target == "" || path.IsAbs(target) {
		return false
	}
	depth := 0
	if rel != "" {
		depth = strings.Count(rel, "/") + 1
	}
	for elem := range strings.SplitSeq(target, "/") {
		switch elem {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return false
			}
		default:
			depth++
		}
	}
	return true
}

// flush publishes the batch, whose entries stand in directory idx.
func (w *walk) flush(idx uint32) error {
	if len(w.batch) == 0 {
		return nil
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	m := &w.s.m
	for i := range w.batch {
		f := &w.batch[i]
		if f.typ == transfer.Symlink {
			m.link(m.n, f.link)
			w.s.counts.Links++
		} else {
			w.s.counts.Files++
			w.s.counts.Bytes += f.in.Size
		}
		r := record{
			size: f.in.Size, mtime: f.in.MTime, ctime: f.in.CTime, inode: f.in.Inode,
			device: m.addDevice(f.in.Device), perm: f.in.perm, typ: f.typ, dir: idx,
		}
		if !m.add(r, f.name) {
			return tooMany()
		}
	}
	w.batch = w.batch[:0]
	w.s.announce()
	return nil
}
