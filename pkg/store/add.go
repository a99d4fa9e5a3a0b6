package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// maxProblems bounds how many refused files one answer names.
const maxProblems = 1000

// addition is one call of Add while it is judged; nothing of it counts before
// it is applied.
type addition struct {
	entries  []transfer.Entry
	ids      []nodeID
	parents  []nodeID // newly marked as parents
	count    uint32   // nodes before
	problems []transfer.Problem
	more     int // problems beyond maxProblems
	skip     []bool
	need     int64    // octets to reserve
	octets   int64    // octets declared
	files    int64    // inodes
	below    []nodeID // staged by an earlier epoch below what is a file now
}

func (a *addition) refuse(path transfer.Path, k transfer.Kind, format string, args ...any) {
	if len(a.problems) == maxProblems {
		a.more++
		return
	}
	a.problems = append(a.problems, transfer.Problem{Path: string(path), Kind: k, Reason: fmt.Sprintf(format, args...)})
}

// err joins the problems into one error.
func (a *addition) err() error {
	if len(a.problems) == 0 {
		return nil
	}
	p := a.problems[0]
	e := transfer.Errorf(p.Kind, "check file", p.Path, "%s", p.Reason)
	if n := len(a.problems) + a.more - 1; n > 0 {
		e.Msg += fmt.Sprintf(" (and %d more files are refused)", n)
	}
	e.Problems = a.problems
	if p.Kind == transfer.Exists {
		*e = *e.WithHint("choose another policy with --on-conflict, or another name")
	}
	return e
}

// Add takes a part of the manifest.
func (s *stage) Add(ctx context.Context, entries []transfer.Entry) ([]FileState, error) {
	if err := ctx.Err(); err != nil {
		return nil, canceled(err)
	}
	s.op.Lock()
	defer s.op.Unlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	if s.epoch == 0 || s.sealed {
		return nil, transfer.Errorf(transfer.Invalid, "add files", "", "no epoch has begun, or the manifest is complete")
	}
	a, err := s.judge(ctx, entries)
	if err == nil {
		err = s.d.reserve(&s.acct, a.need, a.files)
	}
	if err != nil {
		s.undo(a)
		return nil, err
	}
	if err := s.record(a); err != nil {
		s.acct.move(-a.need, 0, 0)
		s.undo(a)
		return nil, err
	}
	return s.apply(a)
}

// judge checks everything about a part that can be checked before bytes flow.
func (s *stage) judge(ctx context.Context, entries []transfer.Entry) (*addition, error) {
	a := &addition{entries: entries, ids: make([]nodeID, len(entries)), skip: make([]bool, len(entries))}
	s.mu.Lock()
	a.count = s.t.count
	for i := range entries {
		s.place(a, i)
	}
	s.mu.Unlock()
	if err := a.err(); err != nil {
		return a, err
	}
	if err := s.lookAtDestination(ctx, a); err != nil {
		return a, err
	}
	if err := a.err(); err != nil {
		return a, err
	}
	return a, s.measure(a)
}

// place interns the path of entry i and refuses what cannot be. The caller
// holds mu.
func (s *stage) place(a *addition, i int) {
	e := &a.entries[i]
	if want := uint32(len(s.order) + i); e.Index != want { //nolint:gosec // bounded by maxNodes
		a.refuse(e.Path, transfer.Invalid, "it has index %d, want %d", e.Index, want)
		return
	}
	if reason := badEntry(e, s.spec.Options.Names); reason != "" {
		a.refuse(e.Path, transfer.Invalid, "%s", reason)
		return
	}
	if s.t.count+64 > maxNodes {
		a.refuse(e.Path, transfer.Invalid, "the manifest has more than %d paths", maxNodes)
		return
	}
	id := nodeID(0)
	for rest := string(e.Path); ; {
		elem, tail, more := strings.Cut(rest, "/")
		p := s.t.at(id)
		if id != 0 && p.has(flagNow) && p.nowType() != transfer.Directory {
			a.refuse(e.Path, transfer.Invalid, "%s is a %s in the same manifest", transfer.Quote(s.t.path(id)), p.nowType())
			return
		}
		if !p.has(flagParent) {
			p.flags |= flagParent
			a.parents = append(a.parents, id)
		}
		id = s.t.intern(id, elem)
		if !more {
			break
		}
		rest = tail
	}
	n := s.t.at(id)
	switch {
	case n.has(flagNow):
		a.refuse(e.Path, transfer.Invalid, "the manifest has this path twice")
		return
	case n.has(flagParent) && e.Type != transfer.Directory:
		a.refuse(e.Path, transfer.Invalid, "the manifest has files below it, but it is a %s", e.Type)
		return
	}
	n.flags = n.flags&^(3<<nowShift) | flagNow | uint16(e.Type)<<nowShift
	a.ids[i] = id
}

// badEntry says why an entry can never be accepted, or "".
func badEntry(e *transfer.Entry, names transfer.Names) string {
	if _, err := transfer.ParsePath(string(e.Path), names); err != nil {
		var t *transfer.Error
		if errors.As(err, &t) {
			return t.Msg
		}
		return err.Error()
	}
	switch {
	case e.Type > transfer.Symlink:
		return "it is neither file, directory nor link"
	case e.Size < transfer.UnknownSize || e.Size > transfer.MaxFileSize:
		return fmt.Sprintf("its size %d is out of range", e.Size)
	case e.Type != transfer.Regular && e.Size != 0:
		return fmt.Sprintf("a %s has no size, but %d was given", e.Type, e.Size)
	case e.Type != transfer.Symlink && e.Link != "":
		return "only a link has a target"
	case e.Expected.Validate() != nil:
		return "its expected digest has a wrong length"
	case e.Type == transfer.Symlink:
		return badLink(e)
	}
	return ""
}

