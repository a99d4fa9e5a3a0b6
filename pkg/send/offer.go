package send

import (
	"context"
	"errors"
	"time"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// Bounds of one part of an offer: entries, and about as many octets of message.
const (
	partEntries = 5000
	partBytes   = 900 << 10
)

// offer sends the manifest part by part while the scan goes on, and hands each
// answer on. The receipt is set when the transfer was committed before.
func (s *session) offer(res *Result) (*transfer.Receipt, error) {
	src := s.t.cfg.Source
	var first uint32
	for part := uint32(0); ; part++ {
		entries, last, err := src.Entries(s.ctx, first, partEntries, partBytes)
		if err != nil {
			return nil, err
		}
		p := &transfer.OfferPart{ID: s.t.cfg.ID, Session: s.id, Part: part, Last: last, Entries: entries, Brief: true}
		if part == 0 {
			p.Options = s.t.options(last)
		}
		s.t.obs.offer(p)
		a, err := s.negotiate(p)
		if err != nil {
			if p := (*transfer.Error)(nil); errors.As(err, &p) && len(p.Problems) > 0 && !last {
				return nil, s.t.judgeRest(s.ctx, p, first+uint32(len(entries))) //nolint:gosec // at most partEntries
			}
			return nil, err
		}
		s.t.reached.Store(true)
		s.t.obs.answer(part, a)
		if part == 0 {
			c := *a
			c.Token, c.Files = transfer.Token{}, nil
			res.Answer = &c
			s.sums = a.Sums
		}
		if a.Committed != nil {
			return a.Committed, nil
		}
		if err := s.answer(part, a, entries, last); err != nil {
			return nil, err
		}
		if last {
			s.q.offerDone()
			return nil, nil //nolint:nilnil // no receipt yet
		}
		first += uint32(len(entries)) //nolint:gosec // at most partEntries
	}
}

func (t *Transfer) options(scanned bool) transfer.Options {
	o := t.cfg.Options
	o.Lanes, o.TotalFiles, o.TotalBytes = t.cfg.Lanes, 0, transfer.UnknownSize
	if c, done := t.cfg.Source.Counts(); done || scanned {
		o.TotalFiles, o.TotalBytes = c.Files+c.Dirs+c.Links, c.Bytes
	}
	return o
}

// negotiate asks, and asks once more when the call was lost: a repeated part gets
// the same answer.
func (s *session) negotiate(p *transfer.OfferPart) (*transfer.Answer, error) {
	a, err := s.t.cfg.Receiver.Negotiate(s.ctx, p)
	if p.Part > 0 && transfer.KindOf(err) == transfer.Unavailable && s.pause() == nil {
		a, err = s.t.cfg.Receiver.Negotiate(s.ctx, p)
	}
	return a, err
}

func (s *session) pause() error {
	return s.t.cfg.Clock.Sleep(s.ctx, 200*time.Millisecond)
}

// judgeRest adds to a refusal what the receiver would refuse of the parts that
// were not yet offered, so that every bad file is named at once.
func (t *Transfer) judgeRest(ctx context.Context, refusal *transfer.Error, first uint32) error {
	all := *refusal
	for part := uint32(0); ; part++ {
		entries, last, err := t.cfg.Source.Entries(ctx, first, partEntries, partBytes)
		if err != nil {
			return &all
		}
		for i := range entries {
			entries[i].Index -= first // a plan of its own begins at 0
		}
		p := &transfer.OfferPart{ID: transfer.NewID(), Session: transfer.NewSession(), Last: true, Plan: true, Options: t.options(false), Entries: entries}
		_, err = t.cfg.Receiver.Negotiate(ctx, p)
		var e *transfer.Error
		if err != nil && (!errors.As(err, &e) || len(e.Problems) == 0) {
			return &all
		}
		if err != nil {
			all.Problems = append(all.Problems, e.Problems...)
		}
		if last || len(all.Problems) >= maxRefused {
			return &all
		}
		first += uint32(len(entries)) //nolint:gosec // at most partEntries
	}
}

// maxRefused is how many refused files are gathered from the receiver.
const maxRefused = 10_000

// Plan is what would happen.
type Plan struct {
	Files, Dirs, Links int64
	Bytes              int64 // of all files; transfer.UnknownSize for a stream
	ToSend             int64 // octets that the receiver does not have
	Skipped            int64 // files that are identical at the destination
	FreeBytes          int64 // left at the receiver after this transfer; -1: refused before that
	Refused            []transfer.Problem
	Reason             error // why the whole would be refused; nil: it would be accepted
}

// plan asks what would happen and leaves no state.
func (t *Transfer) plan(ctx context.Context, res *Result) error {
	p := &Plan{FreeBytes: -1}
	res.Plan = p
	s := t.newSession(ctx)
	defer s.end(nil)
	t.sessions = 1
	var first uint32
	for part := uint32(0); ; part++ {
		entries, last, err := t.cfg.Source.Entries(ctx, first, partEntries, partBytes)
		if err != nil {
			return err
		}
		// Each part carries the options: nothing is remembered between them.
		o := &transfer.OfferPart{ID: t.cfg.ID, Session: s.id, Part: part, Last: last, Plan: true, Options: t.options(last), Entries: entries, Brief: true}
		t.obs.offer(o)
		a, err := t.cfg.Receiver.Negotiate(ctx, o)
		var e *transfer.Error
		switch {
		case err == nil:
			t.obs.answer(part, a)
			p.take(a, entries)
			if res.Answer == nil {
				c := *a
				c.Token, c.Files = transfer.Token{}, nil
				res.Answer = &c
			}
		case errors.As(err, &e) && (len(e.Problems) > 0 || e.Kind == transfer.NoSpace):
			if p.Reason == nil {
				p.Reason = err
			}
			if len(p.Refused) < maxRefused {
				p.Refused = append(p.Refused, e.Problems...)
			}
		default:
			return err
		}
		if last {
			break
		}
		first += uint32(len(entries)) //nolint:gosec // at most partEntries
	}
	c, _ := t.cfg.Source.Counts()
	p.Files, p.Dirs, p.Links, p.Bytes = c.Files, c.Dirs, c.Links, c.Bytes
	return nil
}

// take adds an answer to the plan.
func (p *Plan) take(a *transfer.Answer, entries []transfer.Entry) {
	p.FreeBytes = a.FreeBytes
	if a.Committed != nil {
		return
	}
	byIndex := make(map[uint32]*transfer.FileAnswer, len(a.Files))
	for i := range a.Files {
		byIndex[a.Files[i].Index] = &a.Files[i]
	}
	for i := range entries {
		e := &entries[i]
		if e.Type != transfer.Regular {
			continue
		}
		fa := byIndex[e.Index]
		switch {
		case fa == nil:
			p.ToSend += max(0, e.Size)
		case fa.Skip:
			p.Skipped++
		default:
			p.ToSend += max(0, e.Size) - fa.Held.Bytes(e.Size, fa.ChunkSize)
		}
	}
}
