package store

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// openDestination opens the directory that a transfer publishes into: the
// prefix and Into below the root, one element after another, no link followed
// and no filesystem left. Without makes a missing one is nil and no error.
func (d *Disk) openDestination(spec *Spec, makes bool) (*dir, error) {
	at := "."
	cur, err := d.root.sub(at)
	if err != nil {
		return nil, transfer.Errorf(transfer.Internal, "open destination", d.cfg.Root, "%w", err)
	}
	for _, part := range []string{spec.Prefix, spec.Options.Into} {
		for rest := part; rest != ""; {
			elem, tail, _ := strings.Cut(rest, "/")
			at += "/" + elem
			next, err := cur.step(elem, makes, 0o777)
			_ = cur.close()
			if err != nil {
				return nil, destinationError(at[2:], err)
			}
			if next == nil {
				return nil, nil //nolint:nilnil // documented
			}
			cur, rest = next, tail
		}
	}
	return cur, nil
}

// step opens or makes one directory on the way to a destination; what it makes
// is durable.
func (d *dir) step(name string, makes bool, perm fs.FileMode) (*dir, error) {
	next, err := d.sub(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return next, err
	}
	if !makes {
		return nil, nil //nolint:nilnil // documented at openDestination
	}
	if err := d.mkdir(name, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if next, err = d.sub(name); err != nil {
		return nil, err
	}
	if err := errors.Join(next.sync(), d.sync()); err != nil {
		_ = next.close()
		return nil, err
	}
	return next, nil
}

func destinationError(path string, err error) error {
	kind, reason := wayError(err)
	if kind == transfer.Internal {
		return transfer.Errorf(kind, "open destination", path, "%w", err)
	}
	return transfer.Errorf(kind, "open destination", path, "%s", reason).WithHint("choose another directory with --into")
}

// wayError says why a directory on the way cannot be entered.
func wayError(err error) (transfer.Kind, string) {
	switch {
	case isForeign(err):
		return transfer.Denied, "another filesystem is mounted there, and a transfer is published on one only"
	case isLink(err):
		return transfer.Denied, "a symbolic link is in the way, and links are never followed"
	case isNotDir(err):
		return transfer.Exists, "a file is in the place of a directory"
	case errors.Is(err, fs.ErrPermission):
		return transfer.Denied, "the receiver may not enter the directory"
	case isFull(err):
		return transfer.NoSpace, "the disk is full"
	}
	return transfer.Internal, err.Error()
}

// look is what is known of the destination while a part is judged.
type look struct {
	s    *stage
	a    *addition
	tree *dirTree // nil: nothing is there yet
}

// lookAtDestination checks a part against what is there already. Nothing is
// reserved by it: publishing decides anew.
func (s *stage) lookAtDestination(ctx context.Context, a *addition) error {
	base, err := s.d.openDestination(&s.spec, false)
	if err != nil {
		return err
	}
	if base == nil {
		return nil
	}
	l := look{s: s, a: a, tree: newDirTree(s.locate, base, false)}
	defer l.tree.closeAll()
	for i := range a.entries {
		if i%1024 == 0 && ctx.Err() != nil {
			return canceled(ctx.Err())
		}
		l.entry(i)
	}
	return nil
}

func (l *look) entry(i int) {
	e, id := &l.a.entries[i], l.a.ids[i]
	parent := l.s.t.at(id).parent
	there, ok := l.directory(e, parent)
	if !ok || !there {
		return
	}
	if e.Type == transfer.Directory {
		l.directory(e, id)
		return
	}
	h, err := l.tree.get(parent)
	if err != nil {
		return // it went away in between; publishing decides
	}
	defer l.tree.put(h)
	name := l.s.t.name(id)
	st, err := h.lstat(name)
	if err != nil {
		return
	}
	l.file(i, h, name, st)
}

// file judges a name that is taken.
func (l *look) file(i int, h *handle, name string, st info) {
	e, opts := &l.a.entries[i], &l.s.spec.Options
	single := opts.TotalFiles == 1
	switch {
	case st.kind.IsDir():
		if opts.Conflict != transfer.Rename {
			l.a.refuse(e.Path, transfer.Exists, "a directory is in the place of the %s", e.Type)
		}
	case opts.Conflict == transfer.SkipIdentical && identical(h.dir, name, st, e):
		l.a.skip[i] = true
	case single && (opts.Conflict == transfer.Fail || opts.Conflict == transfer.SkipIdentical):
		l.a.refuse(e.Path, transfer.Exists, "the name is taken at the receiver")
	}
}

// identical compares what skip-identical compares: kind, size and modification
// time for files, the target for links. On a filesystem that keeps whole seconds
// only those count.
func identical(d *dir, name string, st info, e *transfer.Entry) bool {
	switch e.Type {
	case transfer.Regular:
		const second = 1_000_000_000
		want := nanos(e.ModTime)
		equal := st.mtime == want || (st.mtime%second == 0 && st.mtime == want-want%second)
		return st.kind == 0 && st.size == e.Size && equal
	case transfer.Symlink:
		if st.kind != fs.ModeSymlink {
			return false
		}
		target, err := d.readlink(name)
		return err == nil && target == e.Link
	default:
		return st.kind.IsDir()
	}
}

// directory reports whether a directory of the manifest is there; false in ok
// means that the entry was refused because of it.
func (l *look) directory(e *transfer.Entry, id nodeID) (there, ok bool) {
	if id == 0 {
		return true, true
	}
	n := l.s.t.at(id)
	if n.has(flagLook) {
		return n.has(flagThere), true
	}
	there, ok = l.directory(e, n.parent)
	if !ok {
		return false, false
	}
	if there {
		h, err := l.tree.get(id)
		switch {
		case err == nil:
			l.tree.put(h)
		case errors.Is(err, fs.ErrNotExist):
			there = false
		default:
			kind, reason := wayError(err)
			if kind == transfer.Exists && l.s.spec.Options.Conflict == transfer.Rename {
				there = false // the whole directory gets another name
				break
			}
			l.a.refuse(e.Path, kind, "%s: %s", transfer.Quote(l.s.t.path(id)), reason)
			return false, false
		}
	}
	l.s.mu.Lock()
	n.flags |= flagLook
	if there {
		n.flags |= flagThere
	}
	l.s.mu.Unlock()
	return there, true
}

// Check judges entries as Add would and leaves no state.
func (d *Disk) Check(ctx context.Context, spec Spec, entries []transfer.Entry) ([]transfer.Problem, error) {
	if err := ctx.Err(); err != nil {
		return nil, canceled(err)
	}
	for _, p := range []string{spec.Prefix, spec.Options.Into} {
		if p == "" {
			continue
		}
		if _, err := transfer.ParsePath(p, spec.Options.Names); err != nil {
			return nil, err
		}
	}
	s := d.newStage(spec)
	s.acct.up = nil
	first := uint32(0)
	if len(entries) > 0 {
		first = entries[0].Index
	}
	s.order = make([]nodeID, first) // a plan may come in parts
	a, err := s.judge(ctx, entries)
	if len(a.problems) > 0 {
		return a.problems, nil
	}
	if err != nil {
		return nil, err
	}
	d.space.Lock()
	defer d.space.Unlock()
	return nil, d.wouldFit(a.need, a.files)
}
