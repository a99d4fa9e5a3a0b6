package recvtest

import (
	"context"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/e27efefb/sluice/pkg/transfer"
)

// content is what the file of each scene holds.
var content = []byte("hello\n") //nolint:gochecknoglobals // never changed

const (
	owner    = "alice"
	stranger = "mallory"
)

// scene is one transfer, brought into one state.
type scene struct {
	t     *testing.T
	fx    *Fixture
	gate  *Gate
	state string
	me    Endpoint
	other Endpoint

	id         transfer.ID
	superseded transfer.Session
	session    transfer.Session
	old, now   *transfer.Answer // of the superseded session and of the current one
	lane       *Lane            // open since before the state, where there can be one
	committing chan error       // the end of the commit that is held
}

func sum(b []byte) transfer.Digest {
	d := blake3.Sum256(b)
	return transfer.Digest{Algorithm: transfer.BLAKE3, Sum: d[:]}
}

// part makes a part of the scene's offer: file n, last or not.
func (s *scene) part(session transfer.Session, n uint32, last bool) *transfer.OfferPart {
	return &transfer.OfferPart{
		ID: s.id, Session: session, Part: n, Last: last,
		Options: transfer.Options{Algorithm: transfer.BLAKE3, TotalBytes: transfer.UnknownSize},
		Entries: []transfer.Entry{{Index: n, Path: transfer.Path(s.id.String() + "-" + string(rune('a'+n))), Size: int64(len(content)), Mode: 0o644}},
	}
}

func (s *scene) digests(session transfer.Session, d transfer.Digest, last bool) *transfer.CommitPart {
	return &transfer.CommitPart{ID: s.id, Session: session, Last: last, Files: []transfer.FileDigest{{Size: int64(len(content)), Digest: d}}}
}

// newScene brings a transfer into state. With unwritten its octets are lacking
// where the state allows it. For parked, call Fixture.Restart after it.
func newScene(ctx context.Context, t *testing.T, fx *Fixture, gate *Gate, state string, unwritten bool) *scene {
	t.Helper()
	s := &scene{
		t: t, fx: fx, gate: gate, state: state, me: fx.As(owner), other: fx.As(stranger),
		id: transfer.NewID(), superseded: transfer.NewSession(), session: transfer.NewSession(),
	}
	if state == "unknown" {
		s.old, s.now = &transfer.Answer{Epoch: 1, Token: transfer.NewToken()}, &transfer.Answer{Epoch: 2, Token: transfer.NewToken()}
		return s
	}
	last := state != "offering"
	s.old = s.must(s.me.Negotiate(ctx, s.part(s.superseded, 0, last)))
	s.now = s.must(s.me.Negotiate(ctx, s.part(s.session, 0, last)))
	if s.now.Epoch != s.old.Epoch+1 {
		t.Fatalf("epoch %d follows %d", s.now.Epoch, s.old.Epoch)
	}
	if !unwritten || state == "committing" || state == "committed" {
		if err := Write(ctx, fx.Dial, s.id, s.now, 0, content); err != nil {
			t.Fatal(err)
		}
	}
	switch state {
	case "offering", "open":
		s.openLane(ctx)
	case "parked":
	case "committing":
		s.openLane(ctx)
		s.commitHeld(ctx)
	case "committed":
		if r, err := s.me.Commit(ctx, s.digests(s.session, sum(content), true)); err != nil || r.Receipt == nil {
			t.Fatalf("commit: %+v, %v", r, err)
		}
	case "aborted":
		if err := s.me.Abort(ctx, s.id, s.session, "given up"); err != nil {
			t.Fatal(err)
		}
	case "failed":
		s.failCorrupt(ctx)
	default:
		t.Fatalf("no way to bring a transfer into the state %q", state)
	}
	return s
}

func (s *scene) must(a *transfer.Answer, err error) *transfer.Answer {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *scene) openLane(ctx context.Context) {
	s.t.Helper()
	l, err := OpenLane(ctx, s.fx.Dial, s.id, s.now.Epoch, s.now.Token, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.lane = l
	if w := l.word(); w != "hello" {
		s.t.Fatalf("hello was answered by %s", w)
	}
}

// commitHeld sets a commit off that waits in the gate.
func (s *scene) commitHeld(ctx context.Context) {
	s.t.Helper()
	h := s.gate.hold(s.id)
	s.committing = make(chan error, 1)
	go func() {
		_, err := s.me.Commit(ctx, s.digests(s.session, sum(content), true))
		s.committing <- err
	}()
	select {
	case <-h.entered:
	case err := <-s.committing:
		s.t.Fatalf("commit ended before the gate: %v", err)
	case <-ctx.Done():
		s.t.Fatal("commit never came to the gate")
	}
}

// failCorrupt commits a wrong digest until the receiver has had enough.
func (s *scene) failCorrupt(ctx context.Context) {
	s.t.Helper()
	for round := 1; ; round++ {
		r, err := s.me.Commit(ctx, s.digests(s.session, sum([]byte("other")), true))
		switch {
		case transfer.KindOf(err) == transfer.Corrupt && round == 4:
			return
		case err != nil || round > 3 || r.Round != round || len(r.Mismatch) != 1:
			s.t.Fatalf("round %d: %+v, %v", round, r, err)
		}
	}
}

// end lets go of what the scene holds.
func (s *scene) end() {
	s.gate.release(s.id)
	if s.committing != nil {
		if err := <-s.committing; err != nil {
			s.t.Logf("the commit of the scene ended with %v", err)
		}
	}
	if s.lane != nil {
		_ = s.lane.Close()
	}
}
