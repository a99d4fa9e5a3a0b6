package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// batchNames is how many names share one INTENT record and one sync of the
// journal.
const batchNames = 512

// maxLost is how often one name may lose a race before it is given up.
const maxLost = 100

// What became of a node while it is published: an outcome, or one of these.
const (
	undecided uint8 = 0x80 + iota
	inBatch
	withParent // moved as part of a directory
	notWith    // its directory was not published
)

// publisher publishes the nodes of a stage from the top down. A directory that
// is new moves with everything below it by one rename; into one that exists its
// content is merged.
type publisher struct {
	s       *stage
	dest    *dirTree
	result  []uint8 // by node
	names   map[nodeID]string
	reasons map[nodeID]string
	batch   []unit
	synced  map[nodeID]struct{} // directories with changed names
	roots   int
}

// unit is one name to be published.
type unit struct {
	id      nodeID
	name    string // final name
	ino     uint64
	outcome transfer.Outcome
	try     int // names tried under the policy rename
	lost    int // times that a free name was taken before its rename
}

func (s *stage) newPublisher() (*publisher, error) {
	base, err := s.d.openDestination(&s.spec, true)
	if err != nil {
		return nil, err
	}
	p := &publisher{s: s, result: make([]uint8, s.t.count), names: map[nodeID]string{}, reasons: map[nodeID]string{}, synced: map[nodeID]struct{}{}}
	for i := range p.result {
		p.result[i] = undecided
	}
	p.result[0] = uint8(transfer.DirExisted)
	p.dest = newDirTree(p.locate, base, false)
	for id := nodeID(1); id < nodeID(s.t.count); id++ {
		if p.part(id) && s.t.at(id).parent == 0 {
			p.roots++
		}
	}
	return p, nil
}

func (p *publisher) close() { p.dest.closeAll() }

// locate is where a directory lies at the destination.
func (p *publisher) locate(id nodeID) (nodeID, string) {
	parent, name := p.s.locate(id)
	if other, ok := p.names[id]; ok {
		name = other
	}
	return parent, name
}

// part reports whether a node belongs to the manifest, itself or as a parent.
func (p *publisher) part(id nodeID) bool { return p.s.t.at(id).flags&(flagNow|flagParent) != 0 }

func (p *publisher) isDir(id nodeID) bool {
	n := p.s.t.at(id)
	return !n.has(flagNow) || n.typ() == transfer.Directory
}

// single is the check of a transfer with one root before anything is decided.
func (p *publisher) single() error {
	if p.roots != 1 || p.s.spec.Options.Conflict == transfer.Rename {
		return nil
	}
	for id := nodeID(1); id < nodeID(p.s.t.count); id++ {
		if !p.part(id) || p.s.t.at(id).parent != 0 || p.s.t.at(id).has(flagSkip) {
			continue
		}
		u := unit{id: id, name: p.s.t.name(id)}
		if reason, _, err := p.choose(&u); err != nil {
			return err
		} else if reason != "" {
			return p.taken(id, reason)
		}
	}
	return nil
}

func (p *publisher) taken(id nodeID, reason string) error {
	return transfer.Errorf(transfer.Exists, "publish", p.s.t.path(id), "%s", reason).
		WithHint("what arrived is kept: send again with --on-conflict, or under another name, and nothing is sent twice")
}

// finish publishes everything and leaves the tombstone.
func (p *publisher) finish(sign func(*transfer.Receipt) error) (*transfer.Receipt, error) {
	s := p.s
	if err := p.all(); err != nil {
		return nil, err
	}
	if err := p.syncNames(); err != nil {
		return nil, s.fault("publish", "", err)
	}
	if err := p.directories(); err != nil {
		return nil, s.fault("publish", "", err)
	}
	var r *transfer.Receipt
	var t Tombstone
	list := func(w io.Writer) (err error) {
		r, err = p.receipt(w)
		return err
	}
	err := s.writeTombstone(list, func() *Tombstone {
		if sign != nil {
			if err := sign(r); err != nil {
				s.d.log.Error("cannot sign a receipt; it stays unsigned", "transfer", s.spec.ID.String(), "error", err)
			}
		}
		t = s.tombstone(transfer.StateCommitted)
		t.Info.Receipt, t.Info.Bytes = r, r.Bytes
		return &t
	})
	if err != nil {
		return nil, s.fault("write receipt", "", err)
	}
	s.log.append(recCommitted, nil)
	if err := s.log.sync(); err != nil {
		return nil, s.fault("publish", "", err)
	}
	if err := s.d.bury(s.dir, tombKey{t.Finished.UnixNano(), s.spec.ID}); err != nil {
		return nil, s.fault("write receipt", "", err)
	}
	return r, nil
}

