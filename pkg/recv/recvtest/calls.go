package recvtest

import (
	"context"
	"errors"
	"slices"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// call does one row of the table on a scene and returns the result's word.
type call func(ctx context.Context, s *scene) string

// kind is the word of an error.
func kind(err error) string { return transfer.KindOf(err).String() }

func (s *scene) offer(ctx context.Context, e Endpoint, p *transfer.OfferPart) string {
	a, err := e.Negotiate(ctx, p)
	switch {
	case err != nil:
		return kind(err)
	case a.Committed != nil:
		return "committed"
	case p.Plan && (a.Token != transfer.Token{} || a.Epoch != 0):
		return "a plan with a token or an epoch"
	case p.Plan, s.state == "unknown" && a.Epoch == 1:
		return "answer"
	case s.state != "unknown" && a.Epoch == s.now.Epoch+1 && a.Token != s.now.Token:
		return "answer +1"
	case a.Epoch == s.now.Epoch && a.Token == s.now.Token:
		return "answer"
	}
	return "answer in a wrong epoch or with a wrong token"
}

func otherEntries(p *transfer.OfferPart) *transfer.OfferPart {
	p.Entries[0].Size++
	return p
}

func plan(p *transfer.OfferPart) *transfer.OfferPart {
	p.Plan = true
	return p
}

func (s *scene) commit(ctx context.Context, e Endpoint, p *transfer.CommitPart) string {
	r, err := e.Commit(ctx, p)
	switch {
	case err != nil:
		return kind(err)
	case r.Receipt != nil:
		return "receipt"
	case r.Hashes != nil:
		return "hashes"
	case len(r.Mismatch) > 0:
		return "mismatch"
	}
	return "accepted"
}

func (s *scene) abort(ctx context.Context, e Endpoint, session transfer.Session) string {
	if err := e.Abort(ctx, s.id, session, "given up"); err != nil {
		return kind(err)
	}
	return "accepted"
}

func (s *scene) hello(ctx context.Context, a *transfer.Answer, token transfer.Token, nonce *[16]byte) string {
	l, err := OpenLane(ctx, s.fx.Dial, s.id, a.Epoch, token, nonce)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = l.Close() }()
	return l.word()
}

func (s *scene) frame(file uint32) string {
	if err := s.lane.Frame(file, 0, content); err != nil {
		return err.Error()
	}
	return s.lane.word()
}

func (s *scene) get(ctx context.Context, e Endpoint) string {
	i, err := e.Get(ctx, s.id)
	if err != nil {
		return kind(err)
	}
	if i.ID != s.id || i.Principal != owner {
		return "info of another transfer"
	}
	return "info"
}

func (s *scene) list(ctx context.Context, e Endpoint) string {
	f := transfer.ListFilter{PageSize: 7} // small, so that pages are turned
	for range 1000 {
		p, err := e.List(ctx, f)
		if err != nil {
			return kind(err)
		}
		if slices.ContainsFunc(p.Transfers, func(i transfer.Info) bool { return i.ID == s.id }) {
			return "listed"
		}
		if p.Next == "" {
			return "absent"
		}
		f.PageToken = p.Next
	}
	return "pages without an end"
}

func (s *scene) files(ctx context.Context) string {
	p, err := s.me.Files(ctx, s.id, "", 10)
	if err != nil {
		return kind(err)
	}
	if len(p.Files) != 1 || !p.Files[0].Digest.Equal(sum(content)) {
		return "a page with other files"
	}
	return "page"
}

func (s *scene) watch(ctx context.Context) string {
	stop := errors.New("seen")
	got := "nothing"
	err := s.me.Watch(ctx, []transfer.ID{s.id}, func(i transfer.Info) error {
		if i.ID == s.id {
			got = "info"
		}
		return stop
	})
	if got == "nothing" && err != nil {
		return kind(err)
	}
	return got
}

