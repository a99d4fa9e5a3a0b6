package source

// maxOpenDirs bounds the directories that one walk or reader keeps open.
const maxOpenDirs = 16

type openedDir struct {
	idx uint32
	d   dir
}

// dirStack opens directories of a manifest from their nearest open ancestor.
type dirStack struct {
	open []openedDir // ancestors first
}

// hop is one step from an open directory to the wanted one.
type hop struct {
	idx  uint32
	name string // as a copy or arena text
	root string // set for a root
}

// path lists the hops from the nearest open ancestor of d (exclusive) to d, and
// forgets what is open and no ancestor. The manifest's lock is held for reading.
func (s *dirStack) path(m *manifest, d uint32) []hop {
	var hops []hop
	for i := d; ; {
		for k := len(s.open) - 1; k >= 0; k-- {
			if s.open[k].idx == i {
				s.truncate(k + 1)
				return hops
			}
		}
		rec := &m.dirs[i]
		if rec.parent == noDir {
			hops = append(hops, hop{idx: i, root: rec.root.path})
			s.truncate(0)
			return hops
		}
		hops = append(hops, hop{idx: i, name: m.text(rec.name, rec.nameLen)})
		i = rec.parent
	}
}

// walk opens the hops, the last one first, and returns the wanted directory.
func (s *dirStack) walk(hops []hop) (dir, error) {
	for i := len(hops) - 1; i >= 0; i-- {
		h := hops[i]
		var d dir
		var err error
		if h.root != "" {
			d, err = openRoot(h.root)
		} else {
			d, err = s.top().openDir(h.name)
		}
		if err != nil {
			return dir{}, err
		}
		if len(s.open) == maxOpenDirs {
			s.open[0].d.close()
			s.open = append(s.open[:0], s.open[1:]...)
		}
		s.open = append(s.open, openedDir{h.idx, d})
	}
	return s.top(), nil
}

func (s *dirStack) top() dir { return s.open[len(s.open)-1].d }

func (s *dirStack) truncate(n int) {
	for _, o := range s.open[n:] {
		o.d.close()
	}
	s.open = s.open[:n]
}