// all goes through the nodes, parents first.
func (p *publisher) all() error {
	for id := nodeID(1); id < nodeID(p.s.t.count); id++ {
		if !p.part(id) {
			continue
		}
		parent := p.s.t.at(id).parent
		if p.result[parent] == inBatch || len(p.batch) == batchNames {
			if err := p.flush(); err != nil {
				return err
			}
		}
		switch p.result[parent] {
		case uint8(transfer.DirExisted):
			p.result[id] = inBatch
			p.batch = append(p.batch, unit{id: id, name: p.s.t.name(id)})
		case uint8(transfer.Published), uint8(transfer.Renamed), withParent:
			p.result[id] = withParent
		default:
			p.result[id] = notWith
		}
	}
	return p.flush()
}

// flush publishes a batch: choose names, journal them, rename.
func (p *publisher) flush() error {
	for len(p.batch) > 0 {
		todo := p.batch
		p.batch = nil
		ready, record := todo[:0], []byte(nil)
		for _, u := range todo {
			move, err := p.decide(&u)
			if err != nil {
				return err
			}
			if move {
				record = appendIntent(record, u.id, intent{ino: u.ino, outcome: u.outcome, name: u.name})
				ready = append(ready, u)
			}
		}
		if len(ready) == 0 {
			return nil
		}
		p.s.log.append(recIntent, record)
		if err := p.s.log.sync(); err != nil {
			return p.s.fault("publish", "", err)
		}
		for _, u := range ready {
			if err := p.move(&u); err != nil {
				return err
			}
		}
	}
	return nil
}

// decide settles a unit, or makes it ready for its rename.
func (p *publisher) decide(u *unit) (move bool, err error) {
	s, n := p.s, p.s.t.at(u.id)
	if n.has(flagSkip) {
		p.skipped(u)
		return false, nil
	}
	h, err := s.tree.find(n.parent)
	var st info
	if err == nil {
		st, err = h.lstat(s.t.name(u.id))
		s.tree.put(h)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, moved := s.intents[u.id]; !moved && p.isDir(u.id) && !n.has(flagNow) {
			// All that is below it is skipped, so it was never staged.
			p.settle(u, transfer.DirExisted, "")
			return false, nil
		}
		p.recovered(u)
		return false, nil
	}
	if err != nil {
		return false, s.fault("publish", s.t.path(u.id), err)
	}
	u.ino = st.ino
	reason, merge, err := p.choose(u)
	switch {
	case err != nil && p.alone(u.id):
		return false, p.retreat(err)
	case err != nil:
		p.settle(u, transfer.FailedFile, err.Error())
	case merge:
		p.settle(u, transfer.DirExisted, "")
	case reason != "" && p.alone(u.id):
		return false, p.retreat(p.taken(u.id, reason))
	case reason != "":
		p.settle(u, transfer.Conflicted, reason)
	default:
		return true, nil
	}
	return false, nil
}

func (p *publisher) settle(u *unit, o transfer.Outcome, reason string) {
	p.result[u.id] = uint8(o)
	if reason != "" {
		p.reasons[u.id] = reason
	}
	if u.name != p.s.t.name(u.id) {
		p.names[u.id] = u.name
	}
}

// skipped looks once more at a file that was identical at the offer.
func (p *publisher) skipped(u *unit) {
	h, err := p.dest.get(p.s.t.at(u.id).parent)
	if err == nil {
		st, e := h.lstat(u.name)
		entry := p.s.t.entry(u.id)
		if err = e; err == nil && identical(h.dir, u.name, st, &entry) {
			p.settle(u, transfer.Skipped, "")
			p.dest.put(h)
			return
		}
		p.dest.put(h)
	}
	p.settle(u, transfer.FailedFile, "the identical file that was there at the offer is gone or changed; send it again")
}

// recovered settles a unit that is not staged: a run before this one has renamed
// it, it was identical at the offer, or it is lost.
func (p *publisher) recovered(u *unit) {
	in, ok := p.s.intents[u.id]
	switch {
	case !ok && p.s.spec.Options.Conflict == transfer.SkipIdentical:
		// What was skipped is not in the journal; but nothing is renamed without an
		// intent, and everything else was complete before publishing began.
		p.s.t.at(u.id).flags |= flagSkip
		p.skipped(u)
		return
	case ok:
		if in.name != "" {
			u.name = in.name
		}
		if h, err := p.dest.get(p.s.t.at(u.id).parent); err == nil {
			st, err := h.lstat(u.name)
			p.dest.put(h)
			if err == nil && st.ino == in.ino {
				p.settle(u, in.outcome, "")
				p.touched(p.s.t.at(u.id).parent)
				return
			}
		}
	}
	p.s.d.log.Error("a file is neither staged nor published", "transfer", p.s.spec.ID.String(), "path", transfer.Quote(p.s.t.path(u.id)))
	u.name = p.s.t.name(u.id)
	p.settle(u, transfer.FailedFile, "it is neither staged nor at the destination; something else removed it")
}