// calls has a function for each row of the table. Those of unwritten find the
// file's octets lacking.
func calls() (all map[string]call, unwritten map[string]bool) {
	unwritten = map[string]bool{"lane: frame": true, "commit: last, chunks lacking": true}
	return map[string]call{
		"offer: plan": func(ctx context.Context, s *scene) string {
			return s.offer(ctx, s.me, plan(s.part(transfer.NewSession(), 0, true)))
		},
		"offer: new session": func(ctx context.Context, s *scene) string {
			return s.offer(ctx, s.me, s.part(transfer.NewSession(), 0, true))
		},
		"offer: new session, other entries": func(ctx context.Context, s *scene) string {
			return s.offer(ctx, s.me, otherEntries(s.part(transfer.NewSession(), 0, true)))
		},
		"offer: new session, part 1": func(ctx context.Context, s *scene) string {
			return s.offer(ctx, s.me, s.part(transfer.NewSession(), 1, true))
		},
		"offer: same session, next part": func(ctx context.Context, s *scene) string {
			return s.offer(ctx, s.me, s.part(s.session, 1, true))
		},
		"offer: same session, part 0 again": func(ctx context.Context, s *scene) string {
			return s.offer(ctx, s.me, s.part(s.session, 0, s.state != "offering"))
		},
		"offer: same session, part 0 with other entries": func(ctx context.Context, s *scene) string {
			return s.offer(ctx, s.me, otherEntries(s.part(s.session, 0, s.state != "offering")))
		},
		"offer: same session, part 7": func(ctx context.Context, s *scene) string {
			return s.offer(ctx, s.me, s.part(s.session, 7, true))
		},
		"offer: superseded session": func(ctx context.Context, s *scene) string {
			return s.offer(ctx, s.me, s.part(s.superseded, 0, true))
		},
		"offer: other principal": func(ctx context.Context, s *scene) string {
			return s.offer(ctx, s.other, s.part(transfer.NewSession(), 0, true))
		},
		"lane: hello": func(ctx context.Context, s *scene) string { return s.hello(ctx, s.now, s.now.Token, nil) },
		"lane: hello, older epoch": func(ctx context.Context, s *scene) string {
			return s.hello(ctx, s.old, s.old.Token, nil)
		},
		"lane: hello, wrong token": func(ctx context.Context, s *scene) string {
			return s.hello(ctx, s.now, transfer.NewToken(), nil)
		},
		"lane: hello, nonce again": func(ctx context.Context, s *scene) string {
			return s.hello(ctx, s.now, s.now.Token, &s.lane.Hello.Nonce)
		},
		"lane: frame":              func(_ context.Context, s *scene) string { return s.frame(0) },
		"lane: frame, chunk again": func(_ context.Context, s *scene) string { return s.frame(0) },
		"lane: frame of no file":   func(_ context.Context, s *scene) string { return s.frame(9) },
		"commit: part": func(ctx context.Context, s *scene) string {
			return s.commit(ctx, s.me, s.digests(s.session, sum(content), false))
		},
		"commit: last": func(ctx context.Context, s *scene) string {
			return s.commit(ctx, s.me, s.digests(s.session, sum(content), true))
		},
		"commit: last, chunks lacking": func(ctx context.Context, s *scene) string {
			return s.commit(ctx, s.me, s.digests(s.session, sum(content), true))
		},
		"commit: last, digest differs": func(ctx context.Context, s *scene) string {
			return s.commit(ctx, s.me, s.digests(s.session, sum([]byte("other")), true))
		},
		"commit: other session": func(ctx context.Context, s *scene) string {
			return s.commit(ctx, s.me, s.digests(s.superseded, sum(content), true))
		},
		"commit: other principal": func(ctx context.Context, s *scene) string {
			return s.commit(ctx, s.other, s.digests(s.session, sum(content), true))
		},
		"commit: query": func(ctx context.Context, s *scene) string {
			return s.commit(ctx, s.me, &transfer.CommitPart{ID: s.id, Session: s.session, Query: &transfer.ChunkHashQuery{Count: 1}})
		},
		"commit: repair": func(ctx context.Context, s *scene) string {
			return s.commit(ctx, s.me, &transfer.CommitPart{ID: s.id, Session: s.session, Repair: &transfer.Repair{Chunks: transfer.Held{{Count: 1}}}})
		},
		"abort": func(ctx context.Context, s *scene) string { return s.abort(ctx, s.me, s.session) },
		"abort: other session": func(ctx context.Context, s *scene) string {
			return s.abort(ctx, s.me, s.superseded)
		},
		"abort: other principal": func(ctx context.Context, s *scene) string {
			return s.abort(ctx, s.other, transfer.Session{})
		},
		"get":                   func(ctx context.Context, s *scene) string { return s.get(ctx, s.me) },
		"get: other principal":  func(ctx context.Context, s *scene) string { return s.get(ctx, s.other) },
		"list":                  func(ctx context.Context, s *scene) string { return s.list(ctx, s.me) },
		"list: other principal": func(ctx context.Context, s *scene) string { return s.list(ctx, s.other) },
		"files":                 func(ctx context.Context, s *scene) string { return s.files(ctx) },
		"watch":                 func(ctx context.Context, s *scene) string { return s.watch(ctx) },
	}, unwritten
}