// badLink lets only relative links through that stay inside the tree.
func badLink(e *transfer.Entry) string {
	switch {
	case e.Link == "" || len(e.Link) >= transfer.MaxPath || strings.ContainsRune(e.Link, 0):
		return "its target is empty, too long or holds a zero octet"
	case path.IsAbs(e.Link):
		return "it is a link to an absolute path"
	}
	depth := strings.Count(string(e.Path), "/")
	for elem := range strings.SplitSeq(e.Link, "/") {
		switch elem {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return "it is a link that leaves the tree"
			}
		default:
			depth++
		}
	}
	return ""
}

// measure sums up what a part needs.
func (s *stage) measure(a *addition) error {
	for i := range a.entries {
		e := &a.entries[i]
		id := a.ids[i]
		a.files++
		if e.Type != transfer.Regular || a.skip[i] {
			continue
		}
		size := e.Size
		if size < 0 {
			// Reserved in steps; what it may grow to is checked as it grows.
			size = unknownStep
			if m := s.most(); m > 0 {
				size = min(size, m)
			}
			a.need += size
			continue
		}
		if a.octets > transfer.MaxFileSize || size > transfer.MaxFileSize {
			return transfer.Errorf(transfer.Invalid, "add files", "", "the sizes sum to more than %d octets", int64(transfer.MaxFileSize))
		}
		a.octets += size
		if s.t.same(id, e) {
			size -= s.present(id)
		}
		a.need += size
	}
	total := s.declared + a.octets
	for _, limit := range []int64{s.d.cfg.MaxTransfer, s.spec.Limit} {
		if limit > 0 && total > limit {
			return transfer.Errorf(transfer.NoSpace, "add files", "", "the transfer has %s, and one transfer may have %s", octets(total), octets(limit)).
				WithHint("send less at once, or ask for a higher --max-transfer at the receiver")
		}
	}
	return nil
}

// most is what a file of unknown size may grow to; 0: no limit.
func (s *stage) most() (m int64) {
	for _, limit := range []int64{s.d.cfg.MaxTransfer, s.spec.Limit, s.spec.Options.MaxBytes} {
		if limit > 0 && (m == 0 || limit < m) {
			m = limit
		}
	}
	return m
}

// present returns how many octets of a node take space on the disk.
func (s *stage) present(id nodeID) int64 {
	n := s.t.at(id)
	if n.large() {
		l := s.large[id]
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.allocated {
			return l.size
		}
		return l.octets
	}
	if n.small() && n.state.Load() >= written {
		return n.size
	}
	return 0
}

// record makes the entries of a part durable.
func (s *stage) record(a *addition) error {
	var b []byte
	flush := func(limit int) {
		if len(b) > limit {
			s.log.append(recEntries, b)
			b = b[:0]
		}
	}
	logged := nodeID(a.count)
	for i := range a.entries {
		id := a.ids[i]
		// Parents that are no entries come before their children, so that
		// replaying gives every node the same number.
		for ; logged < id; logged++ {
			b = appendImplicit(b, s.t, logged)
			flush(1 << 20)
		}
		e := &a.entries[i]
		if id == logged {
			logged++
		} else if s.t.same(id, e) && s.t.at(id).mode == uint16(e.Mode.Perm()) && s.t.expected[id].Equal(e.Expected) {
			continue
		}
		b = appendEntry(b, s.t, id, e)
		flush(1 << 20)
	}
	flush(0)
	s.recordWay(a)
	if err := s.log.sync(); err != nil {
		return s.fault("add files", "", err)
	}
	return nil
}

// recordWay drops what an earlier epoch staged in the way of this part: files
// where there are directories now, and everything below a directory that
// becomes a file.
func (s *stage) recordWay(a *addition) {
	var b []byte
	for _, id := range a.parents {
		if s.inWay(id) {
			b = appendImplicit(b, s.t, id)
		}
	}
	if len(b) > 0 {
		s.log.append(recEntries, b)
	}
	for i, id := range a.ids {
		n := s.t.at(id)
		if uint32(id) >= a.count || a.entries[i].Type == transfer.Directory || (n.has(flagSet) && n.typ() != transfer.Directory) {
			continue
		}
		below := s.below(id)
		a.below = append(a.below, below...)
		s.logDrop(below)
	}
}

// inWay reports a file of an earlier epoch that is a directory now.
func (s *stage) inWay(id nodeID) bool {
	n := s.t.at(id)
	return id != 0 && n.has(flagSet) && n.typ() != transfer.Directory && !n.has(flagNow)
}

// below lists the nodes below id.
func (s *stage) below(id nodeID) (list []nodeID) {
	for i := nodeID(1); i < nodeID(s.t.count); i++ {
		for p := s.t.at(i).parent; p != 0; p = s.t.at(p).parent {
			if p == id {
				list = append(list, i)
				break
			}
		}
	}
	return list
}

func (s *stage) logDrop(ids []nodeID) {
	var b []byte
	for _, id := range ids {
		b = binary.AppendUvarint(b, uint64(id))
		if len(b) > 1<<20 {
			s.log.append(recDrop, b)
			b = b[:0]
		}
	}
	if len(b) > 0 {
		s.log.append(recDrop, b)
	}
}

// undo takes back what judge did.
func (s *stage) undo(a *addition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range a.ids {
		if id != 0 {
			s.t.at(id).flags &^= flagNow
		}
	}
	for _, id := range a.parents {
		s.t.at(id).flags &^= flagParent
	}
	s.t.truncate(a.count)
}