// choose decides what to do about a name that may be taken: a reason not to
// publish, or that directories are merged, or neither: then u is ready.
func (p *publisher) choose(u *unit) (reason string, merge bool, err error) {
	s, policy := p.s, p.s.spec.Options.Conflict
	h, err := p.dest.get(s.t.at(u.id).parent)
	if err != nil {
		kind, text := wayError(err)
		return "", false, transfer.Errorf(kind, "publish", s.t.path(u.id), "%s", text)
	}
	defer p.dest.put(h)
	for {
		st, err := h.lstat(u.name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			u.outcome = transfer.Published
			if u.name != s.t.name(u.id) {
				u.outcome = transfer.Renamed
			}
			return "", false, nil
		case err != nil:
			kind, text := wayError(err)
			return "", false, transfer.Errorf(kind, "publish", s.t.path(u.id), "%s", text)
		case p.isDir(u.id) && st.kind.IsDir() && u.try == 0:
			d, err := h.sub(u.name)
			if err != nil {
				kind, text := wayError(err)
				return "", false, transfer.Errorf(kind, "publish", s.t.path(u.id), "%s", text)
			}
			_ = d.close()
			return "", true, nil
		case policy == transfer.Rename:
			u.try++
			u.name = numbered(s.t.name(u.id), u.try, p.isDir(u.id))
			continue
		case p.isDir(u.id):
			return "a file is in the place of the directory", false, nil
		case st.kind.IsDir():
			return "a directory is in the place of the file", false, nil
		case policy == transfer.Overwrite:
			u.outcome = transfer.Overwrote
			return "", false, nil
		}
		return "the name is taken at the receiver", false, nil
	}
}

// numbered makes "name (2).ext" of "name.ext"; a directory has no extension.
func numbered(name string, n int, isDir bool) string {
	stem, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 && !isDir {
		stem, ext = name[:i], name[i:]
	}
	mark := fmt.Sprintf(" (%d)", n)
	if over := len(stem) + len(mark) + len(ext) - transfer.MaxElement; over > 0 {
		if over >= len(stem) {
			stem, ext, over = name, "", len(name)+len(mark)-transfer.MaxElement
		}
		stem = strings.ToValidUTF8(stem[:len(stem)-over], "")
	}
	return stem + mark + ext
}

// move renames one unit. A name that was taken meanwhile is decided anew.
func (p *publisher) move(u *unit) error {
	s := p.s
	parent := s.t.at(u.id).parent
	from, err := s.tree.find(parent)
	if err != nil {
		return s.fault("publish", s.t.path(u.id), err)
	}
	defer s.tree.put(from)
	to, err := p.dest.get(parent)
	if err == nil {
		err = from.rename(s.t.name(u.id), to.dir, u.name, u.outcome == transfer.Overwrote)
		p.dest.put(to)
	}
	switch {
	case err == nil:
		s.tree.drop(u.id)
		p.settle(u, u.outcome, "")
		p.touched(parent)
		return nil
	case isTaken(err):
		if u.lost++; u.lost > maxLost {
			p.settle(&unit{id: u.id, name: s.t.name(u.id)}, transfer.FailedFile, "something else takes every name that is tried")
			return nil
		}
		p.result[u.id] = inBatch
		p.batch = append(p.batch, unit{id: u.id, name: s.t.name(u.id), lost: u.lost})
		return nil
	}
	kind, text := wayError(err)
	if p.alone(u.id) {
		return p.retreat(transfer.Errorf(kind, "publish", s.t.path(u.id), "%s", text).
			WithHint("what arrived is kept: make the destination writable, or choose another with --into, and send again"))
	}
	p.settle(&unit{id: u.id, name: s.t.name(u.id)}, transfer.FailedFile, text)
	return nil
}

// alone reports the one root of a transfer: what fails there fails as a whole.
func (p *publisher) alone(id nodeID) bool { return p.roots == 1 && p.s.t.at(id).parent == 0 }

// retreat takes the marker back while nothing was renamed yet.
func (p *publisher) retreat(cause error) error {
	err := p.s.dir.unlink(publishName)
	if err = errors.Join(err, p.s.dir.sync()); err != nil {
		return p.s.fault("publish", "", err)
	}
	p.s.marked = false
	return cause
}
