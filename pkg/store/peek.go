package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// lastProgress is when a journal was last written: each checkpoint does so, and
// each new epoch. A journal that is not there has none.
func lastProgress(j *journal) (time.Time, error) {
	if j == nil {
		return time.Time{}, nil
	}
	st, err := j.f.Stat()
	if err != nil {
		return time.Time{}, transfer.Errorf(transfer.Internal, "read journal", "", "%w", err)
	}
	return st.ModTime(), nil
}

// peek reads only what identifies a stage, its last progress, and whether its
// publishing began.
func (d *Disk) peek(id transfer.ID) (p Partial, marked bool, err error) {
	sd, err := d.private.sub(id.String())
	if err != nil {
		return p, false, err
	}
	defer sd.close() // only read
	if _, err := sd.lstat(publishName); err == nil {
		marked = true
	}
	f, err := sd.file(journalName, os.O_RDONLY, 0)
	if err != nil {
		return p, marked, err
	}
	defer f.Close() // only read
	if p.Updated, err = lastProgress(newJournal(f)); err != nil {
		return p, marked, err
	}
	stop := errors.New("enough")
	_, err = replay(f, func(kind byte, payload []byte) error {
		if kind == recSpec {
			if err := json.Unmarshal(payload, &p.Spec); err != nil {
				return err
			}
		}
		return stop
	})
	if errors.Is(err, stop) {
		err = nil
	}
	return p, marked, err
}

// Peek reads the journal of an unfinished transfer through, and changes nothing.
func (d *Disk) Peek(ctx context.Context, id transfer.ID) (Partial, error) {
	if err := ctx.Err(); err != nil {
		return Partial{}, canceled(err)
	}
	d.mu.Lock()
	open, finished := d.stages[id], d.closed || d.tombs.has(id)
	d.mu.Unlock()
	if finished {
		return Partial{}, errNoStage(id)
	}
	sd, err := d.private.sub(id.String())
	if err != nil {
		return Partial{}, errNoStage(id)
	}
	defer sd.close() // only read
	f, err := sd.file(journalName, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Partial{}, errNoStage(id)
	}
	if err != nil {
		return Partial{}, transfer.Errorf(transfer.Internal, "look at transfer", id.String(), "%w", err)
	}
	defer f.Close() // only read
	s := d.newStage(Spec{})
	s.acct.up = nil // it is looked at, not opened
	s.log = newJournal(f)
	p := Partial{}
	if p.Updated, err = lastProgress(s.log); err != nil {
		return p, err
	}
	l := newLoader(s)
	if _, err := replay(f, l.record); err != nil {
		return p, err
	}
	if s.spec.ID != id {
		return p, errNoStage(id)
	}
	p.Spec, p.Epoch, p.Held = s.spec, s.epoch, s.acct.staged.Load()
	if open != nil {
		_, p.Held = open.Progress()
	}
	if l.left == 0 { // the manifest is complete
		for i, n := range l.order {
			e := s.t.entry(n)
			if i == 0 {
				p.First = s.t.path(n)
			}
			p.Files++
			switch {
			case s.t.at(n).has(flagUnknown) || p.Bytes < 0:
				p.Bytes = transfer.UnknownSize
			default:
				p.Bytes += e.Size
			}
		}
	}
	return p, nil
}

func sortPartials(list []Partial) {
	slices.SortStableFunc(list, func(a, b Partial) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
}
