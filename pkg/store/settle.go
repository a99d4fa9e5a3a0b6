package store

import (
	"errors"
	"io/fs"

	"github.com/e27efefb/sluice/pkg/transfer"
)

func (p *publisher) touched(parent nodeID) { p.synced[parent] = struct{}{} }

// syncNames makes the renames durable at both ends.
func (p *publisher) syncNames() error {
	if len(p.synced) > syncFew {
		return p.s.dir.syncAll()
	}
	for id := range p.synced {
		for _, t := range []*dirTree{p.dest, p.s.tree} {
			h, err := t.find(id)
			if err != nil {
				if t == p.s.tree && errors.Is(err, fs.ErrNotExist) {
					continue
				}
				return err
			}
			err = h.sync()
			t.put(h)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// directories gives new directories their modes and times, children first: a
// parent may forbid its own search, and a child's rename would change its time.
func (p *publisher) directories() error {
	count := 0
	for i := p.s.t.count - 1; i > 0; i-- {
		id := nodeID(i)
		if !p.part(id) || !p.isDir(id) || !p.moved(id) {
			continue
		}
		if err := p.directory(id, count < syncFew); err != nil {
			p.s.d.log.Warn("cannot set mode and time of a directory", "transfer", p.s.spec.ID.String(), "path", transfer.Quote(p.s.t.path(id)), "error", err)
			continue
		}
		count++
	}
	p.dest.dropAll()
	if count > syncFew {
		return p.s.dir.syncAll()
	}
	return nil
}

func (p *publisher) moved(id nodeID) bool {
	switch p.result[id] {
	case uint8(transfer.Published), uint8(transfer.Renamed), withParent:
		return true
	}
	return false
}

func (p *publisher) directory(id nodeID, sync bool) error {
	n := p.s.t.at(id)
	perm, mtime := 0o777&^p.s.d.umask, int64(noTime)
	if n.has(flagNow) {
		mtime = n.mtime
		if n.mode != 0 {
			perm = fs.FileMode(n.mode).Perm()
		}
	}
	h, err := p.dest.get(id)
	if err != nil {
		return err
	}
	defer p.dest.put(h)
	if err := h.setMeta(perm, mtime); err != nil || !sync {
		return err
	}
	return h.sync()
}

// outcome and reason of an entry, its own or its directory's.
func (p *publisher) outcome(id nodeID) transfer.Outcome {
	for ; ; id = p.s.t.at(id).parent {
		switch r := p.result[id]; r {
		case withParent, notWith:
		case uint8(transfer.Renamed):
			return transfer.Renamed
		default:
			return transfer.Outcome(r)
		}
	}
}

func (p *publisher) reason(id nodeID) string {
	for ; id != 0; id = p.s.t.at(id).parent {
		if r, ok := p.reasons[id]; ok {
			return r
		}
		if r := p.result[id]; r != notWith {
			return ""
		}
	}
	return ""
}
